/* SPDX-License-Identifier: MIT */
#include "metrics/perceptual.h"

#include <math.h>

static double scale(const float *x, int64_t c)
{
    double sum = 0.0;
    for (int64_t i = 0; i < c; i++)
        sum += (double)x[i] * (double)x[i];
    return 1.0 / (sqrt(sum) + 1e-10);
}

double zs_lpips_layer(const float *a, const float *b, int64_t pixels, int64_t c, const float *lin)
{
    double sum = 0.0;
    for (int64_t p = 0; p < pixels; p++, a += c, b += c) {
        double sa = scale(a, c), sb = scale(b, c);
        for (int64_t i = 0; i < c; i++) {
            double d = (double)a[i] * sa - (double)b[i] * sb;
            sum += (double)lin[i] * d * d;
        }
    }
    return sum / (double)pixels;
}
