/* SPDX-License-Identifier: MIT */
/* PNG through libpng. Every local that must survive a longjmp lives in a struct that the
 * function calling setjmp only reads through its parameter. */
#include "io/imagereader.h"

#include <png.h>
#include <setjmp.h>
#include <string.h>

/* Deflate writes at least two bits for each 258 bytes: no stream expands more than 1032 times. */
enum { DEFLATE_MAX_RATIO = 1032 };

typedef struct png_job {
    jmp_buf jump;
    png_structp png;
    png_infop info;
    const char *label;
    const uint8_t *p; /* reading: the rest of the input */
    size_t n;
    uint8_t *out; /* writing: what has been written */
    size_t out_n, out_cap;
    zs_error *err;
    int status;
} png_job;

static png_voidp on_alloc(png_structp png, png_alloc_size_t n)
{
    png_job *j = png_get_mem_ptr(png);
    void *p = zs_alloc(n, 1);
    if (!p)
        j->status = zs_fail_nomem(j->err, n, "a PNG image");
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    zs_free(p);
}

static void on_error(png_structp png, png_const_charp message)
{
    png_job *j = png_get_error_ptr(png);
    if (j->status == ZS_OK)
        j->status = zs_fail(j->err, ZS_E_FORMAT,
                            "%s: the PNG image is truncated or damaged (%s); replace the file",
                            j->label, message);
    longjmp(j->jump, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void on_read(png_structp png, png_bytep dst, size_t n)
{
    png_job *j = png_get_io_ptr(png);
    if (n > j->n)
        png_error(png, "it ends too early");
    memcpy(dst, j->p, n);
    j->p += n;
    j->n -= n;
}

static bool probe_png(const uint8_t *p, size_t n)
{
    return n >= 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0;
}

static int read_size(zs_image *im, png_job *j)
{
    png_uint_32 w = png_get_image_width(j->png, j->info), h = png_get_image_height(j->png, j->info);
    bool rgb = (png_get_color_type(j->png, j->info) & PNG_COLOR_MASK_COLOR) != 0;
    j->status = zs_image_set_size(im, j->label, w, h, rgb ? 3 : 1, j->err);
    return j->status;
}

/* Leaves 8-bit grey or RGB: the high byte of 16, alpha and tRNS dropped, palette looked up. */
static void set_transforms(png_job *j)
{
    png_set_strip_16(j->png);
    png_set_expand_gray_1_2_4_to_8(j->png);
    png_set_palette_to_rgb(j->png);
    png_set_strip_alpha(j->png);
}

static void read_rows(zs_image *im, png_job *j)
{
    size_t stride = (size_t)im->w * (size_t)im->c;
    int passes = png_set_interlace_handling(j->png);
    png_read_update_info(j->png, j->info);
    if (png_get_rowbytes(j->png, j->info) != stride)
        png_error(j->png, "unexpected row size");
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < im->h; y++)
            png_read_row(j->png, im->px + (size_t)y * stride, NULL);
    png_read_end(j->png, NULL);
}

static int decode(zs_image *im, png_job *j, bool header_only)
{
    if (setjmp(j->jump))
        return j->status;
    size_t file_size = j->n;
    png_set_read_fn(j->png, j, on_read);
    png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    /* Colour profiles, text and the like are skipped unread: PIL does not apply them either. */
    png_set_keep_unknown_chunks(j->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION /* checksums would stop every mutation */
    png_set_crc_action(j->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    png_set_option(j->png, PNG_IGNORE_ADLER32, PNG_OPTION_ON);
#endif
    png_read_info(j->png, j->info);
    if (read_size(im, j) < 0 || header_only)
        return j->status;
    if (png_get_rowbytes(j->png, j->info) / DEFLATE_MAX_RATIO > file_size / (size_t)im->h)
        png_error(j->png, "too few bytes for its size");
    set_transforms(j);
    j->status = zs_image_alloc(im, im->w, im->h, im->c, j->err);
    if (j->status == ZS_OK)
        read_rows(im, j);
    return j->status;
}

static void create_reader(png_job *j)
{
    if (setjmp(j->jump))
        return;
    j->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, j, on_error, on_warning, j, on_alloc,
                                      on_free);
    if (j->png)
        j->info = png_create_info_struct(j->png);
}

static int read_png(zs_image *im, const zs_image_bytes *in, bool header_only, zs_error *err)
{
    png_job j = {.label = in->label, .p = in->p, .n = in->n, .err = err};
    create_reader(&j);
    if (j.info)
        decode(im, &j, header_only);
    else if (j.status == ZS_OK)
        j.status = zs_fail_nomem(err, 0, "a PNG reader");
    png_destroy_read_struct(&j.png, &j.info, NULL);
    return j.status;
}

const zs_image_reader zs_png_reader = {"PNG", probe_png, read_png};

static void on_write(png_structp png, png_bytep src, size_t n)
{
    png_job *j = png_get_io_ptr(png);
    size_t need = 0;
    if (!zs_add_size(j->out_n, n, &need))
        png_error(png, "too large");
    if (need > j->out_cap) {
        size_t cap = need + need / 2 + 1024;
        uint8_t *p = zs_realloc(j->out, j->out_n, cap, 1);
        if (!p) {
            j->status = zs_fail_nomem(j->err, cap, "a PNG image");
            png_error(png, "out of memory");
        }
        j->out = p;
        j->out_cap = cap;
    }
    memcpy(j->out + j->out_n, src, n);
    j->out_n = need;
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void encode(png_job *j, const zs_image *im)
{
    if (setjmp(j->jump))
        return;
    size_t stride = (size_t)im->w * (size_t)im->c;
    png_set_write_fn(j->png, j, on_write, on_flush);
    png_set_user_limits(j->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
    png_set_IHDR(j->png, j->info, (png_uint_32)im->w, (png_uint_32)im->h, 8,
                 im->c == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(j->png, j->info);
    for (int y = 0; y < im->h; y++)
        png_write_row(j->png, im->px + (size_t)y * stride);
    png_write_end(j->png, NULL);
}

static void create_writer(png_job *j)
{
    if (setjmp(j->jump))
        return;
    j->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, j, on_error, on_warning, j, on_alloc,
                                       on_free);
    if (j->png)
        j->info = png_create_info_struct(j->png);
}

int zs_image_encode_png(uint8_t **bytes, size_t *n, const zs_image *im, zs_error *err)
{
    *bytes = NULL;
    *n = 0;
    if (!im->px || im->w < 1 || im->h < 1 || (im->c != 1 && im->c != 3))
        return zs_fail(err, ZS_E_INVALID, "an image of %d x %d x %d cannot be written as PNG",
                       im->w, im->h, im->c);
    png_job j = {.label = "new PNG", .err = err};
    create_writer(&j);
    if (j.info)
        encode(&j, im);
    else if (j.status == ZS_OK)
        j.status = zs_fail_nomem(err, 0, "a PNG writer");
    png_destroy_write_struct(&j.png, &j.info);
    if (j.status < 0) {
        zs_free(j.out);
        return j.status;
    }
    *bytes = j.out;
    *n = j.out_n;
    return ZS_OK;
}
