/* SPDX-License-Identifier: MIT */
#include "backend/cpu/gemm.h"
#include "backend/cpu/vec.h"

/* Interleaves the lower (LO) or upper (HI) halves of two vectors. */
#if defined(ZS_HAVE_VEC) && (defined(__clang__) || __GNUC__ >= 12)
#if defined(__AVX512F__)
#define LO(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HI(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define PAIRS(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#elif defined(__AVX__)
#define LO(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HI(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define PAIRS(M) M(0) M(1) M(2) M(3)
#else
#define LO(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define HI(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#define PAIRS(M) M(0) M(1)
#endif

/* One of the log2(VL) perfect shuffles that transpose a square of vectors. */
#define PAIR_RT(i)                          \
    t[2 * (i)] = LO(r[i], r[(i) + VL / 2]); \
    t[2 * (i) + 1] = HI(r[i], r[(i) + VL / 2]);
#define PAIR_TR(i)                          \
    r[2 * (i)] = LO(t[i], t[(i) + VL / 2]); \
    r[2 * (i) + 1] = HI(t[i], t[(i) + VL / 2]);
#define LOAD2(i)                                 \
    r[2 * (i)] = vec_load(src + (2 * (i)) * ld); \
    r[2 * (i) + 1] = vec_load(src + (2 * (i) + 1) * ld);
#define SAVE_R(i)                               \
    vec_save(dst + (2 * (i)) * nr, r[2 * (i)]); \
    vec_save(dst + (2 * (i) + 1) * nr, r[2 * (i) + 1]);
#define SAVE_T(i)                               \
    vec_save(dst + (2 * (i)) * nr, t[2 * (i)]); \
    vec_save(dst + (2 * (i) + 1) * nr, t[2 * (i) + 1]);

/* dst[k*nr + j] = src[j*ld + k], both below VL. */
static void square(float *dst, const float *src, int64_t ld, int64_t nr)
{
    vec r[VL], t[VL];
    PAIRS(LOAD2)
    PAIRS(PAIR_RT)
    PAIRS(PAIR_TR)
#if defined(__AVX512F__)
    PAIRS(PAIR_RT)
    PAIRS(PAIR_TR)
    PAIRS(SAVE_R)
#elif defined(__AVX__)
    PAIRS(PAIR_RT)
    PAIRS(SAVE_T)
#else
    PAIRS(SAVE_R)
#endif
}

enum { RUN = 128, RUN_LD = RUN + 16, COLS = 32 };

/* Rows of src are often a multiple of 4 KiB apart, where few of them fit the L1 cache at a time.
 * So a run of each is copied first, and the run after it is asked for. */
static void copy_runs(float *restrict to, const float *restrict src, int64_t ld, int cols)
{
    for (int j = 0; j < cols; j++, src += ld, to += RUN_LD) {
        uintptr_t next = (uintptr_t)(src + RUN); /* which need not exist */
        for (int k = 0; k < RUN; k += 16)
            __builtin_prefetch((const void *)(next + (uintptr_t)k * sizeof *src));
        memcpy(to, src, RUN * sizeof *to);
    }
}

/* As far as whole squares go; returns the depth done. */
static int64_t transpose_squares(float *dst, const float *src, int64_t ld, int64_t depth, int nr,
                                 int cols)
{
    _Alignas(64) float run[COLS * RUN_LD];
    int64_t k = 0;
    if (cols % VL != 0 || cols > COLS)
        return 0;
    for (; k + RUN <= depth; k += RUN) {
        copy_runs(run, src + k, ld, cols);
        for (int i = 0; i < RUN; i += VL)
            for (int j = 0; j < cols; j += VL)
                square(dst + (k + i) * nr + j, run + j * RUN_LD + i, RUN_LD, nr);
    }
    for (; k + VL <= depth; k += VL)
        for (int j = 0; j < cols; j += VL)
            square(dst + k * nr + j, src + j * ld + k, ld, nr);
    return k;
}

#else

static int64_t transpose_squares(float *dst, const float *src, int64_t ld, int64_t depth, int nr,
                                 int cols)
{
    (void)dst, (void)src, (void)ld, (void)depth, (void)nr, (void)cols;
    return 0;
}
#endif

static void transpose(float *dst, const float *src, int64_t ld, int64_t depth, int nr, int cols)
{
    for (int64_t k = transpose_squares(dst, src, ld, depth, nr, cols); k < depth; k++)
        for (int j = 0; j < cols; j++)
            dst[k * nr + j] = src[j * ld + k];
    for (int64_t k = 0; cols < nr && k < depth; k++)
        memset(dst + k * nr + cols, 0, (size_t)(nr - cols) * sizeof *dst);
}

const zs_gemm_fns ZS_SIMD(zs_gemm_fns) = {.transpose = transpose};
