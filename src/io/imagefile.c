/* SPDX-License-Identifier: MIT */
#include "io/imagefile.h"

#include "io/imagereader.h"
#include "io/mapfile.h"
#include "io/outfile.h"

#include <string.h>
#include <strings.h>

static const zs_image_reader *const readers[] = {&zs_png_reader, &zs_jpeg_reader, &zs_webp_reader,
                                                 NULL};

/* Formats that are recognised only to say what the file is. */
static const struct {
    const char *name, *magic;
    size_t at, n;
} others[] = {
    {"a GIF image", "GIF8", 0, 4},          {"a BMP image", "BM", 0, 2},
    {"a TIFF image", "II*\0", 0, 4},        {"a TIFF image", "MM\0*", 0, 4},
    {"a HEIC or AVIF image", "ftyp", 4, 4}, {"a JPEG 2000 image", "\0\0\0\x0cjP  ", 0, 8},
    {"a zip archive", "PK\3\4", 0, 4},      {"a gzip file", "\x1f\x8b", 0, 2},
};

void zs_image_free(zs_image *im)
{
    zs_free(im->px);
    *im = (zs_image){0};
}

int zs_image_set_size(zs_image *im, const char *label, int64_t w, int64_t h, int c, zs_error *err)
{
    if (w < 1 || h < 1)
        return zs_fail(err, ZS_E_FORMAT, "%s: has no pixels (%lld x %lld); replace the file", label,
                       (long long)w, (long long)h);
    if (w > ZS_IMAGE_MAX_PIXELS || h > ZS_IMAGE_MAX_PIXELS / w)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: %lld x %lld pixels are more than the %lld that are read; scale the "
                       "image down first",
                       label, (long long)w, (long long)h, (long long)ZS_IMAGE_MAX_PIXELS);
    im->w = (int)w;
    im->h = (int)h;
    im->c = c;
    return ZS_OK;
}

int zs_image_alloc(zs_image *out, int w, int h, int c, zs_error *err)
{
    *out = (zs_image){0};
    if (c != 1 && c != 3)
        return zs_fail(err, ZS_E_INVALID, "an image has 1 or 3 channels, not %d", c);
    int status = zs_image_set_size(out, "new image", w, h, c, err);
    if (status < 0)
        return status;
    size_t n = (size_t)w * (size_t)h * (size_t)c;
    out->px = zs_alloc(n, 1);
    if (out->px)
        return ZS_OK;
    *out = (zs_image){0};
    return zs_fail_nomem(err, n, "an image");
}

/* ITU-R 601 luma in 16.16 fixed point, the sum and rounding of PIL's convert("L"). */
static void rgb_to_grey(uint8_t *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++, src += 3)
        dst[i] = (uint8_t)((19595u * src[0] + 38470u * src[1] + 7471u * src[2] + 0x8000u) >> 16);
}

static void grey_to_rgb(uint8_t *dst, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++, dst += 3)
        dst[0] = dst[1] = dst[2] = src[i];
}

int zs_image_convert(zs_image *im, int channels, zs_error *err)
{
    if (channels == 0 || channels == im->c)
        return ZS_OK;
    zs_image out;
    int status = zs_image_alloc(&out, im->w, im->h, channels, err);
    if (status < 0)
        return status;
    size_t n = (size_t)im->w * (size_t)im->h;
    if (channels == 1)
        rgb_to_grey(out.px, im->px, n);
    else
        grey_to_rgb(out.px, im->px, n);
    zs_image_free(im);
    *im = out;
    return ZS_OK;
}

static int fail_unknown(const char *label, const uint8_t *p, size_t n, zs_error *err)
{
    if (n == 0)
        return zs_fail(err, ZS_E_FORMAT, "%s: is empty (0 bytes), not an image", label);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (n >= others[i].at + others[i].n &&
            memcmp(p + others[i].at, others[i].magic, others[i].n) == 0)
            return zs_fail(err, ZS_E_FORMAT,
                           "%s: is %s, which is not read; convert it to PNG, JPEG or WebP", label,
                           others[i].name);
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: is not a PNG, JPEG or WebP image (its first bytes are of no known "
                   "image format)",
                   label);
}

static int read_native(zs_image *im, const zs_image_bytes *in, bool header_only, zs_error *err)
{
    for (int i = 0; readers[i]; i++)
        if (readers[i]->probe(in->p, in->n))
            return readers[i]->read(im, in, header_only, err);
    return fail_unknown(in->label, in->p, in->n, err);
}

int zs_image_read_bytes(zs_image *out, const char *label, const void *p, size_t n, int channels,
                        zs_error *err)
{
    *out = (zs_image){0};
    if (channels != 0 && channels != 1 && channels != 3)
        return zs_fail(err, ZS_E_INVALID, "%s: cannot be read as %d channels; use 0, 1 or 3", label,
                       channels);
    zs_image_bytes in = {label, p, n};
    int status = read_native(out, &in, false, err);
    if (status == ZS_OK)
        status = zs_image_convert(out, channels, err);
    if (status < 0)
        zs_image_free(out);
    return status;
}

int zs_image_read(zs_image *out, const char *path, int channels, zs_error *err)
{
    *out = (zs_image){0};
    zs_mapfile m = {0};
    int status = zs_mapfile_open(&m, path, err);
    if (status < 0)
        return status;
    status = zs_image_read_bytes(out, path, m.p, m.n, channels, err);
    zs_mapfile_close(&m);
    return status;
}

int zs_image_probe(zs_image *out_without_px, const char *path, zs_error *err)
{
    *out_without_px = (zs_image){0};
    zs_mapfile m = {0};
    int status = zs_mapfile_open(&m, path, err);
    if (status < 0)
        return status;
    zs_image_bytes in = {path, m.p, m.n};
    status = read_native(out_without_px, &in, true, err);
    zs_mapfile_close(&m);
    return status;
}

bool zs_image_name(const char *path)
{
    static const char *const ext[] = {".png", ".jpg", ".jpeg", ".webp"};
    size_t n = strlen(path);
    for (size_t i = 0; i < sizeof ext / sizeof *ext; i++) {
        size_t m = strlen(ext[i]);
        if (n > m && strcasecmp(path + n - m, ext[i]) == 0)
            return true;
    }
    return false;
}

int zs_image_write_png(const char *path, const zs_image *im, zs_error *err)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    int status = zs_image_encode_png(&bytes, &n, im, err);
    if (status == ZS_OK)
        status = zs_file_write(path, bytes, n, err);
    zs_free(bytes);
    return status;
}
