/* SPDX-License-Identifier: MIT */
/* Run-time choice between the builds of the *_simd.c files. */
#ifndef ZS_BACKEND_CPU_ISA_H
#define ZS_BACKEND_CPU_ISA_H

#include <stdbool.h>

typedef enum zs_isa {
    ZS_ISA_V2, /* the compiler's default */
    ZS_ISA_V3, /* AVX2 and FMA */
    ZS_ISA_V4, /* AVX-512 F, VL, DQ, BW */
    ZS_ISA_COUNT
} zs_isa;

/* The one in use: the best available one, or what ZSEM_ISA names if that is available. Kernels
 * size their workspace by it, so it must not change between planning and running. */
zs_isa zs_isa_get(void);

/* For tests and benchmarks; an unavailable one leaves the choice as it is. */
void zs_isa_set(zs_isa isa);

/* Built in, and supported by this processor. */
bool zs_isa_available(zs_isa isa);

const char *zs_isa_name(zs_isa isa); /* "v2", "v3", "v4" */

#endif
