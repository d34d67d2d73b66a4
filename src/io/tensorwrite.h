/* SPDX-License-Identifier: MIT */
#ifndef ZS_IO_TENSORWRITE_H
#define ZS_IO_TENSORWRITE_H

#include "base/base.h"
#include "io/tensorfile.h"

/* One array to write: row-major, in PyTorch's layout, `data` in `dtype`, borrowed. */
typedef struct zs_tensorout {
    const char *name;
    zs_dtype dtype;
    int nd;
    int64_t shape[ZS_MAX_DIMS];
    const void *data;
} zs_tensorout;

/* Writes a safetensors file whole or not at all. Tensors are stored in the order given, 64-byte
 * aligned data section; `metadata` (string -> string, may be NULL) becomes __metadata__. */
int zs_safetensors_write(const char *path, const zs_tensorout *t, size_t n, const json_t *metadata,
                         zs_error *err);

/* Named arrays as NumPy .npz: a zip archive of .npy files, stored. ZS_E_UNSUPPORTED from 4 GiB
 * on. */
int zs_npz_write(const char *path, const zs_tensorout *t, size_t n, zs_error *err);

/* One array as NumPy .npy version 1.0, C order. */
int zs_npy_write(const char *path, const zs_tensorout *t, zs_error *err);

#endif
