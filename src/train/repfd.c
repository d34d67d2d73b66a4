/* SPDX-License-Identifier: MIT */
#include "train/repfd.h"

#include <math.h>
#include <string.h>

void zs_moments_free(zs_moments *m)
{
    zs_free(m->mean);
    zs_free(m->cov);
    *m = (zs_moments){0};
}

static void add_row(zs_moments *m, const float *z, double *centred)
{
    for (int64_t i = 0; i < m->dim; i++)
        centred[i] = (double)z[i] - m->mean[i];
    for (int64_t i = 0; i < m->dim; i++)
        for (int64_t j = 0; j <= i; j++)
            m->cov[i * m->dim + j] += centred[i] * centred[j];
}

int zs_moments_of(zs_moments *out, const float *z, int64_t n, int64_t dim, zs_error *err)
{
    double *centred = zs_alloc((size_t)dim, sizeof *centred);
    *out = (zs_moments){.dim = dim,
                        .mean = zs_calloc((size_t)dim, sizeof(double)),
                        .cov = zs_calloc((size_t)dim, (size_t)dim * sizeof(double))};
    if (!centred || !out->mean || !out->cov) {
        zs_free(centred);
        zs_moments_free(out);
        return zs_fail_nomem(err, (unsigned long long)(dim * dim) * 8, "a covariance");
    }
    for (int64_t k = 0; k < n; k++)
        for (int64_t i = 0; i < dim; i++)
            out->mean[i] += (double)z[k * dim + i] / (double)n;
    for (int64_t k = 0; k < n; k++)
        add_row(out, z + k * dim, centred);
    for (int64_t i = 0; i < dim; i++)
        for (int64_t j = 0; j <= i; j++)
            out->cov[j * dim + i] = out->cov[i * dim + j] /= (double)(n > 1 ? n - 1 : 1);
    zs_free(centred);
    return ZS_OK;
}

/* Rotates rows p and q of a symmetric matrix and of v, so that a[p][q] becomes 0. */
static void rotate(double *a, double *v, int64_t n, int64_t p, int64_t q)
{
    double theta = 0.5 * (a[q * n + q] - a[p * n + p]) / a[p * n + q];
    double t = (theta < 0 ? -1.0 : 1.0) / (fabs(theta) + sqrt(theta * theta + 1.0));
    double c = 1.0 / sqrt(t * t + 1.0), s = t * c;
    double pp = a[p * n + p] - t * a[p * n + q], qq = a[q * n + q] + t * a[p * n + q];
    for (int64_t i = 0; i < n; i++) {
        double x = a[p * n + i], y = a[q * n + i], vx = v[p * n + i], vy = v[q * n + i];
        a[p * n + i] = c * x - s * y;
        a[q * n + i] = s * x + c * y;
        v[p * n + i] = c * vx - s * vy;
        v[q * n + i] = s * vx + c * vy;
    }
    for (int64_t i = 0; i < n; i++) {
        a[i * n + p] = a[p * n + i];
        a[i * n + q] = a[q * n + i];
    }
    a[p * n + p] = pp;
    a[q * n + q] = qq;
    a[p * n + q] = a[q * n + p] = 0.0;
}

/* Cyclic Jacobi: the diagonal of a becomes its eigenvalues, the rows of v the eigenvectors. */
static void eigen(double *a, double *v, int64_t n)
{
    double scale = 0.0;
    for (int64_t i = 0; i < n; i++) {
        scale += a[i * n + i] * a[i * n + i];
        for (int64_t j = 0; j < n; j++)
            v[i * n + j] = i == j ? 1.0 : 0.0;
    }
    for (int sweep = 0; sweep < 30; sweep++) {
        double off = 0.0;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++) {
                off += a[p * n + q] * a[p * n + q];
                if (fabs(a[p * n + q]) > 1e-14 * sqrt(scale / (double)n))
                    rotate(a, v, n, p, q);
            }
        if (off <= 1e-22 * scale)
            return;
    }
}

/* out = sum_k f(w_k) v_k v_k^T with f the root of what is not negative. */
static void root(double *out, const double *w, const double *v, int64_t n)
{
    memset(out, 0, (size_t)(n * n) * sizeof *out);
    for (int64_t k = 0; k < n; k++) {
        double r = sqrt(fmax(w[k * n + k], 0.0));
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j < n; j++)
                out[i * n + j] += r * v[k * n + i] * v[k * n + j];
    }
}

static void multiply(double *out, const double *a, const double *b, int64_t n)
{
    memset(out, 0, (size_t)(n * n) * sizeof *out);
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < n; k++)
            for (int64_t j = 0; j < n; j++)
                out[i * n + j] += a[i * n + k] * b[k * n + j];
}

static double trace_root(const zs_moments *a, const zs_moments *b, double *work)
{
    int64_t n = a->dim;
    double *m = work, *v = work + n * n, *half = work + 2 * n * n, sum = 0.0;
    memcpy(m, a->cov, (size_t)(n * n) * sizeof *m);
    eigen(m, v, n);
    root(half, m, v, n);
    multiply(v, half, b->cov, n);
    multiply(m, v, half, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < i; j++)
            m[i * n + j] = m[j * n + i] = 0.5 * (m[i * n + j] + m[j * n + i]);
    eigen(m, v, n);
    for (int64_t i = 0; i < n; i++)
        sum += sqrt(fmax(m[i * n + i], 0.0));
    return sum;
}

int zs_moments_distance(double *out, const zs_moments *a, const zs_moments *b, zs_error *err)
{
    int64_t n = a->dim;
    double *work = zs_alloc(3 * (size_t)n, (size_t)n * sizeof *work), d = 0.0;
    if (!work)
        return zs_fail_nomem(err, (unsigned long long)(n * n) * 24, "a distance of codes");
    for (int64_t i = 0; i < n; i++) {
        double m = a->mean[i] - b->mean[i];
        d += m * m + a->cov[i * n + i] + b->cov[i * n + i];
    }
    *out = d - 2.0 * trace_root(a, b, work);
    zs_free(work);
    return ZS_OK;
}
