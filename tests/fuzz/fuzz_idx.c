/* SPDX-License-Identifier: MIT */
/* Any bytes as an IDX file, plain or gzip. */
#include "data/idx.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    zs_idx x;
    zs_error err = {0};
    int status = zs_idx_parse(&x, "fuzz", data, size, &err);
    if (status != err.status || (status < 0) != (x.px == NULL))
        abort();
    if (status == ZS_OK) { /* every byte that is promised exists */
        unsigned sum = 0;
        size_t n = (size_t)x.size[0] * (size_t)x.size[1] * (size_t)x.size[2];
        for (size_t i = 0; i < n; i++)
            sum += x.px[i];
        volatile unsigned sink = sum;
        (void)sink;
    }
    zs_idx_close(&x);
    return 0;
}
