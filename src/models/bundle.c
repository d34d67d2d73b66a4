/* SPDX-License-Identifier: MIT */
/* Bundles: one safetensors file with every box, statistics and the configuration. */
#include "models/model_impl.h"

#include "io/tensorwrite.h"

#include <math.h>
#include <string.h>

enum { PROBE_TENSORS = 4 };

static const char Z_MEAN[] = "stats.z_mean", Z_STD[] = "stats.z_std";

void zs_bundle_name(char *buf, size_t cap, const char *name)
{
    (void)snprintf(buf, cap, "%s.%s", zs_box_name(zs_param_box(name)), zs_param_local_name(name));
}

/* ---- read ---- */

json_t *zs_bundle_meta(const zs_tensorfile *f, zs_error *err)
{
    json_error_t e;
    const char *text = json_string_value(json_object_get(zs_tensorfile_meta(f), "zsem"));
    json_t *j = text ? json_loads(text, 0, &e) : NULL;
    if (text && !j)
        (void)zs_fail(err, ZS_E_FORMAT, "%s: the metadata is not JSON (line %d: %s)",
                      zs_tensorfile_path(f), e.line, e.text);
    return j;
}

static int check_tensors(const zs_model *m, const zs_tensorfile *f, zs_error *err)
{
    char name[256];
    int status = zs_model_check_size(m, f, "", err);
    for (size_t i = 0; i < zs_params_count(m->params) && status == ZS_OK; i++) {
        const zs_param *p = zs_params_at(m->params, i);
        zs_bundle_name(name, sizeof name, p->name);
        if (p->alias < 0)
            status = zs_params_match(m->params, i, f, name, err);
    }
    return status;
}

int zs_bundle_read(zs_model *m, zs_tensorfile *f, zs_error *err)
{
    char name[256];
    int status = check_tensors(m, f, err);
    if (status == ZS_OK)
        status = zs_model_alloc(m, err);
    for (size_t i = 0; i < zs_params_count(m->params) && status == ZS_OK; i++) {
        const zs_param *p = zs_params_at(m->params, i);
        zs_bundle_name(name, sizeof name, p->name);
        if (p->alias < 0 && zs_model_wants(m, p))
            status = zs_params_read(m->params, i, m->weights, f, name, err);
    }
    if (status == ZS_OK && zs_tensorfile_find(f, Z_MEAN) >= 0)
        status = zs_model_read_stats(m, f, Z_MEAN, Z_STD, err);
    return status;
}

/* ---- write ---- */

typedef struct writer {
    const char *path;
    const zs_bundle *b;
    zs_dtype dtype;
    zs_tensorout *t;
    size_t n;
    char (*names)[256];
    uint8_t *data; /* all tensors, one after the other */
    size_t used;
} writer;

static size_t data_bytes(const zs_bundle *b, zs_dtype dtype)
{
    size_t n = 0;
    for (size_t i = 0; i < zs_params_count(b->params); i++)
        if (zs_params_at(b->params, i)->alias < 0)
            n += (size_t)zs_params_at(b->params, i)->numel;
    n *= zs_dtype_size(dtype);
    size_t dim = (size_t)zs_model_config_z_dim(b->config);
    if (b->probe)
        n += 2 * (size_t)b->probe->attrs * ((size_t)b->probe->dim + 1) * sizeof(float);
    return n + (b->z_mean ? 2 * dim * sizeof(float) : 0) + 1;
}

static int check_finite(const writer *w, const char *name, const float *v, size_t n, zs_dtype dtype,
                        zs_error *err)
{
    const float limit = dtype == ZS_F16 ? 65504.0f : HUGE_VALF;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(v[i]) || fabsf(v[i]) > limit)
            return zs_fail(err, ZS_E_NUMERIC,
                           "%s was not written: entry %zu of tensor %s is %g, which %s cannot "
                           "hold; %s",
                           w->path, i, name, (double)v[i], zs_dtype_name(dtype),
                           isfinite(v[i]) ? "use F32" : "use an earlier checkpoint");
    return ZS_OK;
}

/* Appends one tensor, converted. */
static int put(writer *w, const char *name, int nd, const int64_t *shape, const float *v, size_t n,
               zs_dtype dtype, zs_error *err)
{
    zs_tensorout *t = &w->t[w->n];
    int status = check_finite(w, name, v, n, dtype, err);
    if (status < 0)
        return status;
    (void)snprintf(w->names[w->n], sizeof w->names[0], "%s", name);
    *t =
        (zs_tensorout){.name = w->names[w->n], .dtype = dtype, .nd = nd, .data = w->data + w->used};
    memcpy(t->shape, shape, (size_t)nd * sizeof *shape);
    zs_dtype_from_f32(w->data + w->used, dtype, v, n);
    w->used += n * zs_dtype_size(dtype);
    w->n++;
    return ZS_OK;
}

static int put_params(writer *w, zs_error *err)
{
    const zs_params *ps = w->b->params;
    int status = ZS_OK;
    for (size_t i = 0; i < zs_params_count(ps) && status == ZS_OK; i++) {
        const zs_param *p = zs_params_at(ps, i);
        char name[256];
        if (p->alias >= 0)
            continue; /* the same floats under another name */
        float *tmp = zs_alloc((size_t)p->numel, sizeof *tmp);
        if (!tmp)
            return zs_fail_nomem(err, (size_t)p->numel * sizeof *tmp, p->name);
        zs_params_export(ps, i, w->b->weights, tmp);
        zs_bundle_name(name, sizeof name, p->name);
        status = put(w, name, p->nd, p->shape, tmp, (size_t)p->numel, w->dtype, err);
        zs_free(tmp);
    }
    return status;
}

static int put_stats(writer *w, zs_error *err)
{
    int64_t dim = zs_model_config_z_dim(w->b->config);
    if (!w->b->z_mean)
        return ZS_OK;
    int status = put(w, Z_MEAN, 1, &dim, w->b->z_mean, (size_t)dim, ZS_F32, err);
    if (status == ZS_OK)
        status = put(w, Z_STD, 1, &dim, w->b->z_std, (size_t)dim, ZS_F32, err);
    return status;
}

static int put_probe(writer *w, zs_error *err)
{
    int status = ZS_OK;
    for (int i = 0; w->b->probe && i < PROBE_TENSORS && status == ZS_OK; i++) {
        zs_probe_tensor t = zs_probe_tensor_at(w->b->probe, i);
        size_t n = (size_t)t.shape[0] * (size_t)(t.nd == 2 ? t.shape[1] : 1);
        status = put(w, t.name, t.nd, t.shape, t.data, n, ZS_F32, err);
    }
    return status;
}

/* {"zsem": "<configuration as JSON>"}: safetensors metadata maps strings to strings. */
static json_t *metadata(const zs_bundle *b)
{
    json_t *c = zs_model_config_to_json(b->config), *meta = NULL;
    bool ok = c != NULL;
    if (ok && b->extra)
        ok = json_object_set_new(c, "training", json_deep_copy(b->extra)) == 0;
    if (ok && b->probe)
        ok = json_object_set_new(c, "probe", zs_probe_to_json(b->probe)) == 0;
    char *text = ok ? json_dumps(c, JSON_COMPACT) : NULL;
    if (text)
        meta = json_pack("{s:s,s:s}", "format", "pt", "zsem", text);
    free(text);
    json_decref(c);
    return meta;
}

int zs_bundle_write(const char *path, const zs_bundle *b, zs_dtype dtype, zs_error *err)
{
    size_t count = zs_params_count(b->params) + 2 + PROBE_TENSORS;
    writer w = {.path = path, .b = b, .dtype = dtype};
    json_t *meta = NULL;
    int status = zs_model_config_validate(b->config, err);
    if (status < 0)
        return status;
    if (dtype != ZS_F32 && dtype != ZS_F16 && dtype != ZS_BF16)
        return zs_fail(err, ZS_E_INVALID, "weights are stored as F32, F16 or BF16, not as %s",
                       zs_dtype_name(dtype));
    w.t = zs_calloc(count, sizeof *w.t);
    w.names = zs_alloc(count, sizeof *w.names);
    w.data = zs_alloc(data_bytes(b, dtype), 1);
    meta = metadata(b);
    if (!w.t || !w.names || !w.data || !meta)
        status = zs_fail_nomem(err, data_bytes(b, dtype), "a model bundle");
    if (status == ZS_OK)
        status = put_params(&w, err);
    if (status == ZS_OK)
        status = put_stats(&w, err);
    if (status == ZS_OK)
        status = put_probe(&w, err);
    if (status == ZS_OK)
        status = zs_safetensors_write(path, w.t, w.n, meta, err);
    json_decref(meta);
    zs_free(w.t);
    zs_free(w.names);
    zs_free(w.data);
    return status;
}
