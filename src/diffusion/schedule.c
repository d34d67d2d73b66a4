/* SPDX-License-Identifier: MIT */
#include "diffusion/schedule.h"

#include <math.h>
#include <string.h>

/* Samplers divide by sqrt(abar) in float32. */
static const double ABAR_MIN = 1e-70;

/* The numbers that follow a schedule's name. */
enum { MAX_ARGS = 2 };

static double beta_linear(const double *arg, int64_t i, int64_t steps)
{
    (void)arg;
    double scale = 1000.0 / (double)steps, lo = scale * 1e-4, hi = scale * 0.02;
    return steps == 1 ? lo : lo + (hi - lo) * (double)i / (double)(steps - 1);
}

static double cosine_abar(double u)
{
    double c = cos((u + 0.008) / 1.008 * 1.57079632679489661923);
    return c * c;
}

static double beta_cosine(const double *arg, int64_t i, int64_t steps)
{
    (void)arg;
    double n = (double)steps;
    double beta = 1.0 - cosine_abar((double)(i + 1) / n) / cosine_abar((double)i / n);
    return beta < 0.999 ? beta : 0.999;
}

static double beta_const(const double *arg, int64_t i, int64_t steps)
{
    (void)i;
    return arg[0] * (1000.0 / (double)steps);
}

static double beta_sqrt(const double *arg, int64_t i, int64_t steps)
{
    double lo = sqrt(arg[0]), hi = sqrt(arg[1]);
    double root = steps == 1 ? lo : lo + (hi - lo) * (double)i / (double)(steps - 1);
    return root * root;
}

typedef struct beta_rule {
    const char *name;
    int args;    /* numbers that follow the name, with colons between them */
    bool single; /* abar is rounded to f32 */
    double (*beta)(const double *arg, int64_t i, int64_t steps);
} beta_rule;

static const beta_rule rules[] = {
    {"linear", 0, false, beta_linear},
    {"cosine", 0, false, beta_cosine},
    {"const", 1, false, beta_const},
    {"sqrt", 2, true, beta_sqrt},
};

/* Exactly n numbers, as in "0.1:0.2". */
static bool parse_args(double arg[MAX_ARGS], int n, const char *text)
{
    for (int i = 0; i < n; i++) {
        char word[32];
        bool last = i + 1 == n;
        size_t len = strcspn(text, ":");
        if (len >= sizeof word || text[len] != (last ? '\0' : ':'))
            return false;
        memcpy(word, text, len);
        word[len] = '\0';
        if (!zs_str_to_f64(word, &arg[i]))
            return false;
        text += len + !last;
    }
    return n > 0 || *text == '\0';
}

static const beta_rule *find_rule(const char *name, double arg[MAX_ARGS])
{
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++)
        if (zs_str_starts(name, rules[i].name) &&
            parse_args(arg, rules[i].args, name + strlen(rules[i].name)))
            return &rules[i];
    return NULL;
}

int zs_schedule_alloc(zs_schedule *out, int64_t n, zs_error *err)
{
    memset(out, 0, sizeof *out);
    if (n < 1 || n > ZS_SCHEDULE_MAX)
        return zs_fail(err, ZS_E_INVALID, "%lld diffusion steps: use 1 to %d", (long long)n,
                       ZS_SCHEDULE_MAX);
    /* one block: the doubles first, then the timesteps */
    double *p = zs_calloc((size_t)n, 4 * sizeof(double) + sizeof(int64_t));
    if (!p)
        return zs_fail_nomem(err, (unsigned long long)n * 40, "a diffusion schedule");
    out->n = n;
    out->beta = p;
    out->abar = p + n;
    out->abar_prev = p + 2 * n;
    out->abar_next = p + 3 * n;
    out->t = (int64_t *)(void *)(p + 4 * n);
    return ZS_OK;
}

void zs_schedule_link(zs_schedule *s)
{
    for (int64_t i = 0; i < s->n; i++) {
        s->abar_prev[i] = i ? s->abar[i - 1] : 1.0;
        s->abar_next[i] = i + 1 < s->n ? s->abar[i + 1] : 0.0;
    }
}

void zs_schedule_free(zs_schedule *s)
{
    zs_free(s->beta);
    memset(s, 0, sizeof *s);
}

int zs_schedule_make(zs_schedule *out, const char *name, int64_t steps, zs_error *err)
{
    memset(out, 0, sizeof *out);
    double arg[MAX_ARGS] = {0.0}, abar = 1.0;
    const beta_rule *r = find_rule(name, arg);
    if (!r)
        return zs_fail(err, ZS_E_INVALID,
                       "unknown noise schedule '%s': use linear, cosine, const0.008 or "
                       "sqrt0.0015:0.0195",
                       name);
    int status = zs_schedule_alloc(out, steps, err);
    for (int64_t i = 0; status == ZS_OK && i < steps; i++) {
        double beta = r->beta(arg, i, steps);
        if (!(beta > 0.0 && beta < 1.0)) {
            zs_schedule_free(out);
            return zs_fail(
                err, ZS_E_INVALID,
                "noise schedule '%s' with %lld steps has beta %g, which is not in (0, 1): "
                "use more steps",
                name, (long long)steps, beta);
        }
        abar *= 1.0 - beta;
        if (abar < ABAR_MIN) {
            zs_schedule_free(out);
            return zs_fail(err, ZS_E_INVALID,
                           "noise schedule '%s' with %lld steps leaves no signal after step %lld: "
                           "use smaller betas",
                           name, (long long)steps, (long long)i);
        }
        out->t[i] = i;
        out->beta[i] = beta;
        out->abar[i] = r->single ? (double)(float)abar : abar;
    }
    if (status == ZS_OK)
        zs_schedule_link(out);
    return status;
}
