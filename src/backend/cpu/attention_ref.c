/* SPDX-License-Identifier: MIT */
/* With d = C/heads, position p of head h has q at ((n*T + p)*3C + h*head), k `part` further and v
 * 2*part further: head = 3d, part = d where channels are [head][q|k|v][dim], and head = d, part = C
 * where they are [q|k|v][head][dim]. T: all positions of a sample. */
#include "backend/cpu/cpu.h"

#include <math.h>

typedef struct dims {
    int64_t n, t, c, d, heads, head, part;
} dims;

static dims dims_of(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    int64_t ch = zs_shape_last(s) / 3, d = ch / c->a->heads;
    bool by_head = c->a->kind == ZS_QKV_BY_HEAD;
    return (dims){
        s->d[0],         zs_shape_rows(s) / s->d[0], ch, d, c->a->heads, by_head ? 3 * d : d,
        by_head ? d : ch};
}

static double dot(const float *a, const float *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += (double)a[i] * (double)b[i];
    return s;
}

/* w[T] = softmax over j of q.k_j / sqrt(d); k points at position 0, rows are `step` apart. */
static void weights(double *w, const float *q, const float *k, int64_t step, const dims *s)
{
    double top = -HUGE_VAL, sum = 0;
    for (int64_t j = 0; j < s->t; j++) {
        w[j] = dot(q, k + j * step, s->d) / sqrt((double)s->d);
        top = fmax(top, w[j]);
    }
    for (int64_t j = 0; j < s->t; j++)
        sum += w[j] = exp(w[j] - top);
    for (int64_t j = 0; j < s->t; j++)
        w[j] /= sum;
}

/* qkv[N,...,3C] -> y[N,...,C], for (n,head) pairs [begin, end) of N*heads. */
static void attention_heads(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c);
    double *w = (double *)c->ws + thread * s.t;
    int64_t step = 3 * s.c;
    for (int64_t nh = begin; nh < end; nh++) {
        int64_t n = nh / s.heads, h = nh % s.heads;
        const float *q = c->in[0].p + n * s.t * step + h * s.head, *k = q + s.part;
        const float *v = k + s.part;
        float *y = c->out[0].p + n * s.t * s.c + h * s.d;
        for (int64_t i = 0; i < s.t; i++) {
            weights(w, q + i * step, k, step, &s);
            for (int64_t e = 0; e < s.d; e++) {
                double sum = 0;
                for (int64_t j = 0; j < s.t; j++)
                    sum += w[j] * (double)v[j * step + e];
                y[i * s.c + e] = (float)sum;
            }
        }
    }
}

static void attention(const zs_call *c)
{
    dims s = dims_of(c);
    zs_cpu_for(c, s.n * s.heads, 1, attention_heads);
}

static size_t attention_ws(const zs_call *c)
{
    return (size_t)dims_of(c).t * (size_t)c->threads * sizeof(double);
}

const zs_kernel zs_ref_attention = {attention, attention_ws};

/* Adds what query i contributes to dq, dk, dv (double[T,d] each, zeroed by the caller).
 * With weights w and dp_j = dy_i.v_j: dv_j += w_j dy_i; ds_j = w_j (dp_j - sum_k w_k dp_k);
 * dq_i += ds_j k_j / sqrt(d), dk_j += ds_j q_i / sqrt(d). */
static void query_bwd(double *w, double *acc, const float *q, const float *dy, int64_t i,
                      const dims *s)
{
    int64_t step = 3 * s->c, td = s->t * s->d;
    const float *k = q + s->part, *v = k + s->part, *qi = q + i * step;
    double scale = 1 / sqrt((double)s->d), mean = 0;
    weights(w, qi, k, step, s);
    for (int64_t j = 0; j < s->t; j++)
        mean += w[j] * dot(dy, v + j * step, s->d);
    for (int64_t j = 0; j < s->t; j++) {
        double ds = w[j] * (dot(dy, v + j * step, s->d) - mean) * scale;
        for (int64_t e = 0; e < s->d; e++) {
            acc[i * s->d + e] += ds * (double)k[j * step + e];
            acc[td + j * s->d + e] += ds * (double)qi[e];
            acc[2 * td + j * s->d + e] += w[j] * (double)dy[e];
        }
    }
}

/* Per thread: weights[T], then dq, dk, dv[T,d]. */
static int64_t bwd_doubles(const dims *s)
{
    return s->t + 3 * s->t * s->d;
}

/* qkv[N,...,3C] dy[N,...,C] -> dqkv[N,...,3C], for (n,head) pairs [begin, end). */
static void attention_bwd_heads(const zs_call *c, int64_t begin, int64_t end, int thread)
{
    dims s = dims_of(c);
    double *w = (double *)c->ws + thread * bwd_doubles(&s), *acc = w + s.t;
    for (int64_t nh = begin; nh < end; nh++) {
        int64_t n = nh / s.heads, h = nh % s.heads, at = n * s.t * 3 * s.c + h * s.head;
        for (int64_t i = 0; i < 3 * s.t * s.d; i++)
            acc[i] = 0;
        for (int64_t i = 0; i < s.t; i++)
            query_bwd(w, acc, c->in[0].p + at, c->in[1].p + (n * s.t + i) * s.c + h * s.d, i, &s);
        for (int64_t i = 0; i < s.t; i++)
            for (int64_t e = 0; e < 3 * s.d; e++)
                c->out[0].p[at + i * 3 * s.c + e / s.d * s.part + e % s.d] =
                    (float)acc[(e / s.d) * s.t * s.d + i * s.d + e % s.d];
    }
}

static void attention_bwd(const zs_call *c)
{
    dims s = dims_of(c);
    zs_cpu_for(c, s.n * s.heads, 1, attention_bwd_heads);
}

static size_t attention_bwd_ws(const zs_call *c)
{
    dims s = dims_of(c);
    return (size_t)bwd_doubles(&s) * (size_t)c->threads * sizeof(double);
}

const zs_kernel zs_ref_attention_bwd = {attention_bwd, attention_bwd_ws};
