/* SPDX-License-Identifier: MIT */
#include "backend/cpu/cpu.h"
#ifdef ZSEM_HAVE_CUDA
#include "backend/cuda/cuda.h"
#endif

#include <string.h>

static const zs_backend *const backends[] = {
    &zs_backend_cpu, /* the default */
    &zs_backend_cpu_ref,
#ifdef ZSEM_HAVE_CUDA
    &zs_backend_cuda,
#endif
};

const zs_backend *zs_backend_find(const char *name)
{
    if (!name)
        return backends[0];
    for (size_t i = 0; i < sizeof backends / sizeof backends[0]; i++)
        if (strcmp(backends[i]->name, name) == 0)
            return backends[i];
    return NULL;
}
