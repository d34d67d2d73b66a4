/* SPDX-License-Identifier: MIT */
#include "tests/golden/golden_unpack.h"

#include "io/io.h"

#include <stdio.h>
#include <string.h>
#include <zlib.h>

enum { EMA_BITS = 20, RAW_BITS = 13 }; /* as in scripts/pack-goldens.py */

/* The codes of many tensors; the arrays are owned. */
typedef struct stream {
    int bits;
    uint8_t *high, *low; /* upper bytes, and a stream of the other bits */
    size_t high_bytes, low_bytes, high_used, low_used;
    float *scales;
} stream;

/* Everything of one packed file. */
typedef struct unpacker {
    zs_tensorfile *f;
    stream ema, model; /* averaged weights, and the raw ones' differences from them */
    size_t tensor;
    zs_tensorout *t;
    char (*names)[160];
    float **data;
    size_t n;
} unpacker;

/* Bytes of one array (owned); NULL when there is none of that name. */
static int load(void **out, zs_tensorfile *f, const char *prefix, const char *part, size_t *bytes,
                zs_error *err)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s_%s", prefix, part);
    long i = zs_tensorfile_find(f, name);
    *out = NULL;
    *bytes = 0;
    if (i < 0)
        return ZS_OK;
    const zs_tensorinfo *t = zs_tensorfile_info(f, (size_t)i);
    *bytes = (size_t)t->numel * zs_dtype_size(t->dtype);
    *out = zs_alloc(*bytes, 1);
    return *out ? zs_tensorfile_read_raw(f, (size_t)i, *out, *bytes, err)
                : zs_fail_nomem(err, *bytes, name);
}

static int load_stream(stream *s, zs_tensorfile *f, const char *name, int bits, size_t numbers,
                       zs_error *err)
{
    void *deflated = NULL, *low = NULL, *scales = NULL;
    size_t bytes, ignored;
    uLongf got = (uLongf)numbers;
    int status = load(&scales, f, name, "scales", &ignored, err);
    s->scales = scales;
    s->bits = bits;
    if (status == ZS_OK)
        status = load(&low, f, name, "low", &s->low_bytes, err);
    s->low = low;
    if (status == ZS_OK)
        status = load(&deflated, f, name, "high", &bytes, err);
    s->high = deflated ? zs_alloc(numbers, 1) : NULL;
    if (s->high && uncompress(s->high, &got, deflated, (uLong)bytes) != Z_OK)
        status = zs_fail(err, ZS_E_FORMAT, "%s is damaged", zs_tensorfile_path(f));
    s->high_bytes = (size_t)got;
    zs_free(deflated);
    return status;
}

/* Code i of one tensor as a signed number; the first of its upper bytes and lower bits given. */
static int32_t code_at(const uint8_t *high, const uint8_t *low, size_t i, int bits)
{
    int rest = bits - 8;
    int32_t v = 0;
    for (int k = 0; k < rest; k++) {
        size_t at = i * (size_t)rest + (size_t)k;
        v |= (low[at / 8] >> at % 8 & 1) << k;
    }
    return (high[i] - 128) * (1 << rest) + v;
}

/* The next n numbers of s, added to `near` unless it is NULL. */
static float *decode(stream *s, size_t tensor, size_t n, const float *near)
{
    size_t bytes = (n * (size_t)(s->bits - 8) + 7) / 8;
    float *v = zs_alloc(n, sizeof *v);
    if (!v || !s->high || s->high_used + n > s->high_bytes || s->low_used + bytes > s->low_bytes) {
        zs_free(v);
        return NULL;
    }
    double scale = (double)s->scales[tensor];
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(code_at(s->high + s->high_used, s->low + s->low_used, i, s->bits) * scale) +
               (near ? near[i] : 0);
    s->high_used += n;
    s->low_used += bytes;
    return v;
}

static void add(unpacker *u, const char *prefix, const char *name, int nd, const int64_t *shape,
                float *data)
{
    (void)snprintf(u->names[u->n], sizeof u->names[0], "%s%s", prefix, name);
    u->t[u->n] = (zs_tensorout){.name = u->names[u->n], .dtype = ZS_F32, .nd = nd, .data = data};
    memcpy(u->t[u->n].shape, shape, (size_t)nd * sizeof *shape);
    u->data[u->n++] = data;
}

/* Numbers of a tensor that is listed by its shape and a trailing 0. */
static size_t listed(const zs_tensorinfo *t)
{
    size_t n = 1;
    for (int i = 0; i < t->nd - 1; i++)
        n *= (size_t)t->shape[i];
    return n;
}

/* Raw weights that are stored as they are, too. */
static int read_exact(unpacker *u, const char *name, float *v, size_t n, zs_error *err)
{
    char full[200];
    (void)snprintf(full, sizeof full, "exact.%s", name);
    long i = zs_tensorfile_find(u->f, full);
    return i < 0 ? ZS_OK : zs_tensorfile_read_f32(u->f, (size_t)i, v, n, err);
}

static int unpack_tensor(unpacker *u, const zs_tensorinfo *t, zs_error *err)
{
    const char *name = t->name + strlen("ema_model.");
    float *raw = NULL, *averaged = decode(&u->ema, u->tensor, listed(t), NULL);
    if (averaged)
        add(u, "ema_model.", name, t->nd - 1, t->shape, averaged);
    if (averaged && u->model.scales && u->model.scales[u->tensor] > 0)
        raw = decode(&u->model, u->tensor, listed(t), averaged);
    int status = raw ? read_exact(u, name, raw, listed(t), err) : ZS_OK;
    if (raw)
        add(u, "model.", name, t->nd - 1, t->shape, raw);
    u->tensor++;
    return averaged ? status : zs_fail(err, ZS_E_FORMAT, "%s cannot be unpacked", t->name);
}

/* The image size travels as the shape of x_T; the statistics of codes as they are. */
static int unpack_rest(unpacker *u, zs_error *err)
{
    static const char *const stats[] = {"conds_mean", "conds_std"};
    long i = zs_tensorfile_find(u->f, "x_T_shape");
    float dims[4];
    int64_t shape[4];
    int status = ZS_OK;
    for (int k = 0; k < 2 && status == ZS_OK; k++) {
        long at = zs_tensorfile_find(u->f, stats[k]);
        const zs_tensorinfo *t = at < 0 ? NULL : zs_tensorfile_info(u->f, (size_t)at);
        float *v = t ? zs_alloc((size_t)t->numel, sizeof *v) : NULL;
        if (v) {
            status = zs_tensorfile_read_f32(u->f, (size_t)at, v, (size_t)t->numel, err);
            add(u, "", stats[k], t->nd, t->shape, v);
        }
    }
    if (i < 0 || status < 0)
        return status;
    status = zs_tensorfile_read_f32(u->f, (size_t)i, dims, 4, err);
    for (int k = 0; k < 4; k++)
        shape[k] = (int64_t)dims[k];
    size_t n = (size_t)(shape[0] * shape[1] * shape[2] * shape[3]);
    float *zeros = zs_calloc(n, sizeof *zeros);
    if (!zeros)
        return zs_fail_nomem(err, n * sizeof *zeros, "x_T");
    add(u, "", "x_T", 4, shape, zeros);
    return status;
}

static int prepare(unpacker *u, const char *packed, zs_error *err)
{
    size_t numbers = 0;
    int status = zs_tensorfile_open(&u->f, packed, err);
    if (status < 0)
        return status;
    size_t count = 2 * zs_tensorfile_count(u->f);
    u->t = zs_calloc(count, sizeof *u->t);
    u->names = zs_alloc(count, sizeof *u->names);
    u->data = zs_calloc(count, sizeof *u->data);
    if (!u->t || !u->names || !u->data)
        return zs_fail_nomem(err, count * sizeof *u->names, "a golden checkpoint");
    for (size_t i = 0; i < zs_tensorfile_count(u->f); i++)
        if (zs_str_starts(zs_tensorfile_info(u->f, i)->name, "ema_model."))
            numbers += listed(zs_tensorfile_info(u->f, i));
    status = load_stream(&u->ema, u->f, "ema", EMA_BITS, numbers, err);
    return status < 0 ? status : load_stream(&u->model, u->f, "model", RAW_BITS, numbers, err);
}

static void free_stream(stream *s)
{
    zs_free(s->high);
    zs_free(s->low);
    zs_free(s->scales);
}

int golden_unpack(const char *path, const char *packed, zs_error *err)
{
    unpacker u = {0};
    int status = prepare(&u, packed, err);
    for (size_t i = 0; status == ZS_OK && i < zs_tensorfile_count(u.f); i++) {
        const zs_tensorinfo *t = zs_tensorfile_info(u.f, i);
        if (zs_str_starts(t->name, "ema_model."))
            status = unpack_tensor(&u, t, err);
    }
    if (status == ZS_OK)
        status = unpack_rest(&u, err);
    if (status == ZS_OK)
        status = zs_safetensors_write(path, u.t, u.n, NULL, err);
    for (size_t i = 0; i < u.n; i++)
        zs_free(u.data[i]);
    free_stream(&u.ema);
    free_stream(&u.model);
    zs_free(u.t);
    zs_free(u.names);
    zs_free(u.data);
    zs_tensorfile_close(&u.f);
    return status;
}
