/* SPDX-License-Identifier: MIT */
/* Images -> an autoencoder or a DDPM. */
#include "data/data.h"
#include "train/preview.h"
#include "train/subject.h"

#include <string.h>

typedef struct images {
    zs_source *source;
    zs_loader *loader;
    zs_batch batch; /* the newest */
} images;

static int open_images(zs_subject *s, const zs_train_config *c, zs_error *err)
{
    images *im = zs_calloc(1, sizeof *im);
    s->self = im;
    if (!im)
        return zs_fail_nomem(err, sizeof *im, "a training set");
    int status = zs_source_open(&im->source, c->data, err);
    if (status < 0)
        return status;
    s->fingerprint = zs_source_fingerprint(im->source);
    s->count = zs_source_count(im->source);
    return ZS_OK;
}

static int start(zs_subject *s, const zs_train_config *c, int64_t first, zs_error *err)
{
    images *im = s->self;
    const zs_model_config *m = &c->model;
    const zs_loader_config lc = {.batch = (int)c->batch,
                                 .size = (int)m->image_size,
                                 .channels = (int)m->channels,
                                 .fit = strcmp(m->fit, "pad") == 0 ? ZS_FIT_PAD : ZS_FIT_CROP,
                                 .flip = c->flip,
                                 .seed = c->seed,
                                 .start = first,
                                 .threads = c->loader_threads,
                                 .prefetch = 2};
    return zs_loader_open(&im->loader, im->source, &lc, err);
}

static int next(zs_subject *s, const float **x, int64_t *first, zs_error *err)
{
    images *im = s->self;
    int status = zs_loader_next(im->loader, &im->batch, err);
    *x = im->batch.x;
    *first = im->batch.first;
    return status;
}

static const char *name(const zs_subject *s, int64_t i, char *buf, size_t cap)
{
    const images *im = s->self;
    return zs_source_name(im->source, im->batch.index[i], buf, cap);
}

static int preview(zs_subject *s, const zs_train_config *c, const zs_rundir *d,
                   const zs_train_state *state, zs_error *err)
{
    const images *im = s->self;
    char *path = zs_rundir_step_file(d, "samples", state->step, ".png");
    int status =
        path ? zs_preview_write(path, &c->model, state->b.ema, state->backend, im->source, err)
             : zs_fail_nomem(err, 256, "a file name");
    if (status == ZS_OK)
        status = zs_rundir_log_picture(d, state->step, path, err);
    zs_free(path);
    return status;
}

static int bundle(zs_subject *s, const zs_train_config *c, const char *path,
                  const zs_train_state *state, const json_t *extra, zs_error *err)
{
    (void)s;
    const zs_bundle b = {
        .config = &c->model, .params = state->layout, .weights = state->b.ema, .extra = extra};
    return zs_bundle_write(path, &b, ZS_F32, err);
}

static void close_images(zs_subject *s)
{
    images *im = s->self;
    if (im) {
        zs_loader_close(&im->loader);
        zs_source_close(&im->source);
    }
    zs_free(im);
    s->self = NULL;
}

const zs_subject_kind zs_subject_images = {.unit = "images",
                                           .open = open_images,
                                           .layout = zs_model_layout,
                                           .start = start,
                                           .next = next,
                                           .name = name,
                                           .preview = preview,
                                           .bundle = bundle,
                                           .close = close_images};
