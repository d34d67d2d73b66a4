/* SPDX-License-Identifier: MIT */
#include "metrics/gaussian.h"

#include "metrics/linalg.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 256 }; /* samples of a rank update */

int zs_gaussian_alloc(zs_gaussian *g, int64_t dim, zs_error *err)
{
    *g = (zs_gaussian){.dim = dim};
    g->mu = zs_calloc((size_t)dim, sizeof *g->mu);
    g->sigma = zs_calloc((size_t)dim, (size_t)dim * sizeof *g->sigma);
    if (g->mu && g->sigma)
        return ZS_OK;
    zs_gaussian_close(g);
    return zs_fail_nomem(err, (size_t)(dim * dim) * sizeof *g->sigma, "a covariance");
}

void zs_gaussian_close(zs_gaussian *g)
{
    zs_free(g->mu);
    zs_free(g->sigma);
    *g = (zs_gaussian){0};
}

int zs_moments_open(zs_moments *m, int64_t dim, zs_error *err)
{
    size_t d = (size_t)dim;
    *m = (zs_moments){.dim = dim};
    int status = zs_linalg_open(err);
    if (status < 0)
        return status;
    m->shift = zs_calloc(d, sizeof *m->shift);
    m->sum = zs_calloc(d, sizeof *m->sum);
    m->gram = zs_calloc(d, d * sizeof *m->gram);
    m->block = zs_alloc(d, BLOCK * sizeof *m->block);
    if (m->shift && m->sum && m->gram && m->block)
        return ZS_OK;
    zs_moments_close(m);
    return zs_fail_nomem(err, d * d * sizeof *m->gram, "a covariance");
}

void zs_moments_close(zs_moments *m)
{
    zs_free(m->shift);
    zs_free(m->sum);
    zs_free(m->gram);
    zs_free(m->block);
    *m = (zs_moments){0};
}

int zs_moments_add(zs_moments *m, const float *x, int64_t n, const char *label, zs_error *err)
{
    for (int64_t i = 0; i < n * m->dim; i++)
        if (!isfinite(x[i]))
            return zs_fail(err, ZS_E_NUMERIC,
                           "%s: feature %lld of sample %lld is not a finite number; the samples or "
                           "the network are damaged",
                           label, (long long)(i % m->dim), (long long)(m->n + i / m->dim));
    for (int64_t j = 0; m->n == 0 && n > 0 && j < m->dim; j++)
        m->shift[j] = (double)x[j];
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t rows = n - i < BLOCK ? n - i : BLOCK;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < m->dim; j++) {
                double v = (double)x[(i + r) * m->dim + j] - m->shift[j];
                m->block[r * m->dim + j] = v;
                m->sum[j] += v;
            }
        zs_linalg_add_gram(rows, m->dim, m->block, m->gram);
        m->n += rows;
    }
    return ZS_OK;
}

int zs_moments_finish(zs_gaussian *g, const zs_moments *m, const char *label, zs_error *err)
{
    if (m->n < 2)
        return zs_fail(err, ZS_E_INVALID,
                       "%s: a covariance needs at least two samples, and there %s %lld", label,
                       m->n == 1 ? "is" : "are", (long long)m->n);
    int status = zs_gaussian_alloc(g, m->dim, err);
    if (status < 0)
        return status;
    double n = (double)m->n;
    g->n = m->n;
    for (int64_t i = 0; i < m->dim; i++) {
        g->mu[i] = m->shift[i] + m->sum[i] / n;
        for (int64_t j = 0; j <= i; j++) {
            double c = (m->gram[i * m->dim + j] - m->sum[i] * m->sum[j] / n) / (n - 1.0);
            g->sigma[i * m->dim + j] = g->sigma[j * m->dim + i] = c;
        }
    }
    return ZS_OK;
}

static double trace(const zs_gaussian *g)
{
    double t = 0.0;
    for (int64_t i = 0; i < g->dim; i++)
        t += g->sigma[i * g->dim + i];
    return t;
}

/* tr((AB)^1/2) from three n x n matrices of scratch and w[n]: with A = V^T diag(w) V, the
 * eigenvalues of diag(w)^1/2 V B V^T diag(w)^1/2. */
static int trace_root(double *out, const zs_gaussian *a, const zs_gaussian *b, double *w, double *v,
                      double *t, double *m, zs_error *err)
{
    int64_t n = a->dim;
    memcpy(v, a->sigma, (size_t)(n * n) * sizeof *v);
    int status = zs_linalg_eigen(w, v, n, true, err);
    if (status < 0)
        return status;
    for (int64_t i = 0; i < n; i++) {
        double r = w[i] > 0.0 ? sqrt(w[i]) : 0.0;
        for (int64_t j = 0; j < n; j++)
            v[i * n + j] *= r;
    }
    zs_linalg_nn(n, n, n, v, b->sigma, t);
    zs_linalg_nt(n, n, n, t, v, m);
    status = zs_linalg_eigen(w, m, n, false, err);
    *out = 0.0;
    for (int64_t i = 0; status == ZS_OK && i < n; i++)
        *out += w[i] > 0.0 ? sqrt(w[i]) : 0.0;
    return status;
}

int zs_frechet_distance(double *out, const zs_gaussian *a, const zs_gaussian *b, zs_error *err)
{
    size_t n = (size_t)a->dim;
    double root = 0.0, mean = 0.0;
    if (a->dim != b->dim)
        return zs_fail(err, ZS_E_INVALID,
                       "statistics of %lld and of %lld features cannot be compared; both must come "
                       "from the same network",
                       (long long)a->dim, (long long)b->dim);
    int status = zs_linalg_open(err);
    if (status < 0)
        return status;
    double *buf = zs_alloc(3 * n + 1, n * sizeof *buf);
    if (!buf)
        return zs_fail_nomem(err, 3 * n * n * sizeof *buf, "a matrix square root");
    status = trace_root(&root, a, b, buf, buf + n, buf + n + n * n, buf + n + 2 * n * n, err);
    zs_free(buf);
    if (status < 0)
        return status;
    for (size_t i = 0; i < n; i++)
        mean += (a->mu[i] - b->mu[i]) * (a->mu[i] - b->mu[i]);
    double d = mean + trace(a) + trace(b) - 2.0 * root;
    *out = d > 0.0 ? d : 0.0; /* equal ones leave rounding of either sign */
    if (!isfinite(d))
        return zs_fail(err, ZS_E_NUMERIC,
                       "the Frechet distance is not finite: the statistics hold "
                       "numbers that are not finite");
    return ZS_OK;
}
