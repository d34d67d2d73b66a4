/* SPDX-License-Identifier: MIT */
/* For the *_simd.c files: one vector of the instruction set that the file is compiled for, VL
 * floats. The arithmetic is the compilers' vector extension; a vector times a float constant is
 * element-wise. Without that extension ZS_HAVE_VEC is not defined and VL is 1: `vec` is a float. */
#ifndef ZS_BACKEND_CPU_VEC_H
#define ZS_BACKEND_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#if !defined(__GNUC__)
#define ZS_VEC_LANES 1
#elif defined(__AVX512F__)
#define ZS_VEC_LANES 16
#elif defined(__AVX__)
#define ZS_VEC_LANES 8
#else
#define ZS_VEC_LANES 4
#endif
enum { VL = ZS_VEC_LANES };

#if defined(__GNUC__)
#define ZS_HAVE_VEC 1
#define ZS_INLINE static inline __attribute__((always_inline))
typedef float vec __attribute__((vector_size(VL * sizeof(float))));
#else
#define ZS_INLINE static inline
typedef float vec;
#endif

/* Keeps a loaded vector in its register, and walks a pointer step by step: gcc otherwise repeats
 * loads in every operation on them, and hoists every address of a transform out of the loop over
 * channels, to where there are no registers for them. */
#if defined(__GNUC__) && defined(__x86_64__)
#if defined(__AVX512F__)
#define VEC_KEEP(v) __asm__("" : "+v"(v))
#else
#define VEC_KEEP(v) __asm__("" : "+x"(v))
#endif
#elif defined(__GNUC__) && defined(__aarch64__)
#define VEC_KEEP(v) __asm__("" : "+w"(v))
#else
#define VEC_KEEP(v) (void)0
#endif
#if defined(__GNUC__)
#define VEC_HOLD(p) __asm__("" : "+r"(p))
#else
#define VEC_HOLD(p) (void)0
#endif

/* Asks for a line of memory, which need not exist: to read it soon, to read it from L2 later, to
 * write to it. */
#if defined(__GNUC__)
#define VEC_PREFETCH(p) __builtin_prefetch(p, 0, 3)
#define VEC_PREFETCH_L2(p) __builtin_prefetch(p, 0, 2)
#define VEC_PREFETCH_WRITE(p) __builtin_prefetch(p, 1, 2)
#else
#define VEC_PREFETCH(p) (void)0
#define VEC_PREFETCH_L2(p) (void)0
#define VEC_PREFETCH_WRITE(p) (void)0
#endif

ZS_INLINE vec vec_load(const float *p)
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

ZS_INLINE void vec_save(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

ZS_INLINE vec vec_zero(void)
{
    vec v;
    memset(&v, 0, sizeof v);
    return v;
}

/* The first n lanes (n <= VL); the others are 0 and their memory is not touched. */
ZS_INLINE vec vec_load_part(const float *p, int n)
{
    float lanes[VL] = {0};
    for (int i = 0; i < n; i++)
        lanes[i] = p[i];
    return vec_load(lanes);
}

ZS_INLINE void vec_save_part(float *p, vec v, int n)
{
    float lanes[VL];
    vec_save(lanes, v);
    for (int i = 0; i < n; i++)
        p[i] = lanes[i];
}

/* n == VL known while compiling: a plain load or store. */
ZS_INLINE vec vec_load_n(const float *p, int n)
{
    return n == VL ? vec_load(p) : vec_load_part(p, n);
}

ZS_INLINE void vec_save_n(float *p, vec v, int n)
{
    if (n == VL)
        vec_save(p, v);
    else
        vec_save_part(p, v, n);
}

#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define ZS_HAVE_SHUFFLE 1
/* Lanes of a and b in turn: of their first halves, and of their second ones. */
#if ZS_VEC_LANES == 16
#define VEC_ZIP_LO(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define VEC_ZIP_HI(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif ZS_VEC_LANES == 8
#define VEC_ZIP_LO(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define VEC_ZIP_HI(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define VEC_ZIP_LO(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define VEC_ZIP_HI(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#endif

/* Transposes VL vectors of VL lanes: each round doubles the runs that are in place. */
ZS_INLINE void vec_transpose(vec r[VL])
{
    vec t[VL];
    for (int run = 1; run < VL; run *= 2) {
        for (int i = 0; i < VL / 2; i++) {
            t[2 * i] = VEC_ZIP_LO(r[i], r[i + VL / 2]);
            t[2 * i + 1] = VEC_ZIP_HI(r[i], r[i + VL / 2]);
        }
        memcpy(r, t, sizeof t);
    }
}
#endif

#endif
