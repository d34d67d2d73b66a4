/* SPDX-License-Identifier: MIT */
/* JPEG through libjpeg-turbo, with the library's defaults (slow integer DCT, fancy upsampling)
 * as PIL uses them. */
#include "io/imagereader.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* A progressive file may hold any number of tiny scans, each of which costs a pass over the
 * whole image; encoders write about ten. */
enum { MAX_SCANS = 500 };

/* A Huffman-coded block takes at least one bit; some component has a block for at least every
 * 4 x 64 pixels. */
enum { MAX_PIXELS_PER_BYTE = 8 * 4 * 64 };

typedef struct jpeg_job {
    struct jpeg_decompress_struct d; /* first: callbacks cast back from it */
    struct jpeg_error_mgr mgr;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    const zs_image_bytes *in;
    zs_error *err;
    int status;
} jpeg_job;

static jpeg_job *job_of(j_common_ptr d)
{
    return d->client_data;
}

static void on_error(j_common_ptr d)
{
    jpeg_job *j = job_of(d);
    char message[JMSG_LENGTH_MAX] = "";
    d->err->format_message(d, message);
    size_t n = strlen(message);
    if (n > 0 && message[n - 1] == '.')
        message[n - 1] = '\0';
    switch (d->err->msg_code) {
    case JERR_OUT_OF_MEMORY: j->status = zs_fail_nomem(j->err, 0, "a JPEG image"); break;
    case JERR_IMAGE_TOO_BIG:
    case JERR_BAD_PRECISION:
    case JERR_SOF_UNSUPPORTED:
        j->status = zs_fail(j->err, ZS_E_UNSUPPORTED,
                            "%s: the JPEG image is of a kind that is not read (%s); convert it "
                            "to an 8-bit baseline JPEG or PNG",
                            j->in->label, message);
        break;
    default:
        j->status =
            zs_fail(j->err, ZS_E_FORMAT, "%s: the JPEG image is damaged (%s); replace the file",
                    j->in->label, message);
    }
    longjmp(j->jump, 1);
}

static void give_up(j_common_ptr d, const char *why)
{
    jpeg_job *j = job_of(d);
    j->status =
        zs_fail(j->err, ZS_E_FORMAT, "%s: the JPEG image %s; replace the file", j->in->label, why);
    longjmp(j->jump, 1);
}

/* Of the warnings only running out of data is an error, as in PIL. */
static void on_message(j_common_ptr d, int level)
{
    if (level < 0 && d->err->msg_code == JWRN_JPEG_EOF)
        give_up(d, "is truncated");
}

static void on_progress(j_common_ptr d)
{
    if (job_of(d)->d.input_scan_number > MAX_SCANS)
        give_up(d, "has an absurd number of scans");
}

static bool probe_jpeg(const uint8_t *p, size_t n)
{
    return n >= 3 && p[0] == 0xFF && p[1] == 0xD8 && p[2] == 0xFF;
}

static int choose_colours(jpeg_job *j)
{
    switch (j->d.num_components) {
    case 1: j->d.out_color_space = JCS_GRAYSCALE; return ZS_OK;
    case 3: j->d.out_color_space = JCS_RGB; return ZS_OK;
    case 4: j->d.out_color_space = JCS_CMYK; return ZS_OK;
    default:
        return zs_fail(j->err, ZS_E_UNSUPPORTED,
                       "%s: a JPEG image of %d components is not read; convert it to RGB",
                       j->in->label, j->d.num_components);
    }
}

static unsigned mul_div_255(unsigned a, unsigned b)
{
    unsigned t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* PIL takes every four-component JPEG for Adobe's inverted CMYK, then k' = 255-k and
 * r = k' - c k'/255. */
static void cmyk_to_rgb(uint8_t *dst, const uint8_t *src, int w)
{
    for (int x = 0; x < w; x++, dst += 3, src += 4)
        for (int c = 0; c < 3; c++)
            dst[c] = (uint8_t)(src[3] - mul_div_255(255u - src[c], src[3]));
}

static void read_rows(zs_image *im, jpeg_job *j)
{
    size_t stride = (size_t)im->w * (size_t)im->c;
    JSAMPARRAY cmyk = NULL;
    if (j->d.out_color_space == JCS_CMYK)
        cmyk = j->d.mem->alloc_sarray((j_common_ptr)&j->d, JPOOL_IMAGE, (JDIMENSION)im->w * 4, 1);
    for (int y = 0; y < im->h; y++) {
        JSAMPROW row = im->px + (size_t)y * stride;
        jpeg_read_scanlines(&j->d, cmyk ? cmyk : &row, 1);
        if (cmyk)
            cmyk_to_rgb(row, cmyk[0], im->w);
    }
}

static int decode(zs_image *im, jpeg_job *j, bool header_only)
{
    if (setjmp(j->jump))
        return j->status;
    jpeg_create_decompress(&j->d);
    j->d.progress = &j->progress;
    jpeg_mem_src(&j->d, j->in->p, (unsigned long)j->in->n);
    jpeg_read_header(&j->d, TRUE);
    if ((j->status = choose_colours(j)) < 0)
        return j->status;
    int c = j->d.num_components == 1 ? 1 : 3;
    int64_t w = j->d.image_width, h = j->d.image_height;
    j->status = zs_image_set_size(im, j->in->label, w, h, c, j->err);
    if (j->status < 0 || header_only)
        return j->status;
    if (!j->d.arith_code && (uint64_t)(w * h) / MAX_PIXELS_PER_BYTE > j->in->n)
        give_up((j_common_ptr)&j->d, "is truncated");
    j->status = zs_image_alloc(im, im->w, im->h, c, j->err);
    if (j->status < 0)
        return j->status;
    jpeg_start_decompress(&j->d);
    read_rows(im, j);
    jpeg_finish_decompress(&j->d);
    return ZS_OK;
}

static int read_jpeg(zs_image *im, const zs_image_bytes *in, bool header_only, zs_error *err)
{
    jpeg_job j = {.in = in, .err = err};
    j.d.err = jpeg_std_error(&j.mgr);
    j.mgr.error_exit = on_error;
    j.mgr.emit_message = on_message;
    j.d.client_data = &j;
    j.progress.progress_monitor = on_progress;
    decode(im, &j, header_only);
    jpeg_destroy_decompress(&j.d);
    return j.status;
}

const zs_image_reader zs_jpeg_reader = {"JPEG", probe_jpeg, read_jpeg};
