/* SPDX-License-Identifier: MIT */
/* Golden files: outputs and gradients of the authors' code, and the checkpoints they came from.
 *
 * A file "SET/FILE" is looked for below $ZSEM_GOLDENS, below ../shared/goldens beside the source
 * tree (the full set), and below tests/golden/data (the committed selection, whose checkpoints are
 * packed: see scripts/pack-goldens.py). Helpers fail the running test with a message; a set that
 * is in none of the three places is skipped aloud. */
#ifndef ZS_TESTS_GOLDEN_H
#define ZS_TESTS_GOLDEN_H

#include "models/models.h"

/* Both false when no place has the set; the caller then skips. */
bool golden_have(const char *set);

/* Says SKIPPED and skips the running test unless the set is there. */
void golden_need(const char *set);

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

/* 1, or 5 when the checkpoint comes from the committed selection: how much further the rounding of
 * its weights may take results that amplify them, such as inverting and decoding again. */
double golden_slack(const char *set);

/* One array as f32 / int64, owned (zs_free); *n elements. 4-D arrays are turned from NCHW into
 * NHWC by golden_nhwc, which also gives their shape. */
float *golden_f32(zs_tensorfile *f, const char *name, size_t *n);
int64_t *golden_i64(zs_tensorfile *f, const char *name, size_t *n);
float *golden_nhwc(zs_tensorfile *f, const char *name, zs_shape *s);

/* Gradients of one set by parameter name: all of them, or the committed selection's samples. */
zs_tensorfile *golden_gradients(const char *set);
size_t golden_gradient_count(const zs_tensorfile *f);

/* |got - recorded| / |recorded| of one gradient of n numbers in PyTorch's order; where the file has
 * samples only, the larger of that over the samples and the error of the norm. *norm is the
 * recorded one. */
double golden_gradient_error(zs_tensorfile *f, const char *name, const float *got, size_t n,
                             double *norm);

/* max |a-b| / max |b| (not finite when a or b is not); |a-b| / |b| as Euclidean norms. */
double golden_max_error(const float *a, const float *b, size_t n);
double golden_norm_error(const float *a, const float *b, size_t n);

#endif
