/* SPDX-License-Identifier: MIT */
#include "tasks/strip.h"
#include "tasks/output.h"

#include <string.h>

int zs_strip_begin(zs_strip *s, int64_t steps, int64_t size, int64_t images, zs_error *err)
{
    *s = (zs_strip){.steps = steps,
                    .size = size,
                    .n = images < ZS_STRIP_ROWS ? images : ZS_STRIP_ROWS,
                    .cols = steps < ZS_STRIP_COLS ? (int)steps : ZS_STRIP_COLS};
    for (int k = 0; k < s->cols; k++)
        s->at[k] = s->cols > 1 ? k * (steps - 1) / (s->cols - 1) : 0;
    s->x = zs_calloc((size_t)s->n * (size_t)s->cols, (size_t)size * sizeof *s->x);
    return s->x ? ZS_OK : zs_fail_nomem(err, (unsigned long long)(s->n * size) * 48, "a strip");
}

static double mse(const float *a, const float *b, int64_t n)
{
    double sum = 0.0;
    for (int64_t i = 0; i < n; i++) {
        double d = 0.5 * ((double)a[i] - (double)b[i]);
        sum += d * d;
    }
    return sum / (double)n;
}

void zs_strip_watch(void *ctx, int64_t step, int64_t t, const float *x0)
{
    zs_strip *s = ctx;
    for (int k = 0; k < s->cols; k++) {
        if (s->at[k] != step)
            continue;
        s->t[k] = t;
        for (int64_t i = 0; !s->full && i < s->n; i++)
            memcpy(s->x + (i * s->cols + k) * s->size, x0 + i * s->size,
                   (size_t)s->size * sizeof *x0);
        for (int64_t i = 0; s->truth && i < s->batch; i++)
            s->error[k] += mse(x0 + i * s->size, s->truth + i * s->size, s->size);
    }
}

int zs_strip_write(const zs_strip *s, const char *dir, zs_shape xs, zs_error *err)
{
    xs.d[0] = s->n * s->cols;
    return zs_output_grid(dir, "predict-x0.png", s->x, xs, s->cols, err);
}

void zs_strip_free(zs_strip *s)
{
    zs_free(s->x);
    *s = (zs_strip){0};
}
