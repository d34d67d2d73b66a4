/* SPDX-License-Identifier: MIT */
#include "data/sourcekind.h"

#include <string.h>

/* The first that claims a spec opens it: parts of other sources come first, and the folder kind,
 * which claims every path, last. */
static const zs_source_kind *const kinds[] = {
    &zs_source_split, &zs_source_fashion, &zs_source_idx,    &zs_source_cifar,
    &zs_source_lmdb,  &zs_source_tar,     &zs_source_folder, NULL};

const zs_source_kind *zs_source_kind_of(const char *spec)
{
    int k = 0;
    while (kinds[k] && !kinds[k]->claims(spec))
        k++;
    return kinds[k];
}

void zs_source_list_syntax(zs_strbuf *b)
{
    for (int i = 0; kinds[i]; i++)
        zs_strbuf_addf(b, "%s%s", i ? ", " : "", kinds[i]->syntax);
}

uint64_t zs_source_hash(uint64_t h, const void *p, size_t n)
{
    const uint8_t *b = p;
    for (size_t i = 0; i < n; i++)
        h = (h ^ b[i]) * 0x100000001B3u;
    return h;
}

uint64_t zs_source_hash_i64(uint64_t h, int64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++)
        b[i] = (uint8_t)((uint64_t)v >> (8 * i));
    return zs_source_hash(h, b, sizeof b);
}

static int fail_scheme(const char *spec, zs_error *err)
{
    zs_strbuf known = {0};
    zs_source_list_syntax(&known);
    int status = zs_fail(err, ZS_E_INVALID, "%s: is no kind of data that is read; use %s",
                         *spec ? spec : "empty data argument", known.failed ? "a folder" : known.s);
    zs_strbuf_free(&known);
    return status;
}

int zs_source_open(zs_source **out, const char *spec, zs_error *err)
{
    *out = NULL;
    const zs_source_kind *kind = zs_source_kind_of(spec);
    if (!kind)
        return fail_scheme(spec, err);
    zs_source *s = zs_calloc(1, sizeof *s);
    if (!s)
        return zs_fail_nomem(err, sizeof *s, "a data source");
    s->kind = kind;
    int status = s->kind->open(s, spec, err);
    if (status < 0)
        zs_source_close(&s);
    *out = s;
    return status;
}

void zs_source_close(zs_source **s)
{
    if (!*s)
        return;
    (*s)->kind->close((*s)->self);
    for (int k = 0; (*s)->class_names && k < (*s)->class_count; k++)
        zs_free((*s)->class_names[k]);
    zs_free((*s)->class_names);
    zs_free(*s);
    *s = NULL;
}

int64_t zs_source_count(const zs_source *s)
{
    return s->count;
}

int zs_source_read(const zs_source *s, int64_t i, int channels, zs_image *out, zs_error *err)
{
    *out = (zs_image){0};
    if (i < 0 || i >= s->count)
        return zs_fail(err, ZS_E_INVALID, "image %lld does not exist; the data set has 0 to %lld",
                       (long long)i, (long long)s->count - 1);
    return s->kind->read(s->self, i, channels, out, err);
}

bool zs_source_is_scheme(const char *spec)
{
    const zs_source_kind *kind = zs_source_kind_of(spec);
    return kind && kind != &zs_source_folder;
}

bool zs_source_is_encoded(const zs_source *s)
{
    return s->kind->encoded != NULL;
}

const char *zs_source_title(const zs_source *s)
{
    return s->kind->title;
}

int zs_source_copy_bytes(uint8_t **bytes, size_t *n, const void *p, size_t size, zs_error *err)
{
    *bytes = zs_alloc(size, 1);
    *n = *bytes ? size : 0;
    if (!*bytes)
        return zs_fail_nomem(err, size, "an image file");
    memcpy(*bytes, p, size);
    return ZS_OK;
}

int zs_source_encoded(const zs_source *s, int64_t i, uint8_t **bytes, size_t *n, zs_error *err)
{
    zs_image im = {0};
    *bytes = NULL;
    *n = 0;
    if (s->kind->encoded && i >= 0 && i < s->count)
        return s->kind->encoded(s->self, i, bytes, n, err);
    int status = zs_source_read(s, i, 0, &im, err);
    if (status == ZS_OK)
        status = zs_image_encode_png(bytes, n, &im, err);
    zs_image_free(&im);
    return status;
}

const char *zs_source_name(const zs_source *s, int64_t i, char *buf, size_t cap)
{
    return i < 0 || i >= s->count ? "?" : s->kind->name(s->self, i, buf, cap);
}

int zs_source_label(const zs_source *s, int64_t i)
{
    return i < 0 || i >= s->count ? -1 : s->kind->label(s->self, i);
}

int zs_source_class_count(const zs_source *s)
{
    return s->class_count;
}

const char *zs_source_class_name(const zs_source *s, int k)
{
    return k < 0 || k >= s->class_count ? "?" : s->class_names[k];
}

uint64_t zs_source_fingerprint(const zs_source *s)
{
    return s->fingerprint;
}

int zs_source_read_float(const zs_source *s, int64_t i, int size, int channels, zs_fit fit,
                         float *x, zs_error *err)
{
    zs_image raw = {0}, fitted = {0};
    int status = zs_source_read(s, i, channels, &raw, err);
    if (status == ZS_OK)
        status = zs_image_fit(&fitted, &raw, size, fit, err);
    if (status == ZS_OK)
        zs_image_to_float(x, &fitted);
    zs_image_free(&raw);
    zs_image_free(&fitted);
    return status;
}
