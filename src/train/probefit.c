/* SPDX-License-Identifier: MIT */
#include "train/probefit.h"

#include <math.h>
#include <string.h>

zs_probe_fit zs_probe_fit_defaults(void)
{
    zs_probe_fit c = {.optim = zs_optim_defaults(), .batch = 32, .samples = 300000};
    c.optim.lr = 1e-3;
    c.optim.clip = 0.0;
    c.optim.ema = 0.999;
    return c;
}

/* Not the hash of SRC:val=SHARE (data/source_split.c): a part of a set has its own tenth, too. */
bool zs_held_out(const zs_source *data, int64_t i)
{
    char buf[512];
    uint64_t h = 0xCBF29CE484222325u;
    for (const char *s = zs_source_name(data, i, buf, sizeof buf); *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001B3u;
    h ^= h >> 32; /* the low bits of FNV-1a of short names are poorly mixed */
    return h * 0x9E3779B97F4A7C15u >> 32 < 0xFFFFFFFFu / 10;
}

/* One training: attributes first .. first+k-1 of the probe. */
typedef struct fit {
    const zs_probe_fit *c;
    const zs_codes *codes;
    const zs_labels *l;
    int first, k;
    int64_t dim;
    int64_t *pool[2]; /* images; with two pools each gives half a batch */
    int64_t size[2];
    int pools;
    zs_optim_buffers b; /* rows [k,dim], then biases [k] */
    float *block;
    float *z; /* one normalised code */
} fit;

/* ---- which images ---- */

static int too_few(const fit *f, int attr, const char *what, int64_t have, zs_error *err)
{
    return zs_fail(err, ZS_E_INVALID,
                   "attribute %s has %lld %s among the images to train on, and %lld are needed",
                   f->l->names[attr], (long long)have, what,
                   (long long)(f->c->shots > 0 ? f->c->shots : 1));
}

enum { ANY_LABEL = -2 }; /* beside the values of labels */

/* All images of one kind, of which the first `most` of a random order are kept; 0: all. */
static int64_t collect(const fit *f, int64_t *out, const bool *use, int want, int64_t most)
{
    int64_t n = 0;
    for (int64_t i = 0; i < f->codes->n; i++)
        if (use[i] && (want == ANY_LABEL || zs_labels_at(f->l, i, f->first) == want))
            out[n++] = i;
    if (most == 0 || n <= most)
        return n;
    uint64_t seed = f->c->seed + 2u * (uint64_t)f->first + (want == ZS_LABEL_YES);
    for (int64_t i = 0; i < most; i++) { /* the chosen ones to the front */
        const zs_rng r = {.seed = seed, .purpose = ZS_RNG_PICK, .index = (uint64_t)i};
        int64_t k = i + (int64_t)zs_rng_below(&r, (uint64_t)(n - i)), t = out[k];
        out[k] = out[i];
        out[i] = t;
    }
    return most;
}

/* Few examples: positives in pool 0, negatives in pool 1. */
static int choose_few(fit *f, const bool *use, zs_error *err)
{
    int64_t shots = f->c->shots;
    f->pools = 2;
    f->size[0] = collect(f, f->pool[0], use, ZS_LABEL_YES, shots);
    if (f->size[0] < (shots > 0 ? shots : 1))
        return too_few(f, f->first, "positives", f->size[0], err);
    if (f->c->unlabelled) {
        bool *rest = zs_alloc((size_t)f->codes->n, sizeof *rest);
        if (!rest)
            return zs_fail_nomem(err, (unsigned long long)f->codes->n, "a list of images");
        memcpy(rest, use, (size_t)f->codes->n * sizeof *rest);
        for (int64_t i = 0; i < f->size[0]; i++)
            rest[f->pool[0][i]] = false;
        f->size[1] = collect(f, f->pool[1], rest, ANY_LABEL, 0);
        zs_free(rest);
    } else
        f->size[1] = collect(f, f->pool[1], use, ZS_LABEL_NO, shots);
    if (f->size[1] < (shots > 0 && !f->c->unlabelled ? shots : 1))
        return too_few(f, f->first, "negatives", f->size[1], err);
    return ZS_OK;
}

static int choose_all(fit *f, const bool *use, zs_error *err)
{
    int64_t *yes = zs_calloc((size_t)f->k, 2 * sizeof *yes), n = 0;
    int status = yes ? ZS_OK : zs_fail_nomem(err, (unsigned long long)f->k * 16, "counts");
    f->pools = 1;
    for (int64_t i = 0; status == ZS_OK && i < f->codes->n; i++) {
        bool known = false;
        for (int a = 0; use[i] && a < f->k; a++) {
            int v = zs_labels_at(f->l, i, f->first + a);
            known = known || v != ZS_LABEL_UNKNOWN;
            yes[2 * a] += v == ZS_LABEL_YES;
            yes[2 * a + 1] += v == ZS_LABEL_NO;
        }
        if (known)
            f->pool[0][n++] = i;
    }
    f->size[0] = n;
    for (int a = 0; status == ZS_OK && a < f->k; a++)
        if (yes[2 * a] == 0 || yes[2 * a + 1] == 0)
            status = too_few(f, f->first + a, yes[2 * a] ? "negatives" : "positives", 0, err);
    zs_free(yes);
    return status;
}

/* ---- the loop ---- */

/* Sample k of the training -> its image, and whether it counts as a positive in a pool of two. */
static int64_t image_of(const fit *f, int64_t k, int *pool)
{
    *pool = f->pools == 2 ? (int)(k % 2) : 0;
    int64_t at = f->pools == 2 ? k / 2 : k;
    uint64_t seed = f->c->seed + (uint64_t)*pool;
    return f->pool[*pool][zs_loader_sample_index(seed, f->size[*pool], at)];
}

static int label_of(const fit *f, int64_t image, int a, int pool)
{
    return f->pools == 2 ? (pool == 0 ? ZS_LABEL_YES : ZS_LABEL_NO)
                         : zs_labels_at(f->l, image, f->first + a);
}

static void load_code(const fit *f, int64_t image, int64_t k)
{
    const zs_codes *c = f->codes;
    zs_rng r = {.seed = f->c->seed, .purpose = ZS_RNG_AUGMENT, .index = (uint64_t)k};
    int64_t view = c->views > 1 ? (int64_t)zs_rng_below(&r, (uint64_t)c->views) : 0;
    zs_codes_normalise(c, f->z, c->z + (view * c->n + image) * c->dim);
}

/* Adds the gradient of one sample. The mean is over the batch and all attributes, as
 * binary_cross_entropy_with_logits takes it; unknown labels add nothing. */
static void add_sample(fit *f, int64_t k)
{
    int pool;
    int64_t image = image_of(f, k, &pool);
    double scale = 1.0 / ((double)f->c->batch * f->k);
    load_code(f, image, k);
    for (int a = 0; a < f->k; a++) {
        int y = label_of(f, image, a, pool);
        const float *w = f->b.param + a * f->dim;
        float *g = f->b.grad + a * f->dim;
        if (y == ZS_LABEL_UNKNOWN)
            continue;
        double logit = (double)f->b.param[f->k * f->dim + a];
        for (int64_t i = 0; i < f->dim; i++)
            logit += (double)w[i] * (double)f->z[i];
        float d = (float)(scale * (1.0 / (1.0 + exp(-logit)) - (y == ZS_LABEL_YES)));
        for (int64_t i = 0; i < f->dim; i++)
            g[i] += d * f->z[i];
        f->b.grad[f->k * f->dim + a] += d;
    }
}

static int run(fit *f, const zs_ui *ui, double from, double total, zs_error *err)
{
    int64_t steps = (f->c->samples + f->c->batch - 1) / f->c->batch;
    int status = ZS_OK;
    for (int64_t s = 1; status == ZS_OK && s <= steps; s++) {
        for (int64_t i = 0; i < f->c->batch; i++)
            add_sample(f, (s - 1) * f->c->batch + i);
        double norm = f->c->optim.clip > 0.0 ? zs_grad_norm(f->b.grad, f->b.n) : 0.0;
        zs_optim_step(&f->c->optim, &f->b, s, norm);
        if (s % 100 == 0 || s == steps)
            status = zs_ui_progress(ui,
                                    &(zs_progress){"train probe", from + (double)(s * f->c->batch),
                                                   total, "codes", NULL},
                                    err);
    }
    double kept = 1.0 - pow(f->c->optim.ema, (double)steps);
    for (size_t i = 0; i < f->b.n; i++)
        f->b.ema[i] = (float)((double)f->b.ema[i] / kept);
    return status;
}

static void store(const fit *f, zs_probe *p)
{
    size_t rows = (size_t)(f->k * f->dim), at = (size_t)(f->first * f->dim), k = (size_t)f->k;
    memcpy(p->w + at, f->b.param, rows * sizeof *p->w);
    memcpy(p->b + f->first, f->b.param + rows, k * sizeof *p->b);
    memcpy(p->avg_w + at, f->b.ema, rows * sizeof *p->w);
    memcpy(p->avg_b + f->first, f->b.ema + rows, k * sizeof *p->b);
}

static int open_fit(fit *f, zs_error *err)
{
    size_t n = (size_t)f->k * ((size_t)f->dim + 1), images = (size_t)f->codes->n;
    f->block = zs_calloc(5 * n + (size_t)f->dim, sizeof *f->block);
    f->pool[0] = zs_alloc(2 * images, sizeof **f->pool);
    if (!f->block || !f->pool[0])
        return zs_fail_nomem(err, 20ull * n + 16ull * images, "a probe's training");
    f->pool[1] = f->pool[0] + images;
    f->b = (zs_optim_buffers){.param = f->block,
                              .grad = f->block + n,
                              .m = f->block + 2 * n,
                              .v = f->block + 3 * n,
                              .ema = f->block + 4 * n,
                              .n = n};
    f->z = f->block + 5 * n;
    return ZS_OK;
}

int zs_probe_train(zs_probe *p, const zs_codes *codes, const zs_labels *l, const bool *use,
                   const zs_probe_fit *c, const zs_ui *ui, zs_error *err)
{
    bool few = c->shots > 0 || c->unlabelled;
    int rounds = few ? p->attrs : 1, status = ZS_OK;
    double total = (double)c->samples * rounds;
    for (int r = 0; r < rounds && status == ZS_OK; r++) {
        fit f = {.c = c,
                 .codes = codes,
                 .l = l,
                 .first = few ? r : 0,
                 .k = few ? 1 : p->attrs,
                 .dim = p->dim};
        status = open_fit(&f, err);
        if (status == ZS_OK)
            status = few ? choose_few(&f, use, err) : choose_all(&f, use, err);
        if (status == ZS_OK)
            status = run(&f, ui, (double)c->samples * r, total, err);
        if (status == ZS_OK)
            store(&f, p);
        zs_free(f.block);
        zs_free(f.pool[0]);
    }
    return status;
}

void zs_probe_scores(const zs_probe *p, int attr, const zs_codes *codes, float *score)
{
    const float *w = p->avg_w + attr * p->dim;
    for (int64_t i = 0; i < codes->n; i++) {
        double sum = (double)p->avg_b[attr];
        const float *z = codes->z + i * codes->dim;
        for (int64_t k = 0; k < codes->dim; k++)
            sum += (double)w[k] * (((double)z[k] - (double)codes->mean[k]) / (double)codes->std[k]);
        score[i] = (float)sum;
    }
}
