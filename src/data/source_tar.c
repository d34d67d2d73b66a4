/* SPDX-License-Identifier: MIT */
/* "PATTERN.tar": tar archives, one or several shards, as webdataset writes them. Every .png, .jpg,
 * .jpeg or .webp member is an image. Neighbouring members with the same name up to the first dot of
 * the base name describe it: KEY.cls is its class (a number or a name), KEY.json an object whose
 * "class", or else "label", is. Without any of these the first-level folders are the classes. */
#include "data/classes.h"
#include "data/shards.h"
#include "data/sourcekind.h"
#include "data/tarfile.h"
#include "io/nameindex.h"

#include <jansson.h>
#include <string.h>

typedef struct tar_image {
    char *name; /* owned: "a/b.png", or "shard.tar/a/b.png" where shards share names */
    zs_span data;
    char *class_text; /* owned or NULL */
    int label;
    size_t shard;
} tar_image;

typedef struct tar_source {
    zs_shards shards;
    zs_mapfile *maps; /* [shards.count] */
    tar_image *images;
    size_t count, cap;
    bool prefixed; /* the names begin with the shard's */
} tar_source;

static bool claims_tar(const char *spec)
{
    return zs_str_ends(spec, ".tar") || zs_str_starts(spec, "tar:");
}

static void close_tar(void *self)
{
    tar_source *x = self;
    if (!x)
        return;
    for (size_t i = 0; i < x->count; i++) {
        zs_free(x->images[i].name);
        zs_free(x->images[i].class_text);
    }
    zs_free(x->images);
    for (size_t i = 0; x->maps && i < x->shards.count; i++)
        zs_mapfile_close(&x->maps[i]);
    zs_free(x->maps);
    zs_shards_close(&x->shards);
    zs_free(x);
}

/* ---- members ---- */

/* The members of one sample, which lie side by side. */
typedef struct sample {
    char *key;        /* owned: name up to the first dot of the base name */
    size_t first;     /* its first image */
    char *class_text; /* owned or NULL: from .json before .cls */
    bool from_json;
} sample;

static const char *base_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

static size_t key_length(const char *name)
{
    const char *base = base_of(name);
    return (size_t)(base - name) + strcspn(base, ".");
}

/* Gives the class of a finished sample to its images and starts anew. */
static int end_sample(tar_source *x, sample *s, zs_error *err)
{
    for (size_t i = s->first; s->class_text && i < x->count; i++)
        if (!(x->images[i].class_text = zs_str_dup(s->class_text)))
            return zs_fail_nomem(err, strlen(s->class_text), "a class name");
    zs_free(s->key);
    zs_free(s->class_text);
    *s = (sample){.first = x->count};
    return ZS_OK;
}

static int add_image(tar_source *x, const zs_tar_member *m, size_t shard, zs_error *err)
{
    void *items = x->images;
    char *name = zs_str_dup(m->name);
    bool ok = name && zs_grow(&items, &x->cap, x->count, sizeof *x->images);
    x->images = items;
    if (!ok) {
        zs_free(name);
        return zs_fail_nomem(err, x->cap * 2 * sizeof *x->images, "the list of images");
    }
    x->images[x->count++] = (tar_image){name, m->data, NULL, -1, shard};
    return ZS_OK;
}

static int fail_class(const char *shard, const char *name, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: %s names no class; .cls holds a number or a name, .json an object whose "
                   "\"class\" or \"label\" is one",
                   shard, name);
}

static int set_class(sample *s, char *text, bool json, zs_error *err)
{
    if (!text)
        return zs_fail_nomem(err, 64, "a class name");
    if (s->class_text && s->from_json && !json) {
        zs_free(text);
        return ZS_OK;
    }
    zs_free(s->class_text);
    s->class_text = text;
    s->from_json = json;
    return ZS_OK;
}

static int read_cls(sample *s, const zs_tar_member *m, const char *shard, zs_error *err)
{
    enum { CLASS_MAX = 255 };
    const char *p = (const char *)m->data.p;
    size_t n = m->data.n;
    while (n > 0 && strchr(" \t\r\n", p[n - 1]) && p[n - 1])
        n--;
    while (n > 0 && (*p == ' ' || *p == '\t')) {
        p++;
        n--;
    }
    if (n == 0 || n > CLASS_MAX || memchr(p, 0, n))
        return fail_class(shard, m->name, err);
    return set_class(s, zs_str_format("%.*s", (int)n, p), false, err);
}

/* A .json without these members says nothing about the class. */
static int read_json(sample *s, const zs_tar_member *m, const char *shard, zs_error *err)
{
    json_t *j = json_loadb((const char *)m->data.p, m->data.n, 0, NULL);
    const json_t *v = json_object_get(j, "class");
    v = v ? v : json_object_get(j, "label");
    int status = ZS_OK;
    if (!j)
        status = zs_fail(err, ZS_E_FORMAT, "%s: %s is not JSON", shard, m->name);
    else if (json_is_string(v) && *json_string_value(v))
        status = set_class(s, zs_str_dup(json_string_value(v)), true, err);
    else if (json_is_integer(v))
        status = set_class(s, zs_str_format("%lld", (long long)json_integer_value(v)), true, err);
    else if (v && !json_is_null(v))
        status = fail_class(shard, m->name, err);
    json_decref(j);
    return status;
}

static int take_member(tar_source *x, sample *s, const zs_tar_member *m, size_t k, zs_error *err)
{
    const char *shard = x->shards.paths[k];
    size_t n = key_length(m->name);
    const char *extension = m->name + n;
    int status = ZS_OK;
    if (!s->key || strlen(s->key) != n || memcmp(s->key, m->name, n) != 0) {
        status = end_sample(x, s, err);
        if (status == ZS_OK && !(s->key = zs_str_format("%.*s", (int)n, m->name)))
            status = zs_fail_nomem(err, n, "a file name");
    }
    if (status < 0 || *base_of(m->name) == '.') /* hidden, such as macOS's "._a.jpg" */
        return status;
    if (zs_image_name(m->name))
        return add_image(x, m, k, err);
    if (strcmp(extension, ".cls") == 0)
        return read_cls(s, m, shard, err);
    return strcmp(extension, ".json") == 0 ? read_json(s, m, shard, err) : ZS_OK;
}

static int read_shard(tar_source *x, size_t k, zs_error *err)
{
    const char *shard = x->shards.paths[k];
    int status = zs_mapfile_open(&x->maps[k], shard, err);
    if (status < 0)
        return status;
    zs_tar t = {.label = shard, .p = x->maps[k].p, .n = x->maps[k].n};
    zs_tar_member m;
    sample s = {.first = x->count};
    while ((status = zs_tar_next(&t, &m, err)) == 1)
        if ((status = take_member(x, &s, &m, k, err)) < 0)
            break;
    if (status == ZS_OK)
        status = end_sample(x, &s, err);
    zs_free(s.key);
    zs_free(s.class_text);
    zs_tar_close(&t);
    return status;
}

/* ---- the whole ---- */

/* *twice = the second image of a name, or `count` when all differ. */
static int find_twice(const tar_source *x, size_t *twice, zs_error *err)
{
    zs_nameindex ix = {0};
    int status = ZS_OK;
    *twice = x->count;
    for (size_t i = 0; status == ZS_OK && *twice == x->count && i < x->count; i++) {
        const char *name = x->images[i].name;
        size_t was;
        if (zs_nameindex_get(&ix, &was, name, strlen(name)))
            *twice = i;
        else if (!zs_nameindex_add(&ix, name, strlen(name), i))
            status = zs_fail_nomem(err, x->count * sizeof(zs_nameslot), "the names of images");
    }
    zs_nameindex_free(&ix);
    return status;
}

static int prefix_names(tar_source *x, zs_error *err)
{
    for (size_t i = 0; i < x->count; i++) {
        tar_image *im = &x->images[i];
        char *name = zs_str_format("%s/%s", base_of(x->shards.paths[im->shard]), im->name);
        if (!name)
            return zs_fail_nomem(err, strlen(im->name), "the names of images");
        zs_free(im->name);
        im->name = name;
    }
    x->prefixed = true;
    return ZS_OK;
}

static int check_names(tar_source *x, zs_error *err)
{
    size_t twice;
    int status = find_twice(x, &twice, err);
    if (status == ZS_OK && twice < x->count && x->shards.count > 1) {
        status = prefix_names(x, err);
        if (status == ZS_OK)
            status = find_twice(x, &twice, err);
    }
    if (status == ZS_OK && twice < x->count)
        status = zs_fail(err, ZS_E_FORMAT,
                         "%s: holds two images called \"%s\"; name the images of one archive "
                         "differently",
                         x->shards.paths[x->images[twice].shard], x->images[twice].name);
    return status;
}

/* Within its shard. */
static const char *plain_name(const tar_source *x, size_t i)
{
    const char *name = x->images[i].name;
    return x->prefixed ? strchr(name, '/') + 1 : name;
}

/* First-level folders as classes where no member names one. */
static int take_folders(tar_source *x, zs_error *err)
{
    for (size_t i = 0; i < x->count; i++)
        if (x->images[i].class_text)
            return ZS_OK;
    for (size_t i = 0; i < x->count; i++) {
        const char *name = plain_name(x, i), *slash = strchr(name, '/');
        if (slash && !(x->images[i].class_text = zs_str_format("%.*s", (int)(slash - name), name)))
            return zs_fail_nomem(err, strlen(name), "a class name");
    }
    return ZS_OK;
}

static int set_classes(zs_source *s, tar_source *x, zs_error *err)
{
    int status = take_folders(x, err);
    if (status < 0)
        return status;
    const char **text = zs_alloc(x->count, sizeof *text);
    int *label = zs_alloc(x->count, sizeof *label);
    if (!text || !label)
        status = zs_fail_nomem(err, x->count * sizeof *text, "class names");
    for (size_t i = 0; status == ZS_OK && i < x->count; i++)
        text[i] = x->images[i].class_text;
    if (status == ZS_OK)
        status =
            zs_classes_make(&s->class_names, &s->class_count, label, text, (int64_t)x->count, err);
    for (size_t i = 0; status == ZS_OK && i < x->count; i++) {
        x->images[i].label = label[i];
        zs_free(x->images[i].class_text);
        x->images[i].class_text = NULL;
    }
    zs_free(text);
    zs_free(label);
    return status;
}

static uint64_t fingerprint(const tar_source *x)
{
    uint64_t h = zs_source_hash(ZS_SOURCE_HASH, "tar", 4);
    for (size_t i = 0; i < x->count; i++) {
        const char *name = plain_name(x, i);
        h = zs_source_hash(h, name, strlen(name) + 1);
        h = zs_source_hash_i64(h, (int64_t)x->images[i].data.n);
    }
    return h;
}

static int open_tar(zs_source *s, const char *spec, zs_error *err)
{
    tar_source *x = zs_calloc(1, sizeof *x);
    s->self = x;
    if (!x)
        return zs_fail_nomem(err, sizeof *x, "a data source");
    int status = zs_shards_open(&x->shards, zs_str_starts(spec, "tar:") ? spec + 4 : spec, err);
    if (status < 0)
        return status;
    x->maps = zs_calloc(x->shards.count, sizeof *x->maps);
    if (!x->maps)
        return zs_fail_nomem(err, x->shards.count * sizeof *x->maps, "a list of shards");
    for (size_t k = 0; status == ZS_OK && k < x->shards.count; k++)
        status = read_shard(x, k, err);
    if (status == ZS_OK && x->count == 0)
        status = zs_fail(err, ZS_E_INVALID,
                         "%s: holds no images; .png, .jpg, .jpeg and .webp members are read", spec);
    if (status == ZS_OK)
        status = check_names(x, err);
    if (status == ZS_OK)
        status = set_classes(s, x, err);
    if (status < 0)
        return status;
    s->count = (int64_t)x->count;
    s->fingerprint = fingerprint(x);
    return ZS_OK;
}

static int read_tar(const void *self, int64_t i, int channels, zs_image *out, zs_error *err)
{
    const tar_source *x = self;
    const tar_image *im = &x->images[i];
    char *label = zs_str_format("%s: %s", x->shards.paths[im->shard], plain_name(x, (size_t)i));
    if (!label)
        return zs_fail_nomem(err, strlen(im->name), "a file name");
    int status = zs_image_read_bytes(out, label, im->data.p, im->data.n, channels, err);
    zs_free(label);
    return status;
}

static const char *name_tar(const void *self, int64_t i, char *buf, size_t cap)
{
    (void)buf;
    (void)cap;
    return ((const tar_source *)self)->images[i].name;
}

static int label_tar(const void *self, int64_t i)
{
    return ((const tar_source *)self)->images[i].label;
}

static int encoded_tar(const void *self, int64_t i, uint8_t **bytes, size_t *n, zs_error *err)
{
    const tar_source *x = self;
    return zs_source_copy_bytes(bytes, n, x->images[i].data.p, x->images[i].data.n, err);
}

const zs_source_kind zs_source_tar = {
    "SHARDS.tar", claims_tar, open_tar,     close_tar,   read_tar,
    name_tar,     label_tar,  "tar shards", encoded_tar, false,
};
