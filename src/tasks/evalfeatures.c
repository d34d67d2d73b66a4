/* SPDX-License-Identifier: MIT */
/* Sets of images seen through a network: features in batches. */
#include "tasks/eval.h"
#include "tasks/pipeline.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

/* ---- open ---- */

/* An encoder of ours; class scores take one that was trained on classes. */
static int open_encoder(zs_eval *e, const char *path)
{
    int status = zs_pipeline_open(&e->model, e->env, path, ZS_BOX_ENCODER, false);
    if (status < 0 || e->layer != ZS_EVAL_LOGITS || zs_model_configuration(e->model)->classes)
        return status;
    return zs_fail(e->env->err, ZS_E_INVALID,
                   "%s: has no class scores; give pytorch-fid's Inception, or an encoder that was "
                   "trained on classes (zsem train encoder)",
                   path);
}

static int open_network(zs_eval *e, const char *path)
{
    zs_tensorfile *f = NULL;
    zs_error ignored = {0};
    bool inception = zs_tensorfile_open(&f, path, &ignored) == ZS_OK && zs_inception_probe(f);
    zs_tensorfile_close(&f);
    if (!inception)
        return open_encoder(e, path);
    int status = zs_inception_open(&e->net, path, zs_opt_text(e->env, "device"), e->env->err);
    if (status == ZS_OK && e->layer == ZS_EVAL_LOGITS && !zs_frozen_output(e->net, "logits", NULL))
        status = zs_fail(e->env->err, ZS_E_INVALID,
                         "%s: has no fc.weight, without which there are no class scores", path);
    return status;
}

static int open_features(zs_eval *e)
{
    const char *path = zs_opt_text(e->env, "features");
    if (!path)
        return zs_fail(e->env->err, ZS_E_INVALID,
                       "images are compared through a network: add --features with pytorch-fid's "
                       "pt_inception-2015-12-05-6726825d.pth%s",
                       e->layer == ZS_EVAL_LOGITS ? " or an encoder trained on classes"
                                                  : " or a zsem MODEL with an encoder");
    int status = open_network(e, path);
    if (status < 0)
        return status;
    if (e->net) {
        zs_shape s;
        (void)zs_frozen_output(e->net, e->layer == ZS_EVAL_LOGITS ? "logits" : "pool3", &s);
        e->dim = zs_shape_last(&s);
    } else {
        const zs_model_config *c = zs_model_configuration(e->model);
        e->dim = e->layer == ZS_EVAL_LOGITS ? c->classes : zs_model_config_z_dim(c);
    }
    return ZS_OK;
}

static int read_resize(zs_eval *e)
{
    const char *s = zs_opt_text(e->env, "resize");
    if (!s)
        return ZS_OK;
    if (strcmp(s, "pytorch-fid") != 0 && strcmp(s, "tf") != 0)
        return zs_fail(e->env->err, ZS_E_INVALID,
                       "--resize is pytorch-fid (half-pixel centres) or tf (TensorFlow 1, as "
                       "torch-fidelity and ADM), not '%s'",
                       s);
    e->resize = strcmp(s, "tf") == 0 ? ZS_INCEPTION_TF : ZS_INCEPTION_PYTORCH;
    return ZS_OK;
}

int zs_eval_open(zs_eval *e, zs_task_env *env, zs_eval_layer layer, zs_inception_resize resize)
{
    *e = (zs_eval){.env = env, .layer = layer, .resize = resize, .sets = zs_arg_count(env) - 1};
    int status = read_resize(e);
    bool images = layer == ZS_EVAL_CODES && zs_opt_given(env, "features");
    for (size_t i = 0; i < e->sets && status == ZS_OK; i++) {
        status = zs_eval_set_open(&e->set[i], env, i + 1);
        images = images || e->set[i].kind == ZS_EVAL_IMAGES;
    }
    if (status == ZS_OK && images)
        status = open_features(e);
    for (size_t i = 0; i < e->sets && status == ZS_OK; i++) {
        const zs_eval_set *s = &e->set[i];
        if (s->kind == ZS_EVAL_IMAGES)
            continue;
        if (e->dim && s->dim != e->dim)
            status = zs_fail(env->err, ZS_E_INVALID,
                             "%s holds %" PRId64 " features a sample, and %s has %" PRId64
                             "; both sets must be seen through one network",
                             s->spec, s->dim,
                             images ? zs_opt_text(env, "features") : e->set[0].spec, e->dim);
        e->dim = s->dim;
    }
    return status;
}

void zs_eval_close(zs_eval *e)
{
    for (size_t i = 0; i < 2; i++)
        zs_eval_set_close(&e->set[i]);
    zs_frozen_close(&e->net);
    zs_model_close(&e->model);
}

/* ---- batches ---- */

/* Images on their way into a network. */
typedef struct batch {
    zs_eval *e;
    zs_eval_set *set;
    int64_t first;
    zs_image_shape shape; /* of the encoder */
    int64_t elements;     /* floats of one input */
    float *x;             /* [batch, elements] */
    zs_image *size;       /* of each image, without pixels */
    zs_error *err;        /* of each image */
} batch;

static void read_inception(batch *b, int64_t i)
{
    zs_image im = {0};
    zs_error *err = &b->err[i];
    if (zs_source_read(b->set->source, b->first + i, 3, &im, err) < 0)
        return;
    size_t n = (size_t)im.w * (size_t)im.h * 3;
    float *v = zs_alloc(n, sizeof *v);
    for (size_t k = 0; v && k < n; k++)
        v[k] = (float)im.px[k];
    if (v)
        zs_inception_input(b->x + i * b->elements, v, im.h, im.w, b->e->resize);
    else
        (void)zs_fail_nomem(err, n * sizeof *v, "an image");
    b->size[i] = (zs_image){.w = im.w, .h = im.h};
    zs_free(v);
    zs_image_free(&im);
}

static void read_images(void *ctx, int64_t begin, int64_t end, int thread)
{
    batch *b = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        if (b->e->net)
            read_inception(b, i);
        else
            (void)zs_source_read_float(b->set->source, b->first + i, b->shape.size,
                                       b->shape.channels, b->shape.fit, b->x + i * b->elements,
                                       &b->err[i]);
}

static int read_batch(batch *b, int64_t n, zs_error *err)
{
    memset(b->err, 0, (size_t)n * sizeof *b->err);
    zs_parallel_for(n, 1, read_images, b);
    for (int64_t i = 0; i < n; i++) {
        if (b->err[i].status < 0)
            return zs_fail(err, b->err[i].status, "%s", b->err[i].message);
        if (b->e->net)
            zs_eval_note_size(b->set, &b->size[i]);
    }
    return ZS_OK;
}

/* Features of a batch in out [n,dim]. */
static int run_batch(batch *b, float *out, int64_t n, zs_error *err)
{
    zs_eval *e = b->e;
    int status = read_batch(b, n, err);
    if (status < 0)
        return status;
    if (e->model) {
        zs_shape s = zs_shape4(n, b->shape.size, b->shape.size, b->shape.channels);
        return e->layer == ZS_EVAL_LOGITS ? zs_model_classify(e->model, out, b->x, s, err)
                                          : zs_model_encode(e->model, out, b->x, s, err);
    }
    status =
        zs_frozen_run(e->net, b->x, zs_shape4(n, ZS_INCEPTION_SIZE, ZS_INCEPTION_SIZE, 3), err);
    if (status == ZS_OK)
        memcpy(out, zs_frozen_output(e->net, e->layer == ZS_EVAL_LOGITS ? "logits" : "pool3", NULL),
               (size_t)(n * e->dim) * sizeof *out);
    return status;
}

static int check_finite(const zs_eval *e, const zs_eval_set *s, const float *x, int64_t first,
                        int64_t n)
{
    for (int64_t i = 0; i < n * e->dim; i++)
        if (!isfinite(x[i]))
            return zs_fail(e->env->err, ZS_E_NUMERIC,
                           "%s: feature %" PRId64 " of sample %" PRId64 " is not a finite number; "
                           "leave the sample out or look for the damage in %s",
                           s->spec, i % e->dim, first + i / e->dim,
                           s->kind == ZS_EVAL_IMAGES ? zs_opt_text(e->env, "features")
                                                     : "the file");
    return ZS_OK;
}

static void normalise(const zs_eval *e, float *x, int64_t n)
{
    const float *mean = e->model ? zs_model_z_mean(e->model) : NULL,
                *std = e->model ? zs_model_z_std(e->model) : NULL;
    for (int64_t i = 0; mean && std && e->layer == ZS_EVAL_CODES && i < n * e->dim; i++)
        x[i] = (x[i] - mean[i % e->dim]) / std[i % e->dim];
}

static int deliver(zs_eval *e, zs_eval_set *s, float *x, int64_t first, int64_t n,
                   zs_eval_rows_fn fn, void *ctx)
{
    normalise(e, x, n);
    int status = check_finite(e, s, x, first, n);
    return status < 0 ? status : fn(ctx, x, n, e->env->err);
}

static int run_batches(batch *b, float *out, int64_t size, zs_eval_rows_fn fn, void *ctx)
{
    zs_eval *e = b->e;
    int status = ZS_OK;
    for (; b->first < b->set->n && status == ZS_OK; b->first += size) {
        int64_t n = b->set->n - b->first < size ? b->set->n - b->first : size;
        status = run_batch(b, out, n, e->env->err);
        if (status == ZS_OK)
            status = deliver(e, b->set, out, b->first, n, fn, ctx);
        zs_progress p = {"features", (double)(b->first + n), (double)b->set->n, "images",
                         b->set->spec};
        if (status == ZS_OK)
            status = zs_ui_progress(e->env->ui, &p, e->env->err);
    }
    return status;
}

static int image_rows(zs_eval *e, zs_eval_set *s, zs_eval_rows_fn fn, void *ctx)
{
    zs_error *err = e->env->err;
    size_t size = (size_t)zs_opt_int(e->env, "batch");
    batch b = {.e = e, .set = s, .elements = ZS_INCEPTION_SIZE * ZS_INCEPTION_SIZE * 3};
    int status = ZS_OK;
    if (e->model) {
        status = zs_pipeline_image_shape(&b.shape, e->model, zs_opt_text(e->env, "features"), err);
        b.elements = (int64_t)b.shape.size * b.shape.size * b.shape.channels;
    }
    if (status < 0)
        return status;
    b.x = zs_alloc(size, (size_t)b.elements * sizeof *b.x);
    b.size = zs_calloc(size, sizeof *b.size);
    b.err = zs_calloc(size, sizeof *b.err);
    float *out = zs_alloc(size, (size_t)e->dim * sizeof *out);
    status = b.x && b.size && b.err && out
                 ? run_batches(&b, out, (int64_t)size, fn, ctx)
                 : zs_fail_nomem(err, size * (size_t)b.elements * sizeof *b.x,
                                 "a batch of images; lower --batch");
    zs_free(b.x);
    zs_free(b.size);
    zs_free(b.err);
    zs_free(out);
    if (status == ZS_OK && (s->w[0] != s->w[1] || s->h[0] != s->h[1]))
        zs_eval_warn(
            e->env,
            "%s: images have different sizes, from %dx%d to %dx%d; each was resized on its "
            "own, which moves the result",
            s->spec, s->w[0], s->h[0], s->w[1], s->h[1]);
    return status;
}

int zs_eval_rows(zs_eval *e, size_t i, zs_eval_rows_fn fn, void *ctx)
{
    zs_eval_set *s = &e->set[i];
    if (s->kind == ZS_EVAL_IMAGES)
        return image_rows(e, s, fn, ctx);
    if (s->kind == ZS_EVAL_MATRIX)
        return deliver(e, s, s->x, 0, s->n, fn, ctx);
    return zs_fail(e->env->err, ZS_E_INVALID,
                   "%s: holds statistics only, and this metric needs the samples themselves",
                   s->spec);
}

typedef struct collected {
    float *x;
    int64_t dim, n;
} collected;

static int collect(void *ctx, const float *x, int64_t n, zs_error *err)
{
    collected *c = ctx;
    (void)err;
    memcpy(c->x + c->n * c->dim, x, (size_t)(n * c->dim) * sizeof *x);
    c->n += n;
    return ZS_OK;
}

int zs_eval_matrix(float **x, zs_eval *e, size_t i)
{
    collected c = {.dim = e->dim};
    size_t n = (size_t)e->set[i].n;
    c.x = *x = zs_alloc(n, (size_t)e->dim * sizeof *c.x);
    if (!c.x)
        return zs_fail_nomem(e->env->err, n * (size_t)e->dim * sizeof *c.x,
                             "the features of all images; lower --limit");
    int status = zs_eval_rows(e, i, collect, &c);
    if (status < 0) {
        zs_free(*x);
        *x = NULL;
    }
    return status;
}

/* ---- report ---- */

void zs_eval_warn(zs_task_env *env, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    zs_ui_log(env->ui, ZS_LOG_WARN, "%s", text);
    json_t *list = json_object_get(env->result, "warnings");
    if (!list) {
        zs_result_set(env, "warnings", json_array());
        list = json_object_get(env->result, "warnings");
    }
    if (list)
        (void)json_array_append_new(list, zs_json_text(text));
}

void zs_eval_describe(zs_eval *e, const char *metric)
{
    json_t *sets = json_array();
    zs_result_set(e->env, "metric", json_string(metric));
    for (size_t i = 0; sets && i < e->sets; i++)
        (void)json_array_append_new(
            sets, json_pack("{s:o, s:o}", "from", zs_json_text(e->set[i].spec), "samples",
                            e->set[i].n ? json_integer(e->set[i].n) : json_null()));
    zs_result_set(e->env, "sets", sets);
    zs_result_set(e->env, "dimensions", json_integer(e->dim));
    if (e->net || e->model)
        zs_result_set(e->env, "features", zs_json_text(zs_opt_text(e->env, "features")));
    if (e->net)
        zs_result_set(e->env, "resize",
                      json_string(e->resize == ZS_INCEPTION_TF ? "tf" : "pytorch-fid"));
}
