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



#define PENDING_REMOTE(NAME, ...)                                 \
    int zs_cuda_##NAME(__VA_ARGS__, zs_error *err)                \
    {                                                             \
        return zs_fail(err, ZS_E_UNSUPPORTED,                     \
                       "the CUDA backend has no \"%s\" yet; use " \
                       "--device cpu",                            \
                       #NAME);                                    \
    }

PENDING_REMOTE(to_bf16, uint16_t *dst __attribute__((unused)),
               const float *src __attribute__((unused)), int64_t n __attribute__((unused)))
PENDING_REMOTE(norm, double *norm __attribute__((unused)), const float *g __attribute__((unused)),
               int64_t n __attribute__((unused)))
PENDING_REMOTE(adam, const zs_adam *a __attribute__((unused)))
