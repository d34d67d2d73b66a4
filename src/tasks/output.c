/* SPDX-License-Identifier: MIT */
#include "tasks/output.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

int zs_output_folder(const char *dir, zs_error *err)
{
    int status = zs_mkdirs(dir, err);
    if (status == ZS_OK && access(dir, W_OK | X_OK) != 0)
        status = zs_fail(err, ZS_E_IO, "%s: folder cannot be written: %s", dir, strerror(errno));
    return status;
}

/* A black picture would hide that the numbers went wrong. */
static int check_finite(const char *dir, const char *name, const float *x, int64_t n, zs_error *err)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return zs_fail(err, ZS_E_NUMERIC,
                           "%s/%s: not written, since its pixels are not finite: the model's "
                           "weights are damaged",
                           dir, name);
    return ZS_OK;
}

static int write_png(const char *dir, const char *name, const zs_image *im, zs_error *err)
{
    char *path = zs_str_format("%s/%s", dir, name);
    int status =
        path ? zs_image_write_png(path, im, err) : zs_fail_nomem(err, strlen(dir), "a file name");
    zs_free(path);
    return status;
}

int zs_output_grid(const char *dir, const char *name, const float *x, zs_shape xs, int cols,
                   zs_error *err)
{
    zs_image grid = {0};
    int status = check_finite(dir, name, x, zs_shape_numel(&xs), err);
    if (status == ZS_OK)
        status = zs_grid_from_float(&grid, x, (size_t)xs.d[0], (int)xs.d[1], (int)xs.d[2],
                                    (int)xs.d[3], cols, zs_grid_zoom(xs.d[1]), err);
    if (status == ZS_OK)
        status = write_png(dir, name, &grid, err);
    zs_image_free(&grid);
    return status;
}

int zs_output_image(const char *dir, const char *name, const float *x, zs_shape xs, zs_error *err)
{
    zs_image im = {0};
    int status = check_finite(dir, name, x, xs.d[1] * xs.d[2] * xs.d[3], err);
    if (status == ZS_OK)
        status = zs_image_from_float(&im, x, (int)xs.d[1], (int)xs.d[2], (int)xs.d[3], err);
    if (status == ZS_OK)
        status = write_png(dir, name, &im, err);
    zs_image_free(&im);
    return status;
}
