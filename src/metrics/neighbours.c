/* SPDX-License-Identifier: MIT */
#include "metrics/neighbours.h"

#include "metrics/linalg.h"

#include <math.h>
#include <string.h>

enum { ROWS = 64, COLS = 512, STRETCH = 1024 }; /* of a block of distances; rows between progress */

typedef struct search {
    const float *x, *y;
    int64_t first, n, m, dim; /* rows first .. n-1 of x against all m of y */
    int k;
    double *radius;       /* of x to be found (k > 0), */
    const double *reach;  /* or of y, given (k == 0) */
    uint8_t *inside;      /* [n of x] */
    double *scratch;      /* per thread */
    size_t scratch_count; /* doubles of one */
} search;

static void convert(double *dst, double *square, const float *x, int64_t rows, int64_t dim)
{
    for (int64_t i = 0; i < rows; i++) {
        square[i] = 0.0;
        for (int64_t j = 0; j < dim; j++) {
            double v = (double)x[i * dim + j];
            dst[i * dim + j] = v;
            square[i] += v * v;
        }
    }
}

/* Keeps the k smallest, ascending. */
static void keep(double *best, int k, double d)
{
    int i = k - 1;
    if (!(d < best[i]))
        return;
    for (; i > 0 && best[i - 1] > d; i--)
        best[i] = best[i - 1];
    best[i] = d;
}

/* Distances d[rows,cols] of rows x0.. of x and y0.. of y, seen as neighbours or as balls. */
static void look(const search *s, double best[][ZS_NEIGHBOURS_MAX], const double *d, int64_t x0,
                 int64_t rows, int64_t y0, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            double v = d[i * cols + j];
            if (s->k == 0)
                s->inside[x0 + i] |= v <= s->reach[y0 + j];
            else if (x0 + i != y0 + j)
                keep(best[i], s->k, v);
        }
}

/* Rows [begin, end) of x counted from s->first; a chunk is one block of rows. */
static void search_rows(void *ctx, int64_t begin, int64_t end, int thread)
{
    const search *s = ctx;
    double best[ROWS][ZS_NEIGHBOURS_MAX], xx[ROWS], yy[COLS];
    double *a = s->scratch + (size_t)thread * s->scratch_count, *b = a + ROWS * s->dim,
           *d = b + COLS * s->dim;
    int64_t x0 = s->first + begin, rows = end - begin;
    for (int i = 0; i < ROWS; i++)
        for (int k = 0; k < s->k; k++)
            best[i][k] = HUGE_VAL;
    convert(a, xx, s->x + x0 * s->dim, rows, s->dim);
    for (int64_t y0 = 0; y0 < s->m; y0 += COLS) {
        int64_t cols = s->m - y0 < COLS ? s->m - y0 : COLS;
        convert(b, yy, s->y + y0 * s->dim, cols, s->dim);
        zs_linalg_nt(rows, cols, s->dim, a, b, d);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < cols; j++)
                d[i * cols + j] = sqrt(fmax(0.0, xx[i] + yy[j] - 2.0 * d[i * cols + j]));
        look(s, best, d, x0, rows, y0, cols);
    }
    for (int64_t i = 0; s->k > 0 && i < rows; i++)
        s->radius[x0 + i] = best[i][s->k - 1];
}

static int run(search *s, const zs_ui *ui, zs_error *err)
{
    int64_t total = s->n;
    int status = zs_linalg_open(err);
    if (status < 0)
        return status;
    s->scratch_count = (size_t)((ROWS + COLS) * s->dim + ROWS * COLS);
    s->scratch = zs_alloc((size_t)zs_threads_count(), s->scratch_count * sizeof(double));
    if (!s->scratch)
        return zs_fail_nomem(err, (size_t)zs_threads_count() * s->scratch_count * sizeof(double),
                             "distances of samples");
    for (s->first = 0; status == ZS_OK && s->first < total; s->first += STRETCH) {
        int64_t rows = total - s->first < STRETCH ? total - s->first : STRETCH;
        zs_parallel_for(rows, ROWS, search_rows, s);
        zs_progress p = {"neighbours", (double)(s->first + rows), (double)total, "samples", NULL};
        status = zs_ui_progress(ui, &p, err);
    }
    zs_free(s->scratch);
    return status;
}

int zs_neighbour_radii(double *radius, const float *x, int64_t n, int64_t dim, int k,
                       const zs_ui *ui, zs_error *err)
{
    search s = {.x = x, .y = x, .n = n, .m = n, .dim = dim, .k = k, .radius = radius};
    if (k < 1 || k > ZS_NEIGHBOURS_MAX || k >= n)
        return zs_fail(err, ZS_E_INVALID,
                       "the %d-th neighbour needs more than %d samples, and there are %lld", k, k,
                       (long long)n);
    return run(&s, ui, err);
}

int zs_neighbour_coverage(double *share, const float *x, int64_t n, const float *y,
                          const double *radius, int64_t m, int64_t dim, const zs_ui *ui,
                          zs_error *err)
{
    search s = {.x = x, .y = y, .n = n, .m = m, .dim = dim, .reach = radius};
    int64_t count = 0;
    s.inside = zs_calloc((size_t)n, 1);
    int status = s.inside ? run(&s, ui, err) : zs_fail_nomem(err, (size_t)n, "distances");
    for (int64_t i = 0; status == ZS_OK && i < n; i++)
        count += s.inside[i];
    zs_free(s.inside);
    *share = n ? (double)count / (double)n : 0.0;
    return status;
}
