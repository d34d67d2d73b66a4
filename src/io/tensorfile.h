/* SPDX-License-Identifier: MIT */
/* Files of named arrays, read as they are: safetensors, PyTorch checkpoints (zip and legacy),
 * npy, npz. The format is probed from the bytes, never from the name.
 *
 *     zs_tensorfile *f = NULL;
 *     if (zs_tensorfile_open(&f, "last.ckpt", err) < 0) return err->status;
 *     long i = zs_tensorfile_find(f, "state_dict.ema_model.out.2.bias");
 *     status = zs_tensorfile_read_f32(f, (size_t)i, dst, numel, err);
 *     zs_tensorfile_close(&f);
 */
#ifndef ZS_IO_TENSORFILE_H
#define ZS_IO_TENSORFILE_H

#include "base/base.h"

#include <jansson.h>

enum { ZS_MAX_DIMS = 8 };

/* One array. In torch files `name` joins the dictionary keys and list indices that lead to it
 * with dots ("state_dict.model.out.2.weight", "optimizer_states.0.state.0.exp_avg"), and is
 * "tensor" for a lone tensor; in npy files it is "array". Shapes are those of the file: PyTorch's
 * order, nd 0 for a scalar. */
typedef struct zs_tensorinfo {
    const char *name;
    zs_dtype dtype;
    int nd;
    int64_t shape[ZS_MAX_DIMS]; /* each >= 0; the product fits the bytes the file really has,
                                   or 16 MiB where a view repeats its elements */
    int64_t numel;
} zs_tensorinfo;

typedef struct zs_tensorfile zs_tensorfile;

/* Reads and checks the directory of the file; tensor bytes are read on demand. Nothing in the
 * file is ever executed or imported. Errors: ZS_E_IO, ZS_E_FORMAT (damaged or hostile: the
 * message names file, field and cause), ZS_E_UNSUPPORTED (sparse, quantised, complex),
 * ZS_E_NOMEM. On failure *out is NULL. */
int zs_tensorfile_open(zs_tensorfile **out, const char *path, zs_error *err);

/* The same on bytes that outlive the file object (tests, fuzzers, embedded models). */
int zs_tensorfile_open_bytes(zs_tensorfile **out, const char *label, const void *p, size_t n,
                             zs_error *err);

void zs_tensorfile_close(zs_tensorfile **f);

/* "safetensors", "torch zip", "torch legacy", "npy" or "npz". */
const char *zs_tensorfile_format(const zs_tensorfile *f);
const char *zs_tensorfile_path(const zs_tensorfile *f);
size_t zs_tensorfile_count(const zs_tensorfile *f);
const zs_tensorinfo *zs_tensorfile_info(const zs_tensorfile *f, size_t i);

/* Index of the array of that exact name, or -1. O(1) on average. */
long zs_tensorfile_find(const zs_tensorfile *f, const char *name);

/* Array i, contiguous, row-major, converted to f32 / to int64; n must be its numel. */
int zs_tensorfile_read_f32(zs_tensorfile *f, size_t i, float *dst, size_t n, zs_error *err);
int zs_tensorfile_read_i64(zs_tensorfile *f, size_t i, int64_t *dst, size_t n, zs_error *err);

/* The elements of array i where they lie in memory as f32, row-major and aligned already; NULL for
 * any other, which must be read. Valid while f is open; zs_tensorfile_drop tells that they have
 * been used, so that pages of a mapped file can go. */
const float *zs_tensorfile_peek_f32(const zs_tensorfile *f, size_t i);
void zs_tensorfile_drop(const zs_tensorfile *f, size_t i);

/* Array i, contiguous, row-major, little-endian in its own dtype; bytes = numel * size. */
int zs_tensorfile_read_raw(zs_tensorfile *f, size_t i, void *dst, size_t bytes, zs_error *err);

/* Everything that is not a tensor, as JSON (borrowed; never NULL): for safetensors the
 * __metadata__ object; for torch files the pickled tree with tensors left out (null in lists),
 * objects of unknown classes replaced by {"__class__": "module.name"} plus "args", "items" and
 * their state (its keys, or "state" when it is no dictionary), non-string keys turned into
 * strings, integers clamped to int64, non-finite floats "NaN", "Infinity", "-Infinity", and a
 * value that contains itself {"__cycle__": true}. */
const json_t *zs_tensorfile_meta(const zs_tensorfile *f);

#endif
