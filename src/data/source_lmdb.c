/* SPDX-License-Identifier: MIT */
/* "PATH" of an LMDB database and "lmdb:PATH[,SIZE]", in the layout of Diffusion Autoencoders
 * (dataset.py, BaseLMDB): the image files under "{size}-{index}", index with leading zeros, and
 * their count as text under "length". zsem also keeps there, as JSON arrays, "names" of the images,
 * "classes" (names) and "labels" (a class or -1 for each image). */
#include "data/lmdb.h"
#include "data/sourcekind.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct lmdb_source {
    zs_mapfile map;
    char *path;      /* of data.mdb, for messages */
    zs_span *images; /* [count] files within the map */
    char **names;    /* [count] or NULL */
    int *labels;     /* [count] or NULL */
    int64_t count;
    int64_t size; /* the number in the keys */
    int digits;   /* of the index in the keys */
} lmdb_source;

/* What a walk over the keys collects. */
typedef struct keys {
    lmdb_source *x;
    int64_t wanted; /* size asked for; 0: the largest */
    int64_t found;  /* images of x->size */
    zs_span length, names, classes, labels;
} keys;

/* ---- keys ---- */

/* Decimal digits to a number below 2^53; false for anything else. */
static bool read_digits(int64_t *v, const uint8_t *p, size_t n)
{
    *v = 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9' || *v >> 49)
            return false;
        *v = 10 * *v + (p[i] - '0');
    }
    return n > 0;
}

/* "256-00017" */
static bool parse_key(int64_t *size, int64_t *index, int *digits, zs_span key)
{
    const uint8_t *dash = key.n ? memchr(key.p, '-', key.n) : NULL;
    if (!dash)
        return false;
    size_t before = (size_t)(dash - key.p), after = key.n - before - 1;
    *digits = (int)after;
    return after < 20 && read_digits(size, key.p, before) && read_digits(index, dash + 1, after);
}

static bool is_key(zs_span key, const char *name)
{
    return key.n == strlen(name) && memcmp(key.p, name, key.n) == 0;
}

/* First walk: the special keys, and which size there is. */
static int see_key(void *ctx, const zs_lmdb_entry *e, zs_error *err)
{
    (void)err;
    keys *k = ctx;
    int64_t size, index;
    int digits;
    if (is_key(e->key, "length"))
        k->length = e->value;
    else if (is_key(e->key, "names"))
        k->names = e->value;
    else if (is_key(e->key, "classes"))
        k->classes = e->value;
    else if (is_key(e->key, "labels"))
        k->labels = e->value;
    else if (parse_key(&size, &index, &digits, e->key) && size > k->x->size &&
             (k->wanted == 0 || size == k->wanted))
        k->x->size = size;
    return ZS_OK;
}

/* Second walk: the images of that size. */
static int take_image(void *ctx, const zs_lmdb_entry *e, zs_error *err)
{
    keys *k = ctx;
    lmdb_source *x = k->x;
    int64_t size, index;
    int digits;
    if (!parse_key(&size, &index, &digits, e->key) || size != x->size)
        return ZS_OK;
    if (index >= x->count)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: holds image %lld, but its key \"length\" promises only %lld images; "
                       "correct \"length\"",
                       x->path, (long long)index, (long long)x->count);
    if (x->images[index].p)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: holds image %lld twice, with and without leading zeros", x->path,
                       (long long)index);
    x->images[index] = e->value;
    if (index == 0)
        x->digits = digits;
    k->found++;
    return ZS_OK;
}

static int read_length(keys *k, zs_error *err)
{
    lmdb_source *x = k->x;
    if (x->size == 0 && k->wanted)
        return zs_fail(err, ZS_E_INVALID,
                       "%s: holds no images under keys such as \"%lld-00000\"; name another size, "
                       "or none",
                       x->path, (long long)k->wanted);
    if (x->size == 0)
        return zs_fail(err, ZS_E_FORMAT, "%s: holds no images under keys such as \"256-00000\"",
                       x->path);
    if (!k->length.p)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: has no key \"length\": it was not finished; make it again", x->path);
    if (!read_digits(&x->count, k->length.p, k->length.n) || x->count < 1)
        return zs_fail(err, ZS_E_FORMAT, "%s: its key \"length\" is no count of images", x->path);
    if ((size_t)x->count > x->map.n)
        return zs_fail(err, ZS_E_FORMAT, "%s: its key \"length\" promises %lld images in %zu bytes",
                       x->path, (long long)x->count, x->map.n);
    return ZS_OK;
}

static int list_images(keys *k, zs_error *err)
{
    lmdb_source *x = k->x;
    int status = zs_lmdb_each(x->path, x->map.p, x->map.n, see_key, k, err);
    if (status == ZS_OK)
        status = read_length(k, err);
    if (status < 0)
        return status;
    x->images = zs_calloc((size_t)x->count, sizeof *x->images);
    if (!x->images)
        return zs_fail_nomem(err, (unsigned long long)x->count * sizeof *x->images,
                             "an image list");
    status = zs_lmdb_each(x->path, x->map.p, x->map.n, take_image, k, err);
    for (int64_t i = 0; status == ZS_OK && k->found < x->count && i < x->count; i++)
        if (!x->images[i].p)
            status = zs_fail(
                err, ZS_E_FORMAT,
                "%s: image %lld-%05lld of %lld is missing; make the database again, or name a "
                "size that is complete, as in lmdb:PATH,64",
                x->path, (long long)x->size, (long long)i, (long long)x->count);
    return status;
}

/* ---- names and classes ---- */

static int fail_extra(const lmdb_source *x, const char *key, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: its key \"%s\" does not fit its %lld images", x->path,
                   key, (long long)x->count);
}

static int read_array(json_t **out, const lmdb_source *x, const char *key, zs_span text,
                      zs_error *err)
{
    *out = json_loadb((const char *)text.p, text.n, 0, NULL);
    return json_is_array(*out) ? ZS_OK : fail_extra(x, key, err);
}

static int read_names(lmdb_source *x, const json_t *names, zs_error *err)
{
    if (json_array_size(names) != (size_t)x->count)
        return fail_extra(x, "names", err);
    x->names = zs_calloc((size_t)x->count, sizeof *x->names);
    if (!x->names)
        return zs_fail_nomem(err, (unsigned long long)x->count * sizeof *x->names, "image names");
    for (int64_t i = 0; i < x->count; i++) {
        const char *name = json_string_value(json_array_get(names, (size_t)i));
        if (!name || !*name)
            return fail_extra(x, "names", err);
        if (!(x->names[i] = zs_str_dup(name)))
            return zs_fail_nomem(err, strlen(name), "an image name");
    }
    return ZS_OK;
}

static int read_classes(zs_source *s, lmdb_source *x, const json_t *classes, const json_t *labels,
                        zs_error *err)
{
    size_t n = json_array_size(classes);
    if (n < 1 || n > 1 << 24 || json_array_size(labels) != (size_t)x->count)
        return fail_extra(x, "labels", err);
    s->class_names = zs_calloc(n, sizeof *s->class_names);
    x->labels = zs_alloc((size_t)x->count, sizeof *x->labels);
    if (!s->class_names || !x->labels)
        return zs_fail_nomem(err, (unsigned long long)x->count * sizeof *x->labels, "labels");
    s->class_count = (int)n;
    for (size_t k = 0; k < n; k++) {
        const char *name = json_string_value(json_array_get(classes, k));
        if (!name)
            return fail_extra(x, "classes", err);
        if (!(s->class_names[k] = zs_str_dup(name)))
            return zs_fail_nomem(err, strlen(name), "a class name");
    }
    for (int64_t i = 0; i < x->count; i++) {
        const json_t *v = json_array_get(labels, (size_t)i);
        json_int_t k = json_integer_value(v);
        if (!json_is_integer(v) || k < -1 || k >= (json_int_t)n)
            return fail_extra(x, "labels", err);
        x->labels[i] = (int)k;
    }
    return ZS_OK;
}

static int read_extras(zs_source *s, const keys *k, zs_error *err)
{
    json_t *names = NULL, *classes = NULL, *labels = NULL;
    int status = ZS_OK;
    if (k->names.p && (status = read_array(&names, k->x, "names", k->names, err)) == ZS_OK)
        status = read_names(k->x, names, err);
    if (status == ZS_OK && k->classes.p && k->labels.p) {
        status = read_array(&classes, k->x, "classes", k->classes, err);
        if (status == ZS_OK)
            status = read_array(&labels, k->x, "labels", k->labels, err);
        if (status == ZS_OK)
            status = read_classes(s, k->x, classes, labels, err);
    }
    json_decref(names);
    json_decref(classes);
    json_decref(labels);
    return status;
}

/* ---- the source ---- */

static bool is_file(const char *dir, const char *name)
{
    struct stat st;
    char *path = zs_str_format("%s/%s", dir, name);
    bool is = path && stat(path, &st) == 0 && S_ISREG(st.st_mode);
    zs_free(path);
    return is;
}

static bool claims_lmdb(const char *spec)
{
    return zs_str_starts(spec, "lmdb:") || zs_str_ends(spec, ".lmdb") ||
           zs_str_ends(spec, ".mdb") || (*spec && is_file(spec, "data.mdb"));
}

static void close_lmdb(void *self)
{
    lmdb_source *x = self;
    if (!x)
        return;
    for (int64_t i = 0; x->names && i < x->count; i++)
        zs_free(x->names[i]);
    zs_free(x->names);
    zs_free(x->labels);
    zs_free(x->images);
    zs_free(x->path);
    zs_mapfile_close(&x->map);
    zs_free(x);
}

/* Cuts ",SIZE" off; takes the folder's data.mdb. */
static int find_file(lmdb_source *x, int64_t *size, const char *spec, zs_error *err)
{
    const char *path = zs_str_starts(spec, "lmdb:") ? spec + 5 : spec;
    const char *comma = access(path, F_OK) == 0 ? NULL : strrchr(path, ',');
    *size = 0;
    if (comma && (!zs_str_to_i64(comma + 1, size) || *size < 1))
        return zs_fail(err, ZS_E_INVALID, "%s: must be lmdb:PATH or lmdb:PATH,SIZE", spec);
    char *plain = zs_str_format("%.*s", comma ? (int)(comma - path) : (int)strlen(path), path);
    if (plain)
        x->path =
            is_file(plain, "data.mdb") ? zs_str_format("%s/data.mdb", plain) : zs_str_dup(plain);
    zs_free(plain);
    return x->path ? ZS_OK : zs_fail_nomem(err, strlen(spec), "a file name");
}

static uint64_t fingerprint(const lmdb_source *x)
{
    uint64_t h = zs_source_hash(ZS_SOURCE_HASH, "lmdb", 5);
    h = zs_source_hash_i64(h, x->size);
    for (int64_t i = 0; i < x->count; i++)
        h = zs_source_hash_i64(h, (int64_t)x->images[i].n);
    return h;
}

static int open_lmdb(zs_source *s, const char *spec, zs_error *err)
{
    lmdb_source *x = zs_calloc(1, sizeof *x);
    keys k = {.x = x};
    s->self = x;
    if (!x)
        return zs_fail_nomem(err, sizeof *x, "a data source");
    int status = find_file(x, &k.wanted, spec, err);
    if (status == ZS_OK)
        status = zs_mapfile_open(&x->map, x->path, err);
    if (status == ZS_OK)
        status = list_images(&k, err);
    if (status == ZS_OK)
        status = read_extras(s, &k, err);
    if (status < 0)
        return status;
    s->count = x->count;
    s->fingerprint = fingerprint(x);
    return ZS_OK;
}

static const char *name_lmdb(const void *self, int64_t i, char *buf, size_t cap)
{
    const lmdb_source *x = self;
    if (x->names)
        return x->names[i];
    snprintf(buf, cap, "%lld-%0*lld", (long long)x->size, x->digits, (long long)i);
    return buf;
}

static int read_lmdb(const void *self, int64_t i, int channels, zs_image *out, zs_error *err)
{
    const lmdb_source *x = self;
    char name[64];
    char *label = zs_str_format("%s: %s", x->path, name_lmdb(self, i, name, sizeof name));
    if (!label)
        return zs_fail_nomem(err, 64, "a file name");
    int status = zs_image_read_bytes(out, label, x->images[i].p, x->images[i].n, channels, err);
    zs_free(label);
    return status;
}

static int label_lmdb(const void *self, int64_t i)
{
    const lmdb_source *x = self;
    return x->labels ? x->labels[i] : -1;
}

static int encoded_lmdb(const void *self, int64_t i, uint8_t **bytes, size_t *n, zs_error *err)
{
    const lmdb_source *x = self;
    return zs_source_copy_bytes(bytes, n, x->images[i].p, x->images[i].n, err);
}

const zs_source_kind zs_source_lmdb = {
    "PATH.lmdb or lmdb:PATH[,SIZE]",
    claims_lmdb,
    open_lmdb,
    close_lmdb,
    read_lmdb,
    name_lmdb,
    label_lmdb,
    "LMDB database",
    encoded_lmdb,
    false,
};
