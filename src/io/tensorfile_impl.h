/* SPDX-License-Identifier: MIT */
/* What the readers of the formats share. Private to io. */
#ifndef ZS_IO_TENSORFILE_IMPL_H
#define ZS_IO_TENSORFILE_IMPL_H

#include "io/mapfile.h"
#include "io/nameindex.h"
#include "io/tensorfile.h"
#include "io/tensorwrite.h"

#include <zip.h>

/* A run of bytes that arrays are views of: either resident (p), or an entry of f->zip that is
 * unpacked when an array in it is read. */
typedef struct zs_tfstorage {
    const uint8_t *p;
    uint64_t entry; /* index in f->zip when p is NULL */
    size_t n;       /* bytes, unpacked */
} zs_tfstorage;

typedef struct zs_tfentry {
    zs_tensorinfo info;
    char *name; /* owned; info.name */
    size_t storage;
    size_t offset;               /* of the first element, in bytes from the storage's start */
    int64_t stride[ZS_MAX_DIMS]; /* in elements, >= 0 */
} zs_tfentry;

struct zs_tensorfile {
    const char *format; /* set by the format's open */
    char *path;
    zs_mapfile map;
    zs_span bytes; /* the whole file */
    zs_tfentry *entries;
    size_t count, cap;
    zs_tfstorage *storages;
    size_t storage_count, storage_cap;
    zs_nameindex names;
    json_t *meta;
    zip_t *zip;
    uint8_t *cache; /* the unpacked storage that was read last */
    size_t cached;  /* its index */
};

/* One family of files. open fills format, entries, storages and meta; on failure the caller
 * closes f, whatever state it is in. */
typedef struct zs_tfkind {
    bool (*probe)(zs_span bytes);
    int (*open)(zs_tensorfile *f, zs_error *err);
} zs_tfkind;

/* An array as a file describes it, nothing checked yet. */
typedef struct zs_tfview {
    const char *name;
    zs_dtype dtype;
    int nd;
    int64_t shape[ZS_MAX_DIMS];
    int64_t stride[ZS_MAX_DIMS]; /* elements; ignored when `contiguous` */
    bool contiguous;             /* row-major */
    size_t storage;              /* index into f->storages */
    size_t base, room;           /* the bytes of the storage that the view may touch */
    int64_t offset;              /* of the first element, in elements from base */
} zs_tfview;

/* Adds an array. The view is checked here for all formats: shape and strides non-negative, no
 * product overflows, every element inside [base, base+room). A name that is there already is
 * ZS_E_FORMAT. */
int zs_tensorfile_add(zs_tensorfile *f, const zs_tfview *v, zs_error *err);

/* Adds a storage; *index is its number. */
int zs_tensorfile_add_storage(zs_tensorfile *f, size_t *index, zs_tfstorage s, zs_error *err);

/* shape product times element size; false when it overflows or a dimension is negative. */
bool zs_shape_bytes(size_t *bytes, int64_t *numel, const int64_t *shape, int nd, size_t elem);

extern const zs_tfkind zs_tfkind_safetensors, zs_tfkind_zip, zs_tfkind_torch_legacy, zs_tfkind_npy;

/* Appends what a .npy file holds before the elements of t; *bytes are theirs. */
int zs_npy_head(zs_strbuf *b, size_t *bytes, const char *path, const zs_tensorout *t,
                zs_error *err);

/* Readers of an opened archive (f->zip). */
int zs_torchzip_open(zs_tensorfile *f, uint64_t data_pkl, zs_error *err);
int zs_npz_open(zs_tensorfile *f, zs_error *err);

/* Parses the header of an .npy file: fills v's dtype, nd, shape, stride, and *data, the offset
 * of the array bytes. p holds at least the first bytes of the file, `label` names it. */
int zs_npy_header(zs_tfview *v, size_t *data, const char *label, zs_span p, zs_error *err);

#endif
