/* SPDX-License-Identifier: MIT */
/* Compiled without errno for sqrtf, so that the loop vectorises. */
#include "train/optim.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 16384, MAX_PARTS = 1024 };

zs_optim_config zs_optim_defaults(void)
{
    return (zs_optim_config){
        .lr = 1e-4, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .clip = 1.0, .ema = 0.9999};
}

zs_optim_config zs_optim_of_preset(const zs_preset_train *t)
{
    zs_optim_config o = zs_optim_defaults();
    o.lr = t->lr;
    o.weight_decay = t->weight_decay;
    o.decoupled = strcmp(t->optimizer, "adamw") == 0;
    o.beta2 = t->beta2 > 0.0 ? t->beta2 : o.beta2;
    o.clip = t->clip;
    o.ema = t->ema;
    o.ema_warmup = o.ema_first = t->lit_ema;
    o.warmup = t->warmup;
    return o;
}

int zs_optim_config_validate(const zs_optim_config *c, zs_error *err)
{
    const struct {
        const char *name, *range;
        double value;
        bool ok;
    } checks[] = {
        {"learning rate", "above 0 and finite", c->lr, c->lr > 0.0 && isfinite(c->lr)},
        {"beta1", "at least 0 and below 1", c->beta1, c->beta1 >= 0.0 && c->beta1 < 1.0},
        {"beta2", "at least 0 and below 1", c->beta2, c->beta2 >= 0.0 && c->beta2 < 1.0},
        {"Adam epsilon", "above 0", c->eps, c->eps > 0.0 && isfinite(c->eps)},
        {"weight decay", "0 or more", c->weight_decay,
         c->weight_decay >= 0.0 && isfinite(c->weight_decay)},
        {"gradient clip", "0 (off) or more", c->clip, c->clip >= 0.0 && isfinite(c->clip)},
        {"EMA decay", "at least 0 and below 1", c->ema, c->ema >= 0.0 && c->ema < 1.0},
        {"warm-up", "0 steps or more", (double)c->warmup, c->warmup >= 0},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].ok)
            return zs_fail(err, ZS_E_INVALID, "%s %g is out of range: it must be %s",
                           checks[i].name, checks[i].value, checks[i].range);
    return ZS_OK;
}

typedef struct norm_job {
    const float *g;
    int64_t n, part; /* elements, elements of one part */
    double *sum;     /* one per part */
} norm_job;

static void norm_range(void *ctx, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const norm_job *j = ctx;
    for (int64_t p = begin; p < end; p++) {
        int64_t first = p * j->part, last = first + j->part < j->n ? first + j->part : j->n;
        double s[4] = {0.0, 0.0, 0.0, 0.0};
        int64_t i = first;
        for (; i + 4 <= last; i += 4)
            for (int k = 0; k < 4; k++)
                s[k] += (double)j->g[i + k] * (double)j->g[i + k];
        for (; i < last; i++)
            s[0] += (double)j->g[i] * (double)j->g[i];
        j->sum[p] = (s[0] + s[1]) + (s[2] + s[3]);
    }
}

/* The parts depend on n alone, and are added in order. */
double zs_grad_norm(const float *g, size_t n)
{
    double sum[MAX_PARTS], total = 0.0;
    int64_t count = (int64_t)n, part = (count + MAX_PARTS - 1) / MAX_PARTS;
    if (part < BLOCK)
        part = BLOCK;
    int64_t parts = (count + part - 1) / part;
    norm_job j = {.g = g, .n = count, .part = part, .sum = sum};
    zs_parallel_for(parts, 1, norm_range, &j);
    for (int64_t p = 0; p < parts; p++)
        total += sum[p];
    return sqrt(total);
}

double zs_optim_lr(const zs_optim_config *c, int64_t step)
{
    if (step >= c->warmup)
        return c->lr;
    return c->lr * (double)step / (double)c->warmup;
}

double zs_optim_ema(const zs_optim_config *c, int64_t step)
{
    double n = (double)step;
    return c->ema_warmup ? fmin(c->ema, (1.0 + n) / (10.0 + n)) : c->ema;
}

typedef struct adam_job {
    zs_optim_buffers b;
    float clip; /* factor on the gradient */
    float l2;   /* weight decay into the gradient */
    float keep; /* weight left by decoupled decay */
    float beta1, one_beta1, beta2, one_beta2;
    float step, inv_bias2, eps; /* step = lr / bias correction 1 */
    float ema, one_ema;
    bool ema_first;
} adam_job;

static void ema_range(const adam_job *j, int64_t begin, int64_t end)
{
    const float *restrict p = j->b.param;
    float *restrict e = j->b.ema;
    float keep = j->ema, add = j->one_ema;
    for (int64_t i = begin; i < end; i++)
        e[i] = e[i] * keep + p[i] * add;
}

static void adam_range(void *ctx, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const adam_job j = *(const adam_job *)ctx;
    if (j.b.ema && j.ema_first)
        ema_range(&j, begin, end);
    float *restrict p = j.b.param, *restrict g = j.b.grad, *restrict m = j.b.m, *restrict v = j.b.v;
    for (int64_t i = begin; i < end; i++) {
        float w = p[i], d = g[i] * j.clip + w * j.l2;
        float m1 = m[i] * j.beta1 + d * j.one_beta1;
        float v1 = v[i] * j.beta2 + d * d * j.one_beta2;
        float denom = sqrtf(v1) * j.inv_bias2 + j.eps;
        p[i] = w * j.keep - j.step * m1 / denom;
        m[i] = m1;
        v[i] = v1;
        g[i] = 0.0f;
    }
    if (j.b.ema && !j.ema_first)
        ema_range(&j, begin, end); /* the block is still in the cache */
}

zs_adam zs_optim_numbers(const zs_optim_config *c, int64_t step)
{
    double lr = zs_optim_lr(c, step), t = (double)step;
    return (zs_adam){.max_norm = c->clip,
                     .l2 = c->decoupled ? 0.0f : (float)c->weight_decay,
                     .keep = c->decoupled ? (float)(1.0 - lr * c->weight_decay) : 1.0f,
                     .lr = (float)(lr / (1.0 - pow(c->beta1, t))),
                     .inv_bias2 = (float)(1.0 / sqrt(1.0 - pow(c->beta2, t))),
                     .eps = (float)c->eps,
                     .beta1 = c->beta1,
                     .beta2 = c->beta2,
                     .decay = zs_optim_ema(c, step),
                     .ema_first = c->ema_first};
}

void zs_optim_apply(const zs_adam *a, double grad_norm)
{
    double clip = 1.0;
    if (a->max_norm > 0.0) /* torch.nn.utils.clip_grad_norm_ */
        clip = fmin(1.0, a->max_norm / (grad_norm + 1e-6));
    adam_job j = {.b = {a->param, a->grad, a->m, a->v, a->ema, (size_t)a->n},
                  .clip = (float)clip,
                  .l2 = a->l2,
                  .keep = a->keep,
                  .beta1 = (float)a->beta1,
                  .one_beta1 = (float)(1.0 - a->beta1),
                  .beta2 = (float)a->beta2,
                  .one_beta2 = (float)(1.0 - a->beta2),
                  .step = a->lr,
                  .inv_bias2 = a->inv_bias2,
                  .eps = a->eps,
                  .ema = (float)a->decay,
                  .one_ema = (float)(1.0 - a->decay),
                  .ema_first = a->ema_first};
    zs_parallel_for(a->n, BLOCK, adam_range, &j);
}

void zs_optim_step(const zs_optim_config *c, const zs_optim_buffers *b, int64_t step,
                   double grad_norm)
{
    zs_adam a = zs_optim_numbers(c, step);
    a.param = b->param;
    a.grad = b->grad;
    a.m = b->m;
    a.v = b->v;
    a.ema = b->ema;
    a.n = (int64_t)b->n;
    zs_optim_apply(&a, grad_norm);
}
