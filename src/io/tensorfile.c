/* SPDX-License-Identifier: MIT */
#include "io/tensorfile.h"

#include "io/tensorfile_impl.h"
#include "io/ziparchive.h"

#include <string.h>

/* Probed in this order; safetensors comes last because it has no magic number. */
static const zs_tfkind *const kinds[] = {&zs_tfkind_zip, &zs_tfkind_npy, &zs_tfkind_torch_legacy,
                                         &zs_tfkind_safetensors, NULL};

/* Views that repeat elements (expanded, overlapping) may describe more bytes than they have;
 * up to this much is believed without the file being as large. */
enum { REPEAT_FREE = 16 << 20 };

bool zs_shape_bytes(size_t *bytes, int64_t *numel, const int64_t *shape, int nd, size_t elem)
{
    size_t n = 1;
    bool empty = false;
    for (int i = 0; i < nd; i++) {
        if (shape[i] < 0)
            return false;
        empty = empty || shape[i] == 0;
    }
    for (int i = 0; i < nd && !empty; i++)
        if (!zs_mul_size(n, (size_t)shape[i], &n))
            return false;
    n = empty ? 0 : n;
    if (n > INT64_MAX / elem)
        return false;
    *numel = (int64_t)n;
    *bytes = n * elem;
    return true;
}

/* Bytes from the first element to the end of the last one; false on overflow. numel > 0. */
static bool view_extent(size_t *bytes, const zs_tfview *v, const int64_t *stride)
{
    size_t last = 0, elem = zs_dtype_size(v->dtype);
    for (int i = 0; i < v->nd; i++) {
        size_t step = 0;
        if (v->shape[i] == 1)
            continue;
        if (stride[i] < 0 || !zs_mul_size((size_t)v->shape[i] - 1, (size_t)stride[i], &step) ||
            !zs_add_size(last, step, &last))
            return false;
    }
    return zs_add_size(last, 1, &last) && zs_mul_size(last, elem, bytes);
}

static void contiguous_strides(int64_t *stride, const int64_t *shape, int nd)
{
    int64_t step = 1;
    for (int i = nd - 1; i >= 0; i--) {
        stride[i] = step;
        step *= shape[i] > 0 ? shape[i] : 1; /* the product of an empty array may overflow */
    }
}

/* Checks v and fills *e but its name. */
static int check_view(zs_tfentry *e, const zs_tensorfile *f, const zs_tfview *v, zs_error *err)
{
    size_t elem = zs_dtype_size(v->dtype), bytes = 0, extent = 0, skip = 0;
    *e = (zs_tfentry){.info = {.dtype = v->dtype, .nd = v->nd}, .storage = v->storage};
    if (!zs_shape_bytes(&bytes, &e->info.numel, v->shape, v->nd, elem))
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: tensor \"%s\" has a negative or impossibly large "
                       "shape; the file is damaged",
                       f->path, v->name);
    memcpy(e->info.shape, v->shape, sizeof e->info.shape);
    e->offset = v->base;
    if (bytes == 0)
        return ZS_OK;
    if (v->contiguous)
        contiguous_strides(e->stride, v->shape, v->nd);
    else
        memcpy(e->stride, v->stride, sizeof e->stride);
    if (v->offset < 0 || !view_extent(&extent, v, e->stride) ||
        !zs_mul_size((size_t)v->offset, elem, &skip) || skip > v->room || extent > v->room - skip)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: tensor \"%s\" reaches outside its storage of %zu "
                       "bytes; the file is damaged",
                       f->path, v->name, v->room);
    if (bytes > v->room && bytes > REPEAT_FREE && bytes > f->bytes.n)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: tensor \"%s\" repeats %zu stored bytes to fill %zu; "
                       "the file is damaged or hostile",
                       f->path, v->name, v->room, bytes);
    e->offset = v->base + skip;
    return ZS_OK;
}

int zs_tensorfile_add(zs_tensorfile *f, const zs_tfview *v, zs_error *err)
{
    zs_tfentry e;
    size_t n = strlen(v->name), other = 0;
    int status = check_view(&e, f, v, err);
    if (status < 0)
        return status;
    if (zs_nameindex_get(&f->names, &other, v->name, n))
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: two tensors have the name \"%s\"; the file is "
                       "damaged",
                       f->path, v->name);
    void *entries = f->entries;
    if (!zs_grow(&entries, &f->cap, f->count, sizeof *f->entries))
        return zs_fail_nomem(err, (f->count + 1) * sizeof *f->entries, "the list of tensors");
    f->entries = entries;
    e.name = zs_str_dup(v->name);
    e.info.name = e.name;
    if (!e.name || !zs_nameindex_add(&f->names, e.name, n, f->count)) {
        zs_free(e.name);
        return zs_fail_nomem(err, n, "a tensor name");
    }
    f->entries[f->count++] = e;
    return ZS_OK;
}

int zs_tensorfile_add_storage(zs_tensorfile *f, size_t *index, zs_tfstorage s, zs_error *err)
{
    void *storages = f->storages;
    if (!zs_grow(&storages, &f->storage_cap, f->storage_count, sizeof s))
        return zs_fail_nomem(err, (f->storage_count + 1) * sizeof s, "the list of storages");
    f->storages = storages;
    *index = f->storage_count;
    f->storages[f->storage_count++] = s;
    return ZS_OK;
}

static int unknown(const zs_tensorfile *f, zs_error *err)
{
    zs_span b = f->bytes;
    if (b.n > 262 && memcmp(b.p + 257, "ustar", 5) == 0)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: is a tar archive as PyTorch 0.1 wrote them; load and save it once with "
                       "a newer PyTorch",
                       f->path);
    if (b.n > 2 && b.p[0] == 0x80 && b.p[1] >= 2 && b.p[1] <= 5)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: is a Python pickle that torch.save did not write; save the tensors "
                       "with torch.save or as safetensors",
                       f->path);
    return zs_fail(err, ZS_E_FORMAT, "%s: is not a safetensors, PyTorch, npy or npz file", f->path);
}

static int open_any(zs_tensorfile *f, zs_error *err)
{
    if (f->bytes.n == 0)
        return zs_fail(err, ZS_E_FORMAT, "%s: is empty", f->path);
    for (const zs_tfkind *const *k = kinds; *k; k++) {
        if (!(*k)->probe(f->bytes))
            continue;
        int status = (*k)->open(f, err);
        if (status >= 0 && !f->meta)
            f->meta = json_object();
        if (status >= 0 && !f->meta)
            return zs_fail_nomem(err, sizeof(json_t *), "the metadata");
        return status;
    }
    return unknown(f, err);
}

int zs_tensorfile_open_bytes(zs_tensorfile **out, const char *label, const void *p, size_t n,
                             zs_error *err)
{
    *out = NULL;
    zs_tensorfile *f = zs_calloc(1, sizeof *f);
    if (!f)
        return zs_fail_nomem(err, sizeof *f, "a file");
    f->path = zs_str_dup(label);
    f->bytes = (zs_span){p, n};
    int status = f->path ? open_any(f, err) : zs_fail_nomem(err, strlen(label), "a file name");
    if (status < 0)
        zs_tensorfile_close(&f);
    *out = f;
    return status;
}

int zs_tensorfile_open(zs_tensorfile **out, const char *path, zs_error *err)
{
    *out = NULL;
    zs_mapfile map;
    int status = zs_mapfile_open(&map, path, err);
    if (status < 0)
        return status;
    status = zs_tensorfile_open_bytes(out, path, map.p, map.n, err);
    if (status < 0)
        zs_mapfile_close(&map);
    else
        (*out)->map = map;
    return status;
}

void zs_tensorfile_close(zs_tensorfile **pf)
{
    zs_tensorfile *f = *pf;
    *pf = NULL;
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++)
        zs_free(f->entries[i].name);
    zs_free(f->entries);
    zs_free(f->storages);
    zs_nameindex_free(&f->names);
    json_decref(f->meta);
    if (f->zip)
        zip_discard(f->zip); /* before the bytes it reads from */
    zs_free(f->cache);
    zs_mapfile_close(&f->map);
    zs_free(f->path);
    zs_free(f);
}

const char *zs_tensorfile_format(const zs_tensorfile *f)
{
    return f->format;
}

const char *zs_tensorfile_path(const zs_tensorfile *f)
{
    return f->path;
}

size_t zs_tensorfile_count(const zs_tensorfile *f)
{
    return f->count;
}

const zs_tensorinfo *zs_tensorfile_info(const zs_tensorfile *f, size_t i)
{
    return &f->entries[i].info;
}

long zs_tensorfile_find(const zs_tensorfile *f, const char *name)
{
    size_t i = 0;
    return zs_nameindex_get(&f->names, &i, name, strlen(name)) ? (long)i : -1;
}

const json_t *zs_tensorfile_meta(const zs_tensorfile *f)
{
    return f->meta;
}

/* *p = the storage's bytes. Those of a zip entry stay in the cache until another is needed. */
static int storage_bytes(const uint8_t **p, zs_tensorfile *f, size_t index, zs_error *err)
{
    const zs_tfstorage *s = &f->storages[index];
    if (s->p || s->n == 0 || (f->cache && f->cached == index)) {
        *p = s->p ? s->p : f->cache;
        return ZS_OK;
    }
    zs_free(f->cache);
    f->cache = zs_alloc(s->n, 1);
    if (!f->cache)
        return zs_fail_nomem(err, s->n, "an unpacked tensor");
    int status = zs_ziparchive_read(f->zip, s->entry, f->cache, s->n, f->path, err);
    if (status < 0) {
        zs_free(f->cache);
        f->cache = NULL;
        return status;
    }
    f->cached = index;
    *p = f->cache;
    return ZS_OK;
}

typedef void (*convert_fn)(void *dst, const void *src, zs_dtype t, size_t n);

static void to_f32(void *dst, const void *src, zs_dtype t, size_t n)
{
    zs_dtype_to_f32(dst, src, t, n);
}

static void to_i64(void *dst, const void *src, zs_dtype t, size_t n)
{
    zs_dtype_to_i64(dst, src, t, n);
}

static void to_raw(void *dst, const void *src, zs_dtype t, size_t n)
{
    memcpy(dst, src, n * zs_dtype_size(t));
}

static bool is_row_major(const zs_tfentry *e)
{
    int64_t step = 1;
    for (int i = e->info.nd - 1; i >= 0; i--) {
        if (e->info.shape[i] != 1 && e->stride[i] != step)
            return false;
        step *= e->info.shape[i];
    }
    return true;
}

/* Collects elements in row-major order, a block at a time, and converts each block. */
static void gather(void *dst, size_t out_elem, const zs_tfentry *e, const uint8_t *src,
                   convert_fn convert)
{
    enum { BLOCK = 256 };
    uint8_t block[BLOCK * sizeof(double)];
    const zs_tensorinfo *info = &e->info;
    size_t elem = zs_dtype_size(info->dtype), at = 0;
    int64_t index[ZS_MAX_DIMS] = {0};
    unsigned char *d = dst;
    for (int64_t done = 0; done < info->numel;) {
        size_t n = 0;
        for (; n < BLOCK && done < info->numel; n++, done++) {
            memcpy(block + n * elem, src + at * elem, elem);
            for (int k = info->nd - 1; k >= 0; k--) {
                at += (size_t)e->stride[k];
                if (++index[k] < info->shape[k])
                    break;
                at -= (size_t)e->stride[k] * (size_t)info->shape[k];
                index[k] = 0;
            }
        }
        convert(d, block, info->dtype, n);
        d += n * out_elem;
    }
}

static int read_as(zs_tensorfile *f, size_t i, void *dst, size_t out_elem, convert_fn convert,
                   zs_error *err)
{
    const zs_tfentry *e = &f->entries[i];
    const uint8_t *p = NULL;
    if (e->info.numel == 0)
        return ZS_OK;
    int status = storage_bytes(&p, f, e->storage, err);
    if (status < 0)
        return status;
    if (is_row_major(e))
        convert(dst, p + e->offset, e->info.dtype, (size_t)e->info.numel);
    else
        gather(dst, out_elem, e, p + e->offset, convert);
    zs_mapfile_drop(&f->map, p + e->offset, (size_t)e->info.numel * zs_dtype_size(e->info.dtype));
    return ZS_OK;
}

static int check_read(const zs_tensorfile *f, size_t i, size_t n, size_t want, zs_error *err)
{
    if (i >= f->count)
        return zs_fail(err, ZS_E_INVALID, "%s: has no tensor number %zu", f->path, i);
    if (n != want)
        return zs_fail(err, ZS_E_INVALID, "%s: tensor \"%s\" has size %zu where %zu is expected",
                       f->path, f->entries[i].name, want, n);
    return ZS_OK;
}

int zs_tensorfile_read_f32(zs_tensorfile *f, size_t i, float *dst, size_t n, zs_error *err)
{
    int status = check_read(f, i, n, i < f->count ? (size_t)f->entries[i].info.numel : 0, err);
    return status < 0 ? status : read_as(f, i, dst, sizeof *dst, to_f32, err);
}

const float *zs_tensorfile_peek_f32(const zs_tensorfile *f, size_t i)
{
    const zs_tfentry *e = i < f->count ? &f->entries[i] : NULL;
    const uint8_t *p = e ? f->storages[e->storage].p : NULL;
    if (!p || e->info.dtype != ZS_F32 || e->info.numel == 0 || !is_row_major(e) ||
        (uintptr_t)(p + e->offset) % sizeof(float) != 0)
        return NULL;
    return (const float *)(const void *)(p + e->offset);
}

void zs_tensorfile_drop(const zs_tensorfile *f, size_t i)
{
    const zs_tfentry *e = &f->entries[i];
    const uint8_t *p = f->storages[e->storage].p;
    if (p)
        zs_mapfile_drop(&f->map, p + e->offset,
                        (size_t)e->info.numel * zs_dtype_size(e->info.dtype));
}

int zs_tensorfile_read_i64(zs_tensorfile *f, size_t i, int64_t *dst, size_t n, zs_error *err)
{
    int status = check_read(f, i, n, i < f->count ? (size_t)f->entries[i].info.numel : 0, err);
    return status < 0 ? status : read_as(f, i, dst, sizeof *dst, to_i64, err);
}

int zs_tensorfile_read_raw(zs_tensorfile *f, size_t i, void *dst, size_t bytes, zs_error *err)
{
    size_t elem = i < f->count ? zs_dtype_size(f->entries[i].info.dtype) : 1;
    size_t want = i < f->count ? (size_t)f->entries[i].info.numel * elem : 0;
    int status = check_read(f, i, bytes, want, err);
    return status < 0 ? status : read_as(f, i, dst, elem, to_raw, err);
}
