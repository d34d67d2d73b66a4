/* SPDX-License-Identifier: MIT */
#include "models/bicubic.h"

#include "base/base.h"

#include <math.h>

enum { TAPS = 4 };

typedef struct job {
    float *dst;
    const float *src;
    int64_t oh, ow, h, w, c;
    double step_h, step_w;
} job;

/* Four pixels around a point of an axis, and what each counts. */
typedef struct taps {
    int64_t at[TAPS];
    float f[TAPS];
} taps;

/* Keys' kernel at distance d, 0 <= d <= 2. */
static double kernel(double d)
{
    const double a = -0.75;
    return d <= 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
}

static taps taps_of(int64_t i, double step, int64_t n)
{
    taps t;
    double x = step * ((double)i + 0.5) - 0.5, base = floor(x);
    for (int k = 0; k < TAPS; k++) {
        int64_t at = (int64_t)base + k - 1;
        t.at[k] = at < 0 ? 0 : at >= n ? n - 1 : at;
        t.f[k] = (float)kernel(fabs(x - base - (double)(k - 1)));
    }
    return t;
}

/* One pixel, from four rows. */
static void pixel(float *dst, const float *const row[TAPS], const taps *y, const taps *x, int64_t c)
{
    for (int64_t i = 0; i < c; i++) {
        float sum = 0;
        for (int k = 0; k < TAPS; k++) {
            float line = 0;
            for (int j = 0; j < TAPS; j++)
                line += x->f[j] * row[k][x->at[j] * c + i];
            sum += y->f[k] * line;
        }
        dst[i] = sum;
    }
}

/* Rows [begin, end) of n*oh. */
static void rows(void *ctx, int64_t begin, int64_t end, int thread)
{
    const job *b = ctx;
    (void)thread;
    for (int64_t r = begin; r < end; r++) {
        taps y = taps_of(r % b->oh, b->step_h, b->h);
        const float *row[TAPS], *image = b->src + r / b->oh * b->h * b->w * b->c;
        for (int k = 0; k < TAPS; k++)
            row[k] = image + y.at[k] * b->w * b->c;
        for (int64_t i = 0; i < b->ow; i++) {
            taps x = taps_of(i, b->step_w, b->w);
            pixel(b->dst + (r * b->ow + i) * b->c, row, &y, &x, b->c);
        }
    }
}

void zs_bicubic(float *dst, int64_t oh, int64_t ow, const float *src, int64_t n, int64_t h,
                int64_t w, int64_t c, double step_h, double step_w)
{
    job b = {dst, src, oh, ow, h, w, c, step_h, step_w};
    zs_parallel_for(n * oh, 4, rows, &b);
}
