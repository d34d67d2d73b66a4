/* SPDX-License-Identifier: MIT */
/* PyTorch >= 1.6: a zip archive <folder>/data.pkl, <folder>/data/<key>, <folder>/version and,
 * in newer ones, <folder>/byteorder. Source: torch/serialization.py. */
#include "io/tensorfile_impl.h"
#include "io/torchtree.h"
#include "io/ziparchive.h"

#include <string.h>

enum { PICKLE_RATIO = 64, PICKLE_FREE = 1 << 20, UNSEEN = -1 };

typedef struct archive {
    zs_tensorfile *f;
    char *folder;        /* "last/", or "" */
    int64_t *storage_of; /* per zip entry: number in f->storages, or UNSEEN */
    zs_strbuf name;      /* scratch */
} archive;

/* Bytes of a storage's key worth showing in a message. */
static int shown_of(const zs_torchstorage *s)
{
    return (int)(s->key.n < 80 ? s->key.n : 80);
}

/* *entry = the number of the entry "<folder><name>", or -1 when there is none. */
static int locate(int64_t *entry, archive *a, const char *name, size_t n, zs_error *err)
{
    a->name.n = 0;
    zs_strbuf_append(&a->name, a->folder, strlen(a->folder));
    zs_strbuf_append(&a->name, name, n);
    if (a->name.failed)
        return zs_fail_nomem(err, n, "the name of an archive entry");
    /* a NUL would make libzip see a shorter name */
    *entry = memchr(name, 0, n) ? -1 : zip_name_locate(a->f->zip, a->name.s, ZIP_FL_ENC_RAW);
    return ZS_OK;
}

static int locate_storage(int64_t *entry, archive *a, const zs_torchstorage *s, zs_error *err)
{
    char *name = zs_alloc(s->key.n + 5, 1);
    if (!name)
        return zs_fail_nomem(err, s->key.n + 5, "the name of a storage");
    memcpy(name, "data/", 5);
    memcpy(name + 5, s->key.p, s->key.n);
    int status = locate(entry, a, name, s->key.n + 5, err);
    zs_free(name);
    if (status >= 0 && *entry < 0)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: storage \"%.*s\" is not in the archive; the file is "
                       "damaged",
                       a->f->path, shown_of(s), (const char *)s->key.p);
    return status;
}

static int resolve(void *ctx, size_t *index, const zs_torchstorage *s, zs_error *err)
{
    archive *a = ctx;
    zs_tensorfile *f = a->f;
    int64_t i = -1;
    uint64_t size = 0;
    size_t want = 0;
    int status = locate_storage(&i, a, s, err);
    if (status >= 0)
        status = zs_ziparchive_size(&size, f->zip, (uint64_t)i, f->bytes.n, f->path, err);
    if (status < 0)
        return status;
    if (!zs_mul_size((size_t)s->numel, zs_dtype_size(s->dtype), &want) || want != size)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: storage \"%.*s\" has %llu bytes in the archive where its tensors need "
                       "%lld elements of %s; the file is damaged",
                       f->path, shown_of(s), (const char *)s->key.p, (unsigned long long)size,
                       (long long)s->numel, zs_dtype_name(s->dtype));
    if (a->storage_of[i] == UNSEEN) {
        size_t n = 0;
        zs_tfstorage st = {.entry = (uint64_t)i, .n = (size_t)size};
        if ((status = zs_tensorfile_add_storage(f, &n, st, err)) < 0)
            return status;
        a->storage_of[i] = (int64_t)n;
    }
    *index = (size_t)a->storage_of[i];
    return ZS_OK;
}

static int check_byteorder(archive *a, zs_error *err)
{
    const char *path = a->f->path;
    char order[8] = {0};
    size_t n = 0;
    int64_t i = -1;
    int status = locate(&i, a, "byteorder", 9, err);
    if (status < 0 || i < 0)
        return status;
    status = zs_ziparchive_peek(&n, a->f->zip, (uint64_t)i, order, sizeof order - 1, path, err);
    if (status < 0 || strncmp(order, "little", 6) == 0)
        return status;
    if (strncmp(order, "big", 3) == 0)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: was written on a big-endian machine; save it "
                       "once on a little-endian one",
                       path);
    return zs_fail(err, ZS_E_FORMAT, "%s: names an unknown byte order; the file is damaged", path);
}

/* *pkl = the unpacked data.pkl (zs_free). A packed one may grow by PICKLE_RATIO: pickles shrink
 * to a fifth or so, a bomb to a thousandth. */
static int load_pickle(uint8_t **pkl, size_t *n, zs_tensorfile *f, uint64_t entry, zs_error *err)
{
    uint64_t size = 0;
    zip_stat_t st;
    int status = zs_ziparchive_size(&size, f->zip, entry, f->bytes.n, f->path, err);
    if (status < 0)
        return status;
    zip_stat_init(&st);
    zip_stat_index(f->zip, entry, 0, &st);
    if (size > PICKLE_FREE && size / PICKLE_RATIO > st.comp_size)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: data.pkl unpacks from %llu to %llu bytes; the file "
                       "is hostile",
                       f->path, (unsigned long long)st.comp_size, (unsigned long long)size);
    *n = (size_t)size;
    *pkl = zs_alloc(*n, 1);
    if (!*pkl)
        return zs_fail_nomem(err, size, "data.pkl");
    status = zs_ziparchive_read(f->zip, entry, *pkl, *n, f->path, err);
    if (status < 0)
        zs_free(*pkl);
    return status;
}

static int walk_archive(archive *a, uint64_t data_pkl, zs_error *err)
{
    uint8_t *pkl = NULL;
    size_t n = 0;
    zs_pickle tree = {0};
    int64_t program = -1;
    int status = check_byteorder(a, err);
    if (status >= 0)
        status = locate(&program, a, "constants.pkl", 13, err);
    if (status < 0)
        return status;
    if (program >= 0)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: is a TorchScript program; save the model's "
                       "state_dict() instead",
                       a->f->path);
    if ((status = load_pickle(&pkl, &n, a->f, data_pkl, err)) < 0)
        return status;
    status = zs_pickle_parse(&tree, a->f->path, (zs_span){pkl, n}, err);
    if (status >= 0)
        status = zs_torch_walk(a->f, &tree, resolve, a, err);
    zs_pickle_free(&tree);
    zs_free(pkl);
    return status;
}

int zs_torchzip_open(zs_tensorfile *f, uint64_t data_pkl, zs_error *err)
{
    f->format = "torch zip";
    const char *name = zip_get_name(f->zip, data_pkl, ZIP_FL_ENC_RAW);
    const char *slash = strchr(name, '/');
    size_t entries = (size_t)zip_get_num_entries(f->zip, 0);
    archive a = {.f = f};
    a.folder = zs_str_format("%.*s", (int)(slash ? slash - name + 1 : 0), name);
    a.storage_of = zs_alloc(entries, sizeof *a.storage_of);
    for (size_t i = 0; a.storage_of && i < entries; i++)
        a.storage_of[i] = UNSEEN;
    int status = a.folder && a.storage_of
                     ? walk_archive(&a, data_pkl, err)
                     : zs_fail_nomem(err, entries * sizeof *a.storage_of, "the archive's entries");
    zs_strbuf_free(&a.name);
    zs_free(a.storage_of);
    zs_free(a.folder);
    return status;
}
