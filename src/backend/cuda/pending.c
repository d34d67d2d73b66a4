/* SPDX-License-Identifier: MIT */
/* Operations and remote functions that have no kernel here yet. Running one fails the whole run
 * with its name. A row is removed when its kernel lands; two definitions do not link. */
#include "backend/cuda/check.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/device.h"

#define PENDING(name)                                                     \
    static void run_##name(const zs_call *c)                              \
    {                                                                     \
        (void)c;                                                          \
        zs_cuda_refuse(ZS_E_UNSUPPORTED,                                  \
                       "the CUDA backend cannot compute \"%s\" yet; use " \
                       "--device cpu",                                    \
                       #name);                                            \
    }                                                                     \
    const zs_kernel zs_cuda_##name = {run_##name, NULL};
