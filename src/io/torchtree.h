/* SPDX-License-Identifier: MIT */
/* From the values of a torch pickle to arrays and metadata. Private to io. */
#ifndef ZS_IO_TORCHTREE_H
#define ZS_IO_TORCHTREE_H

#include "io/pickle.h"
#include "io/tensorfile_impl.h"

/* A storage as a persistent id describes it:
 * ('storage', type, key, location, numel[, view]); view is None or (key, offset, numel). */
typedef struct zs_torchstorage {
    zs_span key;
    zs_dtype dtype; /* U8 when untyped */
    bool untyped;
    int64_t numel;
    bool is_view;
    int64_t view_offset, view_numel; /* elements of the storage, legacy files only */
} zs_torchstorage;

/* ZS_E_FORMAT, or ZS_E_UNSUPPORTED for complex and quantised storages. */
int zs_torch_parse_persid(zs_torchstorage *s, const zs_pvalue *pid, const char *path,
                          zs_error *err);

/* Finds the storage's bytes: *index into f->storages, whose size the callee has checked to be
 * numel elements. */
typedef int (*zs_torch_resolve_fn)(void *ctx, size_t *index, const zs_torchstorage *s,
                                   zs_error *err);

/* Walks the values below p->root: adds every tensor to f and sets f->meta. */
int zs_torch_walk(zs_tensorfile *f, const zs_pickle *p, zs_torch_resolve_fn resolve, void *ctx,
                  zs_error *err);

#endif
