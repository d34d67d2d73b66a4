/* SPDX-License-Identifier: MIT */
#include "tasks/images.h"

#include <glob.h>
#include <string.h>
#include <sys/stat.h>

struct zs_images {
    zs_source **sources;
    size_t n, cap;
    int64_t count;
    zs_image_shape shape;
};

static int add_source(zs_images *im, const char *spec, zs_error *err)
{
    void *items = im->sources;
    if (!zs_grow(&items, &im->cap, im->n, sizeof(zs_source *)))
        return zs_fail_nomem(err, sizeof(zs_source *), "the list of images");
    im->sources = items;
    int status = zs_source_open(&im->sources[im->n], spec, err);
    if (status == ZS_OK)
        im->count += zs_source_count(im->sources[im->n++]);
    return status;
}

static bool is_pattern(const char *s)
{
    struct stat st;
    return strpbrk(s, "*?[") && stat(s, &st) != 0 && !zs_source_is_scheme(s);
}

static int add_pattern(zs_images *im, const char *pattern, zs_error *err)
{
    glob_t g;
    int status = ZS_OK;
    if (glob(pattern, 0, NULL, &g) != 0)
        return zs_fail(err, ZS_E_IO, "%s: no file matches this pattern", pattern);
    for (size_t i = 0; status == ZS_OK && i < g.gl_pathc; i++)
        status = add_source(im, g.gl_pathv[i], err);
    globfree(&g);
    return status;
}

int zs_images_open(zs_images **out, const char *const *args, size_t n, zs_image_shape shape,
                   zs_error *err)
{
    zs_images *im = zs_calloc(1, sizeof *im);
    int status = im ? ZS_OK : zs_fail_nomem(err, sizeof *im, "the list of images");
    *out = NULL;
    if (im)
        im->shape = shape;
    for (size_t i = 0; status == ZS_OK && i < n; i++)
        status = is_pattern(args[i]) ? add_pattern(im, args[i], err) : add_source(im, args[i], err);
    if (status < 0)
        zs_images_close(&im);
    *out = im;
    return status;
}

void zs_images_close(zs_images **im)
{
    if (!*im)
        return;
    for (size_t i = 0; i < (*im)->n; i++)
        zs_source_close(&(*im)->sources[i]);
    zs_free((*im)->sources);
    zs_free(*im);
    *im = NULL;
}

int64_t zs_images_count(const zs_images *im)
{
    return im->count;
}

int64_t zs_images_elements(const zs_images *im)
{
    return (int64_t)im->shape.size * im->shape.size * im->shape.channels;
}

static const zs_source *locate(const zs_images *im, int64_t *i)
{
    size_t k = 0;
    while (*i >= zs_source_count(im->sources[k]))
        *i -= zs_source_count(im->sources[k++]);
    return im->sources[k];
}

const char *zs_images_name(const zs_images *im, int64_t i, char *buf, size_t cap)
{
    const zs_source *s = locate(im, &i);
    return zs_source_name(s, i, buf, cap);
}

static int read_one(const zs_images *im, int64_t i, float *x, zs_error *err)
{
    const zs_source *s = locate(im, &i);
    return zs_source_read_float(s, i, im->shape.size, im->shape.channels, im->shape.fit, x, err);
}

int zs_images_read(const zs_images *im, int64_t first, int64_t n, float *x, zs_error *err)
{
    int64_t e = zs_images_elements(im);
    for (int64_t i = 0; i < n; i++) {
        int status = read_one(im, first + i, x + i * e, err);
        if (status < 0)
            return status;
    }
    return ZS_OK;
}
