/* SPDX-License-Identifier: MIT */
/* zsem eval lpips, ssim, psnr, mse: image i of A against image i of B. */
#include "tasks/eval.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* One number per pair. */
typedef enum measure { MSE, PSNR, SSIM, LPIPS } measure;
static const char *const name[] = {"mse", "psnr", "ssim", "lpips"};
static const char *const title[] = {"MSE", "PSNR", "SSIM", "LPIPS"};

enum { SHOWN = 32 }; /* pairs listed for people; the JSON has all */

typedef struct pairs {
    zs_task_env *env;
    measure m;
    zs_eval_set set[2];
    zs_lpips *lpips;
    int64_t first;
    zs_image *im[2]; /* of a batch */
    double *value;   /* of all pairs */
    zs_error *err;   /* of a batch */
} pairs;

/* ---- reading ---- */

static int same_form(pairs *p, int64_t i)
{
    char buf[2][1024];
    zs_image *a = &p->im[0][i], *b = &p->im[1][i];
    if (a->w != b->w || a->h != b->h)
        return zs_fail(&p->err[i], ZS_E_INVALID,
                       "%s is %dx%d and %s is %dx%d; a pair must have one size, so resize one set",
                       zs_source_name(p->set[0].source, p->first + i, buf[0], sizeof buf[0]), a->w,
                       a->h, zs_source_name(p->set[1].source, p->first + i, buf[1], sizeof buf[1]),
                       b->w, b->h);
    int channels = p->m == LPIPS || a->c == 3 || b->c == 3 ? 3 : 1;
    int status = zs_image_convert(a, channels, &p->err[i]);
    return status < 0 ? status : zs_image_convert(b, channels, &p->err[i]);
}

static float *values(const zs_image *im, float scale, float shift)
{
    size_t n = (size_t)im->w * (size_t)im->h * (size_t)im->c;
    float *v = zs_alloc(n, sizeof *v);
    for (size_t i = 0; v && i < n; i++)
        v[i] = (float)im->px[i] / 255.0f * scale + shift;
    return v;
}

/* MSE, PSNR or SSIM of pair i, on values in [0,1]. */
static void compare(pairs *p, int64_t i)
{
    const zs_image *im = &p->im[0][i];
    size_t n = (size_t)im->w * (size_t)im->h * (size_t)im->c;
    double *out = &p->value[p->first + i];
    float *a = values(im, 1, 0), *b = values(&p->im[1][i], 1, 0);
    if (!a || !b)
        (void)zs_fail_nomem(&p->err[i], 2 * n * sizeof *a, "a pair of images");
    else if (p->m == SSIM)
        (void)zs_metric_ssim(out, a, b, im->h, im->w, im->c, &p->err[i]);
    else
        *out = zs_metric_mse(a, b, n);
    if (p->m == PSNR)
        *out = zs_metric_psnr(*out);
    zs_free(a);
    zs_free(b);
}

static void read_pairs(void *ctx, int64_t begin, int64_t end, int thread)
{
    pairs *p = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int status = ZS_OK;
        for (int k = 0; k < 2 && status == ZS_OK; k++)
            status = zs_source_read(p->set[k].source, p->first + i, 0, &p->im[k][i], &p->err[i]);
        if (status == ZS_OK && same_form(p, i) == ZS_OK && p->m != LPIPS)
            compare(p, i);
    }
}

/* ---- LPIPS ---- */

/* Pairs [i, i+n) of the batch, all of one size. */
static int perceptual(pairs *p, int64_t i, int64_t n)
{
    const zs_image *im = &p->im[0][i];
    size_t e = (size_t)im->w * (size_t)im->h * 3;
    zs_error *err = p->env->err;
    float *x[2] = {zs_alloc((size_t)n, e * sizeof(float)), zs_alloc((size_t)n, e * sizeof(float))};
    int status = x[0] && x[1] ? ZS_OK
                              : zs_fail_nomem(err, (size_t)n * e * 2 * sizeof(float),
                                              "a batch of images; lower --batch");
    for (int64_t k = 0; k < 2 * n && status == ZS_OK; k++) {
        float *v = values(&p->im[k % 2][i + k / 2], 2, -1);
        if (v)
            memcpy(x[k % 2] + (size_t)(k / 2) * e, v, e * sizeof *v);
        else
            status = zs_fail_nomem(err, e * sizeof *v, "an image");
        zs_free(v);
    }
    if (status == ZS_OK)
        status = zs_lpips_distance(p->value + p->first + i, p->lpips, x[0], x[1],
                                   zs_shape4(n, im->h, im->w, 3), err);
    zs_free(x[0]);
    zs_free(x[1]);
    return status;
}

static int perceptual_batch(pairs *p, int64_t n)
{
    int status = ZS_OK;
    for (int64_t i = 0, end; i < n && status == ZS_OK; i = end) {
        const zs_image *a = &p->im[0][i];
        for (end = i + 1; end < n && p->im[0][end].w == a->w && p->im[0][end].h == a->h; end++)
            ;
        status = perceptual(p, i, end - i);
    }
    return status;
}

static int open_lpips(pairs *p)
{
    const char *trunk = zs_opt_text(p->env, "alexnet"), *lin = zs_opt_text(p->env, "lin");
    if (!trunk || !lin)
        return zs_fail(
            p->env->err, ZS_E_INVALID,
            "lpips needs two files: --alexnet alexnet-owt-7be5be79.pth of torchvision and "
            "--lin weights/v0.1/alex.pth of the LPIPS repository");
    return zs_lpips_open(&p->lpips, trunk, lin, zs_opt_text(p->env, "device"), p->env->err);
}

/* ---- all pairs ---- */

static int open_sets(pairs *p)
{
    int64_t limit = zs_opt_int(p->env, "limit");
    for (size_t i = 0; i < 2; i++) {
        int status = zs_eval_set_open(&p->set[i], p->env, i + 1);
        if (status < 0)
            return status;
        if (p->set[i].kind != ZS_EVAL_IMAGES)
            return zs_fail(p->env->err, ZS_E_INVALID, "%s: %s compares images, not features",
                           p->set[i].spec, name[p->m]);
    }
    if (p->set[0].n != p->set[1].n)
        return zs_fail(
            p->env->err, ZS_E_INVALID,
            "%s has %" PRId64 " images and %s has %" PRId64 "; pairs need as many on both sides%s",
            p->set[0].spec, p->set[0].n, p->set[1].spec, p->set[1].n, limit ? "" : ", or --limit");
    return ZS_OK;
}

static int run_batch(pairs *p, int64_t n)
{
    memset(p->err, 0, (size_t)n * sizeof *p->err);
    zs_parallel_for(n, 1, read_pairs, p);
    int status = ZS_OK;
    for (int64_t i = 0; i < n && status == ZS_OK; i++)
        if (p->err[i].status < 0)
            status = zs_fail(p->env->err, p->err[i].status, "%s", p->err[i].message);
    if (status == ZS_OK && p->m == LPIPS)
        status = perceptual_batch(p, n);
    for (int64_t i = 0; i < 2 * n; i++)
        zs_image_free(&p->im[i % 2][i / 2]);
    return status;
}

static int run_batches(pairs *p)
{
    int64_t batch = zs_opt_int(p->env, "batch"), total = p->set[0].n;
    int status = ZS_OK;
    for (p->first = 0; p->first < total && status == ZS_OK; p->first += batch) {
        int64_t n = total - p->first < batch ? total - p->first : batch;
        status = run_batch(p, n);
        zs_progress g = {name[p->m], (double)(p->first + n), (double)total, "pairs", NULL};
        if (status == ZS_OK)
            status = zs_ui_progress(p->env->ui, &g, p->env->err);
    }
    return status;
}

/* JSON has no infinity: the PSNR of equal images is null. */
static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static void report(pairs *p)
{
    char buf[4096];
    int64_t n = p->set[0].n, equal = 0;
    double sum = 0.0;
    json_t *list = json_array();
    for (int64_t i = 0; i < n; i++) {
        const char *s = zs_source_name(p->set[0].source, i, buf, sizeof buf);
        if (n <= SHOWN)
            zs_strbuf_addf(p->env->text, "%s  %s %.6g\n", s, title[p->m], p->value[i]);
        if (list)
            (void)json_array_append_new(list, json_pack("{s:o, s:o}", "name", zs_json_text(s),
                                                        name[p->m], number(p->value[i])));
        if (isfinite(p->value[i]))
            sum += p->value[i];
        else
            equal++;
    }
    if (equal)
        zs_eval_warn(p->env,
                     "%" PRId64 " of %" PRId64 " pairs are equal; their PSNR is infinite and "
                     "left out of the mean",
                     equal, n);
    double mean = equal < n ? sum / (double)(n - equal) : (double)INFINITY;
    zs_result_set(p->env, "metric", json_string(name[p->m]));
    zs_result_set(p->env, name[p->m], number(mean));
    zs_result_set(p->env, "pairs", json_integer(n));
    zs_result_set(p->env, "images", list);
    zs_strbuf_addf(p->env->text, "mean of %" PRId64 "  %s %.6g\n", n - equal, title[p->m], mean);
}

static int run(zs_task_env *env, measure m)
{
    pairs p = {.env = env, .m = m};
    size_t batch = (size_t)zs_opt_int(env, "batch");
    int status = open_sets(&p);
    if (status == ZS_OK && m == LPIPS)
        status = open_lpips(&p);
    if (status == ZS_OK) {
        p.im[0] = zs_calloc(batch, sizeof *p.im[0]);
        p.im[1] = zs_calloc(batch, sizeof *p.im[1]);
        p.err = zs_calloc(batch, sizeof *p.err);
        p.value = zs_calloc((size_t)p.set[0].n, sizeof *p.value);
        status = p.im[0] && p.im[1] && p.err && p.value
                     ? run_batches(&p)
                     : zs_fail_nomem(env->err, batch * sizeof *p.err, "pairs of images");
    }
    if (status == ZS_OK)
        report(&p);
    zs_free(p.im[0]);
    zs_free(p.im[1]);
    zs_free(p.err);
    zs_free(p.value);
    zs_lpips_close(&p.lpips);
    zs_eval_set_close(&p.set[0]);
    zs_eval_set_close(&p.set[1]);
    return status;
}

static int run_mse(zs_task_env *env)
{
    return run(env, MSE);
}

static int run_psnr(zs_task_env *env)
{
    return run(env, PSNR);
}

static int run_ssim(zs_task_env *env)
{
    return run(env, SSIM);
}

static int run_lpips(zs_task_env *env)
{
    return run(env, LPIPS);
}

#define PAIRS " limit batch "
const zs_eval_metric zs_eval_mse = {
    "mse", "mean squared error of pairs, values in [0,1]", 2, 2, PAIRS, run_mse};
const zs_eval_metric zs_eval_psnr = {
    "psnr", "peak signal-to-noise ratio of pairs in dB", 2, 2, PAIRS, run_psnr};
const zs_eval_metric zs_eval_ssim = {"ssim",  "structural similarity of pairs", 2, 2, PAIRS,
                                     run_ssim};
const zs_eval_metric zs_eval_lpips = {
    "lpips",  "perceptual distance of pairs (--alexnet, --lin)", 2, 2, PAIRS "alexnet lin ",
    run_lpips};
