/* SPDX-License-Identifier: MIT */
/* Means and covariances of sets, and the .npz files that keep them. */
#include "io/io.h"
#include "tasks/eval.h"
#include "train/codes.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t mix(uint64_t h, const void *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ ((const uint8_t *)p)[i]) * 0x100000001b3u;
    return h;
}

/* An encoder as it looks at images: a folder of a run keeps its name while it is trained on. */
static uint64_t mix_model(uint64_t h, const zs_eval *e)
{
    const zs_model_config *c = zs_model_configuration(e->model);
    size_t bytes = (size_t)e->dim * sizeof(float);
    h = zs_encoder_fingerprint(e->model, h);
    h = mix(h, &c->image_size, sizeof c->image_size);
    h = mix(h, c->fit, strlen(c->fit));
    if (e->layer == ZS_EVAL_CODES && zs_model_z_mean(e->model)) {
        h = mix(h, zs_model_z_mean(e->model), bytes);
        h = mix(h, zs_model_z_std(e->model), bytes);
    }
    return h;
}

/* A number for what statistics depend on: the images and how many, the network, the resizing. */
static int64_t key_of(const zs_eval *e, const zs_eval_set *s)
{
    const char *features = zs_opt_text(e->env, "features"), *slash;
    struct stat st = {0};
    uint64_t source = s->source ? zs_source_fingerprint(s->source) : 0;
    int64_t parts[5] = {s->n, (int64_t)e->layer, e->net ? (int64_t)e->resize : -1, e->dim, 0};
    uint64_t h = mix(0xcbf29ce484222325u, &source, sizeof source);
    if (e->model) {
        h = mix_model(h, e);
    } else if (features) {
        slash = strrchr(features, '/');
        slash = slash ? slash + 1 : features;
        h = mix(h, slash, strlen(slash));
        if (stat(features, &st) == 0 && S_ISREG(st.st_mode))
            parts[4] = (int64_t)st.st_size;
    }
    return (int64_t)mix(h, parts, sizeof parts);
}

static int add_rows(void *ctx, const float *x, int64_t n, zs_error *err)
{
    return zs_moments_add(ctx, x, n, "features", err);
}

static int measure(zs_gaussian *g, zs_eval *e, size_t i)
{
    zs_moments m;
    int status = zs_moments_open(&m, e->dim, e->env->err);
    if (status == ZS_OK)
        status = zs_eval_rows(e, i, add_rows, &m);
    if (status == ZS_OK)
        status = zs_moments_finish(g, &m, e->set[i].spec, e->env->err);
    zs_moments_close(&m);
    return status;
}

static int write_file(const char *path, const zs_gaussian *g, int64_t key, zs_error *err)
{
    const zs_tensorout t[4] = {
        {.name = "mu", .dtype = ZS_F64, .nd = 1, .shape = {g->dim}, .data = g->mu},
        {.name = "sigma", .dtype = ZS_F64, .nd = 2, .shape = {g->dim, g->dim}, .data = g->sigma},
        {.name = "count", .dtype = ZS_I64, .nd = 1, .shape = {1}, .data = &g->n},
        {.name = "key", .dtype = ZS_I64, .nd = 1, .shape = {1}, .data = &key}};
    return zs_npz_write(path, t, 4, err);
}

static int read_array(void *dst, size_t bytes, zs_tensorfile *f, const char *name, zs_error *err)
{
    long i = zs_tensorfile_find(f, name);
    if (i < 0)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: was not written by --stats; give it in place of the reference images, "
                       "or choose another file",
                       zs_tensorfile_path(f));
    return zs_tensorfile_read_raw(f, (size_t)i, dst, bytes, err);
}

static int read_file(zs_gaussian *g, const char *path, int64_t dim, int64_t want, zs_error *err)
{
    zs_tensorfile *f = NULL;
    int64_t key = 0;
    size_t n = (size_t)dim;
    int status = zs_tensorfile_open(&f, path, err);
    if (status == ZS_OK)
        status = read_array(&key, sizeof key, f, "key", err);
    if (status == ZS_OK && key != want)
        status = zs_fail(err, ZS_E_INVALID,
                         "%s: holds the statistics of other images, of another number of them, or "
                         "through another network; remove it or choose another file",
                         path);
    if (status == ZS_OK)
        status = zs_gaussian_alloc(g, dim, err);
    if (status == ZS_OK)
        status = read_array(g->mu, n * sizeof *g->mu, f, "mu", err);
    if (status == ZS_OK)
        status = read_array(g->sigma, n * n * sizeof *g->sigma, f, "sigma", err);
    if (status == ZS_OK)
        status = read_array(&g->n, sizeof g->n, f, "count", err);
    zs_tensorfile_close(&f);
    return status;
}

/* The statistics of a file, handed over. */
static void take(zs_gaussian *g, zs_eval_set *s)
{
    *g = s->g;
    s->g = (zs_gaussian){0};
}

int zs_eval_gaussian(zs_gaussian *g, zs_eval *e, size_t i, const char *keep)
{
    zs_eval_set *s = &e->set[i];
    int status = ZS_OK;
    int64_t key = key_of(e, s);
    *g = (zs_gaussian){0};
    if (s->kind == ZS_EVAL_STATISTICS)
        take(g, s);
    else if (keep && access(keep, F_OK) == 0)
        status = read_file(g, keep, e->dim, key, e->env->err);
    else
        status = measure(g, e, i);
    if (status == ZS_OK && keep && access(keep, F_OK) != 0)
        status = write_file(keep, g, key, e->env->err);
    if (status == ZS_OK && g->n > 0 && g->n <= g->dim)
        zs_eval_warn(e->env,
                     "%s: %" PRId64 " samples cannot fill a covariance of %" PRId64
                     " features: the Frechet distance comes out too large, the more so the fewer "
                     "there are; compare it with numbers from as many samples only, or use kid, "
                     "which has no such bias",
                     s->spec, g->n, g->dim);
    if (status < 0)
        zs_gaussian_close(g);
    return status;
}
