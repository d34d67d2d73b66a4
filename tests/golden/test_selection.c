/* SPDX-License-Identifier: MIT */
/* The committed selection is what the full set holds, as far as its packing keeps it. */
#include "tests/golden/golden.h"
#include "tests/golden/golden_unpack.h"

#include "io/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static zs_tensorfile *open_at(const char *path)
{
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    if (zs_tensorfile_open(&f, path, &err) < 0)
        fail_msg("%s", err.message);
    return f;
}

static double compare_one(zs_tensorfile *a, zs_tensorfile *b, const zs_tensorinfo *t)
{
    char name[200];
    size_t n, m;
    (void)snprintf(name, sizeof name, "state_dict.%s", t->name);
    const zs_tensorinfo *u = zs_tensorfile_info(b, (size_t)zs_tensorfile_find(b, name));
    assert_int_equal(t->nd, u->nd);
    assert_memory_equal(t->shape, u->shape, (size_t)t->nd * sizeof t->shape[0]);
    float *x = golden_f32(a, t->name, &n), *y = golden_f32(b, name, &m);
    double e = golden_norm_error(x, y, n);
    zs_free(x);
    zs_free(y);
    return e;
}

static void checkpoint_agrees(const char *set, const char *official, size_t raw)
{
    char packed[256], path[128];
    zs_error err = {0};
    double worst[2] = {0, 0};
    size_t count[2] = {0, 0};
    (void)snprintf(packed, sizeof packed, "%s/tests/golden/data/%s/packed.safetensors",
                   ZSEM_SOURCE_DIR, set);
    (void)snprintf(path, sizeof path, "/tmp/zsem-selection-%ld.safetensors", (long)getpid());
    if (golden_unpack(path, packed, &err) < 0)
        fail_msg("%s", err.message);
    zs_tensorfile *a = open_at(path), *b = open_at(official);
    for (size_t i = 0; i < zs_tensorfile_count(a); i++) {
        const zs_tensorinfo *t = zs_tensorfile_info(a, i);
        int is_raw = zs_str_starts(t->name, "model.");
        if (!is_raw && !zs_str_starts(t->name, "ema_model."))
            continue;
        double e = compare_one(a, b, t);
        worst[is_raw] = e > worst[is_raw] ? e : worst[is_raw];
        count[is_raw]++;
    }
    print_message("%s: averaged weights to %.1e, raw ones to %.1e\n", set, worst[0], worst[1]);
    assert_true(worst[0] < 1e-5 && worst[1] < 3e-4);
    assert_true(count[0] > 250);
    assert_int_equal(count[1], raw);
    zs_tensorfile_close(&a);
    zs_tensorfile_close(&b);
    (void)remove(path);
}

static void checkpoints_agree(void **state)
{
    static const struct {
        const char *set;
        size_t raw;
    } sets[] = {{"diffae-tiny32", 396}, {"ddpm-tiny32", 0}};
    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *official = golden_checkpoint(sets[i].set);
        if (zs_str_ends(official, "last.ckpt"))
            checkpoint_agrees(sets[i].set, official, sets[i].raw);
        else
            print_message("SKIPPED: only the selection of %s is here\n", sets[i].set);
    }
    golden_cleanup();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpoints_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
