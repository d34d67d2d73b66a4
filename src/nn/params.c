/* SPDX-License-Identifier: MIT */
#include "nn/params.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct zs_params {
    zs_param *p;
    size_t n, cap;
    size_t next; /* where the last search ended: builders ask in the order of registration */
    int64_t numel, weights;
    bool sealed;
};

/* Floats: 64 bytes, a line of the cache; 32 in a copy of half precision. */
enum { ALIGN = 16 };

int zs_params_new(zs_params **out, zs_error *err)
{
    *out = zs_calloc(1, sizeof **out);
    return *out ? ZS_OK : zs_fail_nomem(err, sizeof **out, "a parameter layout");
}

void zs_params_free(zs_params **ps)
{
    if (!*ps)
        return;
    for (size_t i = 0; i < (*ps)->n; i++)
        zs_free((void *)(uintptr_t)(*ps)->p[i].name);
    zs_free((*ps)->p);
    zs_free(*ps);
    *ps = NULL;
}

void zs_params_seal(zs_params *ps)
{
    ps->sealed = true;
}

size_t zs_params_count(const zs_params *ps)
{
    return ps->n;
}

const zs_param *zs_params_at(const zs_params *ps, size_t i)
{
    return &ps->p[i];
}

int64_t zs_params_numel(const zs_params *ps)
{
    return ps->numel;
}

int64_t zs_params_weights(const zs_params *ps)
{
    return ps->weights;
}

static long find_from(const zs_params *ps, size_t start, const char *name)
{
    for (size_t k = 0; k < ps->n; k++) {
        size_t i = (start + k) % ps->n;
        if (strcmp(ps->p[i].name, name) == 0)
            return (long)i;
    }
    return -1;
}

long zs_params_find(const zs_params *ps, const char *name)
{
    return find_from(ps, 0, name);
}

/* "[64,3,3,3]" */
static const char *shape_text(char buf[96], int nd, const int64_t *shape)
{
    size_t n = 0;
    buf[n++] = '[';
    for (int i = 0; i < nd && n < 80; i++)
        n += (size_t)snprintf(buf + n, 96 - n, "%s%" PRId64, i ? "," : "", shape[i]);
    (void)snprintf(buf + (n < 95 ? n : 94), 2, "]");
    return buf;
}

static bool same_shape(int nd, const int64_t *a, int nd2, const int64_t *b)
{
    return nd == nd2 && memcmp(a, b, (size_t)nd * sizeof *a) == 0;
}

/* Dimensions without the ones at the end: a matrix and a 1x1 convolution are the same numbers. */
static int squeezed(int nd, const int64_t *shape)
{
    while (nd > 1 && shape[nd - 1] == 1)
        nd--;
    return nd;
}

static int fill(zs_params *ps, zs_param *p, zs_error *err)
{
    int64_t numel = 1;
    if (p->nd < 1 || p->nd > 4 || p->fan_in < 1)
        return zs_fail(err, ZS_E_INTERNAL, "parameter %s: bad number of dimensions", p->name);
    for (int i = 0; i < p->nd; i++) {
        if (p->shape[i] < 1 || numel > (INT64_MAX >> 4) / p->shape[i])
            return zs_fail(err, ZS_E_INVALID, "parameter %s: impossible shape", p->name);
        numel *= p->shape[i];
    }
    if (ps->numel > (INT64_MAX >> 4) - numel)
        return zs_fail(err, ZS_E_INVALID, "the model has too many parameters");
    p->numel = numel;
    if (p->alias >= 0) {
        if ((size_t)p->alias >= ps->n || ps->p[p->alias].numel != numel)
            return zs_fail(err, ZS_E_INTERNAL, "parameter %s: bad alias", p->name);
        p->offset = ps->p[p->alias].offset;
    } else {
        p->offset = (ps->numel + ALIGN - 1) / ALIGN * ALIGN;
    }
    return ZS_OK;
}

static long append(zs_params *ps, const zs_param *want, zs_error *err)
{
    zs_param p = *want;
    void *items = ps->p;
    if (ps->sealed) {
        (void)zs_fail(err, ZS_E_INTERNAL, "parameter %s is not part of the model", want->name);
        return -1;
    }
    if (fill(ps, &p, err) < 0)
        return -1;
    p.name = zs_str_dup(want->name);
    if (!p.name || !zs_grow(&items, &ps->cap, ps->n, sizeof p)) {
        zs_free((void *)(uintptr_t)p.name);
        (void)zs_fail_nomem(err, sizeof p, "a parameter layout");
        return -1;
    }
    ps->p = items;
    ps->p[ps->n] = p;
    if (p.alias < 0) {
        ps->numel = p.offset + p.numel;
        ps->weights += p.numel;
    }
    return (long)ps->n++;
}

long zs_params_add(zs_params *ps, const zs_param *want, zs_error *err)
{
    long i = find_from(ps, ps->next, want->name);
    if (i < 0)
        return append(ps, want, err);
    const zs_param *p = &ps->p[i];
    if (!same_shape(p->nd, p->shape, want->nd, want->shape) || p->layout != want->layout) {
        char a[96], b[96];
        (void)zs_fail(err, ZS_E_INVALID, "parameter %s has shape %s, not %s", p->name,
                      shape_text(a, p->nd, p->shape), shape_text(b, want->nd, want->shape));
        return -1;
    }
    ps->next = (size_t)i + 1;
    return i;
}

void zs_params_clear_gaps(const zs_params *ps, float *flat)
{
    int64_t end = 0;
    for (size_t i = 0; i < ps->n; i++) {
        const zs_param *p = &ps->p[i];
        if (p->alias >= 0)
            continue;
        if (p->offset > end)
            memset(flat + end, 0, (size_t)(p->offset - end) * sizeof *flat);
        end = p->offset + p->numel;
    }
}

/* ---- initial values ---- */

/* Column or row p of a grid as n sines, then n cosines. */
static void positions(float *w, int64_t n, int64_t p)
{
    for (int64_t i = 0; i < n; i++) {
        double a = (double)p * pow(10000.0, -(double)i / (double)n);
        w[i] = (float)sin(a);
        w[n + i] = (float)cos(a);
    }
}

static void position_table(float *w, const zs_param *p)
{
    int64_t tokens = p->shape[1], ch = p->shape[2], g = (int64_t)sqrt((double)tokens);
    for (int64_t t = 0; ch % 4 == 0 && t < tokens; t++) {
        positions(w + t * ch, ch / 4, t % g);
        positions(w + t * ch + ch / 2, ch / 4, t / g);
    }
}

static void fill_uniform(float *w, size_t n, const zs_rng *r, double bound)
{
    zs_rng_uniform(w, n, r, 0);
    for (size_t k = 0; k < n; k++)
        w[k] = (float)bound * (2 * w[k] - 1);
}

static void fill_normal(float *w, size_t n, const zs_rng *r, double deviation)
{
    zs_rng_normal(w, n, r, 0);
    for (size_t k = 0; k < n; k++)
        w[k] *= (float)deviation;
}

static void init_one(float *w, const zs_param *p, const zs_rng *r)
{
    size_t n = (size_t)p->numel;
    double in = (double)p->fan_in, sides = (double)(p->shape[0] + p->numel / p->shape[0]);
    switch (p->init) {
    case ZS_INIT_ZERO: memset(w, 0, n * sizeof *w); break;
    case ZS_INIT_ONE:
        for (size_t k = 0; k < n; k++)
            w[k] = 1;
        break;
    case ZS_INIT_UNIFORM: fill_uniform(w, n, r, 1.0 / sqrt(in)); break;
    case ZS_INIT_XAVIER: fill_uniform(w, n, r, sqrt(6.0 / sides)); break;
    case ZS_INIT_KAIMING_NORMAL: fill_normal(w, n, r, sqrt(2.0 / in)); break;
    case ZS_INIT_NORMAL: fill_normal(w, n, r, 1); break;
    case ZS_INIT_NORMAL_02: fill_normal(w, n, r, 0.02); break;
    case ZS_INIT_POSITIONS: position_table(w, p); break;
    }
}

void zs_params_init(const zs_params *ps, float *flat, uint64_t seed)
{
    zs_params_clear_gaps(ps, flat);
    for (size_t i = 0; i < ps->n; i++) {
        const zs_param *p = &ps->p[i];
        zs_rng r = {.seed = seed, .purpose = ZS_RNG_INIT, .index = i};
        if (p->alias < 0)
            init_one(flat + p->offset, p, &r);
    }
}

/* ---- files ---- */

/* Numbers that one thread copies at a time, and outputs in a line of the engine's layout. */
enum { COPY_FLOATS = 1 << 19, PAGE_FLOATS = 1024, LINE_FLOATS = 16 };

typedef struct copy {
    float *to;
    const float *from;
    int64_t no, nc, ns; /* of a convolution */
} copy;

static void run_touch(void *ctx, int64_t begin, int64_t end, int thread)
{
    const copy *k = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i += PAGE_FLOATS)
        k->to[i] = 0;
}

static void run_plain(void *ctx, int64_t begin, int64_t end, int thread)
{
    const copy *k = ctx;
    (void)thread;
    memcpy(k->to + begin, k->from + begin, (size_t)(end - begin) * sizeof(float));
}

/* File index [o][c][s] -> engine index [s][c][o], s over the kernel's positions, for a line of
 * outputs: both sides are walked in order, LINE_FLOATS streams of the one and ns of the other. */
static void run_conv(void *ctx, int64_t begin, int64_t end, int thread)
{
    const copy *k = ctx;
    int64_t row = k->nc * k->ns;
    (void)thread;
    for (int64_t line = begin; line < end; line++) {
        int64_t o = line * LINE_FLOATS, n = k->no - o < LINE_FLOATS ? k->no - o : LINE_FLOATS;
        for (int64_t c = 0; c < k->nc; c++)
            for (int64_t s = 0; s < k->ns; s++) {
                float *to = k->to + (s * k->nc + c) * k->no + o;
                const float *from = k->from + o * row + c * k->ns + s;
                for (int64_t j = 0; j < n; j++)
                    to[j] = from[j * row];
            }
    }
}

/* The first write of a page of memory costs more than all that follows, so the threads share it. */
static void from_file(const zs_param *p, float *engine, const float *file)
{
    copy k = {.to = engine, .from = file};
    zs_parallel_for(p->numel, COPY_FLOATS, run_touch, &k);
    if (p->layout == ZS_LAYOUT_PLAIN) {
        zs_parallel_for(p->numel, COPY_FLOATS, run_plain, &k);
        return;
    }
    k.no = p->shape[0];
    k.nc = p->shape[1];
    k.ns = p->numel / (k.no * k.nc);
    zs_parallel_for((k.no + LINE_FLOATS - 1) / LINE_FLOATS, 1, run_conv, &k);
}

void zs_params_export(const zs_params *ps, size_t i, const float *flat, float *dst)
{
    const zs_param *p = &ps->p[i];
    const float *w = flat + p->offset;
    if (p->layout == ZS_LAYOUT_PLAIN) {
        memcpy(dst, w, (size_t)p->numel * sizeof *dst);
        return;
    }
    int64_t no = p->shape[0], nc = p->shape[1], ns = p->numel / (no * nc);
    for (int64_t o = 0; o < no; o++)
        for (int64_t c = 0; c < nc; c++)
            for (int64_t s = 0; s < ns; s++)
                dst[(o * nc + c) * ns + s] = w[(s * nc + c) * no + o];
}

int zs_params_match(const zs_params *ps, size_t i, const zs_tensorfile *f, const char *name,
                    zs_error *err)
{
    const zs_param *p = &ps->p[i];
    long at = zs_tensorfile_find(f, name);
    char a[96], b[96];
    if (at < 0)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: tensor %s is missing (expected shape %s); the file does not hold the "
                       "whole model",
                       zs_tensorfile_path(f), name, shape_text(a, p->nd, p->shape));
    const zs_tensorinfo *t = zs_tensorfile_info(f, (size_t)at);
    if (!same_shape(squeezed(p->nd, p->shape), p->shape, squeezed(t->nd, t->shape), t->shape))
        return zs_fail(err, ZS_E_FORMAT, "%s: tensor %s has shape %s where the model needs %s",
                       zs_tensorfile_path(f), name, shape_text(b, t->nd, t->shape),
                       shape_text(a, p->nd, p->shape));
    return ZS_OK;
}

int zs_params_read(const zs_params *ps, size_t i, float *flat, zs_tensorfile *f, const char *name,
                   zs_error *err)
{
    const zs_param *p = &ps->p[i];
    int status = zs_params_match(ps, i, f, name, err);
    if (status < 0)
        return status;
    size_t at = (size_t)zs_tensorfile_find(f, name), n = (size_t)p->numel;
    const float *file = zs_tensorfile_peek_f32(f, at);
    if (file) {
        from_file(p, flat + p->offset, file);
        zs_tensorfile_drop(f, at);
        return ZS_OK;
    }
    if (p->layout == ZS_LAYOUT_PLAIN)
        return zs_tensorfile_read_f32(f, at, flat + p->offset, n, err);
    float *tmp = zs_alloc(n, sizeof *tmp);
    if (!tmp)
        return zs_fail_nomem(err, (unsigned long long)n * sizeof *tmp, name);
    status = zs_tensorfile_read_f32(f, at, tmp, n, err);
    if (status == ZS_OK)
        from_file(p, flat + p->offset, tmp);
    zs_free(tmp);
    return status;
}

int zs_params_import(const zs_params *ps, float *flat, zs_tensorfile *f, const char *prefix,
                     zs_error *err)
{
    int status = ZS_OK;
    zs_params_clear_gaps(ps, flat);
    for (size_t i = 0; i < ps->n && status == ZS_OK; i++) {
        zs_strbuf name = {0};
        zs_strbuf_addf(&name, "%s%s", prefix, ps->p[i].name);
        status = name.failed ? zs_fail_nomem(err, name.cap, "a tensor name")
                             : zs_params_read(ps, i, flat, f, name.s, err);
        zs_strbuf_free(&name);
    }
    return status;
}
