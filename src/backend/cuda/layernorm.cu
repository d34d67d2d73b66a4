/* SPDX-License-Identifier: MIT */
/* LayerNorm with the modulation of DiT, and its gradient.
 *
 * A warp takes a row, which stays in the L1 cache between its passes; sums are of x - x[0], so that
 * a mean far above the deviation costs no digits. Bytes moved, in tensors of x's size: forward 2;
 * backward 3 for dx and 2 more for the gradients of gamma, beta and the modulation. */
#include "backend/cuda/columns.cuh"

enum { ROWS = THREADS / WARP /* of a block */ };

/* gamma, beta and the modulation of sample n = row / per, as far as they are given. */
template <class T> struct affine {
    const float *gamma, *beta;
    const T *ss;
    int64_t per, ld, at; /* rows of a sample; columns of ss, the first of its shifts */
    int64_t ch;
    bool vector; /* all three can be read in vectors */

    __device__ float gamma_at(int64_t i) const
    {
        return gamma ? gamma[i] : 1.0f;
    }

    __device__ float beta_at(int64_t i) const
    {
        return beta ? beta[i] : 0.0f;
    }

    __device__ float scale1p_at(int64_t n, int64_t i) const
    {
        return ss ? 1.0f + to_float(ss[n * ld + at + ch + i]) : 1.0f;
    }

    /* g = gamma*(1+scale) of channels i .. i+V */
    template <int V> __device__ void slope(float (&g)[V], int64_t n, int64_t i) const
    {
        float r[V];
        for (int j = 0; j < V; j++)
            g[j] = 1.0f;
        if (gamma)
            load_any(g, gamma + i, vector);
        if (!ss)
            return;
        load_any(r, ss + n * ld + at + ch + i, vector);
        for (int j = 0; j < V; j++)
            g[j] *= 1.0f + r[j];
    }

    /* b = beta*(1+scale) + shift */
    template <int V> __device__ void offset(float (&b)[V], int64_t n, int64_t i) const
    {
        float r[V];
        for (int j = 0; j < V; j++)
            b[j] = 0.0f;
        if (beta)
            load_any(b, beta + i, vector);
        if (!ss)
            return;
        load_any(r, ss + n * ld + at + ch + i, vector);
        for (int j = 0; j < V; j++)
            b[j] *= 1.0f + r[j];
        load_any(r, ss + n * ld + at + i, vector);
        for (int j = 0; j < V; j++)
            b[j] += r[j];
    }
};

template <class T> static affine<T> affine_of(const zs_call *c, int gamma)
{
    const zs_view *x = &c->in[0], *ss = &c->in[gamma + 2];
    int64_t samples = ss->p ? ss->s.d[0] : 1;
    affine<T> a = {c->in[gamma].p,
                   c->in[gamma + 1].p,
                   at<T>(ss),
                   zs_shape_rows(&x->s) / samples,
                   ss->p ? ss->s.d[1] : 0,
                   c->a->offset,
                   zs_shape_last(&x->s),
                   false};
    a.vector = wide(a.ch | a.ld | a.at, a.gamma, a.beta, a.ss);
    return a;
}

/* Row of this warp. Lanes of a warp that has none leave together. */
static __device__ __forceinline__ int64_t row_of_warp(void)
{
    return static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.x / WARP;
}

/* ---- forward ---- */

template <class T, int V>
static __global__ void layernorm_kernel(T *__restrict__ y, float *__restrict__ stats,
                                        const T *__restrict__ x, affine<T> a, int64_t rows,
                                        float eps)
{
    int64_t row = row_of_warp(), ch = a.ch;
    if (row >= rows)
        return;
    const T *from = x + row * ch;
    float shift = to_float(from[0]), sum = 0, square = 0, r[V];
    int64_t first = threadIdx.x % WARP * V;
    for (int64_t i = first; i < ch; i += WARP * V) {
        load(r, from + i);
        for (int j = 0; j < V; j++)
            sum += r[j] - shift;
    }
    float off = warp_sum(sum) / static_cast<float>(ch); /* of the mean from the shift */
    for (int64_t i = first; i < ch; i += WARP * V) {
        load(r, from + i);
        for (int j = 0; j < V; j++) {
            float d = r[j] - shift - off;
            square += d * d;
        }
    }
    float rstd = 1.0f / sqrtf(warp_sum(square) / static_cast<float>(ch) + eps);
    if (threadIdx.x % WARP == 0) {
        stats[2 * row] = shift + off;
        stats[2 * row + 1] = rstd;
    }
    int64_t n = quotient(row, a.per);
    for (int64_t i = first; i < ch; i += WARP * V) {
        float g[V], b[V];
        load(r, from + i);
        a.slope(g, n, i);
        a.offset(b, n, i);
        for (int j = 0; j < V; j++)
            r[j] = (r[j] - shift - off) * rstd * g[j] + b[j];
        store(y + row * ch + i, r);
    }
}

template <class T, int V> static void layernorm(const zs_call *c)
{
    int64_t rows = zs_shape_rows(&c->in[0].s);
    ZS_LAUNCH_SYNC("layernorm", (layernorm_kernel<T, V>), blocks_of(rows, ROWS), THREADS, 0,
                   c->queue, at<T>(&c->out[0]), c->out[1].p, at<T>(&c->in[0]), affine_of<T>(c, 1),
                   rows, c->a->eps);
}

static void run_layernorm(const zs_call *c)
{
    const zs_view *x = &c->in[0];
    ZS_INSTANCE(x->type, wide(zs_shape_last(&x->s), x->p, c->out[0].p), layernorm, c);
}

/* ---- backward: dx = rstd * (g - mean(g) - xhat*mean(g*xhat)), g = dy*gamma*(1+scale) ---- */

template <class T, int V>
static __global__ void layernorm_dx_kernel(T *__restrict__ dx, const T *__restrict__ x,
                                           const float *__restrict__ stats,
                                           const T *__restrict__ dy, affine<T> a, int64_t rows)
{
    int64_t row = row_of_warp(), ch = a.ch;
    if (row >= rows)
        return;
    float mean = stats[2 * row], rstd = stats[2 * row + 1], sum = 0, sumx = 0;
    float r[V], g[V], k[V];
    int64_t n = quotient(row, a.per), at = row * ch;
    for (int64_t i = threadIdx.x % WARP * V; i < ch; i += WARP * V) {
        load(r, x + at + i);
        load(g, dy + at + i);
        a.slope(k, n, i);
        for (int j = 0; j < V; j++) {
            g[j] *= k[j];
            sum += g[j];
            sumx += g[j] * ((r[j] - mean) * rstd);
        }
    }
    sum = warp_sum(sum) / static_cast<float>(ch);
    sumx = warp_sum(sumx) / static_cast<float>(ch);
    for (int64_t i = threadIdx.x % WARP * V; i < ch; i += WARP * V) {
        load(r, x + at + i);
        load(g, dy + at + i);
        a.slope(k, n, i);
        for (int j = 0; j < V; j++) {
            g[j] *= k[j];
            r[j] = rstd * (g[j] - sum - (r[j] - mean) * rstd * sumx);
        }
        store(dx + at + i, r);
    }
}

/* Per sample and channel: the sums of dy and of dy*xhat. */
template <class T, int V_> struct layernorm_sums {
    enum { K = 2, V = V_ };
    struct state {};
    const T *x, *dy;
    const float *stats;
    int64_t per, ch;

    __device__ state begin(int64_t, int64_t) const
    {
        return state();
    }

    __device__ void add(float (&sum)[2 * V_], const state &, int64_t n, int64_t row,
                        int64_t col) const
    {
        int64_t at = n * per + row;
        float mean = stats[2 * at], rstd = stats[2 * at + 1], r[V_], g[V_];
        load(r, x + at * ch + col);
        load(g, dy + at * ch + col);
        for (int j = 0; j < V_; j++) {
            sum[j] += g[j];
            sum[V_ + j] += g[j] * ((r[j] - mean) * rstd);
        }
    }
};

/* Totals [N][2][C]. */
struct layernorm_totals {
    double *to;
    int64_t ch;

    __device__ void operator()(int64_t n, int k, int64_t i, double sum) const
    {
        to[(n * 2 + k) * ch + i] = sum;
    }
};

/* dss[N, ld]: its columns at .. at+2C of the modulation, zero elsewhere. A thread per number. */
template <class T> struct layernorm_dss {
    T *dss;
    const double *totals;
    affine<T> a;

    __device__ void operator()(int64_t e) const
    {
        int64_t n = quotient(e, a.ld), i = e - n * a.ld - a.at;
        const double *one = totals + n * 2 * a.ch, *xhat = one + a.ch;
        double v = 0;
        if (i >= 0 && i < a.ch)
            v = one[i];
        else if (i >= a.ch && i < 2 * a.ch)
            v = xhat[i - a.ch] * static_cast<double>(a.gamma_at(i - a.ch)) +
                one[i - a.ch] * static_cast<double>(a.beta_at(i - a.ch));
        put(dss + e, static_cast<float>(v));
    }
};

/* dgamma, dbeta += over all samples, in their order. A thread per channel. */
template <class T> struct layernorm_affine {
    float *dgamma, *dbeta;
    const double *totals;
    affine<T> a;
    int64_t samples;

    __device__ void operator()(int64_t i) const
    {
        double gamma = 0, beta = 0;
        for (int64_t n = 0; n < samples; n++) {
            double scale = static_cast<double>(a.scale1p_at(n, i));
            beta += totals[2 * n * a.ch + i] * scale;
            gamma += totals[(2 * n + 1) * a.ch + i] * scale;
        }
        if (dgamma)
            dgamma[i] += static_cast<float>(gamma);
        if (dbeta)
            dbeta[i] += static_cast<float>(beta);
    }
};

static int64_t samples_of(const zs_call *c)
{
    return c->in[4].p ? c->in[4].s.d[0] : 1;
}

static size_t layernorm_bwd_ws(const zs_call *c)
{
    const zs_shape *x = &c->in[0].s;
    int64_t n = samples_of(c), ch = zs_shape_last(x);
    return static_cast<size_t>(2 * n * ch) * sizeof(double) +
           partial_bytes(n, zs_shape_rows(x) / n, ch, 2);
}

template <class T, int V> static void layernorm_columns(const zs_call *c, affine<T> a)
{
    int64_t n = samples_of(c);
    double *totals = static_cast<double *>(c->ws);
    float *partial = reinterpret_cast<float *>(totals + 2 * n * a.ch);
    layernorm_sums<T, V> sums = {at<T>(&c->in[0]), at<T>(&c->in[5]), c->in[1].p, a.per, a.ch};
    columns d = sum_columns("layernorm_bwd", c->queue, partial, n, a.per, a.ch, sums);
    fold_columns("layernorm_bwd", c->queue, partial, d, 2, layernorm_totals{totals, a.ch});
    if (c->out[3].p)
        flat<1>("layernorm_bwd", c->queue, n * a.ld,
                layernorm_dss<T>{at<T>(&c->out[3]), totals, a});
    if (c->out[1].p || c->out[2].p)
        flat<1>("layernorm_bwd", c->queue, a.ch,
                layernorm_affine<T>{c->out[1].p, c->out[2].p, totals, a, n});
}

template <class T, int V> static void layernorm_bwd(const zs_call *c)
{
    int64_t rows = zs_shape_rows(&c->in[0].s);
    affine<T> a = affine_of<T>(c, 2);
    if (c->out[0].p)
        ZS_LAUNCH_SYNC("layernorm_bwd", (layernorm_dx_kernel<T, V>), blocks_of(rows, ROWS), THREADS,
                       0, c->queue, at<T>(&c->out[0]), at<T>(&c->in[0]), c->in[1].p,
                       at<T>(&c->in[5]), a, rows);
    if (c->out[1].p || c->out[2].p || c->out[3].p)
        layernorm_columns<T, V>(c, a);
}

static void run_layernorm_bwd(const zs_call *c)
{
    const zs_view *x = &c->in[0];
    ZS_INSTANCE(x->type, wide(zs_shape_last(&x->s), x->p, c->in[5].p, c->out[0].p), layernorm_bwd,
                c);
}

extern "C" {
const zs_kernel zs_cuda_layernorm = {run_layernorm, NULL};
const zs_kernel zs_cuda_layernorm_bwd = {run_layernorm_bwd, layernorm_bwd_ws};
}
