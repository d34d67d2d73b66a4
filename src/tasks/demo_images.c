/* SPDX-License-Identifier: MIT */
/* The sections of zsem demo that start from real images. */
#include "metrics/metrics.h"
#include "tasks/demo.h"

#include <string.h>

enum { VARY_ROWS = 3, VARY_COLS = 8, WALKS = 3, WALK_COLS = 9 };

static double mean_mse(zs_demo *d, const float *x)
{
    double sum = 0.0;
    for (size_t i = 0; i < ZS_DEMO_IMAGES * d->e; i++) {
        float a[2] = {d->x0[i], x[i]}, u[2];
        zs_pipeline_unit(u, a, 2);
        sum += ((double)u[0] - (double)u[1]) * ((double)u[0] - (double)u[1]);
    }
    return sum / (double)(ZS_DEMO_IMAGES * d->e);
}

/* Codes and x_T of all images; three rows of work: the images, x_T as inverted, x_T as drawn. */
static int analyse(zs_demo *d)
{
    size_t block = ZS_DEMO_IMAGES * d->e;
    zs_pipeline p = zs_demo_pipeline(d, "steps", "encode");
    int status = zs_images_read(d->im, 0, ZS_DEMO_IMAGES, d->x0, d->env->err);
    if (status < 0)
        return status;
    memcpy(d->x_T, d->x0, block * sizeof(float));
    status = zs_pipeline_analyse(&p, d->x_T, d->z, d->xs, d->env->err);
    memcpy(d->work, d->x0, block * sizeof(float));
    memcpy(d->work + block, d->x_T, block * sizeof(float));
    zs_draw_xt(d->work + 2 * block, d->xs, (uint64_t)zs_opt_int(d->env, "seed"), 0);
    return status;
}

int zs_demo_reconstruct(zs_demo *d)
{
    char text[256];
    float *exact = d->work + ZS_DEMO_IMAGES * d->e, *loose = exact + ZS_DEMO_IMAGES * d->e;
    int status = analyse(d);
    zs_pipeline p = zs_demo_pipeline(d, "steps", "reconstruct");
    if (status == ZS_OK)
        status = zs_pipeline_decode(&p, exact, d->xs, d->z, d->env->err);
    p = zs_demo_pipeline(d, "vary-steps", "reconstruct from noise");
    if (status == ZS_OK)
        status = zs_pipeline_decode(&p, loose, d->xs, d->z, d->env->err);
    if (status < 0)
        return status;
    double inverted = mean_mse(d, exact), random = mean_mse(d, loose);
    zs_result_set(d->env, "mse_inverted", json_real(inverted));
    zs_result_set(d->env, "mse_random", json_real(random));
    (void)snprintf(
        text, sizeof text,
        "Top: real images. Middle: decoded from the code z_sem and the inverted x_T (MSE %.5f). "
        "Bottom: decoded from z_sem and random noise (MSE %.4f).",
        inverted, random);
    return zs_demo_show(d, "reconstruct.png", ZS_DEMO_MOST, ZS_DEMO_IMAGES, text);
}

int zs_demo_vary(zs_demo *d)
{
    enum { N = VARY_ROWS * VARY_COLS };
    zs_pipeline p = zs_demo_pipeline(d, "vary-steps", "vary");
    zs_draw_xt(d->work, zs_demo_shape(d, N), (uint64_t)zs_opt_int(d->env, "seed") + 1, 0);
    for (size_t i = 0; i < N; i++)
        memcpy(d->zw + i * d->dim, d->z + i / VARY_COLS * d->dim, d->dim * sizeof(float));
    int status = zs_pipeline_decode(&p, d->work, zs_demo_shape(d, N), d->zw, d->env->err);
    /* the original takes the first place of its row */
    for (size_t r = 0; r < VARY_ROWS; r++)
        memcpy(d->work + r * VARY_COLS * d->e, d->x0 + r * d->e, d->e * sizeof(float));
    return status < 0 ? status
                      : zs_demo_show(d, "vary.png", N, VARY_COLS,
                                     "Left: a real image. Then its code decoded with different "
                                     "noise: what the code leaves open.");
}

int zs_demo_interpolate(zs_demo *d)
{
    enum { N = WALKS * WALK_COLS };
    zs_pipeline p = zs_demo_pipeline(d, "steps", "interpolate");
    for (size_t i = 0; i < N; i++) {
        size_t a = i / WALK_COLS, b = a + WALKS;
        double w = (double)(i % WALK_COLS) / (WALK_COLS - 1);
        zs_pipeline_lerp(d->zw + i * d->dim, d->z + a * d->dim, d->z + b * d->dim, d->dim, w);
        zs_pipeline_slerp(d->work + i * d->e, d->x_T + a * d->e, d->x_T + b * d->e, d->e, w);
    }
    int status = zs_pipeline_decode(&p, d->work, zs_demo_shape(d, N), d->zw, d->env->err);
    return status < 0 ? status
                      : zs_demo_show(d, "interpolate.png", N, WALK_COLS,
                                     "From one real image to another: the code on a straight "
                                     "line, x_T on a sphere.");
}
