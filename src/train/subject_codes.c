/* SPDX-License-Identifier: MIT */
/* Codes of images -> a latent prior. */
#include "metrics/metrics.h"
#include "models/prior.h"
#include "train/codes.h"
#include "train/generate.h"
#include "train/subject.h"

#include <string.h>

/* rep-FD is measured on so many generated codes, sampled in so many steps. */
enum { FD_CODES = 2000, FD_STEPS = 20, FD_SEED = 1, PRIOR_BATCH = 250 };

typedef struct codes {
    zs_source *source;
    zs_codes codes;
    const zs_ui *ui;
    float *x;       /* [batch,dim], normalised */
    int64_t *index; /* [batch] image of each */
    int64_t *y;     /* [batch] class of each, or NULL when the prior is not told */
    int64_t batch, stride, position;
    uint64_t seed;
    zs_params *layout; /* of the whole model */
    float *weights;    /* flat: those of the base, and the prior as it was when last needed */
    zs_gaussian real;  /* of all normalised codes */
    double floor;      /* distance of FD_CODES real codes to all of them */
} codes;

/* ---- set up ---- */

static bool takes_classes(const zs_train_config *c)
{
    zs_ports p;
    return zs_model_config_ports(&c->model, ZS_BOX_PRIOR, &p) && p.classes > 0;
}

static int check_classes(const codes *k, const zs_train_config *c, zs_error *err)
{
    char buf[512];
    zs_ports p;
    (void)zs_model_config_ports(&c->model, ZS_BOX_PRIOR, &p);
    for (int64_t i = 0; p.classes && i < zs_source_count(k->source); i++) {
        int label = zs_source_label(k->source, i);
        if (label < 0 || label >= p.classes)
            return zs_fail(
                err, ZS_E_INVALID,
                "%s: %s is of class %d, and the prior is to be told one of 0..%lld; give "
                "every image a class, or leave --class-cond out",
                c->data, zs_source_name(k->source, i, buf, sizeof buf), label,
                (long long)p.classes - 1);
    }
    return ZS_OK;
}

static int open_codes(zs_subject *s, const zs_train_config *c, zs_error *err)
{
    codes *k = zs_calloc(1, sizeof *k);
    s->self = k;
    if (!k)
        return zs_fail_nomem(err, sizeof *k, "a training set");
    int status = zs_source_open(&k->source, c->data, err);
    if (status < 0)
        return status;
    s->count = zs_source_count(k->source) * c->views;
    s->fingerprint = zs_codes_fingerprint(c->base, k->source, c->views);
    if (s->count < 2)
        return zs_fail(err, ZS_E_INVALID,
                       "%s: one image has no distribution to learn; give --data more", c->data);
    return check_classes(k, c, err);
}

/* The weights of the base at their places in the layout with a prior. */
static int take_base(codes *k, const zs_train_config *c, zs_error *err)
{
    const zs_params *have = zs_model_params(c->base);
    int status = zs_model_layout(&k->layout, &c->model, err);
    if (status < 0)
        return status;
    k->weights = zs_calloc((size_t)zs_params_numel(k->layout), sizeof *k->weights);
    if (!k->weights)
        return zs_fail_nomem(err, (unsigned long long)zs_params_numel(k->layout) * 4, "weights");
    for (size_t i = 0; i < zs_params_count(k->layout); i++) {
        const zs_param *p = zs_params_at(k->layout, i);
        long at = zs_param_box(p->name) == ZS_BOX_PRIOR ? -1 : zs_params_find(have, p->name);
        if (at >= 0)
            memcpy(k->weights + p->offset,
                   zs_model_weights(c->base) + zs_params_at(have, (size_t)at)->offset,
                   (size_t)p->numel * sizeof *k->weights);
    }
    return ZS_OK;
}

static int take_prior(codes *k, const zs_train_state *s, zs_error *err)
{
    float *ema = NULL;
    int status = zs_train_state_look(&ema, s, s->b.ema, err);
    for (size_t i = 0; status == ZS_OK && i < zs_params_count(s->layout); i++) {
        const zs_param *p = zs_params_at(s->layout, i);
        long at = zs_params_find(k->layout, p->name);
        memcpy(k->weights + zs_params_at(k->layout, (size_t)at)->offset, ema + p->offset,
               (size_t)p->numel * sizeof *k->weights);
    }
    zs_train_state_leave(s, &ema);
    return status;
}

static int gaussian_of(zs_gaussian *out, const float *z, int64_t n, int64_t dim, zs_error *err)
{
    zs_moments m = {0};
    int status = zs_moments_open(&m, dim, err);
    if (status == ZS_OK)
        status = zs_moments_add(&m, z, n, "codes", err);
    if (status == ZS_OK)
        status = zs_moments_finish(out, &m, "codes", err);
    zs_moments_close(&m);
    return status;
}

/* Moments of all codes, and how far a sample of them is from those. */
static int measure_real(codes *k, zs_error *err)
{
    const zs_codes *c = &k->codes;
    int64_t rows = c->views * c->n, n = rows < FD_CODES ? rows : FD_CODES;
    float *z = zs_alloc((size_t)rows, (size_t)c->dim * sizeof *z);
    zs_gaussian some = {0};
    int status = z ? ZS_OK : zs_fail_nomem(err, (unsigned long long)(rows * c->dim) * 4, "codes");
    for (int64_t i = 0; z && i < rows; i++) /* any order has the same moments */
        zs_codes_normalise(c, z + i * c->dim,
                           c->z + zs_loader_sample_index(FD_SEED, rows, i) * c->dim);
    if (status == ZS_OK)
        status = gaussian_of(&k->real, z, rows, c->dim, err);
    if (status == ZS_OK)
        status = gaussian_of(&some, z, n, c->dim, err);
    if (status == ZS_OK)
        status = zs_frechet_distance(&k->floor, &some, &k->real, err);
    zs_gaussian_close(&some);
    zs_free(z);
    return status;
}

static int prepare(zs_subject *s, const zs_train_config *c, const zs_ui *ui, zs_error *err)
{
    codes *k = s->self;
    char *path = c->codes ? zs_str_dup(c->codes) : zs_str_format("%s/codes.safetensors", c->out);
    int status = path ? zs_codes_load_together(&k->codes, path, c->base, k->source, c->views,
                                               c->comm, ui, err)
                      : zs_fail_nomem(err, 256, "a file name");
    zs_free(path);
    k->ui = ui;
    if (status == ZS_OK)
        status = take_base(k, c, err);
    if (status < 0 || zs_comm_rank(c->comm) > 0) /* previews are for rank 0 */
        return status;
    return measure_real(k, err);
}

static int start(zs_subject *s, const zs_train_config *c, int64_t first, zs_error *err)
{
    codes *k = s->self;
    k->batch = c->batch;
    k->stride = c->stride ? c->stride : c->batch;
    k->position = first;
    k->seed = c->seed;
    k->x = zs_alloc((size_t)c->batch, (size_t)k->codes.dim * sizeof *k->x);
    k->index = zs_alloc((size_t)c->batch, sizeof *k->index);
    k->y = takes_classes(c) ? zs_alloc((size_t)c->batch, sizeof *k->y) : NULL;
    if (k->x && k->index && (k->y || !takes_classes(c)))
        return ZS_OK;
    return zs_fail_nomem(err, (unsigned long long)(c->batch * k->codes.dim) * 4,
                         "a batch of codes");
}

/* ---- the loop's questions ---- */

static int next(zs_subject *s, const zs_train_config *config, zs_train_batch *b, zs_error *err)
{
    codes *k = s->self;
    const zs_codes *c = &k->codes;
    (void)config;
    (void)err;
    for (int64_t i = 0; i < k->batch; i++) {
        zs_rng r = {
            .seed = k->seed, .purpose = ZS_RNG_AUGMENT, .index = (uint64_t)(k->position + i)};
        int64_t view = (int64_t)zs_rng_below(&r, (uint64_t)c->views);
        k->index[i] = zs_loader_sample_index(k->seed, c->n, k->position + i);
        zs_codes_normalise(c, k->x + i * c->dim, c->z + (view * c->n + k->index[i]) * c->dim);
        if (k->y)
            k->y[i] = zs_source_label(k->source, k->index[i]);
    }
    b->first = k->position;
    b->x = k->x;
    b->cond.y = k->y;
    k->position += k->stride;
    return ZS_OK;
}

static const char *name(const zs_subject *s, int64_t i, char *buf, size_t cap)
{
    const codes *k = s->self;
    return zs_source_name(k->source, k->index[i], buf, cap);
}

/* FD_STEPS where the process can be cut so; else as many as it can. */
static int64_t steps_of(const zs_generation *g, int64_t T)
{
    const int64_t wanted[] = {FD_STEPS, T, T / 2, T / 4, T / 5, 1};
    int64_t n;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        zs_generation own = *g;
        zs_error ignored = {0};
        own.steps = wanted[i];
        if (own.steps > 0 && zs_generation_steps(&n, &own, ZS_BOX_PRIOR, &ignored) == ZS_OK)
            return own.steps;
    }
    return FD_STEPS;
}

/* Classes as the data has them, each as often. */
static int draw_classes(int64_t **y, int64_t n, const codes *k, zs_error *err)
{
    *y = zs_alloc((size_t)n, sizeof **y);
    if (!*y)
        return zs_fail_nomem(err, (unsigned long long)n * sizeof **y, "classes");
    for (int64_t i = 0; i < n; i++)
        (*y)[i] = zs_source_label(k->source, zs_loader_sample_index(FD_SEED, k->codes.n, i));
    return ZS_OK;
}

static int generate(float *z, int64_t n, codes *k, const zs_train_config *c, zs_error *err)
{
    const zs_model_options o = {.backend = c->backend, .batch = PRIOR_BATCH};
    zs_generation g = {.sampler = &zs_sampler_ddim};
    int64_t *y = NULL;
    int status = zs_model_wrap(&g.model, &c->model, k->weights, &o, err);
    if (status == ZS_OK && k->y)
        status = draw_classes(&y, n, k, err);
    zs_draw_code(z, n, k->codes.dim, FD_SEED, 0);
    g.cond.y = y;
    if (status == ZS_OK) {
        g.steps = steps_of(&g, c->model.latent.T);
        status = zs_generate_codes(&g, z, n, err);
    }
    zs_free(y);
    zs_model_close(&g.model);
    return status;
}

static int log_distance(const zs_rundir *d, const zs_train_state *state, double fd, double floor,
                        zs_error *err)
{
    json_t *line = json_pack("{s:I, s:I, s:f, s:f, s:i}", "step", (json_int_t)state->step,
                             "samples", (json_int_t)state->samples, "rep_fd", fd, "rep_fd_real",
                             floor, "rep_fd_codes", (int)FD_CODES);
    int status =
        line ? zs_rundir_log_append(d, line, err) : zs_fail_nomem(err, 256, "a line of the log");
    json_decref(line);
    return status;
}

static int preview(zs_subject *s, const zs_train_config *c, const zs_rundir *d,
                   const zs_train_state *state, zs_error *err)
{
    codes *k = s->self;
    int64_t dim = k->codes.dim;
    zs_gaussian made = {0};
    double fd = 0.0;
    float *z = zs_alloc(FD_CODES, (size_t)dim * sizeof *z);
    int status = z ? ZS_OK : zs_fail_nomem(err, (unsigned long long)dim * FD_CODES * 4, "codes");
    if (status == ZS_OK)
        status = take_prior(k, state, err);
    if (status == ZS_OK)
        status = generate(z, FD_CODES, k, c, err);
    if (status == ZS_OK)
        status = gaussian_of(&made, z, FD_CODES, dim, err);
    if (status == ZS_OK)
        status = zs_frechet_distance(&fd, &made, &k->real, err);
    if (status == ZS_OK)
        status = log_distance(d, state, fd, k->floor, err);
    if (status == ZS_OK) {
        s->distance = fd;
        zs_ui_log(k->ui, ZS_LOG_INFO, "step %lld: rep-FD %.4f (of as many real codes: %.4f)",
                  (long long)state->step, fd, k->floor);
    }
    zs_gaussian_close(&made);
    zs_free(z);
    return status;
}

static int bundle(zs_subject *s, const zs_train_config *c, const char *path,
                  const zs_train_state *state, const json_t *extra, zs_error *err)
{
    codes *k = s->self;
    int status = take_prior(k, state, err);
    const zs_bundle b = {.config = &c->model,
                         .params = k->layout,
                         .weights = k->weights,
                         .z_mean = k->codes.mean,
                         .z_std = k->codes.std,
                         .probe = zs_model_probe(c->base),
                         .extra = extra};
    return status == ZS_OK ? zs_bundle_write(path, &b, ZS_F32, err) : status;
}

static void close_codes(zs_subject *s)
{
    codes *k = s->self;
    if (k) {
        zs_codes_free(&k->codes);
        zs_gaussian_close(&k->real);
        zs_params_free(&k->layout);
        zs_source_close(&k->source);
        zs_free(k->weights);
        zs_free(k->x);
        zs_free(k->index);
        zs_free(k->y);
    }
    zs_free(k);
    s->self = NULL;
}

const zs_subject_kind zs_subject_codes = {.unit = "codes",
                                          .objective = ZS_OBJECTIVE_CODES,
                                          .open = open_codes,
                                          .layout = zs_prior_layout,
                                          .prepare = prepare,
                                          .start = start,
                                          .next = next,
                                          .name = name,
                                          .preview = preview,
                                          .bundle = bundle,
                                          .close = close_codes};
