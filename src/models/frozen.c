/* SPDX-License-Identifier: MIT */
#include "models/frozen.h"

#include <math.h>
#include <string.h>

/* WEIGHTS: a version of weights that never change. */
enum { CACHE = 2, NAME = 4 * ZS_NN_NAME, WEIGHTS = 1 };

struct zs_frozen {
    const zs_frozen_kind *kind;
    const zs_backend *backend;
    zs_tensorfile *f;
    zs_params *ps;
    float *weights; /* flat */
    zs_weights placed;
    zs_exec *e[CACHE];
    zs_shape s[CACHE];
    int last; /* entry of the last run */
};

/* ---- build ---- */

/* The tensor "<prefix><name><part>" of the file, or NULL and a failed graph. */
static const zs_tensorinfo *wanted(zs_frozen_build *b, const char *name, const char *part)
{
    char full[NAME];
    (void)snprintf(full, sizeof full, "%s%s%s", b->nn.prefix, name, part);
    long i = zs_tensorfile_find(b->f, full);
    if (i >= 0)
        return zs_tensorfile_info(b->f, (size_t)i);
    zs_graph_fail(b->nn.g, ZS_E_FORMAT, "tensor %s is missing", full);
    return NULL;
}

static int64_t channels(const zs_frozen_build *b, zs_tid x)
{
    zs_shape s = zs_graph_shape(b->nn.g, x);
    return s.nd ? zs_shape_last(&s) : 1;
}

zs_tid zs_frozen_conv(zs_frozen_build *b, const char *name, zs_tid x, zs_window k)
{
    char weight[ZS_NN_NAME], bias[ZS_NN_NAME];
    const char *part = b->norm_eps > 0 ? ".conv.weight" : ".weight";
    const zs_tensorinfo *t = wanted(b, name, part);
    if (!t)
        return ZS_NONE;
    (void)snprintf(weight, sizeof weight, "%s%s", name, part);
    (void)snprintf(bias, sizeof bias, "%s.bias", name);
    int64_t c = channels(b, x), o = t->nd > 0 ? t->shape[0] : 1;
    zs_param w = {.name = weight,
                  .nd = 4,
                  .shape = {o, c, k.kh, k.kw},
                  .layout = ZS_LAYOUT_CONV,
                  .fan_in = 1,
                  .alias = -1};
    zs_param v = {.name = bias, .nd = 1, .shape = {o}, .fan_in = 1, .alias = -1};
    zs_tid tw = zs_nn_param(&b->nn, &w), tv = zs_nn_param(&b->nn, &v);
    return zs_conv_relu(b->nn.g, x, tw, tv, k.stride, k.ph, k.pw);
}

zs_tid zs_frozen_matrix(zs_frozen_build *b, const char *name, zs_tid x)
{
    char weight[ZS_NN_NAME], full[NAME];
    (void)snprintf(weight, sizeof weight, "%s.weight", name);
    (void)snprintf(full, sizeof full, "%s%s", b->nn.prefix, weight);
    long i = zs_tensorfile_find(b->f, full);
    if (i < 0)
        return ZS_NONE;
    const zs_tensorinfo *t = zs_tensorfile_info(b->f, (size_t)i);
    zs_param w = {.name = weight,
                  .nd = 2,
                  .shape = {t->nd > 0 ? t->shape[0] : 1, channels(b, x)},
                  .fan_in = 1,
                  .alias = -1};
    return zs_linear(b->nn.g, x, zs_nn_param(&b->nn, &w), ZS_NONE);
}

static int plan(zs_frozen *n, int slot, zs_shape s, zs_error *err)
{
    zs_graph *g = NULL;
    zs_error why = {0};
    zs_exec_free(&n->e[slot]);
    int status = zs_graph_new(&g, err);
    if (status < 0)
        return status;
    zs_frozen_build b = {.nn = {.g = g, .ps = n->ps}, .f = n->f, .norm_eps = n->kind->norm_eps};
    n->kind->build(&b, s);
    zs_exec_config c = {.backend = n->backend};
    status = zs_exec_new(&n->e[slot], &g, &c, &why);
    n->s[slot] = s;
    if (status == ZS_E_FORMAT)
        return zs_fail(err, status, "%s: is not %s: %s", zs_tensorfile_path(n->f), n->kind->what,
                       why.message);
    return status < 0 ? zs_fail(err, status, "%s: %s", zs_tensorfile_path(n->f), why.message)
                      : ZS_OK;
}

/* ---- weights ---- */

/* Vector "<base>.bn.<part>" of n numbers. */
static int read_norm(float *dst, zs_frozen *n, const char *base, const char *part, int64_t count,
                     zs_error *err)
{
    char full[NAME];
    (void)snprintf(full, sizeof full, "%s.bn.%s", base, part);
    long i = zs_tensorfile_find(n->f, full);
    if (i < 0 || zs_tensorfile_info(n->f, (size_t)i)->numel != count)
        return zs_fail(err, ZS_E_FORMAT, "%s: is not %s: it has no tensor %s of %lld numbers",
                       zs_tensorfile_path(n->f), n->kind->what, full, (long long)count);
    return zs_tensorfile_read_f32(n->f, (size_t)i, dst, (size_t)count, err);
}

/* weight [.., O] and bias [O] from convolution and batch norm: gamma (conv - mean) / sqrt(var +
 * eps) + beta. */
static int fold(zs_frozen *n, const zs_param *w, const zs_param *bias, zs_error *err)
{
    static const char *const part[4] = {"weight", "bias", "running_mean", "running_var"};
    char base[2 * ZS_NN_NAME];
    int64_t o = w->shape[0], rows = w->numel / o;
    float *weight = n->weights + w->offset, *b = n->weights + bias->offset;
    float *v = zs_alloc((size_t)o, 4 * sizeof *v);
    int status = v ? ZS_OK : zs_fail_nomem(err, (size_t)o * 4 * sizeof *v, "a batch norm");
    (void)snprintf(base, sizeof base, "%.*s", (int)(strlen(w->name) - strlen(".conv.weight")),
                   w->name);
    for (int i = 0; i < 4 && status == ZS_OK; i++)
        status = read_norm(v + i * o, n, base, part[i], o, err);
    for (int64_t j = 0; j < o && status == ZS_OK; j++) {
        double s = (double)v[j] / sqrt((double)v[3 * o + j] + (double)n->kind->norm_eps);
        b[j] = (float)((double)v[o + j] - (double)v[2 * o + j] * s);
        for (int64_t i = 0; i < rows; i++)
            weight[i * o + j] = (float)((double)weight[i * o + j] * s);
    }
    zs_free(v);
    return status;
}

static int read_one(zs_frozen *n, size_t i, zs_error *err)
{
    const zs_param *p = zs_params_at(n->ps, i);
    bool normed = zs_str_ends(p->name, ".conv.weight") && n->kind->norm_eps > 0;
    if (i > 0 && p->nd == 1 && n->kind->norm_eps > 0)
        return ZS_OK; /* made by fold */
    int status = zs_params_read(n->ps, i, n->weights, n->f, p->name, err);
    return status == ZS_OK && normed ? fold(n, p, zs_params_at(n->ps, i + 1), err) : status;
}

static int read_weights(zs_frozen *n, zs_error *err)
{
    size_t count = (size_t)zs_params_numel(n->ps);
    int status = ZS_OK;
    n->weights = zs_calloc(count, sizeof *n->weights); /* zeros between parameters */
    if (!n->weights)
        return zs_fail_nomem(err, count * sizeof *n->weights, "the weights of a network");
    n->placed = zs_weights_of_host(n->backend, n->weights, count);
    for (size_t i = 0; i < zs_params_count(n->ps) && status == ZS_OK; i++)
        status = read_one(n, i, err);
    for (size_t i = 0; i < count && status == ZS_OK; i++)
        if (!isfinite(n->weights[i]))
            status = zs_fail(err, ZS_E_NUMERIC, "%s: has weights that are not finite numbers",
                             zs_tensorfile_path(n->f));
    return status;
}

/* ---- life ---- */

/* The backend of the same memory that rounds nothing. */
static const zs_backend *single_precision(const zs_backend *b)
{
    const zs_backend *other;
    for (size_t i = 0; b->bf16 && (other = zs_backend_at(i)) != NULL; i++)
        if (other->remote == b->remote && !other->bf16)
            return other;
    return b;
}

int zs_frozen_open(zs_frozen **out, const char *path, const zs_frozen_kind *kind,
                   const char *backend, zs_error *err)
{
    zs_frozen *n = zs_calloc(1, sizeof *n);
    *out = NULL;
    if (!n)
        return zs_fail_nomem(err, sizeof *n, "a network");
    n->kind = kind;
    int status = zs_backend_open(&n->backend, backend, err);
    if (status == ZS_OK) {
        n->backend = single_precision(n->backend);
        status = zs_tensorfile_open(&n->f, path, err);
    }
    if (status == ZS_OK)
        status = zs_params_new(&n->ps, err);
    if (status == ZS_OK)
        status = plan(n, 0, kind->probe, err);
    if (status == ZS_OK)
        status = read_weights(n, err);
    if (status < 0)
        zs_frozen_close(&n);
    else
        zs_params_seal(n->ps);
    *out = n;
    return status;
}

void zs_frozen_close(zs_frozen **n)
{
    if (!*n)
        return;
    for (int i = 0; i < CACHE; i++)
        zs_exec_free(&(*n)->e[i]);
    zs_params_free(&(*n)->ps);
    zs_tensorfile_close(&(*n)->f);
    zs_weights_clear(&(*n)->placed);
    zs_free((*n)->weights);
    zs_free(*n);
    *n = NULL;
}

const char *zs_frozen_path(const zs_frozen *n)
{
    return zs_tensorfile_path(n->f);
}

int zs_frozen_run(zs_frozen *n, const float *x, zs_shape xs, zs_error *err)
{
    zs_step step = {.grad_scale = 1};
    int slot = n->last;
    for (int i = 0; i < CACHE; i++)
        if (n->e[i] && zs_shape_equal(&n->s[i], &xs))
            slot = i;
    if (!n->e[slot] || !zs_shape_equal(&n->s[slot], &xs)) {
        slot = (n->last + 1) % CACHE;
        int status = plan(n, slot, xs, err);
        if (status < 0)
            return status;
    }
    n->last = slot;
    memcpy(zs_exec_input(n->e[slot], "x"), x, (size_t)zs_shape_numel(&xs) * sizeof *x);
    zs_buffers b;
    int status = zs_weights_get(&b, &n->placed, WEIGHTS, err);
    return status == ZS_OK ? zs_exec_run_with(n->e[slot], &b, &step, err) : status;
}

const float *zs_frozen_output(const zs_frozen *n, const char *name, zs_shape *s)
{
    const zs_exec *e = n->e[n->last];
    if (s)
        *s = zs_exec_shape((zs_exec *)(uintptr_t)e, name);
    return zs_exec_output(e, name);
}
