/* SPDX-License-Identifier: MIT */
#include "train/imageset.h"

int zs_imageset_new(zs_subject *s, size_t bytes, const zs_train_config *c, zs_error *err)
{
    zs_imageset *im = zs_calloc(1, bytes);
    s->self = im;
    if (!im)
        return zs_fail_nomem(err, bytes, "a training set");
    int status = zs_source_open(&im->source, c->data, err);
    if (status < 0)
        return status;
    s->fingerprint = zs_source_fingerprint(im->source);
    s->count = zs_source_count(im->source);
    return ZS_OK;
}

int zs_imageset_open(zs_subject *s, const zs_train_config *c, zs_error *err)
{
    return zs_imageset_new(s, sizeof(zs_imageset), c, err);
}

int zs_imageset_start(zs_subject *s, const zs_train_config *c, int64_t first, zs_error *err)
{
    zs_imageset *im = s->self;
    const zs_train_picture p = zs_train_pictures(c);
    const zs_loader_config lc = {.batch = (int)c->batch,
                                 .size = (int)p.size,
                                 .channels = (int)p.channels,
                                 .fit = zs_fit_from_name(p.fit),
                                 .flip = c->flip,
                                 .seed = c->seed,
                                 .start = first,
                                 .stride = c->stride,
                                 .threads = c->loader_threads,
                                 .prefetch = 2};
    return zs_loader_open(&im->loader, im->source, &lc, err);
}

int zs_imageset_next(zs_subject *s, const zs_train_config *c, zs_train_batch *b, zs_error *err)
{
    (void)c;
    zs_imageset *im = s->self;
    int status = zs_loader_next(im->loader, &im->batch, err);
    b->x = im->batch.x;
    b->first = im->batch.first;
    return status;
}

const char *zs_imageset_name(const zs_subject *s, int64_t i, char *buf, size_t cap)
{
    const zs_imageset *im = s->self;
    return zs_source_name(im->source, im->batch.index[i], buf, cap);
}

int zs_imageset_bundle(zs_subject *s, const zs_train_config *c, const char *path,
                       const zs_train_state *state, const json_t *extra, zs_error *err)
{
    (void)s;
    float *ema = NULL;
    int status = zs_train_state_look(&ema, state, state->b.ema, err);
    const zs_bundle b = {
        .config = &c->model, .params = state->layout, .weights = ema, .extra = extra};
    if (status == ZS_OK)
        status = zs_bundle_write(path, &b, ZS_F32, err);
    zs_train_state_leave(state, &ema);
    return status;
}

void zs_imageset_close(zs_subject *s)
{
    zs_imageset *im = s->self;
    if (im) {
        zs_loader_close(&im->loader);
        zs_source_close(&im->source);
    }
    zs_free(im);
    s->self = NULL;
}

int zs_imageset_check_labels(const zs_source *s, const char *spec, const char *what, int64_t n,
                             zs_error *err)
{
    char name[160];
    if (zs_source_class_count(s) != n)
        return zs_fail(err, ZS_E_INVALID,
                       "%s has %d classes and the %s %lld: classes come from first-level "
                       "folders or the labels of an IDX, CIFAR or shard set",
                       spec, zs_source_class_count(s), what, (long long)n);
    for (int64_t i = 0; i < zs_source_count(s); i++)
        if (zs_source_label(s, i) < 0)
            return zs_fail(err, ZS_E_INVALID, "%s: image %s has no class; move it into a folder",
                           spec, zs_source_name(s, i, name, sizeof name));
    return ZS_OK;
}
