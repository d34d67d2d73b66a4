/* SPDX-License-Identifier: MIT */
/* Golden files: outputs and gradients of the authors' code, and the checkpoints they came from.
 *
 * A file "SET/FILE" is looked for below $ZSEM_GOLDENS, below ../shared/goldens beside the source
 * tree (the full set), and below tests/golden/data (the committed selection, whose checkpoints are
 * packed: see scripts/pack-goldens.py). Helpers fail the running test with a message; a set that
 * is in none of the three places is skipped aloud. */
#ifndef ZS_TESTS_GOLDEN_H
#define ZS_TESTS_GOLDEN_H

#include "diffusion/spacing.h"
#include "models/models.h"

/* Both false when no place has the set; the caller then skips. */
bool golden_have(const char *set);

/* Says SKIPPED and skips the running test unless the set is there; a set without a file called
 * golden.safetensors is known by another one. */
void golden_need(const char *set);
void golden_need_file(const char *set, const char *file);

/* Opens SET/FILE for reading; fails the test when it cannot. */
zs_tensorfile *golden_open(const char *set, const char *file);

/* Where SET/FILE is; false when it is nowhere. */
bool golden_path(char path[512], const char *set, const char *file);

/* True when SET/FILE exists somewhere. */
bool golden_has_file(const char *set, const char *file);

/* What zs_model_open takes for the set's checkpoint: the official last.ckpt, or a temporary
 * safetensors file unpacked from the committed selection (removed by golden_cleanup). Borrowed. */
const char *golden_checkpoint(const char *set);
void golden_cleanup(void);
int golden_teardown(void **state); /* the same, for a group of tests */

/* 1, or 5 when the checkpoint comes from the committed selection: how much further the rounding of
 * its weights may take results that amplify them, such as inverting and decoding again. */
double golden_slack(const char *set);

/* One array as f32 / int64, owned (zs_free); *n elements. 4-D arrays are turned from NCHW into
 * NHWC by golden_nhwc, which also gives their shape. */
float *golden_f32(zs_tensorfile *f, const char *name, size_t *n);
int64_t *golden_i64(zs_tensorfile *f, const char *name, size_t *n);
float *golden_nhwc(zs_tensorfile *f, const char *name, zs_shape *s);
float *golden_any(zs_tensorfile *f, const char *name, size_t *n); /* NHWC if 4-D, else as it is */

/* [steps,k,c,h,w] -> the first n of each k, [steps,n,h,w,c], owned; NULL for no name. */
float *golden_steps(zs_tensorfile *f, const char *name, int64_t n, size_t *steps);

/* The process of that name and length, respaced by `spec` unless that is NULL. */
zs_schedule golden_schedule(const char *name, int64_t T, const char *spec);

/* Gradients of one set by parameter name: all of them, or the committed selection's samples. */
zs_tensorfile *golden_gradients(const char *set);
size_t golden_gradient_count(const zs_tensorfile *f);

/* |got - recorded| / |recorded| of one gradient of n numbers in PyTorch's order; where the file has
 * samples only, the larger of that over the samples and the error of the norm. *norm is the
 * recorded one. */
double golden_gradient_error(zs_tensorfile *f, const char *name, const float *got, size_t n,
                             double *norm);

/* The largest error of the gradients in flat g, printed by the caller; fails the test where one is
 * above the tolerance, and unless the file is used up. A gradient whose recorded norm is less than
 * `none` of the whole gradient's holds rounding errors on both sides: it must be as small here.
 * Parameters that `without` names (NULL: none) are not in the file, and their gradients are 0. */
double golden_worst_gradient(zs_tensorfile *f, const zs_params *ps, const float *g,
                             double tolerance, double none, bool (*without)(const zs_param *p));

/* max |a-b| / max |b| (not finite when a or b is not); |a-b| / |b| as Euclidean norms. */
double golden_max_error(const float *a, const float *b, size_t n);
double golden_norm_error(const float *a, const float *b, size_t n);
double golden_norm(const float *v, size_t n);

/* What one network call is held to: max errors with the reference kernels, with the fast ones. */
enum { GOLDEN_BACKENDS = 2 };
typedef struct golden_backend {
    const char *name;
    double tolerance;
} golden_backend;
extern const golden_backend golden_backends[GOLDEN_BACKENDS];

/* Prints the error of `what`, which was made with a backend (or anything else that tells it from
 * others, or ""), and fails the test unless it is within the tolerance. */
void golden_within(const char *what, const char *with, double error, double tolerance);

/* golden_within of the max error: of n numbers, of n numbers against a tensor (golden_any) that
 * must hold as many. */
void golden_near(const char *what, const char *with, const float *got, const float *want, size_t n,
                 double tolerance);
void golden_agrees(zs_tensorfile *f, const char *name, const char *with, const float *got, size_t n,
                   double tolerance);

/* "64x3x7x7" */
const char *golden_shape_text(char text[96], const zs_param *p);

/* Every parameter's name, shape and place in the order as in keys/FILE; false, and SKIPPED said,
 * where there is no such file. */
bool golden_same_keys(const char *file, const zs_params *ps);

#endif
