/* SPDX-License-Identifier: MIT */
/* Metrics of features against pytorch-fid, torch-fidelity, ADM's evaluator and scikit-learn, on
 * recorded features. */
#include "metrics/metrics.h"
#include "tests/golden/golden.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char set[] = "metrics";

static zs_tensorfile *open_set(void)
{
    golden_need(set);
    return golden_open(set, "golden.safetensors");
}

/* Doubles of tensor `name`, owned. */
static double *f64(zs_tensorfile *f, const char *name, size_t *n)
{
    zs_error err = {0};
    long i = zs_tensorfile_find(f, name);
    if (i < 0)
        fail_msg("no %s", name);
    *n = (size_t)zs_tensorfile_info(f, (size_t)i)->numel;
    double *v = zs_alloc(*n, sizeof *v);
    assert_non_null(v);
    if (zs_tensorfile_read_raw(f, (size_t)i, v, *n * sizeof *v, &err) < 0)
        fail_msg("%s", err.message);
    return v;
}

static double value(zs_tensorfile *f, const char *name)
{
    size_t n;
    double *v = f64(f, name, &n), r = v[0];
    assert_int_equal(n, 1);
    zs_free(v);
    return r;
}

static void close_to(const char *what, double got, double want, double tolerance)
{
    double e = fabs(got - want) / fabs(want);
    print_message("%-28s %.9g, recorded %.9g: %.1e\n", what, got, want, e);
    if (!(e <= tolerance))
        fail_msg("%s is %.9g, recorded %.9g", what, got, want);
}

static zs_gaussian gaussian_of(const float *x, int64_t n, int64_t dim)
{
    zs_moments m;
    zs_gaussian g;
    zs_error err = {0};
    assert_int_equal(zs_moments_open(&m, dim, &err), 0);
    int64_t half = n / 3; /* in two uneven pieces */
    assert_int_equal(zs_moments_add(&m, x, half, "x", &err), 0);
    assert_int_equal(zs_moments_add(&m, x + half * dim, n - half, "x", &err), 0);
    assert_int_equal(zs_moments_finish(&g, &m, "x", &err), 0);
    zs_moments_close(&m);
    return g;
}

static double frechet(const float *a, int64_t n, const float *b, int64_t m, int64_t dim)
{
    zs_gaussian ga = gaussian_of(a, n, dim), gb = gaussian_of(b, m, dim);
    zs_error err = {0};
    double d = 0;
    assert_int_equal(zs_frechet_distance(&d, &ga, &gb, &err), 0);
    zs_gaussian_close(&ga);
    zs_gaussian_close(&gb);
    return d;
}

static void same_doubles(zs_tensorfile *f, const char *name, const double *got)
{
    size_t n;
    double *want = f64(f, name, &n), largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs(want[i]));
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-9 * largest))
            fail_msg("%s[%zu] is %.12g, recorded %.12g", name, i, got[i], want[i]);
    zs_free(want);
}

static void frechet_distances(void **state)
{
    (void)state;
    zs_tensorfile *f = open_set();
    size_t na, nb, n;
    float *a = golden_f32(f, "feat.fake", &na), *b = golden_f32(f, "feat.real", &nb);
    int64_t rows, *rankdef = golden_i64(f, "fid_rankdef.rows", &n);
    zs_gaussian g = gaussian_of(a, (int64_t)na / 40, 40);
    same_doubles(f, "f64.fid.mu_fake", g.mu);
    same_doubles(f, "f64.fid.sigma_fake", g.sigma);
    zs_gaussian_close(&g);
    double d = frechet(a, (int64_t)na / 40, b, (int64_t)nb / 40, 40);
    close_to("FID, pytorch-fid", d, value(f, "f64.fid.pytorch_fid"), 1e-7);
    close_to("FID, torch-fidelity", d, value(f, "f64.fid.torch_fidelity"), 1e-6);
    close_to("FID, ADM", d, value(f, "f64.fid.adm"), 1e-7);
    rows = rankdef[0]; /* fewer samples than features */
    d = frechet(a, rows, b, rows, 40);
    close_to("FID, singular covariances", d, value(f, "f64.fid_rankdef.pytorch_fid"), 1e-6);
    zs_free(a);
    zs_free(b);
    zs_free(rankdef);
    a = golden_f32(f, "sfid.fake_nhwc", &na);
    b = golden_f32(f, "sfid.real_nhwc", &nb);
    d = frechet(a, (int64_t)na / 28, b, (int64_t)nb / 28, 28);
    close_to("sFID, ADM", d, value(f, "f64.sfid.adm"), 1e-6);
    zs_free(a);
    zs_free(b);
    zs_tensorfile_close(&f);
}

static zs_score score(const float *logits, int64_t n, const int64_t *order, int splits,
                      int64_t size)
{
    int64_t edge[32];
    zs_error err = {0};
    zs_score s;
    for (int i = 0; i <= splits; i++)
        edge[i] = size ? (i * size < n ? i * size : n) : i * n / splits;
    assert_int_equal(zs_inception_score(&s, logits, 50, order, edge, splits, &err), 0);
    return s;
}

static void inception_scores(void **state)
{
    (void)state;
    zs_tensorfile *f = open_set();
    size_t n, m, one;
    float *logits = golden_f32(f, "is.logits", &n);
    int64_t *order = golden_i64(f, "is.permutation", &m),
            *splits = golden_i64(f, "is.splits", &one);
    int64_t rows = (int64_t)n / 50, mine[200];
    zs_numpy_random r;
    zs_score s = score(logits, rows, NULL, (int)splits[0], 0);
    close_to("IS", s.mean, value(f, "f64.is.mean"), 1e-7);
    close_to("IS, deviation", s.std, value(f, "f64.is.std"), 1e-6);
    s = score(logits, rows, order, (int)splits[0], 0);
    close_to("IS, shuffled", s.mean, value(f, "f64.is_shuffled.mean"), 1e-7);
    close_to("IS, shuffled, deviation", s.std, value(f, "f64.is_shuffled.std"), 1e-6);
    s = score(logits, rows, NULL, 4, 60);
    close_to("IS, ADM's splits", s.mean, value(f, "f64.is.adm_split_size_60"), 1e-6);
    zs_numpy_seed(&r, 2020);
    zs_numpy_permutation(mine, 200, &r);
    assert_memory_equal(mine, order, sizeof mine);
    zs_free(logits);
    zs_free(order);
    zs_free(splits);
    zs_tensorfile_close(&f);
}

static void kernel_distances(void **state)
{
    (void)state;
    zs_tensorfile *f = open_set();
    size_t na, nb, ni, n;
    float *a = golden_f32(f, "feat.fake", &na), *b = golden_f32(f, "feat.real", &nb);
    int64_t *ia = golden_i64(f, "kid.indices_fake", &ni),
            *ib = golden_i64(f, "kid.indices_real", &n);
    double *want = f64(f, "f64.kid.per_subset", &n), d = 0, sum = 0, square = 0;
    int64_t p[150];
    zs_numpy_random r;
    zs_error err = {0};
    zs_numpy_seed(&r, 2020);
    for (size_t s = 0; s < n; s++) {
        zs_rows x = {a, ia + s * 50, 50, 40}, y = {b, ib + s * 50, 50, 40};
        zs_numpy_permutation(p, 150, &r);
        assert_memory_equal(p, x.index, 50 * sizeof *p);
        zs_numpy_permutation(p, 130, &r);
        assert_memory_equal(p, y.index, 50 * sizeof *p);
        assert_int_equal(zs_kernel_distance(&d, &x, &y, &err), 0);
        close_to("KID, subset", d, want[s], 1e-4);
        sum += d;
        square += d * d;
    }
    double mean = sum / (double)n, std = sqrt(square / (double)n - mean * mean);
    close_to("KID", mean, value(f, "f64.kid.mean"), 2e-5);
    close_to("KID, deviation", std, value(f, "f64.kid.std"), 2e-5);
    zs_rows x = {a, NULL, 130, 40}, y = {b, NULL, 130, 40};
    assert_int_equal(zs_kernel_distance(&d, &x, &y, &err), 0);
    close_to("KID of all", d, value(f, "f64.kid.full_first_130"), 1e-7);
    zs_free(a);
    zs_free(b);
    zs_free(ia);
    zs_free(ib);
    zs_free(want);
    zs_tensorfile_close(&f);
}

static void precision_recall(void **state)
{
    (void)state;
    zs_tensorfile *f = open_set();
    size_t na, nb, n;
    float *a = golden_f32(f, "feat.fake", &na), *b = golden_f32(f, "feat.real", &nb);
    double ra[150], rb[130], precision = 0, recall = 0;
    zs_error err = {0};
    assert_int_equal(zs_neighbour_radii(ra, a, 150, 40, 3, NULL, &err), 0);
    assert_int_equal(zs_neighbour_radii(rb, b, 130, 40, 3, NULL, &err), 0);
    double *want = f64(f, "f64.prc.radii_fake", &n);
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(ra[i] - want[i]) < 1e-5 * want[i]);
    zs_free(want);
    assert_int_equal(zs_neighbour_coverage(&precision, a, 150, b, rb, 130, 40, NULL, &err), 0);
    assert_int_equal(zs_neighbour_coverage(&recall, b, 130, a, ra, 150, 40, NULL, &err), 0);
    close_to("precision", precision, value(f, "f64.prc.precision"), 1e-7);
    close_to("recall", recall, value(f, "f64.prc.recall"), 1e-7);
    close_to("F score", 2 * precision * recall / (precision + recall), value(f, "f64.prc.f_score"),
             1e-7);
    zs_free(a);
    zs_free(b);
    zs_tensorfile_close(&f);
}

static void rankings(void **state)
{
    (void)state;
    zs_tensorfile *f = open_set();
    size_t n;
    float *s = golden_f32(f, "auroc.score", &n);
    int64_t *l = golden_i64(f, "auroc.label", &n);
    int8_t label[300];
    zs_ranking r;
    zs_error err = {0};
    for (int i = 0; i < 300; i++)
        label[i] = (int8_t)l[i];
    assert_int_equal(zs_ranking_measure(&r, s, label, 300, "scores", &err), 0);
    close_to("AUROC", r.auroc, value(f, "f64.auroc.value"), 1e-12);
    close_to("average precision", r.average_precision, value(f, "f64.auroc.average_precision"),
             1e-12);
    zs_free(s);
    zs_free(l);
    zs_tensorfile_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frechet_distances), cmocka_unit_test(inception_scores),
        cmocka_unit_test(kernel_distances),  cmocka_unit_test(precision_recall),
        cmocka_unit_test(rankings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
