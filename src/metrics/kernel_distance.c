/* SPDX-License-Identifier: MIT */
#include "metrics/kernel_distance.h"

#include "metrics/linalg.h"

static void gather(double *dst, const zs_rows *r)
{
    for (int64_t i = 0; i < r->n; i++) {
        const float *x = r->x + (r->index ? r->index[i] : i) * r->dim;
        for (int64_t j = 0; j < r->dim; j++)
            dst[i * r->dim + j] = (double)x[j];
    }
}

enum { ROWS = 64 };

/* The kernel of every row of a[n,dim] with every row of b[m,dim]. */
typedef struct product {
    const double *a, *b;
    double *g; /* [n,m] */
    int64_t m, dim;
    bool same;   /* a is b: pairs of a row with itself do not count */
    double *sum; /* per row of a */
} product;

static void product_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
    const product *p = ctx;
    (void)thread;
    zs_linalg_nt(end - begin, p->m, p->dim, p->a + begin * p->dim, p->b, p->g + begin * p->m);
    for (int64_t i = begin; i < end; i++) {
        p->sum[i] = 0.0;
        for (int64_t j = 0; j < p->m; j++) {
            double k = p->g[i * p->m + j] / (double)p->dim + 1.0;
            p->sum[i] += p->same && i == j ? 0.0 : k * k * k;
        }
    }
}

/* Sum of the kernel over all pairs; scratch holds n*m + n. */
static double kernel_sum(double *scratch, const double *a, int64_t n, const double *b, int64_t m,
                         int64_t dim)
{
    product p = {a, b, scratch, m, dim, a == b, scratch + n * m};
    double sum = 0.0;
    zs_parallel_for(n, ROWS, product_rows, &p);
    for (int64_t i = 0; i < n; i++)
        sum += p.sum[i];
    return sum;
}

int zs_kernel_distance(double *out, const zs_rows *a, const zs_rows *b, zs_error *err)
{
    int64_t n = a->n, m = b->n, dim = a->dim, most = n > m ? n : m;
    if (n < 2 || m < 2 || dim != b->dim)
        return zs_fail(err, ZS_E_INVALID,
                       "the kernel distance needs two samples at least on both sides, of features "
                       "of one network");
    int status = zs_linalg_open(err);
    if (status < 0)
        return status;
    size_t floats = (size_t)((n + m) * dim + most * most + most);
    double *x = zs_alloc(floats, sizeof *x);
    if (!x)
        return zs_fail_nomem(err, floats * sizeof *x, "the kernel distance; use smaller subsets");
    double *y = x + n * dim, *g = y + m * dim;
    gather(x, a);
    gather(y, b);
    double xx = kernel_sum(g, x, n, x, n, dim), yy = kernel_sum(g, y, m, y, m, dim);
    double xy = kernel_sum(g, x, n, y, m, dim);
    *out = xx / (double)(n * (n - 1)) + yy / (double)(m * (m - 1)) - 2.0 * xy / (double)(n * m);
    zs_free(x);
    return ZS_OK;
}
