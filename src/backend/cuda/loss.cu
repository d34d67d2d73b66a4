/* SPDX-License-Identifier: MIT */
/* Losses and their gradients, all in f32 with sums in double. Bytes moved: pred and target once,
 * of rows of classes up to three times, the last two from the L1 cache. */
#include "backend/cuda/launch.cuh"

enum { ROWS = THREADS / WARP };

static const int64_t LOSS_BLOCKS = 512;

/* pred, target and weights of samples (or NULL); n elements or rows, `each` of a sample. */
struct losses {
    const float *p, *y, *w;
    int64_t n, each;
    int kind;

    __device__ double weight(int64_t i) const
    {
        return w ? static_cast<double>(w[quotient(i, each)]) : 1.0;
    }
};

/* Elements, or rows of classes for XENT. */
static losses losses_of(const zs_call *c)
{
    const zs_shape *s = &c->in[0].s;
    bool by_row = c->a->kind == ZS_LOSS_XENT;
    int64_t n = by_row ? zs_shape_rows(s) : zs_shape_numel(s);
    losses l = {c->in[0].p, c->in[1].p, c->in[2].p, n, n / s->d[0], c->a->kind};
    return l;
}

/* One element of a loss that has a term for each, and its derivative. */
static __device__ float term(int kind, float p, float y)
{
    float d = p - y;
    if (kind == ZS_LOSS_MSE)
        return d * d;
    if (kind == ZS_LOSS_L1)
        return fabsf(d);
    return (p > 0.0f ? p : 0.0f) - p * y + log1pf(expf(-fabsf(p)));
}

static __device__ float slope(int kind, float p, float y)
{
    float d = p - y;
    if (kind == ZS_LOSS_MSE)
        return 2.0f * d;
    if (kind == ZS_LOSS_L1)
        return d > 0.0f ? 1.0f : d < 0.0f ? -1.0f : d; /* 0 at 0, NaN stays */
    return 1.0f / (1.0f + expf(-p)) - y;
}

/* Each block its share of the elements. */
static __global__ void loss_kernel(double *__restrict__ partial, losses l)
{
    ZS_SHARED(double, sh);
    double sum = 0;
    int64_t step = static_cast<int64_t>(gridDim.x) * THREADS;
    for (int64_t i = static_cast<int64_t>(blockIdx.x) * THREADS + threadIdx.x; i < l.n; i += step)
        sum += l.weight(i) * static_cast<double>(term(l.kind, l.p[i], l.y[i]));
    sum = block_sum(sum, sh);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = sum;
}

/* *y = the sum of `count` numbers over n; one block. */
static __global__ void loss_end_kernel(float *y, const double *__restrict__ partial, int64_t count,
                                       int64_t n)
{
    ZS_SHARED(double, sh);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += THREADS)
        sum += partial[i];
    sum = block_sum(sum, sh);
    if (threadIdx.x == 0)
        *y = static_cast<float>(sum / static_cast<double>(n));
}

/* ---- rows of classes: a warp for each ---- */

/* log(sum exp p[k]) without overflow, in all lanes. */
static __device__ double log_sum_exp(const float *p, int64_t classes)
{
    float top = -INFINITY, sum = 0.0f;
    for (int64_t k = threadIdx.x % WARP; k < classes; k += WARP)
        top = p[k] > top || isnan(p[k]) ? p[k] : top;
    top = warp_max(top);
    for (int64_t k = threadIdx.x % WARP; k < classes; k += WARP)
        sum += expf(p[k] - top);
    return static_cast<double>(top) + log(static_cast<double>(warp_sum(sum)));
}

/* Row r of this warp; every warp of a block takes part in the sum. */
static __global__ void xent_kernel(double *__restrict__ partial, losses l, int64_t classes)
{
    ZS_SHARED(double, sh);
    double total = 0;
    int64_t step = static_cast<int64_t>(gridDim.x) * ROWS;
    for (int64_t r = static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.x / WARP; r < l.n;
         r += step) {
        const float *p = l.p + r * classes, *y = l.y + r * classes;
        double all = log_sum_exp(p, classes), w = l.weight(r);
        for (int64_t k = threadIdx.x % WARP; k < classes; k += WARP)
            total += w * static_cast<double>(y[k]) * (all - static_cast<double>(p[k]));
    }
    total = block_sum(total, sh);
    if (threadIdx.x == 0)
        partial[blockIdx.x] = total;
}

static __global__ void xent_bwd_kernel(float *__restrict__ dp, losses l, int64_t classes,
                                       const zs_step *step)
{
    int64_t r = static_cast<int64_t>(blockIdx.x) * ROWS + threadIdx.x / WARP;
    if (r >= l.n)
        return;
    const float *p = l.p + r * classes, *y = l.y + r * classes;
    double f = static_cast<double>(step->grad_scale) / static_cast<double>(l.n) * l.weight(r);
    double all = log_sum_exp(p, classes), mass = 0;
    for (int64_t k = threadIdx.x % WARP; k < classes; k += WARP)
        mass += static_cast<double>(y[k]);
    mass = warp_sum(mass);
    for (int64_t k = threadIdx.x % WARP; k < classes; k += WARP)
        dp[r * classes + k] = static_cast<float>(
            f * (mass * static_cast<double>(expf(static_cast<float>(p[k] - all))) -
                 static_cast<double>(y[k])));
}

/* ---- the operations ---- */

static unsigned loss_blocks(const losses *l)
{
    int64_t n = (l->n + THREADS - 1) / THREADS;
    return static_cast<unsigned>(n < LOSS_BLOCKS ? n : LOSS_BLOCKS);
}

static size_t loss_ws(const zs_call *)
{
    return LOSS_BLOCKS * sizeof(double);
}

static void run_loss(const zs_call *c)
{
    losses l = losses_of(c);
    double *partial = static_cast<double *>(c->ws);
    unsigned blocks = loss_blocks(&l);
    size_t shared = ROWS * sizeof(double);
    if (l.kind == ZS_LOSS_XENT)
        ZS_LAUNCH_SYNC("loss", xent_kernel, blocks, THREADS, shared, c->queue, partial, l,
                       zs_shape_last(&c->in[0].s));
    else
        ZS_LAUNCH_SYNC("loss", loss_kernel, blocks, THREADS, shared, c->queue, partial, l);
    ZS_LAUNCH_SYNC("loss", loss_end_kernel, 1, THREADS, shared, c->queue, c->out[0].p, partial,
                   blocks, l.n);
}

struct loss_bwd_each {
    float *dp;
    losses l;
    const zs_step *step;

    __device__ void operator()(int64_t i) const
    {
        double f = static_cast<double>(step->grad_scale) / static_cast<double>(l.n);
        dp[i] = static_cast<float>(f * l.weight(i)) * slope(l.kind, l.p[i], l.y[i]);
    }
};

static void run_loss_bwd(const zs_call *c)
{
    losses l = losses_of(c);
    if (l.kind == ZS_LOSS_XENT)
        ZS_LAUNCH_SYNC("loss_bwd", xent_bwd_kernel, blocks_of(l.n, ROWS), THREADS, 0, c->queue,
                       c->out[0].p, l, zs_shape_last(&c->in[0].s), c->step);
    else
        flat<1>("loss_bwd", c->queue, l.n, loss_bwd_each{c->out[0].p, l, c->step});
}

extern "C" {
const zs_kernel zs_cuda_loss = {run_loss, loss_ws};
const zs_kernel zs_cuda_loss_bwd = {run_loss_bwd, NULL};
}
