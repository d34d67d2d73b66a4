/* SPDX-License-Identifier: MIT */
/* Any bytes as a pickle, walked as a checkpoint's: every storage is an empty one. */
#include "io/torchtree.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int resolve(void *ctx, size_t *index, const zs_torchstorage *s, zs_error *err)
{
    (void)s;
    return zs_tensorfile_add_storage(ctx, index, (zs_tfstorage){0}, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    zs_error err = {0};
    zs_pickle p = {0};
    zs_tensorfile *f = zs_calloc(1, sizeof *f);
    if (!f || !(f->path = zs_str_dup("fuzz")))
        abort();
    f->bytes = (zs_span){data, size};
    int status = zs_pickle_parse(&p, "fuzz", f->bytes, &err);
    if (status >= 0 && (!p.root || p.used > size))
        abort();
    if (status >= 0)
        status = zs_torch_walk(f, &p, resolve, f, &err);
    if (status != err.status)
        abort();
    zs_pickle_free(&p);
    zs_tensorfile_close(&f);
    return 0;
}
