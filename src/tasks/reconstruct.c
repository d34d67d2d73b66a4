/* SPDX-License-Identifier: MIT */
/* zsem reconstruct: image -> (z_sem, x_T) -> image, with the distance to the original. */
#include "metrics/metrics.h"
#include "tasks/drawcodes.h"
#include "tasks/output.h"
#include "tasks/pipeline.h"
#include "tasks/span.h"
#include "tasks/strip.h"

#include <math.h>
#include <string.h>

enum { GRID_MAX = 64 }; /* images shown in the grid: more could not be looked at */

typedef struct reconstruct {
    zs_task_env *env;
    zs_model *m;
    zs_images *im;
    zs_image_shape shape;
    const char *out;   /* folder or NULL */
    int64_t n, e;      /* images, floats of one */
    float *x0, *x, *z; /* one batch: original, work and result, codes */
    float *unit;       /* two images in [0,1] */
    float *grid;       /* [GRID_MAX originals, GRID_MAX results] */
    double mse, ssim;  /* sums */
    json_t *list;
    zs_strip strip; /* with --predict-x0 */
    zs_span_progress span;
} reconstruct;

static int analyse(reconstruct *r, zs_shape xs, int64_t first)
{
    zs_pipeline p = {r->m, zs_opt_int(r->env, "steps"), &r->span.ui, "encode x_T"};
    memcpy(r->x, r->x0, (size_t)(xs.d[0] * r->e) * sizeof *r->x);
    float *z = zs_model_has(r->m, ZS_BOX_ENCODER) ? r->z : NULL;
    if (!zs_opt_flag(r->env, "random-xT"))
        return zs_pipeline_analyse(&p, r->x, z, xs, r->env->err);
    int status = z ? zs_model_encode(r->m, z, r->x0, xs, r->env->err) : ZS_OK;
    zs_draw_xt(r->x, xs, (uint64_t)zs_opt_int(r->env, "seed"), (uint64_t)first);
    return status;
}

static int measure(reconstruct *r, int64_t i, int64_t index)
{
    char buf[4096];
    double ssim = 0.0;
    size_t e = (size_t)r->e;
    zs_pipeline_unit(r->unit, r->x0 + i * r->e, e);
    zs_pipeline_unit(r->unit + e, r->x + i * r->e, e);
    double mse = zs_metric_mse(r->unit, r->unit + e, e);
    int status = zs_metric_ssim(&ssim, r->unit, r->unit + e, r->shape.size, r->shape.size,
                                r->shape.channels, r->env->err);
    if (status < 0)
        return status;
    if (!isfinite(mse))
        return zs_fail(r->env->err, ZS_E_NUMERIC,
                       "%s: the reconstruction is not finite: the weights are damaged",
                       zs_arg(r->env, 0));
    const char *name = zs_images_name(r->im, index, buf, sizeof buf);
    r->mse += mse;
    r->ssim += ssim;
    if (json_array_append_new(r->list, json_pack("{s:o, s:f, s:f}", "name", zs_json_text(name),
                                                 "mse", mse, "ssim", ssim)) != 0)
        return zs_fail_nomem(r->env->err, strlen(name), "the result");
    if (r->n <= 32)
        zs_strbuf_addf(r->env->text, "%s  MSE %.6f  SSIM %.4f\n", name, mse, ssim);
    return ZS_OK;
}

/* NAME.png, or NAME-2.png: paths become one file name. */
static int write_image(reconstruct *r, int64_t i, int64_t index)
{
    char buf[4096];
    const char *name = zs_images_name(r->im, index, buf, sizeof buf);
    char *file = zs_str_format("%06lld-%s", (long long)index, name);
    if (!file)
        return zs_fail_nomem(r->env->err, strlen(name), "a file name");
    for (char *s = file; *s; s++)
        if (*s == '/' || *s == '#')
            *s = '_';
    char *dot = strrchr(file, '.');
    if (dot && zs_image_name(file))
        *dot = '\0';
    if (strlen(file) > 200)
        file[200] = '\0';
    char *png = zs_str_format("%s.png", file);
    int status =
        png ? zs_output_image(r->out, png, r->x + i * r->e,
                              zs_shape4(1, r->shape.size, r->shape.size, r->shape.channels),
                              r->env->err)
            : zs_fail_nomem(r->env->err, 256, "a file name");
    zs_free(png);
    zs_free(file);
    return status;
}

static int finish_batch(reconstruct *r, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        int status = measure(r, i, first + i);
        if (status == ZS_OK && r->out)
            status = write_image(r, i, first + i);
        if (status < 0)
            return status;
        if (r->out && first + i < GRID_MAX) {
            memcpy(r->grid + (first + i) * r->e, r->x0 + i * r->e, (size_t)r->e * sizeof(float));
            memcpy(r->grid + (GRID_MAX + first + i) * r->e, r->x + i * r->e,
                   (size_t)r->e * sizeof(float));
        }
    }
    return ZS_OK;
}

static int decode(reconstruct *r, zs_shape xs, const float *z, int64_t first)
{
    const zs_generation g = {
        .model = r->m,
        .sampler = &zs_sampler_ddim,
        .steps = zs_opt_int(r->env, "steps"),
        .cond = {.z = z},
        .noise = {.seed = (uint64_t)zs_opt_int(r->env, "seed"), .first = (uint64_t)first},
        .ui = &r->span.ui,
        .stage = "decode"};
    if (zs_model_has(r->m, ZS_BOX_FIRST_STAGE)) /* their x_T is one of latents */
        return zs_generate_images(&g, r->x, xs, r->env->err);
    zs_pipeline p = {r->m, zs_opt_int(r->env, "steps"), &r->span.ui, "decode"};
    if (!zs_opt_flag(r->env, "predict-x0"))
        return zs_pipeline_decode(&p, r->x, xs, z, r->env->err);
    r->strip.truth = r->x0;
    r->strip.batch = xs.d[0];
    int status =
        zs_pipeline_decode_watched(&p, r->x, xs, z, zs_strip_watch, &r->strip, r->env->err);
    r->strip.full = true;
    return status;
}

static int run_batch(reconstruct *r, int64_t first, int64_t n)
{
    const float *z = zs_model_has(r->m, ZS_BOX_ENCODER) ? r->z : NULL;
    zs_shape xs = zs_shape4(n, r->shape.size, r->shape.size, r->shape.channels);
    double half = zs_opt_flag(r->env, "random-xT") ? 0.0 : 0.5 * (double)n;
    zs_span_begin(&r->span, (double)first, half);
    int status = zs_images_read(r->im, first, n, r->x0, r->env->err);
    if (status == ZS_OK)
        status = analyse(r, xs, first);
    zs_span_begin(&r->span, (double)first + half, (double)n - half);
    if (status == ZS_OK)
        status = decode(r, xs, z, first);
    return status < 0 ? status : finish_batch(r, first, n);
}

static int run_batches(reconstruct *r)
{
    int64_t batch = zs_opt_int(r->env, "batch");
    int status = ZS_OK;
    r->span = (zs_span_progress){
        .parent = r->env->ui, .stage = "reconstruct", .unit = "images", .total = (double)r->n};
    for (int64_t i = 0; status == ZS_OK && i < r->n; i += batch)
        status = run_batch(r, i, r->n - i < batch ? r->n - i : batch);
    return status;
}

/* Rows of up to eight originals, each above the row of its reconstructions. */
static int write_grid(reconstruct *r)
{
    int64_t n = r->n < GRID_MAX ? r->n : GRID_MAX, cols = n < 8 ? n : 8,
            rows = (n + cols - 1) / cols;
    float *x = zs_calloc((size_t)(2 * rows * cols), (size_t)r->e * sizeof *x);
    if (!x)
        return zs_fail_nomem(r->env->err, (unsigned long long)(2 * rows * cols * r->e) * 4,
                             "the grid");
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < 2; k++)
            memcpy(x + ((2 * (i / cols) + k) * cols + i % cols) * r->e,
                   r->grid + (k * GRID_MAX + i) * r->e, (size_t)r->e * sizeof *x);
    int status =
        zs_output_grid(r->out, "grid.png", x,
                       zs_shape4(2 * rows * cols, r->shape.size, r->shape.size, r->shape.channels),
                       (int)cols, r->env->err);
    zs_free(x);
    return status;
}

static int allocate(reconstruct *r)
{
    const zs_model_config *c = zs_model_configuration(r->m);
    size_t batch = (size_t)zs_opt_int(r->env, "batch"), bytes = (size_t)r->e * sizeof(float);
    r->x0 = zs_alloc(batch, bytes);
    r->x = zs_alloc(batch, bytes);
    r->z = zs_alloc(batch, ((size_t)zs_model_config_z_dim(c) + 1) * sizeof(float));
    r->unit = zs_alloc(2, bytes);
    r->grid = zs_alloc(2 * GRID_MAX, bytes);
    r->list = json_array();
    if (r->x0 && r->x && r->z && r->unit && r->grid && r->list)
        return ZS_OK;
    return zs_fail_nomem(r->env->err, 2 * batch * bytes, "a batch of images; lower --batch");
}

/* Error of the predicted x0 over t: what the generator knows before it has begun (paper, fig.
 * 6). */
static void report_strip(reconstruct *r)
{
    if (!zs_opt_flag(r->env, "predict-x0"))
        return;
    json_t *list = json_array();
    for (int k = 0; k < r->strip.cols; k++) {
        double mse = r->strip.error[k] / (double)r->n;
        json_array_append_new(
            list, json_pack("{s:I, s:f}", "t", (json_int_t)r->strip.t[k], "mean_mse", mse));
        zs_strbuf_addf(r->env->text, "x0 as predicted at t=%-4lld  MSE %.6f\n",
                       (long long)r->strip.t[k], mse);
    }
    zs_result_set(r->env, "predicted_x0", list);
    if (r->out)
        zs_strbuf_addf(r->env->text, "%s/predict-x0.png: x0 as predicted, t falling\n", r->out);
}

static void report(reconstruct *r)
{
    report_strip(r);
    double n = (double)r->n;
    zs_result_set(r->env, "steps", json_integer(zs_opt_int(r->env, "steps")));
    zs_result_set(r->env, "x_T",
                  json_string(zs_opt_flag(r->env, "random-xT") ? "random" : "inverted"));
    zs_result_set(r->env, "images", r->list);
    zs_result_set(r->env, "mean_mse", json_real(r->mse / n));
    zs_result_set(r->env, "mean_ssim", json_real(r->ssim / n));
    r->list = NULL;
    zs_strbuf_addf(r->env->text, "mean of %lld  MSE %.6f  SSIM %.4f  (x_T %s, T=%lld)\n",
                   (long long)r->n, r->mse / n, r->ssim / n,
                   zs_opt_flag(r->env, "random-xT") ? "random" : "inverted",
                   (long long)zs_opt_int(r->env, "steps"));
    if (r->out)
        zs_strbuf_addf(r->env->text, "%s/grid.png: originals above reconstructions\n", r->out);
}

static void release(reconstruct *r)
{
    zs_free(r->x0);
    zs_free(r->x);
    zs_free(r->z);
    zs_free(r->unit);
    zs_free(r->grid);
    zs_strip_free(&r->strip);
    json_decref(r->list);
    zs_images_close(&r->im);
    zs_model_close(&r->m);
}

/* What generators of classes, and those of latents, do not do. */
static int check_generator(const reconstruct *r)
{
    const char *spec = zs_arg(r->env, 0);
    if (zs_class_count(r->m, ZS_BOX_GENERATOR) > 0)
        return zs_fail(
            r->env->err, ZS_E_INVALID,
            "%s: reconstruct does not know the classes that this generator is told; draw "
            "new images with zsem sample --class K",
            spec);
    if (zs_opt_flag(r->env, "predict-x0") && zs_model_has(r->m, ZS_BOX_FIRST_STAGE))
        return zs_fail(r->env->err, ZS_E_INVALID,
                       "%s: --predict-x0 shows images, and this generator works on latents", spec);
    return zs_opt_flag(r->env, "random-xT")
               ? ZS_OK
               : zs_pipeline_check_inversion(r->m, spec, "add --random-xT", r->env->err);
}

static int run(zs_task_env *env)
{
    reconstruct r = {.env = env, .out = zs_opt_text(env, "out")};
    int status = zs_pipeline_open(&r.m, env, zs_arg(env, 0), ZS_BOX_GENERATOR, false);
    if (status == ZS_OK)
        status = check_generator(&r);
    if (status == ZS_OK)
        status = zs_pipeline_images(&r.im, &r.shape, env, r.m);
    if (status == ZS_OK)
        status = zs_pipeline_check_steps(r.m, zs_opt_int(env, "steps"), env->err);
    if (status == ZS_OK && r.out)
        status = zs_output_folder(r.out, env->err);
    if (status == ZS_OK) {
        r.n = zs_images_count(r.im);
        if (zs_opt_int(env, "limit") > 0 && r.n > zs_opt_int(env, "limit"))
            r.n = zs_opt_int(env, "limit");
        r.e = zs_images_elements(r.im);
        status = allocate(&r);
    }
    if (status == ZS_OK && zs_opt_flag(env, "predict-x0")) {
        int64_t batch = zs_opt_int(env, "batch");
        status = zs_strip_begin(&r.strip, zs_opt_int(env, "steps"), r.e, r.n < batch ? r.n : batch,
                                env->err);
    }
    if (status == ZS_OK)
        status = run_batches(&r);
    if (status == ZS_OK && r.out)
        status = write_grid(&r);
    if (status == ZS_OK && r.out && r.strip.x)
        status = zs_strip_write(
            &r.strip, r.out, zs_shape4(1, r.shape.size, r.shape.size, r.shape.channels), env->err);
    if (status == ZS_OK)
        report(&r);
    release(&r);
    return status;
}

static const zs_option options[] = {
    {"steps", ZS_OPTION_INT, "T", "100", 1, 1000000, "network calls of inversion and of decoding"},
    {"random-xT", ZS_OPTION_FLAG, NULL, NULL, 0, 0, "decode from noise: what z_sem alone holds"},
    {"predict-x0", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "also measure, and with --out draw, what x0 is taken for on the way"},
    {"out", ZS_OPTION_TEXT, "DIR", NULL, 0, 0, "write the reconstructions and a grid there"},
    {"limit", ZS_OPTION_INT, "N", "0", 0, 9e15, "only the first N images; 0 for all"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem reconstruct last.ckpt photos/ --steps 100 --out rec",
    "zsem reconstruct share/fashion32.safetensors fashion-mnist:test "
    "--limit 100 --random-xT --json",
    NULL};

const zs_task zs_task_reconstruct = {
    {"reconstruct", "MODEL IMAGES... [--steps T] [--random-xT] [--out DIR] [options]",
     "encode images and decode them back, with MSE and SSIM",
     "MSE and SSIM are of images in [0,1] at the model's size. With an inverted x_T the details "
     "come\n"
     "back too; with --random-xT only what the code z_sem says.",
     2, -1, options, examples},
    run};
