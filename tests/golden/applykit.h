/* SPDX-License-Identifier: MIT */
/* `zsem apply` through files, against golden ones. */
#ifndef ZS_TESTS_APPLYKIT_H
#define ZS_TESTS_APPLYKIT_H

#include "tests/e2e/taskkit.h"
#include "tests/golden/golden.h"
#include "tests/unit/scratch.h"

/* Setup and teardown of a program of tests: a scratch folder (tests/unit/scratch.h), where nothing
 * may be left but in.safetensors, out.safetensors and bundle.safetensors. */
int apply_setup(void **state);
int apply_teardown(void **state);

/* One tensor of a golden file under the name that apply wants; a list ends with golden NULL. */
typedef struct apply_tensor {
    const char *golden, *name;
} apply_tensor;

/* Writes them to in.safetensors: t and y as int64, images called *01 with 0..1 made -1..1. */
void apply_input(zs_tensorfile *f, const apply_tensor *r);
void apply_input_of(const char *set, const char *file, const apply_tensor *r);

/* From in.safetensors to out.safetensors; options as for task_run. apply_run must succeed. */
int apply_call(const char *function, const char *model, const task_option *options, zs_error *err);
void apply_run(const char *function, const char *model, const task_option *options);
void apply_refused(const char *function, const char *model, const task_option *options,
                   const char *words);

zs_tensorfile *apply_output(void);

/* golden_max_error or golden_norm_error */
typedef double (*apply_error)(const float *a, const float *b, size_t n);

/* Output `name` against tensor `want` of SET/FILE; shapes must agree too, but for
 * ones at the end. */
void apply_compare(const char *name, const char *set, const char *file, const char *want,
                   apply_error error, double tolerance);

#endif
