/* SPDX-License-Identifier: MIT */
/* Stand-ins for cuDNN, cuBLASLt and the device below the code that calls them: they compute by the
 * kernels of plain.cu, on tensors in the layouts that the libraries were promised. */
#ifndef ZS_TESTS_CUDA_GLUE_GLUE_H
#define ZS_TESTS_CUDA_GLUE_GLUE_H

#include "backend/cuda/conv_shape.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What cuDNN pretends to have. */
typedef enum glue_plans {
    GLUE_NO_PLANS,
    GLUE_PLANS,       /* without bias */
    GLUE_FUSED_PLANS, /* with it */
    GLUE_MODES
} glue_plans;

void glue_set(glue_plans plans);
int glue_failures(void); /* what zs_cuda_refuse was told, since the last call */
void glue_free(void);    /* memory of launches that have run */

/* w[taps,c,o] of f[o,taps,c], and back; elements of `size` 2 or 4 bytes. */
void glue_unturn(void *w, const void *f, size_t size, int64_t taps, int64_t c, int64_t o);
void glue_turn(void *f, const void *w, size_t size, int64_t taps, int64_t c, int64_t o);

#ifdef __cplusplus
}
#endif

#endif
