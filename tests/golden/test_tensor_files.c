/* SPDX-License-Identifier: MIT */
/* The authors' own files: what is in them, and numbers read from them by independent means. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/golden/golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* True when the file is there; says so when not. */
static bool have(const char *set, const char *file)
{
    if (golden_has_file(set, file))
        return true;
    print_message("SKIPPED: no golden file %s/%s\n", set, file);
    return false;
}

static void read_everything(zs_tensorfile *f)
{
    for (size_t i = 0; i < zs_tensorfile_count(f); i++) {
        const zs_tensorinfo *t = zs_tensorfile_info(f, i);
        zs_error err = {0};
        size_t n = (size_t)t->numel;
        float *v = zs_alloc(n, sizeof *v);
        assert_non_null(v);
        if (zs_tensorfile_read_f32(f, i, v, n, &err) < 0)
            fail_msg("%s", err.message);
        zs_free(v);
        assert_int_equal(zs_tensorfile_find(f, t->name), (long)i);
    }
}

static void test_contents(void **state)
{
    (void)state;
    static const struct {
        const char *set, *file, *format;
        size_t count;
        const char *tensor; /* one that it has */
    } files[] = {
        {"ddpm-tiny32", "last.ckpt", "torch zip", 552, "state_dict.ema_model.out.2.bias"},
        {"diffae-tiny32", "last.ckpt", "torch zip", 857,
         "state_dict.ema_model.encoder.out.3.weight"},
        {"diffae-tiny32", "latent.pkl", "torch zip", 3, "conds_std"},
        {"diffae-tiny32", "cls.ckpt", "torch zip", 6, "state_dict.classifier.weight"},
        {"metrics", "inception_blocks.pth", "torch legacy", 270, NULL},
        {"metrics", "alexnet_features.pth", "torch legacy", 10, NULL},
        {"metrics", "lpips_alex_v0.1.pth", "torch legacy", 5, "lin4.model.1.weight"},
        {"rcg-adm", "checkpoint-last.pth", "torch zip", 296, NULL},
        {"rcg-dit", "checkpoint-last.pth", "torch zip", 176, NULL},
        {"rcg-ldm", "checkpoint-last.pth", "torch zip", 688, NULL},
        {"rcg-mage", "checkpoint-last.pth", "torch zip", 204, NULL},
        {"rcg-mage", "vqgan.ckpt", "torch zip", 78, NULL},
        {"rcg-mocov3", "moco.pth.tar", "torch zip", 128, NULL},
        {"rcg-rdm", "classcond.pth", "torch zip", 247, NULL},
        {"rcg-vits", "dino.pth", "torch zip", 75, NULL},
        {"rcg-vqf8", "last.ckpt", "torch zip", 215, NULL},
    };
    for (size_t i = 0; i < COUNT(files); i++) {
        if (!have(files[i].set, files[i].file))
            continue;
        zs_tensorfile *f = golden_open(files[i].set, files[i].file);
        assert_string_equal(zs_tensorfile_format(f), files[i].format);
        assert_int_equal(zs_tensorfile_count(f), files[i].count);
        if (files[i].tensor && zs_tensorfile_find(f, files[i].tensor) < 0)
            fail_msg("%s is not in %s/%s", files[i].tensor, files[i].set, files[i].file);
        read_everything(f);
        zs_tensorfile_close(&f);
    }
}

static void expect_ends(zs_tensorfile *f, const char *name, size_t want_n, float first, float last)
{
    size_t n = 0;
    float *v = golden_f32(f, name, &n);
    assert_int_equal(n, want_n);
    assert_true(v[0] == first && v[n - 1] == last);
    zs_free(v);
}

/* Numbers unpacked by hand from the archive and from behind the legacy pickles. */
static void test_values(void **state)
{
    (void)state;
    if (have("diffae-tiny32", "latent.pkl")) {
        zs_tensorfile *f = golden_open("diffae-tiny32", "latent.pkl");
        expect_ends(f, "conds", 3200, 2.24981427192688f, -0.07148880511522293f);
        expect_ends(f, "conds_mean", 64, 0.04876653477549553f, -0.135234996676445f);
        expect_ends(f, "conds_std", 64, 1.1947088241577148f, 0.6845249533653259f);
        zs_tensorfile_close(&f);
    }
    if (have("metrics", "lpips_alex_v0.1.pth")) {
        zs_tensorfile *f = golden_open("metrics", "lpips_alex_v0.1.pth");
        expect_ends(f, "lin0.model.1.weight", 64, 3.7879954106756486e-06f, 0.0f);
        expect_ends(f, "lin1.model.1.weight", 192, 0.0f, 0.6362459659576416f);
        expect_ends(f, "lin2.model.1.weight", 384, 0.00010840105096576735f, 0.07086532562971115f);
        zs_tensorfile_close(&f);
    }
}

/* Every parameter that has a recorded gradient is in the checkpoint, with the same shape. */
static void test_names_and_shapes(void **state)
{
    (void)state;
    if (!have("diffae-tiny32", "last.ckpt") || !have("diffae-tiny32", "grads.safetensors"))
        return;
    zs_tensorfile *f = golden_open("diffae-tiny32", "last.ckpt");
    zs_tensorfile *grads = golden_open("diffae-tiny32", "grads.safetensors");
    assert_int_equal(zs_tensorfile_count(grads), 396);
    for (size_t i = 0; i < zs_tensorfile_count(grads); i++) {
        const zs_tensorinfo *g = zs_tensorfile_info(grads, i);
        char name[256];
        (void)snprintf(name, sizeof name, "state_dict.model.%s", g->name);
        long k = zs_tensorfile_find(f, name);
        if (k < 0)
            fail_msg("%s is not in the checkpoint", name);
        const zs_tensorinfo *t = zs_tensorfile_info(f, (size_t)k);
        assert_int_equal(t->nd, g->nd);
        assert_memory_equal(t->shape, g->shape, sizeof t->shape);
    }
    zs_tensorfile_close(&grads);
    zs_tensorfile_close(&f);
}

static void test_hyper_parameters(void **state)
{
    (void)state;
    if (!have("diffae-tiny32", "last.ckpt"))
        return;
    zs_tensorfile *f = golden_open("diffae-tiny32", "last.ckpt");
    const json_t *meta = zs_tensorfile_meta(f), *hyper = json_object_get(meta, "hyper_parameters");
    assert_int_equal(json_integer_value(json_object_get(meta, "global_step")), 1234);
    assert_int_equal(json_integer_value(json_object_get(hyper, "img_size")), 32);
    assert_int_equal(json_array_size(json_object_get(hyper, "net_ch_mult")), 3);
    zs_tensorfile_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_names_and_shapes),
        cmocka_unit_test(test_hyper_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
