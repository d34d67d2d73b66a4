/* SPDX-License-Identifier: MIT */
/* What a workload computes from and what it gets, for other programs to compare with. */
#include "tasks/benchrow.h"

#include <math.h>
#include <string.h>

void zs_bench_fill(float *p, size_t n, uint64_t seed, uint64_t index)
{
    zs_rng r = {seed, ZS_RNG_TEST, index, 0};
    zs_rng_normal(p, n, &r, 0);
}

void zs_bench_weights(float *flat, const zs_params *ps, uint64_t seed)
{
    zs_params_init(ps, flat, seed);
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *q = zs_params_at(ps, i);
        float *p = flat + q->offset;
        if (q->alias >= 0 || (q->nd > 1 && q->init != ZS_INIT_ZERO))
            continue;
        zs_rng r = {seed, ZS_RNG_TEST, i, 1};
        float keep[4], scale = q->nd > 1 ? 0.5F / sqrtf((float)q->fan_in) : 0.1F;
        for (int64_t k = 0; k < q->numel; k++) {
            if (k % 4 == 0)
                zs_rng_normal(keep, 4, &r, (size_t)k);
            p[k] += scale * keep[k % 4];
        }
    }
}

static void *add(zs_bench_file *f, const char *prefix, const char *name, zs_dtype dtype, int nd,
                 const int64_t *shape)
{
    void *items = f->t, *names = f->names;
    size_t numel = 1;
    for (int k = 0; k < nd; k++)
        numel *= (size_t)shape[k];
    if (f->failed)
        return NULL;
    f->failed = !zs_grow(&items, &f->cap_t, f->n, sizeof *f->t);
    f->t = items;
    f->failed = f->failed || !zs_grow(&names, &f->cap_names, f->n, sizeof *f->names);
    f->names = names;
    char *full = zs_str_format("%s%s", prefix, name);
    void *data = zs_alloc(numel, dtype == ZS_F32 ? 4 : 8);
    f->failed = f->failed || !full || !data;
    if (f->failed) {
        zs_free(full);
        zs_free(data);
        return NULL;
    }
    f->names[f->n] = full;
    f->t[f->n] = (zs_tensorout){.name = full, .dtype = dtype, .nd = nd, .data = data};
    memcpy(f->t[f->n++].shape, shape, (size_t)nd * sizeof *shape);
    return data;
}

void zs_bench_put(zs_bench_file *f, const char *prefix, const char *name, int nd,
                  const int64_t *shape, const float *data)
{
    float *p = add(f, prefix, name, ZS_F32, nd, shape);
    size_t numel = 1;
    for (int k = 0; k < nd; k++)
        numel *= (size_t)shape[k];
    f->failed = f->failed || !data;
    if (p && data)
        memcpy(p, data, numel * sizeof *p);
}

void zs_bench_put_images(zs_bench_file *f, const char *name, const float *x, zs_shape s)
{
    float *p = add(f, "", name, ZS_F32, 4, (int64_t[]){s.d[0], s.d[3], s.d[1], s.d[2]});
    f->failed = f->failed || !x;
    if (p && x)
        zs_nchw_from_nhwc(p, x, s.d[0], s.d[1], s.d[2], s.d[3]);
}

void zs_bench_put_times(zs_bench_file *f, const char *name, const int64_t *t, int64_t n)
{
    int64_t *p = add(f, "", name, ZS_I64, 1, &n);
    if (p)
        memcpy(p, t, (size_t)n * sizeof *p);
}

void zs_bench_put_params(zs_bench_file *f, const char *prefix, const zs_params *ps,
                         const float *flat)
{
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *q = zs_params_at(ps, i);
        float *p = q->alias >= 0 ? NULL : add(f, prefix, q->name, ZS_F32, q->nd, q->shape);
        if (p)
            zs_params_export(ps, i, flat, p);
    }
}

int zs_bench_write(zs_bench_file *f, const char *dir, const char *name, zs_error *err)
{
    char *path = zs_str_format("%s/%s", dir, name);
    int status = f->failed || !path ? zs_fail_nomem(err, 0, "the tensors of --save") : ZS_OK;
    if (status == ZS_OK)
        status = zs_safetensors_write(path, f->t, f->n, NULL, err);
    for (size_t i = 0; i < f->n; i++) {
        zs_free((void *)(uintptr_t)f->t[i].data);
        zs_free(f->names[i]);
    }
    zs_free(f->t);
    zs_free(f->names);
    zs_free(path);
    *f = (zs_bench_file){0};
    return status;
}

int zs_bench_write_model(const char *dir, const char *preset, const zs_model_config *c,
                         const zs_params *ps, const float *weights, zs_error *err)
{
    const zs_bundle b = {.config = c, .params = ps, .weights = weights};
    char *path = zs_str_format("%s/%s.model.safetensors", dir, preset);
    int status =
        path ? zs_bundle_write(path, &b, ZS_F32, err) : zs_fail_nomem(err, 256, "a file name");
    zs_free(path);
    return status;
}
