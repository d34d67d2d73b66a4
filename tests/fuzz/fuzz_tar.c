/* SPDX-License-Identifier: MIT */
/* Any bytes as a tar archive, and, where they begin like gzip, as a compressed one. */
#include "data/tarfile.h"
#include "io/gunzip.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const uint8_t *data, size_t size)
{
    zs_tar t = {.label = "fuzz", .p = data, .n = size};
    zs_tar_member m;
    zs_error err = {0};
    unsigned sum = 0;
    size_t count = 0;
    int status;
    while ((status = zs_tar_next(&t, &m, &err)) == 1) {
        for (size_t i = 0; i < m.data.n; i++) /* every byte that is promised exists */
            sum += m.data.p[i];
        if (!*m.name || ++count > size / 512)
            abort();
    }
    if (status != err.status)
        abort();
    volatile unsigned sink = sum;
    (void)sink;
    zs_tar_close(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (zs_is_gzip(data, size)) {
        uint8_t *out;
        size_t n;
        zs_error err = {0};
        int status = zs_gunzip(&out, &n, "fuzz", data, size, 1 << 20, &err);
        if (status != err.status || (status < 0) != (out == NULL) || n > 1 << 20)
            abort();
        if (out)
            walk(out, n);
        zs_free(out);
    } else {
        walk(data, size);
    }
    return 0;
}
