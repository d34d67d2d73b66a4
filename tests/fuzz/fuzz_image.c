/* SPDX-License-Identifier: MIT */
/* Any bytes as an image of any format. */
#include "io/imagereader.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Larger pictures are allowed, but would only make the fuzzer slow. */
enum { PIXELS_MAX = 1 << 22 };

static bool is_small(const uint8_t *p, size_t n)
{
    static const zs_image_reader *const readers[] = {&zs_png_reader, &zs_jpeg_reader,
                                                     &zs_webp_reader};
    zs_image_bytes in = {"fuzz", p, n};
    for (size_t i = 0; i < sizeof readers / sizeof *readers; i++) {
        zs_image head = {0};
        if (readers[i]->probe(p, n))
            return readers[i]->read(&head, &in, true, NULL) < 0 ||
                   (int64_t)head.w * head.h <= PIXELS_MAX;
    }
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!is_small(data, size))
        return 0;
    for (int channels = 0; channels <= 1; channels++) {
        zs_image im;
        zs_error err = {0};
        int status = zs_image_read_bytes(&im, "fuzz", data, size, channels, &err);
        if (status != err.status || (status < 0) != (im.px == NULL))
            abort();
        zs_image_free(&im);
    }
    return 0;
}
