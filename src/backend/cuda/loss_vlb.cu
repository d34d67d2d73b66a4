/* SPDX-License-Identifier: MIT */
/* Mean square of eps plus the variational bound, as backend/cpu/loss_vlb_ref.c forms it and says
 * where it is from. All arithmetic in double, as there: densities of narrow bins are differences of
 * nearly equal numbers, and pictures are small. Bytes moved: each tensor once. */
#include "backend/cuda/launch.cuh"

#define LOG2 0.693147180559945309417
#define ROOT_2_PI 0.797884560802865355880 /* sqrt(2/pi) */
#define CUBE 0.044715
#define LEAST 1e-12
#define BIN (1.0 / 255.0)
#define OPEN 0.999

/* A term of the bound in nats, and its derivative by the model's log variance. */
struct bound_term {
    double value, slope;
};

/* KL(true posterior || model): variances exp(small) and exp(lv), means d apart. */
static __device__ bound_term divergence(double lv, double small, double d)
{
    double ratio = exp(small - lv), distance = d * d * exp(-lv);
    bound_term t = {0.5 * (-1 + lv - small + ratio + distance), 0.5 * (1 - ratio - distance)};
    return t;
}

/* The tanh approximation of the normal's distribution function, and its derivative. */
static __device__ double cdf(double x)
{
    return 0.5 * (1 + tanh(ROOT_2_PI * (x + CUBE * x * x * x)));
}

static __device__ double cdf_slope(double x)
{
    double t = tanh(ROOT_2_PI * (x + CUBE * x * x * x));
    return 0.5 * (1 - t * t) * ROOT_2_PI * (1 + 3 * CUBE * x * x);
}

/* -log of the mass that a normal of log variance lv puts into the bin of x0, whose centre is d away
 * from the mean; the outermost bins are open. */
static __device__ bound_term likelihood(double lv, double x0, double d)
{
    double inv = exp(-0.5 * lv), above = inv * (d + BIN), below = inv * (d - BIN);
    bool first = x0 < -OPEN, last = !first && x0 > OPEN;
    double mass = (last ? 1 : cdf(above)) - (first ? 0 : cdf(below));
    bound_term t = {-log(LEAST), 0};
    if (mass < LEAST)
        return t;
    double rise = (last ? 0 : cdf_slope(above) * above) - (first ? 0 : cdf_slope(below) * below);
    t.value = -log(mass);
    t.slope = 0.5 * rise / mass;
    return t;
}

/* The operands; numel and ch of a sample of x0. */
struct vlb {
    const float *out, *noise, *x0, *steps;
    int64_t numel, ch, samples;
};

static vlb vlb_of(const zs_call *c)
{
    const zs_shape *s = &c->in[1].s;
    vlb v = {c->in[0].p,       c->in[1].p, c->in[2].p, c->in[3].p, zs_shape_numel(s) / s->d[0],
             zs_shape_last(s), s->d[0]};
    return v;
}

/* Of element i of sample n: eps - noise, the bound, where eps and v lie in out and dout. */
struct vlb_element {
    double error;
    bound_term bound;
    int64_t eps, v;
};

static __device__ vlb_element vlb_at(const vlb &b, int64_t n, int64_t i)
{
    const float *row = b.steps + n * ZS_BOUND_NUMBERS;
    double large = static_cast<double>(row[0]), small = static_cast<double>(row[1]);
    int64_t p = quotient(i, b.ch), at = n * b.numel + i;
    vlb_element e;
    e.eps = n * 2 * b.numel + p * 2 * b.ch + (i - p * b.ch);
    e.v = e.eps + b.ch;
    e.error = static_cast<double>(b.out[e.eps]) - static_cast<double>(b.noise[at]);
    double f = 0.5 * (static_cast<double>(b.out[e.v]) + 1), lv = f * large + (1 - f) * small;
    double d = static_cast<double>(row[2]) * e.error;
    e.bound =
        row[3] > 0.5f ? likelihood(lv, static_cast<double>(b.x0[at]), d) : divergence(lv, small, d);
    return e;
}

/* A block per sample: parts[N][2] = (mse, vb). */
static __global__ void vlb_kernel(double *__restrict__ parts, vlb b)
{
    ZS_SHARED(double, sh);
    int64_t n = blockIdx.x;
    double mse = 0, vb = 0;
    for (int64_t i = threadIdx.x; i < b.numel; i += THREADS) {
        vlb_element e = vlb_at(b, n, i);
        mse += e.error * e.error;
        vb += e.bound.value;
    }
    mse = block_sum(mse, sh);
    vb = block_sum(vb, sh);
    if (threadIdx.x > 0)
        return;
    double weight = static_cast<double>(b.steps[n * ZS_BOUND_NUMBERS + 4]);
    parts[2 * n] = weight * mse / static_cast<double>(b.numel);
    parts[2 * n + 1] = vb / (static_cast<double>(b.numel) * LOG2);
}

/* One block. out_parts[N][2] may be NULL. */
static __global__ void vlb_end_kernel(float *y, float *out_parts, const double *__restrict__ parts,
                                      int64_t samples)
{
    ZS_SHARED(double, sh);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < 2 * samples; i += THREADS) {
        sum += parts[i];
        if (out_parts)
            out_parts[i] = static_cast<float>(parts[i]);
    }
    sum = block_sum(sum, sh);
    if (threadIdx.x == 0)
        *y = static_cast<float>(sum / static_cast<double>(samples));
}

static size_t loss_vlb_ws(const zs_call *c)
{
    return static_cast<size_t>(c->in[0].s.d[0]) * 2 * sizeof(double);
}

static void run_loss_vlb(const zs_call *c)
{
    vlb b = vlb_of(c);
    double *parts = static_cast<double *>(c->ws);
    size_t shared = THREADS / WARP * sizeof(double);
    ZS_LAUNCH_SYNC("loss_vlb", vlb_kernel, static_cast<unsigned>(b.samples), THREADS, shared,
                   c->queue, parts, b);
    ZS_LAUNCH_SYNC("loss_vlb", vlb_end_kernel, 1, THREADS, shared, c->queue, c->out[0].p,
                   c->out[1].p, parts, b.samples);
}

/* eps takes part in the mean square only, v in the bound only. */
struct vlb_bwd_each {
    float *dout;
    vlb b;
    const zs_step *step;

    __device__ void operator()(int64_t at) const
    {
        int64_t n = quotient(at, b.numel);
        const float *row = b.steps + n * ZS_BOUND_NUMBERS;
        vlb_element e = vlb_at(b, n, at - n * b.numel);
        double f = static_cast<double>(step->grad_scale) / static_cast<double>(b.numel * b.samples);
        double range = static_cast<double>(row[0]) - static_cast<double>(row[1]);
        dout[e.eps] = static_cast<float>(f * static_cast<double>(row[4]) * 2 * e.error);
        dout[e.v] = static_cast<float>(f * 0.5 * range / LOG2 * e.bound.slope);
    }
};

static void run_loss_vlb_bwd(const zs_call *c)
{
    vlb b = vlb_of(c);
    flat<1>("loss_vlb_bwd", c->queue, b.numel * b.samples, vlb_bwd_each{c->out[0].p, b, c->step});
}

extern "C" {
const zs_kernel zs_cuda_loss_vlb = {run_loss_vlb, loss_vlb_ws};
const zs_kernel zs_cuda_loss_vlb_bwd = {run_loss_vlb_bwd, NULL};
}
