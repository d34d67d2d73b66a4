/* SPDX-License-Identifier: MIT */
#include "backend/cpu/elem.h"
#include "backend/cpu/vgelu.h"
#include "backend/cpu/vmath.h"

#include <string.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

enum { LANES = 16 }; /* partial sums, the same number on every instruction set */

static void silu(float *y, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vec_save(y + i, vec_silu(vec_load(x + i)));
    if (i < n)
        vec_save_part(y + i, vec_silu(vec_load_part(x + i, (int)(n - i))), (int)(n - i));
}

static void silu_bwd(float *dx, const float *x, const float *dy, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vec_save(dx + i, vec_load(dy + i) * vec_dsilu(vec_load(x + i)));
    if (i < n) {
        int part = (int)(n - i);
        vec d = vec_load_part(dy + i, part) * vec_dsilu(vec_load_part(x + i, part));
        vec_save_part(dx + i, d, part);
    }
}

static void gelu(float *y, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vec_save(y + i, vec_gelu(vec_load(x + i)));
    if (i < n)
        vec_save_part(y + i, vec_gelu(vec_load_part(x + i, (int)(n - i))), (int)(n - i));
}

static void gelu_bwd(float *dx, const float *x, const float *dy, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vec_save(dx + i, vec_load(dy + i) * vec_dgelu(vec_load(x + i)));
    if (i < n) {
        int part = (int)(n - i);
        vec d = vec_load_part(dy + i, part) * vec_dgelu(vec_load_part(x + i, part));
        vec_save_part(dx + i, d, part);
    }
}

static void gelu_tanh(float *y, const float *x, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vec_save(y + i, vec_gelu_tanh(vec_load(x + i)));
    if (i < n)
        vec_save_part(y + i, vec_gelu_tanh(vec_load_part(x + i, (int)(n - i))), (int)(n - i));
}

static void gelu_tanh_bwd(float *dx, const float *x, const float *dy, int64_t n)
{
    int64_t i = 0;
    for (; i + VL <= n; i += VL)
        vec_save(dx + i, vec_load(dy + i) * vec_dgelu_tanh(vec_load(x + i)));
    if (i < n) {
        int part = (int)(n - i);
        vec d = vec_load_part(dy + i, part) * vec_dgelu_tanh(vec_load_part(x + i, part));
        vec_save_part(dx + i, d, part);
    }
}

static void add(float *restrict y, const float *restrict a, const float *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] + b[i];
}

static void accumulate(float *restrict y, const float *restrict x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void mul(float *restrict y, const float *restrict a, const float *restrict b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = a[i] * b[i];
}

static void mul1p(float *restrict y, const float *restrict x, const float *restrict s, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * (1.0f + s[i]);
}

static void gate(float *restrict y, const float *restrict x, const float *restrict f,
                 const float *restrict g, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] + f[i] * g[i];
}

static void gate_bwd(float *restrict df, float *restrict dg, const float *restrict f,
                     const float *restrict g, const float *restrict dy, int64_t rows, int64_t ld,
                     int64_t n)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++)
            dg[i] += f[r * ld + i] * dy[r * ld + i];
        for (int64_t i = 0; df && i < n; i++)
            df[r * ld + i] = g[i] * dy[r * ld + i];
    }
}

static void scale(float *restrict y, const float *restrict x, float f, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] * f;
}

static void square_sum(float *restrict y, const float *restrict a, const float *restrict b, float f,
                       int64_t ch)
{
    for (int64_t i = 0; i < ch; i++)
        y[i] = ((a[i] + a[ch + i]) + (b[i] + b[ch + i])) * f;
}

/* n is VL, or less at the end. */
ZS_INLINE void twice_at(float *y, float *second, vec v, int64_t ch, int n)
{
    vec_save_n(y, v, n);
    vec_save_n(y + ch, v, n);
    vec_save_n(second, v, n);
    vec_save_n(second + ch, v, n);
}

static void twice(float *y, float *second, const float *x, float f, int64_t w, int64_t ch)
{
    for (int64_t i = 0; i < w; i++, x += ch, y += 2 * ch, second += 2 * ch) {
        int64_t j = 0;
        for (; j + VL <= ch; j += VL)
            twice_at(y + j, second + j, vec_load(x + j) * f, ch, VL);
        if (j < ch) {
            int n = (int)(ch - j);
            twice_at(y + j, second + j, vec_load_part(x + j, n) * f, ch, n);
        }
    }
}

static void copy_rows(float *y, int64_t y_ld, const float *x, int64_t x_ld, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++, x += x_ld, y += y_ld) {
        int64_t j = 0;
        for (; j + VL <= n; j += VL)
            vec_save(y + j, vec_load(x + j));
        for (; j < n; j++)
            y[j] = x[j];
    }
}

static void column_sums(float *restrict s, const float *restrict x, int64_t rows, int64_t ch)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < ch; i++)
            s[i] += x[r * ch + i];
}

static double lane_sum(const double *lane)
{
    double sum = 0;
    for (int j = 0; j < LANES; j++)
        sum += lane[j];
    return sum;
}

static double sum_square_diff(const float *restrict a, const float *restrict b, int64_t n)
{
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            double d = (double)a[i + j] - (double)b[i + j];
            lane[j] += d * d;
        }
    }
    for (; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        lane[0] += d * d;
    }
    return lane_sum(lane);
}

static double sum_abs_diff(const float *restrict a, const float *restrict b, int64_t n)
{
    double lane[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            double d = (double)a[i + j] - (double)b[i + j];
            lane[j] += d < 0 ? -d : d;
        }
    }
    for (; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        lane[0] += d < 0 ? -d : d;
    }
    return lane_sum(lane);
}

static void square_diff_bwd(float *restrict d, const float *restrict a, const float *restrict b,
                            float f, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        d[i] = 2.0f * (a[i] - b[i]) * f;
}

static void abs_diff_bwd(float *restrict d, const float *restrict a, const float *restrict b,
                         float f, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float v = a[i] - b[i];
        d[i] = (v > 0.0f ? 1.0f : v < 0.0f ? -1.0f : v) * f;
    }
}

/* In [0,1), as zs_rng_uniform. */
static float uniform(uint32_t w)
{
    return (float)(int32_t)(w >> 8) * 0x1p-24f;
}

/* Lanes of 64 bits whose lower halves count: a widening product then needs no masks. */
#if defined(__GNUC__) && defined(__AVX512F__)
typedef uint64_t wide __attribute__((vector_size(64)));
#define WIDE_MUL(a, b) ((wide)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#elif defined(__GNUC__) && defined(__AVX2__)
typedef uint64_t wide __attribute__((vector_size(32)));
#define WIDE_MUL(a, b) ((wide)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#elif defined(__GNUC__) && defined(__SSE2__)
typedef uint64_t wide __attribute__((vector_size(16)));
#define WIDE_MUL(a, b) ((wide)_mm_mul_epu32((__m128i)(a), (__m128i)(b)))
#else
typedef uint64_t wide;
#define WIDE_MUL(a, b) (((a)&0xFFFFFFFFu) * (b))
#endif

enum { BLOCKS = sizeof(wide) / sizeof(uint64_t) }; /* Philox blocks at a time */

static wide spread(uint64_t v)
{
    wide r = {0};
    return r + v;
}

/* The rounds of base/rng.c (Philox4x32-10) on consecutive blocks; w[2*i] holds words 0 and 1
 * (the upper half) of block i, w[2*i + 1] words 2 and 3. */
static void philox_blocks(uint64_t w[2 * BLOCKS], uint32_t block, const uint32_t ctr[4],
                          const uint32_t key[2])
{
    uint64_t lane[4][BLOCKS];
    for (uint32_t i = 0; i < BLOCKS; i++)
        lane[0][i] = block + i;
    wide c0, c1 = spread(ctr[1]), c2 = spread(ctr[2]), c3 = spread(ctr[3]);
    wide m0 = spread(0xD2511F53u), m1 = spread(0xCD9E8D57u);
    memcpy(&c0, lane[0], sizeof c0);
    uint32_t k0 = key[0], k1 = key[1];
    for (int i = 0; i < 10; i++) {
        wide p0 = WIDE_MUL(c0, m0), p1 = WIDE_MUL(c2, m1);
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c1 = p1;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    wide pair[2] = {(c0 & 0xFFFFFFFFu) | c1 << 32, (c2 & 0xFFFFFFFFu) | c3 << 32};
    memcpy(lane, pair, sizeof pair);
    for (int i = 0; i < BLOCKS; i++) {
        w[2 * i] = lane[0][i];
        w[2 * i + 1] = lane[1][i];
    }
}

/* y[n] = x*f where u >= p, else 0; y may be x. */
static void keep(float *y, const float *x, const float *u, int64_t n, float p, float f)
{
    int64_t i = 0;
#ifdef ZS_HAVE_VEC
    for (; i + VL <= n; i += VL) {
        ivec kept = (ivec)(vec_load(u + i) >= p), v = (ivec)(vec_load(x + i) * f);
        vec_save(y + i, (vec)(v & kept));
    }
#endif
    for (; i < n; i++)
        y[i] = u[i] >= p ? x[i] * f : 0.0f;
}

static void dropout(float *y, const float *x, int64_t n, float p, float f, uint32_t block,
                    const uint32_t ctr[4], const uint32_t key[2])
{
    enum { BATCH = 512 };
    uint64_t w[BATCH / 2];
    float u[BATCH];
    for (int64_t i = 0; i < n; i += BATCH) {
        int64_t take = n - i < BATCH ? n - i : BATCH;
        for (int64_t j = 0; j < take; j += 4 * BLOCKS, block += BLOCKS)
            philox_blocks(w + j / 2, block, ctr, key);
        for (int64_t j = 0; j < (take + 1) / 2; j++) {
            u[2 * j] = uniform((uint32_t)w[j]);
            u[2 * j + 1] = uniform((uint32_t)(w[j] >> 32));
        }
        keep(y + i, x + i, u, take, p, f);
    }
}

/* Lane by lane; NaN may be lost here, and comes back in the sum. */
static vec larger(vec a, vec b)
{
#ifdef ZS_HAVE_VEC
    ivec m = (ivec)(b > a);
    return (vec)((m & (ivec)b) | (~m & (ivec)a));
#else
    return b > a ? b : a;
#endif
}

/* Largest of n. */
static float largest(const float *s, int64_t n)
{
    vec most = vec_set(s[0]), other = most;
    float lane[VL], top = s[0];
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        most = larger(most, vec_load(s + i));
        other = larger(other, vec_load(s + i + VL));
    }
    vec_save(lane, larger(most, other));
    for (int j = 0; j < VL; j++)
        top = lane[j] > top ? lane[j] : top;
    for (; i < n; i++)
        top = s[i] > top ? s[i] : top;
    return top;
}

static float dot(const float *a, const float *b, int64_t n)
{
    vec x = vec_zero(), y = vec_zero();
    int64_t i = 0;
    for (; i + 2 * VL <= n; i += 2 * VL) {
        x += vec_load(a + i) * vec_load(b + i);
        y += vec_load(a + i + VL) * vec_load(b + i + VL);
    }
    float sum = vec_sum(x + y);
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}

/* s becomes exp(scale * (s - top)); returns the sum. */
static float exponentials(float *s, float scale, float top, int64_t n)
{
    vec sum = vec_zero(), shift = vec_set(scale * top);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) {
        vec e = vec_exp(vec_load(s + i) * scale - shift);
        vec_save(s + i, e);
        sum += e;
    }
    float total = vec_sum(sum);
    for (; i < n; i++) {
        s[i] = zs_expf(s[i] * scale - scale * top);
        total += s[i];
    }
    return total;
}

static void softmax(float *s, float scale, int64_t rows, int64_t n)
{
    for (int64_t r = 0; r < rows; r++, s += n) {
        float f = 1.0f / exponentials(s, scale, largest(s, n), n);
        for (int64_t i = 0; i < n; i++)
            s[i] *= f;
    }
}

static void softmax_bwd(float *restrict dp, const float *restrict p, float f, int64_t rows,
                        int64_t n)
{
    for (int64_t r = 0; r < rows; r++, dp += n, p += n) {
        float mean = dot(dp, p, n);
        for (int64_t i = 0; i < n; i++)
            dp[i] = f * p[i] * (dp[i] - mean);
    }
}

const zs_elem_fns ZS_SIMD(zs_elem) = {
    .silu = silu,
    .silu_bwd = silu_bwd,
    .gelu = gelu,
    .gelu_bwd = gelu_bwd,
    .gelu_tanh = gelu_tanh,
    .gelu_tanh_bwd = gelu_tanh_bwd,
    .add = add,
    .accumulate = accumulate,
    .mul = mul,
    .mul1p = mul1p,
    .gate = gate,
    .gate_bwd = gate_bwd,
    .scale = scale,
    .square_sum = square_sum,
    .twice = twice,
    .copy_rows = copy_rows,
    .column_sums = column_sums,
    .sum_square_diff = sum_square_diff,
    .sum_abs_diff = sum_abs_diff,
    .square_diff_bwd = square_diff_bwd,
    .abs_diff_bwd = abs_diff_bwd,
    .dropout = dropout,
    .softmax = softmax,
    .softmax_bwd = softmax_bwd,
};
