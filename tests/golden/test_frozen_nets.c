/* SPDX-License-Identifier: MIT */
/* The networks that metrics look through: Inception's blocks and the whole of it, AlexNet and
 * LPIPS, against pytorch-fid, torch-fidelity and the LPIPS repository. */
#include "metrics/metrics.h"
#include "models/models.h"
#include "tests/golden/golden.h"
#include "tests/unit/must.h"

#include "io/io.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char set[] = "metrics";

static zs_tensorfile *open_set(void)
{
    golden_need(set);
    return golden_open(set, "golden.safetensors");
}

/* The path of a file of the set, borrowed. */
static const char *path_of(const char *file)
{
    static char path[512];
    zs_tensorfile *f = golden_open(set, file);
    (void)snprintf(path, sizeof path, "%s", zs_tensorfile_path(f));
    zs_tensorfile_close(&f);
    return path;
}

/* ---- blocks ---- */

static const char *const block_name[] = {"A", "B", "C", "D", "E_1", "E_2"};
static int current;

static void build_block(zs_frozen_build *b, zs_shape s)
{
    zs_tid x = zs_graph_input(b->nn.g, "x", s);
    zs_nn_push(&b->nn, "%s", block_name[current]);
    zs_graph_output(b->nn.g, "y", zs_inception_block_build(b, (zs_inception_block)current, x));
    zs_nn_pop(&b->nn);
}

static void blocks(void **state)
{
    static const char *const backend[] = {"cpu-ref", "cpu"};
    (void)state;
    zs_tensorfile *f = open_set();
    const zs_frozen_kind kind = {"a block", 1e-3f, {4, {2, 9, 10, 8}}, build_block};
    for (current = 0; current < 12; current++) {
        int which = current % 6;
        char name[40];
        zs_shape xs, ys, s;
        zs_error err = {0};
        zs_frozen *net = NULL;
        (void)snprintf(name, sizeof name, "block.%s.in", block_name[which]);
        float *x = golden_nhwc(f, name, &xs);
        (void)snprintf(name, sizeof name, "block.%s.out", block_name[which]);
        float *y = golden_nhwc(f, name, &ys);
        int pass = current / 6;
        current = which;
        must(zs_frozen_open(&net, path_of("inception_blocks.pth"), &kind, backend[pass], &err),
             &err);
        must(zs_frozen_run(net, x, xs, &err), &err);
        const float *got = zs_frozen_output(net, "y", &s);
        assert_true(zs_shape_equal(&s, &ys));
        golden_near(name, "", got, y, (size_t)zs_shape_numel(&ys), 2e-6);
        current = which + 6 * pass;
        zs_frozen_close(&net);
        zs_free(x);
        zs_free(y);
    }
    zs_tensorfile_close(&f);
}

/* ---- the whole network, with weights from a formula (config.json of the set) ---- */

static double uniform(uint64_t hash, uint64_t i)
{
    uint64_t x = hash + (i + 1) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (double)(x >> 40) / 16777216.0;
}

static uint64_t fnv1a(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3u;
    return h;
}

static float *formula(const char *key, const int64_t *shape, int64_t n)
{
    char name[200];
    double scale = 0.5, offset = 0.75; /* bn.weight, bn.running_var */
    (void)snprintf(name, sizeof name, "inc:%.150s", key);
    uint64_t hash = fnv1a(name);
    float *v = zs_alloc((size_t)n, sizeof *v);
    assert_non_null(v);
    if (zs_str_ends(key, ".conv.weight"))
        scale = 2 * (offset = sqrt(6.0 / (double)(shape[1] * shape[2] * shape[3]))), offset *= -1;
    else if (strcmp(key, "fc.weight") == 0)
        scale = 2 * (offset = sqrt(3.0 / 2048)), offset *= -1;
    else if (strcmp(key, "fc.bias") == 0)
        scale = 0.2, offset = -0.1;
    else if (zs_str_ends(key, ".bn.bias") || zs_str_ends(key, ".running_mean"))
        scale = 0.4, offset = -0.2;
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)(uniform(hash, (uint64_t)i) * scale + offset);
    return v;
}

enum { KEYS = 600 };

/* "64x3x7x7" */
static int parse_shape(int64_t *shape, const char *s, int64_t *n)
{
    int nd = 0, used = 0;
    long long v;
    for (*n = 1; sscanf(s, "%lld%n", &v, &used) == 1; s += used + (s[used] == 'x')) {
        shape[nd++] = v;
        *n *= v;
    }
    return nd;
}

/* A file with the names and shapes of the official one; false when the list of keys is missing. */
static bool write_inception(const char *path)
{
    static zs_tensorout t[KEYS];
    static char name[KEYS][80];
    char shape[64], line[200];
    zs_error err = {0};
    size_t n = 0;
    FILE *k = fopen(ZSEM_SOURCE_DIR "/tests/golden/data/keys/inception_fid.tsv", "r");
    if (!k)
        return false;
    while (fgets(line, sizeof line, k)) {
        int64_t numel = 0;
        if (sscanf(line, "%79s %63s", name[n], shape) != 2)
            continue; /* num_batches_tracked */
        t[n] = (zs_tensorout){.name = name[n], .dtype = ZS_F32};
        t[n].nd = parse_shape(t[n].shape, shape, &numel);
        t[n].data = formula(name[n], t[n].shape, numel);
        n++;
    }
    fclose(k);
    must(zs_safetensors_write(path, t, n, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
    return true;
}

/* A recorded image as values 0..255. */
static float *image_of(zs_tensorfile *f, const char *name, zs_shape *s, float scale)
{
    float *x = golden_nhwc(f, name, s);
    for (int64_t i = 0; i < zs_shape_numel(s); i++)
        x[i] *= scale;
    return x;
}

/* The square of x from pixel (at,at) on against a recorded one; unit: recorded in [0,1]. */
static void patch_agrees(zs_tensorfile *f, const char *name, const float *x, int64_t at, bool unit)
{
    zs_shape s;
    float *want = golden_nhwc(f, name, &s), *got = zs_alloc((size_t)zs_shape_numel(&s), 4);
    assert_non_null(got);
    for (int64_t i = 0; i < s.d[1]; i++)
        memcpy(got + i * s.d[2] * 3, x + ((at + i) * ZS_INCEPTION_SIZE + at) * 3,
               (size_t)s.d[2] * 3 * sizeof *got);
    for (int64_t i = 0; i < zs_shape_numel(&s) && unit; i++)
        got[i] = (got[i] + 1) / 2;
    golden_near(name, "", got, want, (size_t)zs_shape_numel(&s), 2e-6);
    zs_free(want);
    zs_free(got);
}

/* Spatial means of an output, or the output itself, against a recorded vector. */
static void means_agree(zs_tensorfile *f, const char *name, zs_frozen *net, const char *output)
{
    size_t n;
    zs_shape s;
    float *want = golden_f32(f, name, &n), mean[2048];
    const float *y = zs_frozen_output(net, output, &s);
    int64_t c = zs_shape_last(&s), rows = zs_shape_rows(&s);
    assert_true(c == (int64_t)n && n <= 2048);
    for (int64_t j = 0; j < c; j++) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++)
            sum += (double)y[i * c + j];
        mean[j] = (float)(sum / (double)rows);
    }
    golden_near(name, "", mean, want, n, 1e-5);
    zs_free(want);
}

static void run_on(zs_frozen *net, float *x, const float *im, zs_shape s, zs_inception_resize how)
{
    zs_error err = {0};
    zs_inception_input(x, im, (int)s.d[1], (int)s.d[2], how);
    must(zs_frozen_run(net, x, zs_shape4(1, 299, 299, 3), &err), &err);
}

static void whole_inception(void **state)
{
    (void)state;
    zs_tensorfile *f = open_set();
    zs_frozen *net = NULL;
    zs_error err = {0};
    char path[64];
    (void)snprintf(path, sizeof path, "/tmp/zsem-inception-%ld.safetensors", (long)getpid());
    assert_true(write_inception(path));
    float *x = zs_alloc(299 * 299 * 3, sizeof *x);
    zs_shape s, t;
    float *im = image_of(f, "inception.image", &s, 255);
    float *u8 = image_of(f, "tf_inception.image_u8", &t, 1);
    must(zs_inception_open(&net, path, NULL, &err), &err);
    (void)remove(path);
    run_on(net, x, im, s, ZS_INCEPTION_PYTORCH);
    patch_agrees(f, "inception.resized_patch", x, 0, true);
    means_agree(f, "inception.block0_mean", net, "block0");
    means_agree(f, "inception.block1_mean", net, "block1");
    means_agree(f, "inception.block2_mean", net, "block2");
    means_agree(f, "inception.pool3", net, "pool3");
    run_on(net, x, u8, t, ZS_INCEPTION_TF);
    patch_agrees(f, "tf_inception.resized_patch", x, 0, false);
    patch_agrees(f, "tf_inception.resized_patch_end", x, 299 - 8, false);
    means_agree(f, "tf_inception.64", net, "block0");
    means_agree(f, "tf_inception.192", net, "block1");
    means_agree(f, "tf_inception.768", net, "block2");
    means_agree(f, "tf_inception.2048", net, "pool3");
    means_agree(f, "tf_inception.logits_unbiased", net, "logits");
    zs_frozen_close(&net);
    zs_free(im);
    zs_free(u8);
    zs_free(x);
    zs_tensorfile_close(&f);
}

/* ---- LPIPS ---- */

static void lpips(void **state)
{
    (void)state;
    if (!golden_has_file(set, "alexnet_features.pth")) {
        print_message("SKIPPED: alexnet_features.pth is not part of the committed selection\n");
        skip();
    }
    zs_tensorfile *f = open_set();
    char trunk[512];
    zs_lpips *l = NULL;
    zs_error err = {0};
    zs_shape s;
    size_t n;
    double d[2];
    (void)snprintf(trunk, sizeof trunk, "%s", path_of("alexnet_features.pth"));
    must(zs_lpips_open(&l, trunk, path_of("lpips_alex_v0.1.pth"), NULL, &err), &err);
    float *a = golden_nhwc(f, "lpips.a", &s), *b = golden_nhwc(f, "lpips.b", &s);
    float *want = golden_f32(f, "lpips.value", &n);
    must(zs_lpips_distance(d, l, a, b, s, &err), &err);
    const float got[2] = {(float)d[0], (float)d[1]};
    golden_near("lpips.value", "", got, want, 2, 1e-5);
    must(zs_lpips_distance(d, l, a, a, s, &err), &err);
    assert_true(d[0] == 0 && d[1] == 0);
    assert_int_equal(zs_lpips_distance(d, l, a, b, zs_shape4(1, 30, 40, 3), &err), ZS_E_INVALID);
    must(zs_lpips_distance(d, l, a, b, zs_shape4(1, 31, 33, 3), &(zs_error){0}), &err);
    zs_free(a);
    zs_free(b);
    zs_free(want);
    zs_lpips_close(&l);
    zs_tensorfile_close(&f);
}

/* ---- what is not such a file ---- */

static void refused(void **state)
{
    (void)state;
    zs_frozen *net = NULL;
    zs_error err = {0};
    golden_need(set);
    assert_int_equal(zs_inception_open(&net, path_of("inception_blocks.pth"), NULL, &err),
                     ZS_E_FORMAT);
    assert_null(net);
    assert_non_null(strstr(err.message, "inception_blocks.pth: is not the InceptionV3"));
    assert_non_null(strstr(err.message, "Conv2d_1a_3x3.conv.weight is missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks),
        cmocka_unit_test(whole_inception),
        cmocka_unit_test(lpips),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
