/* SPDX-License-Identifier: MIT */
/* WebP, lossy and lossless, through libwebp. */
#include "io/imagereader.h"

#include <string.h>
#include <webp/decode.h>

static bool probe_webp(const uint8_t *p, size_t n)
{
    return n >= 12 && memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0;
}

static int fail_webp(const char *label, VP8StatusCode code, zs_error *err)
{
    switch (code) {
    case VP8_STATUS_OUT_OF_MEMORY: return zs_fail_nomem(err, 0, "a WebP image");
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        return zs_fail(err, ZS_E_FORMAT, "%s: the WebP image is truncated; replace the file",
                       label);
    default:
        return zs_fail(err, ZS_E_FORMAT, "%s: the WebP image is damaged; replace the file", label);
    }
}

static int read_webp(zs_image *im, const zs_image_bytes *in, bool header_only, zs_error *err)
{
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return zs_fail(err, ZS_E_INTERNAL, "%s: libwebp is of another version", in->label);
    VP8StatusCode code = WebPGetFeatures(in->p, in->n, &config.input);
    if (code != VP8_STATUS_OK)
        return fail_webp(in->label, code, err);
    if (config.input.has_animation)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: is an animated WebP; save one frame as PNG or WebP", in->label);
    int status = zs_image_set_size(im, in->label, config.input.width, config.input.height, 3, err);
    if (status < 0 || header_only)
        return status;
    if ((status = zs_image_alloc(im, im->w, im->h, 3, err)) < 0)
        return status;
    config.output.colorspace = MODE_RGB; /* alpha is dropped, not composited */
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = im->px;
    config.output.u.RGBA.stride = im->w * 3;
    config.output.u.RGBA.size = (size_t)im->w * (size_t)im->h * 3;
    code = WebPDecode(in->p, in->n, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? ZS_OK : fail_webp(in->label, code, err);
}

const zs_image_reader zs_webp_reader = {"WebP", probe_webp, read_webp};
