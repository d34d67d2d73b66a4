/* SPDX-License-Identifier: MIT */
/* With modulation y = xhat*g + b, where g = gamma*(1+scale) and b = beta*(1+scale) + shift are made
 * once per sample; without, all rows are one sample. Backward, the sums over the rows of a sample
 * of dy and of dy*xhat are all that the gradients of the four vectors need. */
#include "backend/cpu/fast.h"
#include "backend/cpu/norm.h"

#include <string.h>

enum { ROWS = 16, PARTS_MAX = 32, SAMPLE_ROWS = 64, COLUMNS = 64 };

typedef struct dims {
    int64_t samples, rows, ch; /* rows of a sample */
    int64_t ld, shift;         /* of ss; 0 without */
    int64_t parts;             /* that the rows of a sample are cut into, backward */
    const float *gamma, *beta, *ss;
    bool made; /* g and b are not gamma and beta */
} dims;

static dims dims_of(const zs_call *c, int gamma)
{
    const zs_view *x = &c->in[0], *ss = &c->in[gamma + 2];
    dims s = {.samples = ss->p ? ss->s.d[0] : 1,
              .ch = zs_shape_last(&x->s),
              .ld = ss->p ? ss->s.d[1] : 0,
              .shift = c->a->offset,
              .gamma = c->in[gamma].p,
              .beta = c->in[gamma + 1].p,
              .ss = ss->p,
              .made = ss->p || !c->in[gamma].p || !c->in[gamma + 1].p};
    s.rows = zs_shape_rows(&x->s) / s.samples;
    int64_t step = s.samples > 1 ? SAMPLE_ROWS : ROWS, parts = (s.rows + step - 1) / step;
    s.parts = parts < PARTS_MAX ? parts : PARTS_MAX;
    return s;
}

static double scale1p(const dims *s, int64_t sample, int64_t i)
{
    return s->ss ? 1.0 + (double)s->ss[sample * s->ld + s->shift + s->ch + i] : 1.0;
}

/* g and b of every sample to ws[sample][2][C]. */
static void make_affine(const dims *s, float *ws)
{
    for (int64_t n = 0; s->made && n < s->samples; n++) {
        float *g = ws + 2 * n * s->ch, *b = g + s->ch;
        for (int64_t i = 0; i < s->ch; i++) {
            double k = scale1p(s, n, i), beta = s->beta ? (double)s->beta[i] : 0.0;
            double shift = s->ss ? (double)s->ss[n * s->ld + s->shift + i] : 0.0;
            g[i] = (float)(k * (s->gamma ? (double)s->gamma[i] : 1.0));
            b[i] = (float)(k * beta + shift);
        }
    }
}

static int64_t affine_floats(const dims *s)
{
    return s->made ? 2 * s->samples * s->ch : 0;
}

static const float *g_of(const dims *s, const zs_call *c, int64_t sample)
{
    return s->made ? (const float *)c->ws + 2 * sample * s->ch : s->gamma;
}

/* x -> y, stats[M,2], rows [begin, end). */
static void rows_fwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const zs_norm_fns *fn = zs_norm_get();
    dims s = dims_of(c, 1);
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        const float *g = g_of(&s, c, r / s.rows);
        fn->row(c->out[0].p + r * s.ch, c->out[1].p + 2 * r, c->in[0].p + r * s.ch, g,
                s.made ? g + s.ch : s.beta, c->a->eps, s.ch);
    }
}

static size_t layernorm_ws(const zs_call *c)
{
    dims s = dims_of(c, 1);
    return (size_t)affine_floats(&s) * sizeof(float);
}

static void layernorm(const zs_call *c)
{
    dims s = dims_of(c, 1);
    make_affine(&s, c->ws);
    zs_cpu_for(c, s.samples * s.rows, ROWS, rows_fwd);
}

const zs_kernel zs_fast_layernorm = {layernorm, layernorm_ws};

/* x stats [gamma] [beta] [ss] dy -> dx, and sums of dy*xhat and of dy to part[2][C], for parts
 * [begin, end) of all samples. */
static void parts_bwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    const zs_norm_fns *fn = zs_norm_get();
    dims s = dims_of(c, 2);
    float *sums = (float *)c->ws + affine_floats(&s);
    (void)thread;
    for (int64_t u = begin; u < end; u++) {
        int64_t n = u / s.parts, i = u % s.parts;
        float *part = sums + u * 2 * s.ch;
        memset(part, 0, (size_t)(2 * s.ch) * sizeof *part);
        int64_t r0 = n * s.rows + i * s.rows / s.parts;
        int64_t r1 = n * s.rows + (i + 1) * s.rows / s.parts;
        for (int64_t r = r0; r < r1; r++)
            fn->row_bwd(c->out[0].p ? c->out[0].p + r * s.ch : NULL, part, part + s.ch,
                        c->in[0].p + r * s.ch, c->in[1].p + 2 * r, g_of(&s, c, n),
                        c->in[5].p + r * s.ch, s.ch);
    }
}

/* Columns [begin, end) of dgamma, dbeta and dss, from the sums in the order of their parts. */
static void columns_bwd(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c, 2);
    double xhat[COLUMNS], one[COLUMNS], dgamma[COLUMNS] = {0}, dbeta[COLUMNS] = {0};
    const float *part = (const float *)c->ws + affine_floats(&s) + begin;
    (void)thread;
    for (int64_t n = 0; n < s.samples; n++, part += s.parts * 2 * s.ch) {
        float *dss = c->out[3].p ? c->out[3].p + n * s.ld + s.shift + begin : NULL;
        zs_norm_get()->fold(xhat, part, s.parts, 2 * s.ch, end - begin);
        zs_norm_get()->fold(one, part + s.ch, s.parts, 2 * s.ch, end - begin);
        for (int64_t i = begin, j = 0; i < end; i++, j++) {
            double k = scale1p(&s, n, i), g = s.gamma ? (double)s.gamma[i] : 1.0;
            dgamma[j] += k * xhat[j];
            dbeta[j] += k * one[j];
            if (!dss)
                continue;
            dss[j] = (float)one[j];
            dss[s.ch + j] = (float)(g * xhat[j] + (s.beta ? (double)s.beta[i] * one[j] : 0.0));
        }
    }
    for (int64_t i = begin; i < end; i++) {
        if (c->out[1].p)
            c->out[1].p[i] += (float)dgamma[i - begin];
        if (c->out[2].p)
            c->out[2].p[i] += (float)dbeta[i - begin];
    }
}

static size_t layernorm_bwd_ws(const zs_call *c)
{
    dims s = dims_of(c, 2);
    return (size_t)(affine_floats(&s) + s.samples * s.parts * 2 * s.ch) * sizeof(float);
}

static void layernorm_bwd(const zs_call *c)
{
    dims s = dims_of(c, 2);
    make_affine(&s, c->ws);
    zs_cpu_for(c, s.samples * s.parts, 1, parts_bwd);
    if (c->out[3].p)
        memset(c->out[3].p, 0, (size_t)(s.samples * s.ld) * sizeof(float));
    if (c->out[1].p || c->out[2].p || c->out[3].p)
        zs_cpu_for(c, s.ch, COLUMNS, columns_bwd);
}

const zs_kernel zs_fast_layernorm_bwd = {layernorm_bwd, layernorm_bwd_ws};
