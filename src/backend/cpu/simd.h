/* SPDX-License-Identifier: MIT */
/* For the *_simd.c files, which are compiled once per instruction set: ZS_SIMD(name) is the
 * name of this build's version, and ZS_SIMD_TABLES(type, name) declares all of them. */
#ifndef ZS_BACKEND_CPU_SIMD_H
#define ZS_BACKEND_CPU_SIMD_H

#include "backend/cpu/isa.h"

#define ZS_SIMD_JOIN2(name, isa) name##_##isa
#define ZS_SIMD_JOIN(name, isa) ZS_SIMD_JOIN2(name, isa)
#define ZS_SIMD(name) ZS_SIMD_JOIN(name, ZS_ISA)

#ifdef ZS_HAVE_ISA_V3
#define ZS_SIMD_V3(name) name##_v3
#else
#define ZS_SIMD_V3(name) name##_v2
#endif
#ifdef ZS_HAVE_ISA_V4
#define ZS_SIMD_V4(name) name##_v4
#else
#define ZS_SIMD_V4(name) name##_v2
#endif

#define ZS_SIMD_TABLES(type, name) extern const type name##_v2, name##_v3, name##_v4

/* Address of the table for the instruction set in use. */
#define ZS_SIMD_PICK(name)                           \
    (zs_isa_get() == ZS_ISA_V4   ? &ZS_SIMD_V4(name) \
     : zs_isa_get() == ZS_ISA_V3 ? &ZS_SIMD_V3(name) \
                                 : &name##_v2)

#endif
