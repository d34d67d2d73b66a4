/* SPDX-License-Identifier: MIT */
/* Mean square of eps plus the variational bound of Nichol and Dhariwal 2021, as guided-diffusion's
 * gaussian_diffusion.py forms it (learned range, the bound not rescaled).
 *
 * With x_t = sqrt(abar) x0 + sqrt(1-abar) noise both means of a step differ by d = to_mean (eps -
 * noise), and at step 0, whose mean is the predicted x0, so do x0 and that mean. This needs neither
 * x_t nor a difference of nearly equal means. */
#include "backend/cpu/loss_vlb.h"

#include <math.h>

static const double LOG2 = 0.693147180559945309417;
static const double ROOT_2_PI = 0.797884560802865355880; /* sqrt(2/pi) */
static const double CUBE = 0.044715, LEAST = 1e-12, BIN = 1.0 / 255.0, OPEN = 0.999;

/* A term of the bound in nats, and its derivative by the model's log variance. */
typedef struct term {
    double value, slope;
} term;

/* KL(true posterior || model): variances exp(small) and exp(lv), means d apart. */
static term divergence(double lv, double small, double d)
{
    double ratio = exp(small - lv), distance = d * d * exp(-lv);
    return (term){0.5 * (-1 + lv - small + ratio + distance), 0.5 * (1 - ratio - distance)};
}

/* The tanh approximation of the normal's distribution function. */
static double cdf(double x)
{
    return 0.5 * (1 + tanh(ROOT_2_PI * (x + CUBE * x * x * x)));
}

static double cdf_slope(double x)
{
    double t = tanh(ROOT_2_PI * (x + CUBE * x * x * x));
    return 0.5 * (1 - t * t) * ROOT_2_PI * (1 + 3 * CUBE * x * x);
}

/* -log of the mass that a normal of log variance lv puts into the bin of x0, whose centre is d away
 * from the mean; the outermost bins are open. */
static term likelihood(double lv, double x0, double d)
{
    double inv = exp(-0.5 * lv), above = inv * (d + BIN), below = inv * (d - BIN);
    bool first = x0 < -OPEN, last = !first && x0 > OPEN;
    double mass = (last ? 1 : cdf(above)) - (first ? 0 : cdf(below));
    if (mass < LEAST)
        return (term){-log(LEAST), 0};
    /* d(inv)/d(lv) = -inv/2 */
    double rise = (last ? 0 : cdf_slope(above) * above) - (first ? 0 : cdf_slope(below) * below);
    return (term){-log(mass), 0.5 * rise / mass};
}

/* The numbers of sample n: its slices of the inputs, and its row of `steps`. */
typedef struct sample {
    const float *out, *noise, *x0;
    int64_t positions, channels;
    double large, small, to_mean, weight;
    bool first;
} sample;

static sample sample_at(const zs_call *c, int64_t n)
{
    const zs_shape *s = &c->in[1].s;
    int64_t numel = zs_shape_numel(s) / s->d[0];
    const float *row = c->in[3].p + n * ZS_BOUND_NUMBERS;
    return (sample){.out = c->in[0].p + n * 2 * numel,
                    .noise = c->in[1].p + n * numel,
                    .x0 = c->in[2].p + n * numel,
                    .positions = numel / zs_shape_last(s),
                    .channels = zs_shape_last(s),
                    .large = (double)row[0],
                    .small = (double)row[1],
                    .to_mean = (double)row[2],
                    .first = row[3] > 0.5f,
                    .weight = (double)row[4]};
}

static term bound(const sample *s, double error, double v, double x0)
{
    double f = 0.5 * (v + 1), lv = f * s->large + (1 - f) * s->small, d = s->to_mean * error;
    return s->first ? likelihood(lv, x0, d) : divergence(lv, s->small, d);
}

void zs_vlb_sample(const zs_call *c, int64_t n, double parts[2])
{
    const sample s = sample_at(c, n);
    double mse = 0, vb = 0, numel = (double)(s.positions * s.channels);
    for (int64_t p = 0; p < s.positions; p++)
        for (int64_t k = 0; k < s.channels; k++) {
            const float *o = s.out + p * 2 * s.channels + k;
            int64_t i = p * s.channels + k;
            double e = (double)o[0] - (double)s.noise[i];
            mse += e * e;
            vb += bound(&s, e, (double)o[s.channels], (double)s.x0[i]).value;
        }
    parts[0] = s.weight * mse / numel;
    parts[1] = vb / (numel * LOG2);
}

/* eps takes part in the mean square only, v in the bound only. */
void zs_vlb_sample_bwd(const zs_call *c, int64_t n)
{
    const sample s = sample_at(c, n);
    double f = (double)c->step->grad_scale / (double)zs_shape_numel(&c->in[1].s);
    double by_lv = f * 0.5 * (s.large - s.small) / LOG2;
    float *d = c->out[0].p + n * 2 * s.positions * s.channels;
    for (int64_t p = 0; p < s.positions; p++)
        for (int64_t k = 0; k < s.channels; k++) {
            int64_t i = p * s.channels + k, at = p * 2 * s.channels + k;
            double e = (double)s.out[at] - (double)s.noise[i], v = (double)s.out[at + s.channels];
            d[at] = (float)(f * s.weight * 2 * e);
            d[at + s.channels] = (float)(by_lv * bound(&s, e, v, (double)s.x0[i]).slope);
        }
}

static void loss_vlb(const zs_call *c)
{
    int64_t n = c->in[0].s.d[0];
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        double parts[2];
        zs_vlb_sample(c, i, parts);
        sum += parts[0] + parts[1];
        for (int k = 0; k < 2 && c->out[1].p; k++)
            c->out[1].p[2 * i + k] = (float)parts[k];
    }
    c->out[0].p[0] = (float)(sum / (double)n);
}

static void loss_vlb_bwd(const zs_call *c)
{
    for (int64_t i = 0; i < c->in[0].s.d[0]; i++)
        zs_vlb_sample_bwd(c, i);
}

const zs_kernel zs_ref_loss_vlb = {.run = loss_vlb};
const zs_kernel zs_ref_loss_vlb_bwd = {.run = loss_vlb_bwd};
