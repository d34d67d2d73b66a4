/* SPDX-License-Identifier: MIT */
#include "data/imageindex.h"

#include <string.h>

static const size_t ambiguous = SIZE_MAX;

static const char *base_of(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? slash + 1 : name;
}

/* Without the extension; a leading dot starts no extension. */
static size_t stem_length(const char *base)
{
    const char *dot = strrchr(base, '.');
    return dot && dot > base ? (size_t)(dot - base) : strlen(base);
}

static bool all_digits(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9')
            return false;
    return n > 0;
}

/* The digits of a number without leading zeros: "#17", "00017.jpg" -> "17". n = 0 for other names.
 * with_size also takes LMDB's "256-00017". */
static zs_span number_of(const char *name, bool with_size)
{
    const char *s = base_of(name);
    size_t n = stem_length(s);
    if (*s == '#') {
        s++;
        n--;
    }
    const char *dash = with_size ? memchr(s, '-', n) : NULL;
    if (dash && all_digits(s, (size_t)(dash - s))) {
        n -= (size_t)(dash + 1 - s);
        s = dash + 1;
    }
    if (!all_digits(s, n))
        return (zs_span){0};
    while (n > 1 && *s == '0') {
        s++;
        n--;
    }
    return (zs_span){(const uint8_t *)s, n};
}

static zs_span key_of(int way, const char *name, bool of_source)
{
    const char *base = base_of(name);
    switch (way) {
    case ZS_NAME_PATH: return (zs_span){(const uint8_t *)name, strlen(name)};
    case ZS_NAME_BASE: return (zs_span){(const uint8_t *)base, strlen(base)};
    case ZS_NAME_STEM: return (zs_span){(const uint8_t *)base, stem_length(base)};
    default: return number_of(name, of_source);
    }
}

static bool add_key(zs_nameindex *ix, zs_span key, size_t image)
{
    size_t was;
    if (zs_nameindex_get(ix, &was, (const char *)key.p, key.n))
        image = ambiguous;
    return zs_nameindex_add(ix, (const char *)key.p, key.n, image);
}

static bool add_image(zs_imageindex *ix, const char *name, size_t image)
{
    bool ok = true;
    for (int way = 0; ok && way < ZS_NAME_WAYS; way++) {
        zs_span key = key_of(way, name, true);
        if (key.n > 0)
            ok = add_key(&ix->by[way], key, image);
    }
    return ok;
}

/* Data sets without file names call their images "#17" or "256-00017". */
static bool has_number(const char *name)
{
    return (*name == '#' || strchr(name, '-')) && !strchr(name, '.') && number_of(name, true).n > 0;
}

int zs_imageindex_open(zs_imageindex *ix, const zs_source *s, zs_error *err)
{
    *ix = (zs_imageindex){.numbered = true};
    int64_t n = zs_source_count(s);
    ix->names = zs_calloc((size_t)n, sizeof *ix->names);
    bool ok = ix->names != NULL;
    for (int64_t i = 0; ok && i < n; i++) {
        char buf[64];
        ix->names[i] = zs_str_dup(zs_source_name(s, i, buf, sizeof buf));
        ix->count = i + 1;
        ok = ix->names[i] && add_image(ix, ix->names[i], (size_t)i);
        ix->numbered = ok && ix->numbered && has_number(ix->names[i]);
    }
    if (ok)
        return ZS_OK;
    zs_imageindex_close(ix);
    return zs_fail_nomem(err, (unsigned long long)n * 64, "the names of images");
}

void zs_imageindex_close(zs_imageindex *ix)
{
    for (int64_t i = 0; i < ix->count; i++)
        zs_free(ix->names[i]);
    zs_free(ix->names);
    for (int way = 0; way < ZS_NAME_WAYS; way++)
        zs_nameindex_free(&ix->by[way]);
    *ix = (zs_imageindex){0};
}

int64_t zs_imageindex_find(const zs_imageindex *ix, const char *name)
{
    for (int way = 0; way < ZS_NAME_WAYS; way++) {
        size_t image;
        zs_span key = key_of(way, name, false);
        if (way == ZS_NAME_NUMBER && !ix->numbered)
            break;
        if (key.n > 0 && zs_nameindex_get(&ix->by[way], &image, (const char *)key.p, key.n))
            return image == ambiguous ? ZS_IMAGE_AMBIGUOUS : (int64_t)image;
    }
    return ZS_IMAGE_MISSING;
}
