/* SPDX-License-Identifier: MIT */
/* Images, with their representations by a frozen encoder or with their classes -> a generator that
 * is conditioned on these. */
#include "train/imageset.h"
#include "train/preview.h"

#include <stdio.h>

typedef struct conditional {
    zs_imageset im; /* first */
    zs_ports ports; /* of the generator */
    float *z;       /* [batch,z_dim], or NULL */
    int64_t *y;     /* [batch], or NULL */
    float *latents; /* [batch,h,w,c] and as much noise, or NULL: images are learned themselves */
} conditional;

/* Classes of images: the last row of the table is no class where classes are left out. */
static int64_t class_count(const zs_ports *p)
{
    return p->classes - (p->y_drop > 0.0);
}

static int open_conditional(zs_subject *s, const zs_train_config *c, zs_error *err)
{
    int status = zs_imageset_new(s, sizeof(conditional), c, err);
    conditional *k = s->self;
    if (status < 0)
        return status;
    (void)zs_model_config_ports(&c->model, ZS_BOX_GENERATOR, &k->ports);
    if (k->ports.classes == 1) /* that is none */
        k->ports.classes = 0;
    if (k->ports.z_dim && !c->encoder)
        return zs_fail(err, ZS_E_INVALID,
                       "the generator is conditioned on representations; give the encoder that "
                       "makes them: --encoder MODEL");
    if (k->ports.classes)
        status = zs_imageset_check_labels(k->im.source, c->data, "generator",
                                          class_count(&k->ports), err);
    return status;
}

static int start(zs_subject *s, const zs_train_config *c, int64_t first, zs_error *err)
{
    conditional *k = s->self;
    size_t z = (size_t)(c->batch * k->ports.z_dim), y = (size_t)c->batch;
    zs_shape states = zs_model_config_states(&c->model, c->batch);
    size_t latents = c->first_stage ? (size_t)zs_shape_numel(&states) : 0;
    if (latents)
        k->latents = zs_alloc(2 * latents, sizeof *k->latents);
    if (latents && !k->latents)
        return zs_fail_nomem(err, 2 * latents * sizeof *k->latents, "latents of a batch");
    if (k->ports.z_dim)
        k->z = zs_alloc(z, sizeof *k->z);
    if (k->ports.classes)
        k->y = zs_alloc(y, sizeof *k->y);
    if ((k->ports.z_dim && !k->z) || (k->ports.classes && !k->y))
        return zs_fail_nomem(err, z * sizeof *k->z + y * sizeof *k->y, "conditions of a batch");
    return zs_imageset_start(s, c, first, err);
}

/* Drawn as the first stage's variances say, in the place of the images xs. */
static int become_latents(conditional *k, const zs_train_config *c, zs_train_batch *b, zs_shape xs,
                          zs_error *err)
{
    zs_shape one = zs_model_config_states(&c->model, 1);
    size_t each = (size_t)zs_shape_numel(&one);
    float *noise = k->latents + (size_t)c->batch * each;
    for (int64_t i = 0; i < c->batch; i++) {
        const zs_rng r = {c->seed, ZS_RNG_LATENT, (uint64_t)(b->first + i), 0};
        zs_rng_normal(noise + (size_t)i * each, each, &r, 0);
    }
    int status = zs_model_to_latents(c->first_stage, k->latents, b->x, xs, noise, err);
    b->x = k->latents;
    return status;
}

/* Each image is encoded as the generator sees it, mirrored or not. */
static int next(zs_subject *s, const zs_train_config *c, zs_train_batch *b, zs_error *err)
{
    conditional *k = s->self;
    const zs_train_picture p = zs_train_pictures(c);
    zs_shape xs = zs_shape4(c->batch, p.size, p.size, p.channels);
    int status = zs_imageset_next(s, c, b, err);
    if (status == ZS_OK && k->z)
        status = zs_model_encode(c->encoder, k->z, b->x, xs, err);
    if (status == ZS_OK && k->latents)
        status = become_latents(k, c, b, xs, err);
    for (int64_t i = 0; status == ZS_OK && k->y && i < c->batch; i++)
        k->y[i] = zs_source_label(k->im.source, k->im.batch.index[i]);
    b->cond = (zs_cond){.z = k->z, .y = k->y};
    return status;
}

static int read_pictures(const conditional *k, const zs_train_picture *p, float *x, int64_t n,
                         zs_error *err)
{
    zs_model_config like = {.image_size = p->size, .channels = p->channels};
    (void)snprintf(like.fit, sizeof like.fit, "%s", p->fit);
    return zs_preview_read(k->im.source, &like, x, n, err);
}

/* Columns: the first images and what is drawn from their representations, or a class each. */
static int show(const conditional *k, const zs_train_config *c, const char *path,
                const zs_train_state *state, zs_error *err)
{
    const zs_train_picture p = zs_train_pictures(c);
    int64_t y[ZS_PREVIEW_IMAGES], n = zs_source_count(k->im.source);
    if (n > ZS_PREVIEW_IMAGES || !k->z)
        n = ZS_PREVIEW_IMAGES;
    zs_shape xs = zs_shape4(n, p.size, p.size, p.channels);
    size_t pixels = (size_t)zs_shape_numel(&xs), codes = (size_t)(n * k->ports.z_dim);
    float *x = zs_alloc(pixels + codes, sizeof *x);
    int status = x ? ZS_OK : zs_fail_nomem(err, (pixels + codes) * sizeof *x, "a preview");
    if (status == ZS_OK && k->z)
        status = read_pictures(k, &p, x, n, err);
    if (status == ZS_OK && k->z)
        status = zs_model_encode(c->encoder, x + pixels, x, xs, err);
    for (int64_t i = 0; k->y && i < n; i++)
        y[i] = i % class_count(&k->ports);
    const zs_cond cond = {.z = k->z && x ? x + pixels : NULL, .y = k->y ? y : NULL};
    if (status == ZS_OK)
        status = zs_preview_conditional(path, &c->model, c->first_stage, state->b.ema,
                                        state->backend, k->z ? x : NULL, &cond, n, err);
    zs_free(x);
    return status;
}

static int preview(zs_subject *s, const zs_train_config *c, const zs_rundir *d,
                   const zs_train_state *state, zs_error *err)
{
    char *path = zs_rundir_step_file(d, "samples", state->step, ".png");
    int status = path ? show(s->self, c, path, state, err) : zs_fail_nomem(err, 256, "a file name");
    if (status == ZS_OK)
        status = zs_rundir_log_picture(d, state->step, path, err);
    zs_free(path);
    return status;
}

static void close_conditional(zs_subject *s)
{
    conditional *k = s->self;
    if (k) {
        zs_free(k->z);
        zs_free(k->y);
        zs_free(k->latents);
    }
    zs_imageset_close(s);
}

const zs_subject_kind zs_subject_conditional = {.unit = "images",
                                                .open = open_conditional,
                                                .layout = zs_model_layout,
                                                .start = start,
                                                .next = next,
                                                .name = zs_imageset_name,
                                                .preview = preview,
                                                .bundle = zs_imageset_bundle,
                                                .close = close_conditional};
