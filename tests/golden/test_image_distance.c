/* SPDX-License-Identifier: MIT */
/* MSE, PSNR and SSIM against the authors' ssim.py. */
#include "io/io.h"
#include "metrics/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { N = 3, C = 3, H = 40, W = 36, E = C * H * W };

static void read_tensor(zs_tensorfile *f, const char *name, float *dst, size_t n)
{
    zs_error err = {0};
    long i = zs_tensorfile_find(f, name);
    assert_true(i >= 0);
    assert_int_equal(zs_tensorfile_read_f32(f, (size_t)i, dst, n, &err), 0);
}

static void to_nhwc(float *dst, const float *src)
{
    for (int c = 0; c < C; c++)
        for (int p = 0; p < H * W; p++)
            dst[p * C + c] = src[c * H * W + p];
}

static void matches_the_authors(void **state)
{
    (void)state;
    static float a[N * E], b[N * E], x[E], y[E];
    float ssim[N], mse[N], psnr[N];
    zs_error err = {0};
    zs_tensorfile *f = NULL;
    const char *path = ZSEM_SOURCE_DIR "/tests/golden/data/metrics/image_distance.safetensors";
    assert_int_equal(zs_tensorfile_open(&f, path, &err), 0);
    read_tensor(f, "img.a", a, N * E);
    read_tensor(f, "img.b", b, N * E);
    read_tensor(f, "img.ssim", ssim, N);
    read_tensor(f, "img.mse", mse, N);
    read_tensor(f, "img.psnr", psnr, N);
    zs_tensorfile_close(&f);
    for (int i = 0; i < N; i++) {
        double s = 0.0, m = zs_metric_mse(a + i * E, b + i * E, E);
        to_nhwc(x, a + i * E);
        to_nhwc(y, b + i * E);
        assert_int_equal(zs_metric_ssim(&s, x, y, H, W, C, &err), 0);
        /* theirs is f32 throughout: a few 1e-6 on variances that nearly cancel */
        assert_true(fabs(s - (double)ssim[i]) < 2e-5);
        assert_true(fabs(m - (double)mse[i]) < 1e-6);
        assert_true(fabs(zs_metric_psnr(m) - (double)psnr[i]) < 1e-3);
    }
}

static void equal_images(void **state)
{
    (void)state;
    static const float x[16] = {0.5f};
    double s = 0.0;
    zs_error err = {0};
    assert_int_equal(zs_metric_ssim(&s, x, x, 4, 4, 1, &err), 0);
    assert_true(fabs(s - 1.0) < 1e-12);
    assert_true(isinf(zs_metric_psnr(zs_metric_mse(x, x, 16))));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_the_authors),
        cmocka_unit_test(equal_images),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
