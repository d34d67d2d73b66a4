/* SPDX-License-Identifier: MIT */
/* Reader of safetensors: u64 header size, JSON header, one buffer without holes.
 * Source: the format description in the safetensors repository's README. */
#include "io/tensorfile_impl.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef struct item {
    zs_tfview v;
    uint64_t begin, end;
    size_t order; /* position in the header */
} item;

static uint64_t load_u64(const uint8_t *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

static bool probe(zs_span b)
{
    return b.n >= 9 && b.p[8] == '{';
}

static int bad(const zs_tensorfile *f, const char *name, const char *what, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: tensor \"%s\" %s; the file is damaged", f->path, name,
                   what);
}

static int parse_dtype(zs_dtype *out, const zs_tensorfile *f, const char *name, const json_t *j,
                       zs_error *err)
{
    const char *s = json_string_value(j);
    if (!s)
        return bad(f, name, "has no dtype", err);
    for (int t = 0; t < ZS_DTYPE_COUNT; t++)
        if (strcmp(s, zs_dtype_name((zs_dtype)t)) == 0) {
            *out = (zs_dtype)t;
            return ZS_OK;
        }
    return zs_fail(err, ZS_E_UNSUPPORTED,
                   "%s: tensor \"%s\" has the dtype \"%s\", which zsem does "
                   "not read; convert it to F32",
                   f->path, name, s);
}

static int parse_shape(zs_tfview *v, const zs_tensorfile *f, const json_t *j, zs_error *err)
{
    if (!json_is_array(j))
        return bad(f, v->name, "has no shape", err);
    if (json_array_size(j) > ZS_MAX_DIMS)
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: tensor \"%s\" has more than %d dimensions",
                       f->path, v->name, ZS_MAX_DIMS);
    v->nd = (int)json_array_size(j);
    for (int i = 0; i < v->nd; i++) {
        const json_t *d = json_array_get(j, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return bad(f, v->name, "has a shape that is not a list of sizes", err);
        v->shape[i] = json_integer_value(d);
    }
    return ZS_OK;
}

/* Fills *it from the header's object; data_n is the size of the buffer. */
static int parse_item(item *it, const zs_tensorfile *f, const json_t *j, size_t data_n,
                      zs_error *err)
{
    const char *name = it->v.name;
    const json_t *off = json_object_get(j, "data_offsets");
    int status = parse_dtype(&it->v.dtype, f, name, json_object_get(j, "dtype"), err);
    if (status < 0 || (status = parse_shape(&it->v, f, json_object_get(j, "shape"), err)) < 0)
        return status;
    const json_t *b = json_array_get(off, 0), *e = json_array_get(off, 1);
    if (json_array_size(off) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return bad(f, name, "has no data_offsets", err);
    if (json_integer_value(b) < 0 || json_integer_value(e) < json_integer_value(b) ||
        (uint64_t)json_integer_value(e) > data_n)
        return bad(f, name, "has data_offsets outside the file", err);
    it->begin = (uint64_t)json_integer_value(b);
    it->end = (uint64_t)json_integer_value(e);
    size_t bytes = 0;
    int64_t numel = 0;
    if (!zs_shape_bytes(&bytes, &numel, it->v.shape, it->v.nd, zs_dtype_size(it->v.dtype)) ||
        bytes != it->end - it->begin)
        return bad(f, name, "has data_offsets that do not fit its shape and dtype", err);
    return ZS_OK;
}

static int check_metadata(zs_tensorfile *f, json_t *m, zs_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(m))
        return zs_fail(err, ZS_E_FORMAT, "%s: __metadata__ is not an object; the file is damaged",
                       f->path);
    json_object_foreach(m, key, value) if (!json_is_string(value)) return zs_fail(
        err, ZS_E_FORMAT,
        "%s: __metadata__ \"%s\" is not a string; the file "
        "is damaged",
        f->path, key);
    f->meta = json_incref(m);
    return ZS_OK;
}

static int by_offset(const void *pa, const void *pb)
{
    const item *a = pa, *b = pb;
    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    if (a->end != b->end)
        return a->end < b->end ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* Lists the arrays in the order of their bytes, which must cover the buffer exactly once. */
static int add_items(zs_tensorfile *f, item *items, size_t n, size_t start, zs_error *err)
{
    uint64_t at = 0;
    size_t storage = 0;
    zs_tfstorage all = {.p = f->bytes.p, .n = f->bytes.n};
    int status = zs_tensorfile_add_storage(f, &storage, all, err);
    qsort(items, n, sizeof *items, by_offset);
    for (size_t i = 0; i < n && status >= 0; i++) {
        item *it = &items[i];
        if (it->begin != at)
            return bad(f, it->v.name, it->begin < at ? "overlaps another" : "follows a hole", err);
        at = it->end;
        it->v.storage = storage;
        it->v.contiguous = true;
        it->v.base = start + (size_t)it->begin;
        it->v.room = (size_t)(it->end - it->begin);
        status = zs_tensorfile_add(f, &it->v, err);
    }
    if (status >= 0 && at != f->bytes.n - start)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: holds %zu bytes of tensors where its header lists "
                       "%" PRIu64 "; the file is truncated or damaged",
                       f->path, f->bytes.n - start, at);
    return status;
}

static int read_header(zs_tensorfile *f, json_t *root, size_t start, zs_error *err)
{
    size_t n = 0, cap = json_object_size(root);
    int status = ZS_OK;
    item *items = zs_calloc(cap, sizeof *items);
    if (!items)
        return zs_fail_nomem(err, cap * sizeof *items, "the list of tensors");
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "__metadata__") == 0) {
            status = check_metadata(f, value, err);
        } else {
            items[n].v.name = key;
            items[n].order = n;
            status = parse_item(&items[n++], f, value, f->bytes.n - start, err);
        }
        if (status < 0)
            break;
    }
    if (status >= 0)
        status = add_items(f, items, n, start, err);
    zs_free(items);
    return status;
}

static int open_safetensors(zs_tensorfile *f, zs_error *err)
{
    f->format = "safetensors";
    uint64_t n = load_u64(f->bytes.p);
    if (n > f->bytes.n - 8)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: claims a header of %" PRIu64 " bytes in a file of "
                       "%zu; the file is truncated, damaged or not safetensors",
                       f->path, n, f->bytes.n);
    json_error_t je;
    json_t *root = json_loadb((const char *)f->bytes.p + 8, (size_t)n, JSON_REJECT_DUPLICATES, &je);
    if (!root && (!je.text[0] || json_error_code(&je) == json_error_out_of_memory))
        return zs_fail_nomem(err, n, "a safetensors header"); /* jansson often says nothing */
    if (!root)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: the safetensors header is not valid JSON (%s at byte %d); the file is "
                       "damaged",
                       f->path, je.text, je.position);
    int status =
        json_is_object(root)
            ? read_header(f, root, 8 + (size_t)n, err)
            : zs_fail(err, ZS_E_FORMAT, "%s: the safetensors header is not an object", f->path);
    json_decref(root);
    return status;
}

const zs_tfkind zs_tfkind_safetensors = {probe, open_safetensors};
