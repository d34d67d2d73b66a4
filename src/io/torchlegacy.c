/* SPDX-License-Identifier: MIT */
/* PyTorch 0.1.10 to 1.5: five pickles (magic number, protocol, system info, the object, the
 * list of storage keys), then each storage as int64 count + elements, in the order of that list.
 * Source: torch/serialization.py, _legacy_save. */
#include "io/tensorfile_impl.h"
#include "io/torchtree.h"

#include <string.h>

enum { PROTOCOL = 1001 };

/* LONG1 of the magic number 0x1950a86a20f9469cfc6c. */
static const uint8_t magic[] = {0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46,
                                0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19};

typedef struct legacy {
    zs_tensorfile *f;
    zs_nameindex keys; /* storage key -> index into found */
    zs_torchstorage *found;
    size_t *index; /* number in f->storages, or NO_DATA */
    size_t count;
} legacy;

#define NO_DATA SIZE_MAX

/* PROTO p, perhaps a FRAME, then the magic number. */
static bool probe(zs_span b)
{
    for (size_t at = 0; at <= 11 && at + sizeof magic <= b.n; at++)
        if (memcmp(b.p + at, magic, sizeof magic) == 0)
            return true;
    return false;
}

static int bad(const zs_tensorfile *f, const char *what, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: %s; the file is truncated or damaged", f->path, what);
}

static int next_pickle(zs_pickle *p, const zs_tensorfile *f, size_t *at, zs_error *err)
{
    zs_span rest = {f->bytes.p + *at, f->bytes.n - *at};
    int status = zs_pickle_parse(p, f->path, rest, err);
    *at += p->used;
    return status;
}

static const zs_pvalue *lookup(const zs_pvalue *dict, const char *key)
{
    if (dict->kind != ZS_P_DICT)
        return NULL;
    for (size_t i = 0; i + 1 < dict->u.seq.n; i += 2)
        if (zs_pvalue_is_str(dict->u.seq.v[i], key))
            return dict->u.seq.v[i + 1];
    return NULL;
}

/* The three pickles before the object. */
static int read_preamble(const zs_tensorfile *f, size_t *at, zs_error *err)
{
    for (int i = 0; i < 3; i++) {
        zs_pickle p;
        int status = next_pickle(&p, f, at, err);
        if (status < 0)
            return status;
        const zs_pvalue *little = i == 2 ? lookup(p.root, "little_endian") : NULL;
        if (i == 1 && (p.root->kind != ZS_P_INT || p.root->u.i != PROTOCOL))
            status = zs_fail(err, ZS_E_UNSUPPORTED,
                             "%s: is a PyTorch file of an unknown protocol, "
                             "not %d",
                             f->path, PROTOCOL);
        else if (little && little->kind == ZS_P_BOOL && !little->u.i)
            status = zs_fail(err, ZS_E_UNSUPPORTED,
                             "%s: was written on a big-endian machine; save "
                             "it once on a little-endian one",
                             f->path);
        zs_pickle_free(&p);
        if (status < 0)
            return status;
    }
    return ZS_OK;
}

static bool is_storage(const zs_pvalue *pid)
{
    return zs_pvalue_is_str(zs_pvalue_at(pid, 0), "storage");
}

/* Which storages the object refers to: the data that follow do not say their types. */
static int collect(legacy *l, const zs_pickle *p, zs_error *err)
{
    size_t n = p->persids.n;
    l->found = zs_alloc(n, sizeof *l->found);
    l->index = zs_alloc(n, sizeof *l->index);
    if (!l->found || !l->index)
        return zs_fail_nomem(err, n * sizeof *l->found, "the list of storages");
    for (size_t i = 0; i < n; i++) {
        zs_torchstorage s;
        size_t k = 0;
        if (!is_storage(p->persids.v[i]->u.pid))
            continue; /* ('module', class, file, source) */
        int status = zs_torch_parse_persid(&s, p->persids.v[i]->u.pid, l->f->path, err);
        if (status < 0)
            return status;
        if (zs_nameindex_get(&l->keys, &k, (const char *)s.key.p, s.key.n)) {
            if (l->found[k].dtype != s.dtype || l->found[k].numel != s.numel)
                return bad(l->f, "two tensors disagree about their storage", err);
            continue;
        }
        if (!zs_nameindex_add(&l->keys, (const char *)s.key.p, s.key.n, l->count))
            return zs_fail_nomem(err, s.key.n, "the list of storages");
        l->index[l->count] = NO_DATA;
        l->found[l->count++] = s;
    }
    return ZS_OK;
}

static int read_storage(legacy *l, const zs_pvalue *key, size_t *at, zs_error *err)
{
    zs_tensorfile *f = l->f;
    size_t k = 0, bytes = 0;
    int64_t numel = 0;
    if (key->kind != ZS_P_STR ||
        !zs_nameindex_get(&l->keys, &k, (const char *)key->u.s.p, key->u.s.n))
        return bad(f, "it lists a storage that no tensor uses", err);
    if (f->bytes.n - *at < sizeof numel)
        return bad(f, "it ends before its last storage", err);
    memcpy(&numel, f->bytes.p + *at, sizeof numel);
    *at += sizeof numel;
    if (numel != l->found[k].numel || l->index[k] != NO_DATA)
        return bad(f, "a storage is not as large as its tensors say", err);
    if (!zs_mul_size((size_t)numel, zs_dtype_size(l->found[k].dtype), &bytes) ||
        bytes > f->bytes.n - *at)
        return bad(f, "it ends in the middle of a storage", err);
    zs_tfstorage s = {.p = f->bytes.p + *at, .n = bytes};
    *at += bytes;
    return zs_tensorfile_add_storage(f, &l->index[k], s, err);
}

static int read_storages(legacy *l, size_t at, zs_error *err)
{
    zs_pickle keys;
    int status = next_pickle(&keys, l->f, &at, err);
    if (status < 0)
        return status;
    if (keys.root->kind != ZS_P_LIST)
        status = bad(l->f, "the list of storages is missing", err);
    for (size_t i = 0; status >= 0 && zs_pvalue_at(keys.root, i); i++)
        status = read_storage(l, zs_pvalue_at(keys.root, i), &at, err);
    zs_pickle_free(&keys);
    return status;
}

static int resolve(void *ctx, size_t *index, const zs_torchstorage *s, zs_error *err)
{
    legacy *l = ctx;
    size_t k = 0;
    if (!zs_nameindex_get(&l->keys, &k, (const char *)s->key.p, s->key.n) || l->index[k] == NO_DATA)
        return bad(l->f, "the data of a storage are missing", err);
    *index = l->index[k];
    return ZS_OK;
}

static int open_legacy(zs_tensorfile *f, zs_error *err)
{
    f->format = "torch legacy";
    legacy l = {.f = f};
    zs_pickle object = {0};
    size_t at = 0;
    int status = read_preamble(f, &at, err);
    if (status >= 0)
        status = next_pickle(&object, f, &at, err);
    if (status >= 0)
        status = collect(&l, &object, err);
    if (status >= 0)
        status = read_storages(&l, at, err);
    if (status >= 0)
        status = zs_torch_walk(f, &object, resolve, &l, err);
    zs_nameindex_free(&l.keys);
    zs_free(l.found);
    zs_free(l.index);
    zs_pickle_free(&object);
    return status;
}

const zs_tfkind zs_tfkind_torch_legacy = {probe, open_legacy};
