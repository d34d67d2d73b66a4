/* SPDX-License-Identifier: MIT */
/* zsem demo: the model and the images that come with zsem, as one page of pictures. */
#include "metrics/metrics.h"
#include "tasks/output.h"
#include "tasks/page.h"
#include "tasks/pipeline.h"

#include "base/share.h"

#include <string.h>

enum { RECONSTRUCT = 12, VARY_ROWS = 3, VARY_COLS = 8, WALKS = 3, WALK_COLS = 9 };

typedef struct demo {
    zs_task_env *env;
    zs_model *m;
    zs_images *im;
    zs_page page;
    const char *dir;
    zs_shape xs;                /* of RECONSTRUCT images */
    size_t e, dim;              /* floats of an image, of a code */
    float *x0, *x_T, *z, *work; /* [RECONSTRUCT], work [RECONSTRUCT * 3] and zw codes */
    float *zw;
} demo;

static zs_pipeline pipeline(const demo *d, const char *option, const char *stage)
{
    return (zs_pipeline){d->m, zs_opt_int(d->env, option), d->env->ui, stage};
}

static zs_shape shape_of(const demo *d, int64_t n)
{
    return zs_shape4(n, d->xs.d[1], d->xs.d[2], d->xs.d[3]);
}

static int open_all(demo *d)
{
    char *model = NULL, *images = NULL;
    zs_image_shape s;
    int status = zs_share_find(&model, "fashion32.safetensors", d->env->err);
    if (status == ZS_OK)
        status = zs_share_find(&images, "images", d->env->err);
    if (status == ZS_OK)
        status = zs_pipeline_open(&d->m, d->env, model, ZS_BOX_ENCODER, false);
    if (status == ZS_OK)
        status = zs_pipeline_image_shape(&s, d->m, model, d->env->err);
    if (status == ZS_OK)
        status = zs_images_open(&d->im, (const char *const[]){images}, 1, s, d->env->err);
    if (status == ZS_OK && zs_images_count(d->im) < RECONSTRUCT)
        status = zs_fail(d->env->err, ZS_E_INVALID, "%s: fewer than %d images; reinstall zsem",
                         images, RECONSTRUCT);
    if (status == ZS_OK) {
        d->xs = zs_shape4(RECONSTRUCT, s.size, s.size, s.channels);
        d->e = (size_t)zs_images_elements(d->im);
        d->dim = (size_t)zs_model_configuration(d->m)->unet.z_dim;
    }
    zs_free(model);
    zs_free(images);
    return status;
}

static int allocate(demo *d)
{
    enum { MOST = 3 * RECONSTRUCT };
    d->x0 = zs_alloc(RECONSTRUCT, d->e * sizeof(float));
    d->x_T = zs_alloc(RECONSTRUCT, d->e * sizeof(float));
    d->z = zs_alloc(RECONSTRUCT, d->dim * sizeof(float));
    d->work = zs_alloc(MOST, d->e * sizeof(float));
    d->zw = zs_alloc(MOST, d->dim * sizeof(float));
    if (d->x0 && d->x_T && d->z && d->work && d->zw)
        return ZS_OK;
    return zs_fail_nomem(d->env->err, MOST * d->e * sizeof(float), "the demo");
}

/* Writes a grid as PNG and into the page. */
static int show(demo *d, const char *file, const float *x, zs_shape xs, int cols,
                const char *caption)
{
    zs_image grid = {0};
    int status = zs_output_grid(d->dir, file, x, xs, cols, d->env->err);
    if (status == ZS_OK)
        status = zs_grid_from_float(&grid, x, (size_t)xs.d[0], (int)xs.d[1], (int)xs.d[2],
                                    (int)xs.d[3], cols, zs_output_zoom(xs), d->env->err);
    if (status == ZS_OK)
        status = zs_page_image(&d->page, &grid, caption, d->env->err);
    zs_image_free(&grid);
    zs_strbuf_addf(d->env->text, "%s/%s: %s\n", d->dir, file, caption);
    return status;
}

static double mean_mse(demo *d, const float *x)
{
    double sum = 0.0;
    for (size_t i = 0; i < RECONSTRUCT * d->e; i++) {
        float a[2] = {d->x0[i], x[i]}, u[2];
        zs_pipeline_unit(u, a, 2);
        sum += ((double)u[0] - (double)u[1]) * ((double)u[0] - (double)u[1]);
    }
    return sum / (double)(RECONSTRUCT * d->e);
}

static int reconstruct(demo *d)
{
    char text[256];
    size_t block = RECONSTRUCT * d->e;
    zs_pipeline p = pipeline(d, "steps", "encode");
    int status = zs_images_read(d->im, 0, RECONSTRUCT, d->x0, d->env->err);
    memcpy(d->x_T, d->x0, block * sizeof(float));
    if (status == ZS_OK)
        status = zs_pipeline_analyse(&p, d->x_T, d->z, d->xs, d->env->err);
    if (status < 0)
        return status;
    memcpy(d->work, d->x0, block * sizeof(float));
    memcpy(d->work + block, d->x_T, block * sizeof(float));
    zs_draw_xt(d->work + 2 * block, d->xs, (uint64_t)zs_opt_int(d->env, "seed"), 0);
    p.stage = "reconstruct";
    status = zs_pipeline_decode(&p, d->work + block, d->xs, d->z, d->env->err);
    p = pipeline(d, "vary-steps", "reconstruct from noise");
    if (status == ZS_OK)
        status = zs_pipeline_decode(&p, d->work + 2 * block, d->xs, d->z, d->env->err);
    if (status < 0)
        return status;
    double exact = mean_mse(d, d->work + block), loose = mean_mse(d, d->work + 2 * block);
    zs_result_set(d->env, "mse_inverted", json_real(exact));
    zs_result_set(d->env, "mse_random", json_real(loose));
    zs_page_heading(&d->page, "Reconstruct");
    snprintf(
        text, sizeof text,
        "Top: real images. Middle: decoded from the code z_sem and the inverted x_T (MSE %.5f). "
        "Bottom: decoded from z_sem and random noise (MSE %.4f).",
        exact, loose);
    return show(d, "reconstruct.png", d->work, shape_of(d, 3 * RECONSTRUCT), RECONSTRUCT, text);
}

static int vary(demo *d)
{
    zs_pipeline p = pipeline(d, "vary-steps", "vary");
    int n = VARY_ROWS * VARY_COLS;
    zs_draw_xt(d->work, shape_of(d, n), (uint64_t)zs_opt_int(d->env, "seed") + 1, 0);
    for (int i = 0; i < n; i++)
        memcpy(d->zw + (size_t)i * d->dim, d->z + (size_t)(i / VARY_COLS) * d->dim,
               d->dim * sizeof(float));
    int status = zs_pipeline_decode(&p, d->work, shape_of(d, n), d->zw, d->env->err);
    /* the original takes the first place of its row */
    for (int r = 0; r < VARY_ROWS; r++)
        memcpy(d->work + (size_t)(r * VARY_COLS) * d->e, d->x0 + (size_t)r * d->e,
               d->e * sizeof(float));
    zs_page_heading(&d->page, "Vary");
    return status < 0
               ? status
               : show(d, "vary.png", d->work, shape_of(d, n), VARY_COLS,
                      "Left: a real image. Then its code decoded with different noise: what the "
                      "code leaves open.");
}

static int interpolate(demo *d)
{
    zs_pipeline p = pipeline(d, "steps", "interpolate");
    int n = WALKS * WALK_COLS;
    for (int i = 0; i < n; i++) {
        size_t a = (size_t)(i / WALK_COLS), b = a + WALKS;
        double w = (double)(i % WALK_COLS) / (WALK_COLS - 1);
        zs_pipeline_lerp(d->zw + (size_t)i * d->dim, d->z + a * d->dim, d->z + b * d->dim, d->dim,
                         w);
        zs_pipeline_slerp(d->work + (size_t)i * d->e, d->x_T + a * d->e, d->x_T + b * d->e, d->e,
                          w);
    }
    int status = zs_pipeline_decode(&p, d->work, shape_of(d, n), d->zw, d->env->err);
    zs_page_heading(&d->page, "Interpolate");
    return status < 0 ? status
                      : show(d, "interpolate.png", d->work, shape_of(d, n), WALK_COLS,
                             "From one real image to another: the code on a straight line, x_T on "
                             "a sphere.");
}

static int write_page(demo *d)
{
    char *path = zs_str_format("%s/index.html", d->dir);
    int status = path ? zs_page_write(&d->page, path, d->env->err)
                      : zs_fail_nomem(d->env->err, 64, "a name");
    if (status == ZS_OK) {
        zs_result_set(d->env, "page", zs_json_text(path));
        zs_strbuf_addf(d->env->text, "%s: all of it on one page\n", path);
    }
    zs_free(path);
    return status;
}

static int run(zs_task_env *env)
{
    demo d = {.env = env, .dir = zs_opt_text(env, "out")};
    int status = zs_output_folder(d.dir, env->err);
    if (status == ZS_OK)
        status = open_all(&d);
    if (status == ZS_OK)
        status = allocate(&d);
    zs_page_begin(&d.page, "zsem: images to codes and back");
    zs_page_paragraph(
        &d.page,
        "A diffusion autoencoder trained by zsem on Fashion-MNIST. Every picture below was "
        "made just now, on this machine, from images that it was not trained on.");
    if (status == ZS_OK)
        status = reconstruct(&d);
    if (status == ZS_OK)
        status = vary(&d);
    if (status == ZS_OK)
        status = interpolate(&d);
    if (status == ZS_OK)
        status = write_page(&d);
    zs_page_free(&d.page);
    zs_free(d.x0);
    zs_free(d.x_T);
    zs_free(d.z);
    zs_free(d.work);
    zs_free(d.zw);
    zs_images_close(&d.im);
    zs_model_close(&d.m);
    return status;
}

static const zs_option options[] = {
    {"out", ZS_OPTION_TEXT, "DIR", "demo-out", 0, 0, "folder for index.html and the PNG files"},
    {"steps", ZS_OPTION_INT, "T", "100", 1, 1000000, "network calls where x_T is inverted"},
    {"vary-steps", ZS_OPTION_INT, "T", "20", 1, 1000000, "network calls where x_T is noise"},
    ZS_OPTIONS_END};

static const char *const examples[] = {"zsem demo", "zsem demo --out /tmp/demo --steps 50", NULL};

const zs_task zs_task_demo = {
    {"demo", "[--out DIR] [options]",
     "show what zsem does, with the model and images that come with it",
     "Reconstructs, varies and interpolates real images into one HTML page and PNG grids.", 0, 0,
     options, examples},
    run};
