/* SPDX-License-Identifier: MIT */
/* The sets that metrics compare: images, matrices of features, statistics. */
#include "tasks/eval.h"

#include <inttypes.h>
#include <string.h>

static int limited(int64_t *n, zs_task_env *env)
{
    int64_t limit = zs_opt_int(env, "limit");
    if (limit > 0 && *n > limit)
        *n = limit;
    return ZS_OK;
}

/* The one two-dimensional array of f; "z_sem" and the lone "array" go first. -1 and an error. */
static long find_matrix(const zs_tensorfile *f, zs_error *err)
{
    long at = zs_tensorfile_find(f, "z_sem"), found = -1;
    for (size_t i = 0; at < 0 && i < zs_tensorfile_count(f); i++)
        if (zs_tensorfile_info(f, i)->nd == 2) {
            if (found >= 0) {
                (void)zs_fail(err, ZS_E_INVALID,
                              "%s: holds several matrices (%s, %s, ...) and none is called z_sem; "
                              "give a file with one",
                              zs_tensorfile_path(f), zs_tensorfile_info(f, (size_t)found)->name,
                              zs_tensorfile_info(f, i)->name);
                return -1;
            }
            found = (long)i;
        }
    at = at < 0 ? found : at;
    if (at >= 0 && zs_tensorfile_info(f, (size_t)at)->nd == 2 &&
        zs_tensorfile_info(f, (size_t)at)->numel > 0)
        return at;
    (void)zs_fail(err, ZS_E_INVALID, "%s: holds no matrix of features [samples,features]",
                  zs_tensorfile_path(f));
    return -1;
}

static int read_matrix(zs_eval_set *s, zs_tensorfile *f, zs_task_env *env)
{
    long at = find_matrix(f, env->err);
    if (at < 0)
        return env->err->status;
    const zs_tensorinfo *t = zs_tensorfile_info(f, (size_t)at);
    s->kind = ZS_EVAL_MATRIX;
    s->n = t->shape[0];
    s->dim = t->shape[1];
    s->x = zs_alloc((size_t)t->numel, sizeof *s->x);
    if (!s->x)
        return zs_fail_nomem(env->err, (size_t)t->numel * sizeof *s->x, s->spec);
    int status = zs_tensorfile_read_f32(f, (size_t)at, s->x, (size_t)t->numel, env->err);
    return status < 0 ? status : limited(&s->n, env);
}

/* Array `name` as doubles; f32 is what some evaluation code stores. */
static int read_doubles(double *dst, zs_tensorfile *f, const char *name, int64_t n, zs_error *err)
{
    long at = zs_tensorfile_find(f, name);
    const zs_tensorinfo *t = at < 0 ? NULL : zs_tensorfile_info(f, (size_t)at);
    if (!t || t->numel != n)
        return zs_fail(err, ZS_E_FORMAT, "%s: %s has not the %" PRId64 " numbers that mu asks for",
                       zs_tensorfile_path(f), name, n);
    if (t->dtype == ZS_F64)
        return zs_tensorfile_read_raw(f, (size_t)at, dst, (size_t)n * sizeof *dst, err);
    float *x = zs_alloc((size_t)n, sizeof *x);
    int status = x ? zs_tensorfile_read_f32(f, (size_t)at, x, (size_t)n, err)
                   : zs_fail_nomem(err, (size_t)n * sizeof *x, name);
    for (int64_t i = 0; status == ZS_OK && i < n; i++)
        dst[i] = (double)x[i];
    zs_free(x);
    return status;
}

static int read_statistics(zs_eval_set *s, zs_tensorfile *f, zs_task_env *env)
{
    long mu = zs_tensorfile_find(f, "mu"), count = zs_tensorfile_find(f, "count");
    if (mu < 0)
        return zs_fail(env->err, ZS_E_INVALID,
                       "%s: has no mu and sigma; statistics are written by --stats, pytorch-fid's "
                       "--save-stats and ADM's evaluator",
                       s->spec);
    s->kind = ZS_EVAL_STATISTICS;
    s->dim = zs_tensorfile_info(f, (size_t)mu)->numel;
    if (s->dim < 1 || s->dim > 32768)
        return zs_fail(env->err, ZS_E_FORMAT, "%s: mu has %" PRId64 " numbers", s->spec, s->dim);
    int status = zs_gaussian_alloc(&s->g, s->dim, env->err);
    if (status == ZS_OK)
        status = read_doubles(s->g.mu, f, "mu", s->dim, env->err);
    if (status == ZS_OK)
        status = read_doubles(s->g.sigma, f, "sigma", s->dim * s->dim, env->err);
    if (status == ZS_OK && count >= 0 && zs_tensorfile_info(f, (size_t)count)->numel == 1)
        status = zs_tensorfile_read_i64(f, (size_t)count, &s->n, 1, env->err);
    s->g.n = s->n;
    return status;
}

int zs_eval_set_open(zs_eval_set *s, zs_task_env *env, size_t arg)
{
    zs_tensorfile *f = NULL;
    *s = (zs_eval_set){.spec = zs_arg(env, arg)};
    bool npz = zs_str_ends(s->spec, ".npz");
    if (!npz && !zs_str_ends(s->spec, ".npy") && !zs_str_ends(s->spec, ".safetensors")) {
        int status = zs_source_open(&s->source, s->spec, env->err);
        s->n = status == ZS_OK ? zs_source_count(s->source) : 0;
        return status < 0 ? status : limited(&s->n, env);
    }
    int status = zs_tensorfile_open(&f, s->spec, env->err);
    if (status == ZS_OK)
        status = npz ? read_statistics(s, f, env) : read_matrix(s, f, env);
    zs_tensorfile_close(&f);
    return status;
}

void zs_eval_set_close(zs_eval_set *s)
{
    zs_source_close(&s->source);
    zs_free(s->x);
    zs_gaussian_close(&s->g);
    *s = (zs_eval_set){0};
}

void zs_eval_note_size(zs_eval_set *s, const zs_image *im)
{
    s->w[0] = !s->w[0] || im->w < s->w[0] ? im->w : s->w[0];
    s->h[0] = !s->h[0] || im->h < s->h[0] ? im->h : s->h[0];
    s->w[1] = im->w > s->w[1] ? im->w : s->w[1];
    s->h[1] = im->h > s->h[1] ? im->h : s->h[1];
}
