/* SPDX-License-Identifier: MIT */
#include "metrics/image_distance.h"

#include <math.h>

enum { WINDOW = 11, HALF = WINDOW / 2 };

double zs_metric_mse(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return n ? sum / (double)n : 0.0;
}

double zs_metric_psnr(double mse)
{
    return -10.0 * log10(mse);
}

static void gaussian(double g[WINDOW])
{
    double sum = 0.0;
    for (int i = 0; i < WINDOW; i++) {
        g[i] = exp(-(double)((i - HALF) * (i - HALF)) / (2.0 * 1.5 * 1.5));
        sum += g[i];
    }
    for (int i = 0; i < WINDOW; i++)
        g[i] /= sum;
}

/* dst = src convolved with g along both axes, zero outside; tmp and dst hold h*w. */
static void blur(double *dst, double *tmp, const double *src, int h, int w, const double *g)
{
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double s = 0.0;
            for (int k = -HALF; k <= HALF; k++)
                if (x + k >= 0 && x + k < w)
                    s += g[k + HALF] * src[y * w + x + k];
            tmp[y * w + x] = s;
        }
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++) {
            double s = 0.0;
            for (int k = -HALF; k <= HALF; k++)
                if (y + k >= 0 && y + k < h)
                    s += g[k + HALF] * tmp[(y + k) * w + x];
            dst[y * w + x] = s;
        }
}

/* Moments of one channel, each an image of n = h*w values. */
typedef struct moments {
    double *src, *tmp, *mu_a, *mu_b, *aa, *bb, *ab;
} moments;

static double similarity(const moments *m, size_t n)
{
    const double c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        double ma = m->mu_a[i], mb = m->mu_b[i];
        double va = m->aa[i] - ma * ma, vb = m->bb[i] - mb * mb, cov = m->ab[i] - ma * mb;
        sum +=
            (2.0 * ma * mb + c1) * (2.0 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
    }
    return sum;
}

static void blurred_product(double *dst, const moments *m, const float *a, const float *b, int h,
                            int w, int c, const double *g)
{
    for (size_t i = 0; i < (size_t)h * (size_t)w; i++)
        m->src[i] = (double)a[i * (size_t)c] * (b ? (double)b[i * (size_t)c] : 1.0);
    blur(dst, m->tmp, m->src, h, w, g);
}

int zs_metric_ssim(double *out, const float *a, const float *b, int h, int w, int c, zs_error *err)
{
    size_t n = (size_t)h * (size_t)w;
    double *buf = zs_alloc(n * 7, sizeof *buf), g[WINDOW], sum = 0.0;
    if (!buf)
        return zs_fail_nomem(err, n * 7 * sizeof *buf, "the structural similarity");
    moments m = {buf, buf + n, buf + 2 * n, buf + 3 * n, buf + 4 * n, buf + 5 * n, buf + 6 * n};
    gaussian(g);
    for (int k = 0; k < c; k++) {
        blurred_product(m.mu_a, &m, a + k, NULL, h, w, c, g);
        blurred_product(m.mu_b, &m, b + k, NULL, h, w, c, g);
        blurred_product(m.aa, &m, a + k, a + k, h, w, c, g);
        blurred_product(m.bb, &m, b + k, b + k, h, w, c, g);
        blurred_product(m.ab, &m, a + k, b + k, h, w, c, g);
        sum += similarity(&m, n);
    }
    zs_free(buf);
    *out = sum / ((double)n * (double)c);
    return ZS_OK;
}
