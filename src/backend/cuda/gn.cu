/* SPDX-License-Identifier: MIT */
/* GroupNorm with adaptive scales, activation and dropout, and its gradient.
 *
 * z = a*(x - mean) + b with a = rstd*gamma(1+scale)(1+cond), b = (beta(1+scale) + shift)(1+cond),
 * and y = dropout(act(z)). z is not kept: the backward pass makes it again from x, and the mask
 * from its counters. The mean is taken off first, as a mean far above the deviation would cost
 * digits in a*x.
 *
 * Bytes moved, in tensors of x's size: forward 3 (x for the sums, x and y), backward 5 (x and dy
 * twice, dx). Samples that fit into the L2 cache are read from it the second time, the blocks being
 * queued in the same order. */
#include "backend/cuda/columns.cuh"
#include "backend/cuda/elem.cuh"
#include "backend/cuda/rng.cuh"

/* Where the operands are, for the device. T is the type of activations. */
template <class T> struct gn {
    const T *x, *ss, *cs;
    const float *stats, *gamma, *beta;
    int64_t hw, ch, width; /* width: channels of a group */
    int groups;
    bool silu, vector; /* vector: all but x can be read in vectors too */
    dropping drop;
};

template <class T>
static gn<T> gn_of(const zs_call *c, const float *stats, int gamma /* slot; others follow */)
{
    const int64_t *d = c->in[0].s.d;
    gn<T> g = {at<T>(&c->in[0]),
               at<T>(&c->in[gamma + 2]),
               at<T>(&c->in[gamma + 3]),
               stats,
               c->in[gamma].p,
               c->in[gamma + 1].p,
               d[1] * d[2],
               d[3],
               d[3] / c->a->groups,
               c->a->groups,
               c->a->act == ZS_ACT_SILU,
               false,
               dropping_of(c)};
    g.vector = wide(g.ch, g.ss, g.cs, g.gamma, g.beta);
    return g;
}

/* What V channels of a sample are put through. */
template <int V> struct gn_channels {
    float mean[V], a[V], b[V];
};

/* The groups of channels col, col+1, ...: next() after each. */
struct group_walk {
    int64_t group, left, width;

    __device__ group_walk(int64_t col, int64_t w) : group(quotient(col, w)), width(w)
    {
        left = (group + 1) * w - col;
    }

    __device__ void next()
    {
        if (--left == 0) {
            left = width;
            group++;
        }
    }
};

/* 1+scale, shift and 1+cond of channels i .. i+V of sample n. */
template <class T, int V>
static __device__ __forceinline__ void gn_conditions(float (&scale)[V], float (&shift)[V],
                                                     float (&cond)[V], const gn<T> &g, int64_t n,
                                                     int64_t i)
{
    for (int j = 0; j < V; j++)
        scale[j] = shift[j] = cond[j] = 0.0f;
    if (g.ss) {
        load_any(scale, g.ss + n * 2 * g.ch + i, g.vector);
        load_any(shift, g.ss + n * 2 * g.ch + g.ch + i, g.vector);
    }
    if (g.cs)
        load_any(cond, g.cs + n * g.ch + i, g.vector);
    for (int j = 0; j < V; j++) {
        scale[j] += 1.0f;
        cond[j] += 1.0f;
    }
}

template <int V, class T>
static __device__ gn_channels<V> gn_load(const gn<T> &g, int64_t n, int64_t col)
{
    gn_channels<V> k;
    float scale[V], shift[V], cond[V], gamma[V], beta[V];
    group_walk at(col, g.width);
    gn_conditions(scale, shift, cond, g, n, col);
    load_any(gamma, g.gamma + col, g.vector);
    load_any(beta, g.beta + col, g.vector);
#pragma unroll
    for (int j = 0; j < V; j++, at.next()) {
        const float *st = g.stats + 2 * (n * g.groups + at.group);
        k.mean[j] = st[0];
        k.a[j] = st[1] * (gamma[j] * scale[j] * cond[j]);
        k.b[j] = (beta[j] * scale[j] + shift[j]) * cond[j];
    }
    return k;
}

/* ---- forward: sums about the first number of each group, so that a mean far above the deviation
 * costs no digits ---- */

template <class T, int V_> struct gn_moments {
    enum { K = 2, V = V_ };
    struct state {
        float shift[V_];
    };
    gn<T> g;

    __device__ state begin(int64_t n, int64_t col) const
    {
        state s;
        group_walk at(col, g.width);
#pragma unroll
        for (int j = 0; j < V_; j++, at.next())
            s.shift[j] = to_float(g.x[n * g.hw * g.ch + at.group * g.width]);
        return s;
    }

    __device__ void add(float (&sum)[2 * V_], const state &s, int64_t n, int64_t row,
                        int64_t col) const
    {
        float r[V_];
        load(r, g.x + (n * g.hw + row) * g.ch + col);
        for (int j = 0; j < V_; j++) {
            float d = r[j] - s.shift[j];
            sum[j] += d;
            sum[V_ + j] += d * d;
        }
    }
};

/* Sums of the block's `count` numbers f(i), in all threads. */
template <class F> static __device__ double block_total(int64_t count, double *sh, F f)
{
    double v = 0;
    for (int64_t i = threadIdx.x; i < count; i += THREADS)
        v += f(i);
    return block_sum(v, sh);
}

/* stats[2] from the means of x - shift and of its square. */
static __device__ void gn_write_stats(float *stats, float shift, double mean, double square,
                                      float eps)
{
    double var = square - mean * mean;
    var = var < 0 ? 0 : var; /* NaN stays */
    stats[0] = static_cast<float>(static_cast<double>(shift) + mean);
    stats[1] = static_cast<float>(1.0 / sqrt(var + static_cast<double>(eps)));
}

/* A block per sample and group. */
template <class T>
static __global__ void gn_stats_kernel(float *__restrict__ stats, const float *__restrict__ partial,
                                       columns d, gn<T> g, float eps)
{
    ZS_SHARED(double, sh);
    int64_t n = quotient(blockIdx.x, g.groups), group = blockIdx.x - n * g.groups;
    const float *from = partial + n * d.splits * 2 * g.ch + group * g.width;
    int64_t width = g.width, step = 2 * g.ch, ch = g.ch, items = d.splits * width;
    double sum = block_total(items, sh, [=](int64_t i) {
        int64_t k = quotient(i, width);
        return static_cast<double>(from[k * step + i - k * width]);
    });
    double square = block_total(items, sh, [=](int64_t i) {
        int64_t k = quotient(i, width);
        return static_cast<double>(from[k * step + ch + i - k * width]);
    });
    if (threadIdx.x > 0)
        return;
    double count = static_cast<double>(g.hw * width);
    gn_write_stats(stats + 2 * blockIdx.x, to_float(g.x[n * g.hw * g.ch + group * width]),
                   sum / count, square / count, eps);
}

/* A block takes the rows of a split for one slab of channels, as partial_kernel does; f is made
 * for those channels once, f.begin(n, col); then f.each(state, what f.take(e) read, e), e being the
 * first of V elements. Two pixels are read before the first is used. */
template <int V, class F>
static __global__ void __launch_bounds__(THREADS, 2) pixels_kernel(columns d, F f)
{
    int64_t block = quotient(blockIdx.x, d.slabs), slab = blockIdx.x - block * d.slabs;
    int64_t n = quotient(block, d.splits), split = block - n * d.splits;
    int64_t col = (slab * d.tx + threadIdx.x % d.tx) * V, end = split * d.per + d.per;
    int64_t row = split * d.per + threadIdx.x / d.tx, step = THREADS / d.tx;
    if (col >= d.cols)
        return;
    end = end < d.rows ? end : d.rows;
    typename F::state s = f.begin(n, col);
    for (; row + step < end; row += 2 * step) {
        int64_t e = (n * d.rows + row) * d.cols + col, next = e + step * d.cols;
        typename F::both p = f.take(e), q = f.take(next);
        f.each(s, p, e);
        f.each(s, q, next);
    }
    if (row < end) {
        int64_t e = (n * d.rows + row) * d.cols + col;
        f.each(s, f.take(e), e);
    }
}

/* Blocks for passes without sums: what a thread reads once about its channels shall serve many
 * pixels, where there are enough. */
static columns pixel_columns(int64_t n, int64_t hw, int64_t ch, int vector)
{
    columns d = columns_of(n, hw, ch, vector);
    int64_t ny = THREADS / d.tx, each = n * d.slabs * hw / (ny * 2 * BLOCKS), per;
    each = each < 2 ? 2 : each > 64 ? 64 : each;
    per = ny * each;
    d.per = per;
    d.splits = static_cast<int>((hw + per - 1) / per);
    return d;
}

template <int V, class F>
static void each_pixel(const char *what, void *queue, int64_t n, int64_t hw, int64_t ch, F f)
{
    columns d = pixel_columns(n, hw, ch, V);
    unsigned blocks = static_cast<unsigned>(n * d.splits * d.slabs);
    ZS_LAUNCH(what, (pixels_kernel<V, F>), blocks, THREADS, 0, queue, d, f);
}

template <class T, int V> struct gn_apply {
    typedef gn_channels<V> state;
    typedef taken<T, V> both;
    gn<T> g;
    T *y;

    __device__ state begin(int64_t n, int64_t col) const
    {
        return gn_load<V>(g, n, col);
    }

    __device__ both take(int64_t e) const
    {
        return both(g.x + e);
    }

    __device__ void each(const state &k, const both &x, int64_t e) const
    {
        float r[V];
        x.unpack(r);
        for (int j = 0; j < V; j++) {
            float z = (r[j] - k.mean[j]) * k.a[j] + k.b[j];
            r[j] = g.silu ? silu<T>(z) : z;
        }
        if (g.drop.p > 0.0f)
            drop(r, g.drop, e);
        store(y + e, r);
    }
};

/* ---- small samples in one kernel: a block has a slab of whole groups of one sample, which its
 * caches hold between the two passes ---- */

/* Elements of such a slab at most: 32 KB in bf16. */
static const int64_t SMALL = 1 << 14;

/* The groups of the block's slab from its channels' sums in sh[2][tx*V]. */
template <class T>
static __device__ void gn_small_stats(float *stats, const float *sh, const gn<T> &g, int64_t n,
                                      int64_t first, int64_t channels, float eps)
{
    for (int64_t i = threadIdx.x * g.width; i < channels; i += THREADS * g.width) {
        double sum = 0, square = 0, count = static_cast<double>(g.hw * g.width);
        for (int64_t k = i; k < i + g.width; k++) {
            sum += static_cast<double>(sh[k]);
            square += static_cast<double>(sh[channels + k]);
        }
        int64_t group = n * g.groups + quotient(first + i, g.width);
        gn_write_stats(stats + 2 * group, to_float(g.x[n * g.hw * g.ch + first + i]), sum / count,
                       square / count, eps);
    }
}

template <class T>
static __global__ void gn_small_kernel(float *stats, gn<T> g, T *y, tiles tile, float eps)
{
    constexpr int V = WIDE;
    ZS_SHARED(float, sh);
    int64_t n = quotient(blockIdx.x, tile.slabs), slab = blockIdx.x - n * tile.slabs;
    int64_t channels = tile.tx * V, first = slab * channels, t = threadIdx.x;
    int64_t col = first + t % tile.tx * V;
    gn_moments<T, V> moments = {g};
    gn_apply<T, V> apply = {g, y};
    typename gn_moments<T, V>::state shift = moments.begin(n, col);
    float sum[2 * V];
    for (int j = 0; j < 2 * V; j++)
        sum[j] = 0.0f;
    for (int64_t row = t / tile.tx; row < g.hw; row += THREADS / tile.tx)
        moments.add(sum, shift, n, row, col);
    tree(sum, sh, tile.tx);
    __syncthreads();
    for (int j = 0; j < V && t < tile.tx; j++) {
        sh[t * V + j] = sum[j];
        sh[channels + t * V + j] = sum[V + j];
    }
    __syncthreads();
    gn_small_stats(stats, sh, g, n, first, channels, eps);
    __syncthreads(); /* which also lets the block see its statistics */
    gn_channels<V> k = gn_load<V>(g, n, col);
    for (int64_t row = t / tile.tx; row < g.hw; row += THREADS / tile.tx) {
        int64_t e = (n * g.hw + row) * g.ch + col;
        apply.each(k, apply.take(e), e);
    }
}

template <class T> static bool gn_is_small(const gn<T> &g, tiles tile)
{
    int64_t channels = tile.tx * WIDE;
    return g.ch == tile.slabs * channels && channels % g.width == 0 && g.hw * channels <= SMALL;
}

template <class T> static bool gn_small(const zs_call *c, const gn<T> &g)
{
    tiles tile = tiles_of(g.ch / WIDE);
    unsigned blocks = static_cast<unsigned>(c->in[0].s.d[0] * tile.slabs);
    if (!gn_is_small(g, tile))
        return false;
    ZS_LAUNCH_SYNC("gn_act", gn_small_kernel<T>, blocks, THREADS,
                   2 * WIDE * THREADS * sizeof(float), c->queue, c->out[1].p, g, at<T>(&c->out[0]),
                   tile, c->a->eps);
    return true;
}

static size_t gn_act_ws(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    return partial_bytes(d[0], d[1] * d[2], d[3], 2);
}

template <class T, int V> static void gn_act(const zs_call *c)
{
    int64_t n = c->in[0].s.d[0];
    float *partial = static_cast<float *>(c->ws), *stats = c->out[1].p;
    gn<T> g = gn_of<T>(c, stats, 1);
    if (V == WIDE && gn_small(c, g))
        return;
    columns d = sum_columns("gn_act", c->queue, partial, n, g.hw, g.ch, gn_moments<T, V>{g});
    ZS_LAUNCH_SYNC("gn_act", gn_stats_kernel<T>, static_cast<unsigned>(n * g.groups), THREADS,
                   THREADS / WARP * sizeof(double), c->queue, stats, partial, d, g, c->a->eps);
    each_pixel<V>("gn_act", c->queue, n, g.hw, g.ch, gn_apply<T, V>{g, at<T>(&c->out[0])});
}

static void run_gn_act(const zs_call *c)
{
    ZS_INSTANCE(c->in[0].type, wide(c->in[0].s.d[3], c->in[0].p, c->out[0].p), gn_act, c);
}

/* ---- backward ---- */

/* V elements of x and dy. */
template <class T, int V> struct gn_both {
    taken<T, V> x, dy;
};

/* dz and x - mean of V elements from e on. */
template <class T, int V>
static __device__ __forceinline__ void gn_dz(float (&dz)[V], float (&off)[V],
                                             const gn_both<T, V> &p, const gn<T> &g,
                                             const gn_channels<V> &k, int64_t e)
{
    p.x.unpack(off);
    p.dy.unpack(dz);
    if (g.drop.p > 0.0f)
        drop(dz, g.drop, e);
    for (int j = 0; j < V; j++) {
        off[j] -= k.mean[j];
        dz[j] = g.silu ? dz[j] * silu_slope<T>(off[j] * k.a[j] + k.b[j]) : dz[j];
    }
}

/* Per channel: the sums of dz and of dz*(x - mean). */
template <class T, int V_> struct gn_sums_bwd {
    enum { K = 2, V = V_ };
    typedef gn_channels<V_> state;
    gn<T> g;
    const T *dy;

    __device__ state begin(int64_t n, int64_t col) const
    {
        return gn_load<V_>(g, n, col);
    }

    __device__ void add(float (&sum)[2 * V_], const state &k, int64_t n, int64_t row,
                        int64_t col) const
    {
        int64_t e = (n * g.hw + row) * g.ch + col;
        gn_both<T, V_> p = {taken<T, V_>(g.x + e), taken<T, V_>(dy + e)};
        float dz[V_], off[V_];
        gn_dz(dz, off, p, g, k, e);
        for (int j = 0; j < V_; j++) {
            sum[j] += dz[j];
            sum[V_ + j] += dz[j] * off[j];
        }
    }
};

/* Totals of the splits: [N][2][C]. */
struct gn_totals {
    double *to;
    int64_t ch;

    __device__ void operator()(int64_t n, int k, int64_t i, double sum) const
    {
        to[(n * 2 + k) * ch + i] = sum;
    }
};

/* dss, dcs of channel i of sample n; to[2][C], the totals of the sample, become the shares of
 * dbeta and dgamma. */
template <class T>
static __device__ void gn_channel_bwd(const gn<T> &g, T *dss, T *dcs, double *to, double rstd,
                                      int64_t n, int64_t i)
{
    float scale[1], shift[1], cond[1];
    gn_conditions(scale, shift, cond, g, n, i);
    double s = to[i], q = rstd * to[g.ch + i];
    double a = static_cast<double>(scale[0]), c = static_cast<double>(cond[0]);
    double n1 = static_cast<double>(g.gamma[i]) * q + static_cast<double>(g.beta[i]) * s;
    if (dss) {
        put(dss + n * 2 * g.ch + i, static_cast<float>(c * n1));
        put(dss + n * 2 * g.ch + g.ch + i, static_cast<float>(c * s));
    }
    if (dcs)
        put(dcs + n * g.ch + i, static_cast<float>(a * n1 + static_cast<double>(shift[0]) * s));
    to[i] = a * c * s;
    to[g.ch + i] = a * c * q;
}

/* A block per sample and group: channels' gradients, and coef[N][G][2], the factors r and q of
 * dx = a*dz + q*(x - mean) + r. With d the gradient at xhat = (x - mean)*rstd,
 * dx = rstd*(d - mean(d) - xhat*mean(d*xhat)). */
template <class T>
static __global__ void gn_groups_kernel(float *__restrict__ coef, double *__restrict__ totals,
                                        gn<T> g, T *dss, T *dcs)
{
    ZS_SHARED(double, sh);
    int64_t n = quotient(blockIdx.x, g.groups), group = blockIdx.x - n * g.groups;
    double *to = totals + n * 2 * g.ch, sum = 0, sumx = 0;
    double rstd = static_cast<double>(g.stats[2 * blockIdx.x + 1]);
    for (int64_t i = group * g.width + threadIdx.x; i < (group + 1) * g.width; i += THREADS) {
        gn_channel_bwd(g, dss, dcs, to, rstd, n, i);
        sum += static_cast<double>(g.gamma[i]) * to[i];
        sumx += static_cast<double>(g.gamma[i]) * to[g.ch + i];
    }
    sum = block_sum(sum, sh);
    sumx = block_sum(sumx, sh);
    if (threadIdx.x > 0)
        return;
    double count = static_cast<double>(g.hw * g.width);
    coef[2 * blockIdx.x] = static_cast<float>(-rstd * sum / count);
    coef[2 * blockIdx.x + 1] = static_cast<float>(-rstd * rstd * sumx / count);
}

/* dbeta, dgamma [C] += the shares of all samples, in their order. */
static __global__ void gn_affine_kernel(float *dgamma, float *dbeta,
                                        const double *__restrict__ totals, int64_t n, int64_t ch)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x;
    double s = 0, q = 0;
    if (i >= ch)
        return;
    for (int64_t k = 0; k < n; k++) {
        s += totals[2 * k * ch + i];
        q += totals[(2 * k + 1) * ch + i];
    }
    if (dbeta)
        dbeta[i] += static_cast<float>(s);
    if (dgamma)
        dgamma[i] += static_cast<float>(q);
}

template <class T, int V> struct gn_dx {
    struct state {
        gn_channels<V> k;
        float r[V], q[V];
    };
    typedef gn_both<T, V> both;
    gn<T> g;
    const T *dy;
    T *dx;
    const float *coef;

    __device__ state begin(int64_t n, int64_t col) const
    {
        state s;
        group_walk at(col, g.width);
        s.k = gn_load<V>(g, n, col);
#pragma unroll
        for (int j = 0; j < V; j++, at.next()) {
            s.r[j] = coef[2 * (n * g.groups + at.group)];
            s.q[j] = coef[2 * (n * g.groups + at.group) + 1];
        }
        return s;
    }

    __device__ both take(int64_t e) const
    {
        both p = {taken<T, V>(g.x + e), taken<T, V>(dy + e)};
        return p;
    }

    __device__ void each(const state &s, const both &p, int64_t e) const
    {
        float dz[V], off[V];
        gn_dz(dz, off, p, g, s.k, e);
        for (int j = 0; j < V; j++)
            dz[j] = s.k.a[j] * dz[j] + (s.q[j] * off[j] + s.r[j]);
        store(dx + e, dz);
    }
};

/* Workspace: doubles totals[N][2][C], floats coef[N][G][2], partial sums. */
static size_t gn_act_bwd_ws(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    return static_cast<size_t>(2 * d[0] * d[3]) * sizeof(double) +
           static_cast<size_t>(2 * d[0] * c->a->groups) * sizeof(float) +
           partial_bytes(d[0], d[1] * d[2], d[3], 2);
}

template <class T, int V> static void gn_act_bwd(const zs_call *c)
{
    int64_t n = c->in[0].s.d[0];
    gn<T> g = gn_of<T>(c, c->in[1].p, 2);
    const T *dy = at<T>(&c->in[6]);
    double *totals = static_cast<double *>(c->ws);
    float *coef = reinterpret_cast<float *>(totals + 2 * n * g.ch);
    float *partial = coef + 2 * n * g.groups;
    columns d =
        sum_columns("gn_act_bwd", c->queue, partial, n, g.hw, g.ch, gn_sums_bwd<T, V>{g, dy});
    fold_columns("gn_act_bwd", c->queue, partial, d, 2, gn_totals{totals, g.ch});
    ZS_LAUNCH_SYNC("gn_act_bwd", gn_groups_kernel<T>, static_cast<unsigned>(n * g.groups), THREADS,
                   THREADS / WARP * sizeof(double), c->queue, coef, totals, g, at<T>(&c->out[3]),
                   at<T>(&c->out[4]));
    if (c->out[1].p || c->out[2].p)
        ZS_LAUNCH("gn_act_bwd", gn_affine_kernel, blocks_of(g.ch, THREADS), THREADS, 0, c->queue,
                  c->out[1].p, c->out[2].p, totals, n, g.ch);
    if (c->out[0].p)
        each_pixel<V>("gn_act_bwd", c->queue, n, g.hw, g.ch,
                      gn_dx<T, V>{g, dy, at<T>(&c->out[0]), coef});
}

static void run_gn_act_bwd(const zs_call *c)
{
    const zs_view *x = &c->in[0];
    ZS_INSTANCE(x->type, wide(x->s.d[3], x->p, c->in[6].p, c->out[0].p), gn_act_bwd, c);
}

extern "C" {
const zs_kernel zs_cuda_gn_act = {run_gn_act, gn_act_ws};
const zs_kernel zs_cuda_gn_act_bwd = {run_gn_act_bwd, gn_act_bwd_ws};
}
