/* SPDX-License-Identifier: MIT */
/* One kernel per tile height (1..MR) and width (one or two vectors), from macros: with named
 * accumulators the compilers keep them in registers, with arrays gcc spills them. */
#include "backend/cpu/tile.h"
#include "backend/cpu/vec.h"

#include <string.h>

/* Rows for which sums, a row of b and one element of a fit the registers. */
#if defined(__AVX512F__) || defined(__aarch64__)
#define MR_IS_8
enum { MR = 8 };
#elif defined(__AVX__)
enum { MR = 6 };
#else
enum { MR = 4 };
#endif
enum { NR = 2 * VL };

#if defined(ZS_HAVE_VEC)

/* Element (i,k) of a, from three pointers so that every row is base + {0,1,2} * stride. */
#define AT0 p0[0]
#define AT1 p0[s]
#define AT2 p0[2 * s]
#define AT3 p3[0]
#define AT4 p3[s]
#define AT5 p3[2 * s]
#define AT6 p6[0]
#define AT7 p6[s]

#define REP1(M) M(0)
#define REP2(M) REP1(M) M(1)
#define REP3(M) REP2(M) M(2)
#define REP4(M) REP3(M) M(3)
#define REP5(M) REP4(M) M(4)
#define REP6(M) REP5(M) M(5)
#define REP7(M) REP6(M) M(6)
#define REP8(M) REP7(M) M(7)

#define FIRST(at) (t->more ? vec_load(tile + (at)) : vec_zero())
#define START1(i) vec c##i = FIRST((i)*NR);
#define STEP1(i) c##i += AT##i * b0;
#define SAVE1(i) vec_save(tile + (i)*NR, c##i);
#define LOAD1             \
    vec b0 = vec_load(b); \
    VEC_KEEP(b0);

#define START2(i) vec c##i = FIRST((i)*NR), d##i = FIRST((i)*NR + VL);
#define STEP2(i)        \
    c##i += AT##i * b0; \
    d##i += AT##i * b1;
#define SAVE2(i)                   \
    vec_save(tile + (i)*NR, c##i); \
    vec_save(tile + (i)*NR + VL, d##i);
#define LOAD2                        \
    LOAD1 vec b1 = vec_load(b + VL); \
    VEC_KEEP(b1);

#define KERNEL(ROWS, VECS)                                                                    \
    static void product_##ROWS##_##VECS(float *tile, const zs_tile_in *t)                     \
    {                                                                                         \
        const int64_t s = t->a_row, s3 = (ROWS) > 3 ? 3 * s : 0, s6 = (ROWS) > 6 ? 6 * s : 0; \
        const float *b = t->b;                                                                \
        REP##ROWS(START##VECS);                                                               \
        for (int64_t g = 0; g < t->groups; g++) {                                             \
            for (int64_t r = 0; r < t->runs; r++) {                                           \
                const float *p0 = t->a + g * t->a_group + r * t->a_run;                       \
                for (int64_t k = 0; k < t->len; k++) {                                        \
                    const float *p3 = p0 + s3, *p6 = p0 + s6;                                 \
                    LOAD##VECS REP##ROWS(STEP##VECS);                                         \
                    (void)p3, (void)p6, (void)s;                                              \
                    p0 += t->a_k;                                                             \
                    b += NR;                                                                  \
                }                                                                             \
            }                                                                                 \
        }                                                                                     \
        REP##ROWS(SAVE##VECS);                                                                \
    }

#define KERNELS(ROWS) KERNEL(ROWS, 1) KERNEL(ROWS, 2)
KERNELS(1)
KERNELS(2)
KERNELS(3)
KERNELS(4)
#if defined(__AVX__) || defined(MR_IS_8)
KERNELS(5)
KERNELS(6)
#endif
#if defined(MR_IS_8)
KERNELS(7)
KERNELS(8)
#endif

typedef void (*kernel)(float *tile, const zs_tile_in *t);
#define PAIR(ROWS)                             \
    {                                          \
        product_##ROWS##_1, product_##ROWS##_2 \
    }
static const kernel kernels[MR][2] = {
    PAIR(1), PAIR(2), PAIR(3), PAIR(4),
#if defined(__AVX__) || defined(MR_IS_8)
    PAIR(5), PAIR(6),
#endif
#if defined(MR_IS_8)
    PAIR(7), PAIR(8),
#endif
};

static void product(float *tile, const zs_tile_in *in, int rows, int cols)
{
    kernels[rows - 1][cols > VL](tile, in);
}

#else /* no vector types: leave it to the compiler */

static void product(float *tile, const zs_tile_in *t, int rows, int cols)
{
    if (!t->more)
        memset(tile, 0, (size_t)rows * NR * sizeof *tile);
    const float *b = t->b;
    for (int64_t g = 0; g < t->groups; g++)
        for (int64_t r = 0; r < t->runs; r++)
            for (int64_t k = 0; k < t->len; k++, b += NR)
                for (int i = 0; i < rows; i++)
                    for (int j = 0; j < cols; j++)
                        tile[i * NR + j] +=
                            b[j] * t->a[g * t->a_group + r * t->a_run + k * t->a_k + i * t->a_row];
}

#endif

/* Columns [j, j+n) of a row. */
ZS_INLINE void store_part(const zs_tile_out *out, const float *tile, int64_t i, int j, int n)
{
    int64_t at = i * out->ld + j;
    vec v = vec_load_n(tile + i * NR + j, n);
    if (out->bias)
        v += vec_load_n(out->bias + j, n);
    if (out->residual)
        v += vec_load_n(out->residual + at, n);
    vec_save_n(out->y + at, v, n);
}

static void store(const zs_tile_out *out, const float *tile, int rows)
{
    int whole = out->cols / VL * VL;
    for (int i = 0; i < rows; i++) {
        for (int j = 0; j < whole; j += VL)
            store_part(out, tile, i, j, VL);
        if (whole < out->cols)
            store_part(out, tile, i, whole, out->cols - whole);
    }
}

static void add(const zs_tile_out *out, const float *tile, int rows)
{
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < out->cols; j++)
            out->y[i * out->ld + j] += tile[i * NR + j];
}

const zs_tile_fns ZS_SIMD(zs_tile) = {MR, NR, product, store, add};
