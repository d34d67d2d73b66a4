/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io.h"
#include "tests/golden/applykit.h"
#include "tests/unit/must.h"
#include "tests/unit/scratch.h"

int apply_setup(void **state)
{
    return scratch_make(state);
}

int apply_teardown(void **state)
{
    static const char *const names[] = {"in", "out", "bundle"};
    for (int i = 0; i < 3; i++)
        (void)remove(scratch_path("%s.safetensors", names[i]));
    golden_cleanup();
    int left = scratch_files(), status = scratch_remove(state);
    return left == 0 ? status : -1;
}

/* The tensor with data of its own. */
static zs_tensorout renamed(zs_tensorfile *f, const apply_tensor *r)
{
    size_t n;
    long i = zs_tensorfile_find(f, r->golden);
    if (i < 0)
        fail_msg("%s has no %s", zs_tensorfile_path(f), r->golden);
    const zs_tensorinfo *info = zs_tensorfile_info(f, (size_t)i);
    zs_tensorout t = {.name = r->name, .dtype = ZS_F32, .nd = info->nd};
    memcpy(t.shape, info->shape, sizeof t.shape);
    if (strcmp(r->name, "t") == 0 || strcmp(r->name, "y") == 0) {
        t.dtype = ZS_I64;
        t.data = golden_i64(f, r->golden, &n);
        return t;
    }
    float *x = golden_f32(f, r->golden, &n);
    for (size_t k = 0; k < n && zs_str_ends(r->golden, "01"); k++)
        x[k] = 2 * x[k] - 1;
    t.data = x;
    return t;
}

void apply_input(zs_tensorfile *f, const apply_tensor *r)
{
    zs_tensorout t[8] = {0};
    zs_error err = {0};
    size_t n = 0;
    for (; r[n].golden; n++) {
        assert_true(n < sizeof t / sizeof t[0]);
        t[n] = renamed(f, &r[n]);
    }
    must(zs_safetensors_write(scratch_path("in.safetensors"), t, n, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
}

void apply_input_of(const char *set, const char *file, const apply_tensor *r)
{
    zs_tensorfile *f = golden_open(set, file);
    apply_input(f, r);
    zs_tensorfile_close(&f);
}

int apply_call(const char *function, const char *model, const task_option *options, zs_error *err)
{
    task_option all[16] = {{"model", model},
                           {"in", scratch_path("in.safetensors")},
                           {"out", scratch_path("out.safetensors")}}; /* the rest ends it */
    for (size_t n = 3; options && options->name; options++) {
        assert_true(n + 1 < sizeof all / sizeof all[0]);
        all[n++] = *options;
    }
    return task_run(NULL, "apply", TASK_ARGS(function), all, err);
}

void apply_run(const char *function, const char *model, const task_option *options)
{
    zs_error err;
    if (apply_call(function, model, options, &err) < 0)
        fail_msg("apply %s: %s", function, err.message);
}

void apply_refused(const char *function, const char *model, const task_option *options,
                   const char *words)
{
    zs_error err;
    must_refuse(apply_call(function, model, options, &err), &err, ZS_E_INVALID, words);
}

zs_tensorfile *apply_output(void)
{
    zs_tensorfile *f = NULL;
    zs_error err = {0};
    must(zs_tensorfile_open(&f, scratch_path("out.safetensors"), &err), &err);
    return f;
}

static void same_shape(zs_tensorfile *a, const char *name, zs_tensorfile *b, const char *want)
{
    long i = zs_tensorfile_find(a, name), j = zs_tensorfile_find(b, want);
    assert_true(i >= 0 && j >= 0);
    const zs_tensorinfo *x = zs_tensorfile_info(a, (size_t)i);
    const zs_tensorinfo *y = zs_tensorfile_info(b, (size_t)j);
    for (int d = 0; d < x->nd || d < y->nd; d++)
        assert_int_equal(d < x->nd ? x->shape[d] : 1, d < y->nd ? y->shape[d] : 1);
}

void apply_compare(const char *name, const char *set, const char *file, const char *want,
                   apply_error error, double tolerance)
{
    size_t n, m;
    zs_tensorfile *out = apply_output(), *g = golden_open(set, file);
    same_shape(out, name, g, want);
    float *x = golden_f32(out, name, &n), *y = golden_f32(g, want, &m);
    assert_int_equal(n, m);
    golden_within(want, name, error(x, y, n), tolerance);
    zs_free(x);
    zs_free(y);
    zs_tensorfile_close(&out);
    zs_tensorfile_close(&g);
}
