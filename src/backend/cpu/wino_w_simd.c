/* SPDX-License-Identifier: MIT */
/* The weight transform of the Winograd convolutions: U[k] = (G w G')[k], VL outputs at once. */
#include "backend/cpu/wino.h"
#include "backend/cpu/wino_math.h"

enum { NR = 2 * VL, BLOCK = 16, AHEAD = 8 };

/* u[k*ks] = the transform of taps w[t*tap], `lanes` outputs. */
ZS_INLINE void transform(float *u, int64_t ks, const float *w, int64_t tap, int m, int lanes)
{
    vec e[8][3], g[3], o[8];
    const int p = m + 2;
    for (int s = 0; s < 3; s++) {
        for (int r = 0; r < 3; r++)
            g[r] = vec_load_n(w + (r * 3 + s) * tap, lanes);
        wino_weights(o, g, m);
        for (int i = 0; i < p; i++)
            e[i][s] = o[i];
    }
    for (int i = 0; i < p; i++) {
        wino_weights(o, e[i], m);
        for (int j = 0; j < p; j++, u += ks) {
            VEC_HOLD(u);
            vec_save(u, o[j]);
        }
    }
}

/* The panel's row of one channel: w[t*tap + j], j < cols. */
ZS_INLINE void row(float *u, int64_t ks, const float *w, int64_t tap, int m, int64_t cols)
{
    for (int j = 0; j < NR; j += VL) {
        if (cols - j >= VL)
            transform(u + j, ks, w + j, tap, m, VL);
        else
            transform(u + j, ks, cols > j ? w + j : w, tap, m, cols > j ? (int)(cols - j) : 0);
    }
}

/* Asks for the taps of a channel that comes later: their lines lie too far apart to be foreseen by
 * the processor. */
ZS_INLINE void ahead(const float *w, int64_t tap)
{
    for (int t = 0; t < 9; t++)
        for (int j = 0; j < NR; j += 16)
            VEC_PREFETCH(w + t * tap + j);
}

/* t[c][j] = w[j*stride + c] for `cols` rows and `count` columns. */
static void transpose_some(float (*t)[NR], const float *w, int64_t stride, int64_t cols,
                           int64_t count)
{
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < count; i++)
            t[i][j] = w[j * stride + i];
}

#if defined(ZS_HAVE_SHUFFLE)
/* The same for all NR rows and BLOCK columns. */
static void transpose_all(float (*t)[NR], const float *w, int64_t stride)
{
    for (int j = 0; j < NR; j += VL) {
        for (int i = 0; i < BLOCK; i += VL) {
            vec r[VL];
            for (int k = 0; k < VL; k++) {
                r[k] = vec_load(w + (j + k) * stride + i);
                VEC_PREFETCH(w + (j + k) * stride + i + 2 * BLOCK);
            }
            vec_transpose(r);
            for (int k = 0; k < VL; k++)
                vec_save(t[i + k] + j, r[k]);
        }
    }
}
#else
static void transpose_all(float (*t)[NR], const float *w, int64_t stride)
{
    transpose_some(t, w, stride, NR, BLOCK);
}
#endif

/* t[8 - tap][c][j] = w[tap][o+j][c] for `count` channels from c on: the reversed, transposed taps
 * of a block. */
static void transpose(float (*t)[BLOCK][NR], const zs_wino_w *w, int64_t o, int64_t cols, int64_t c,
                      int64_t count)
{
    for (int tap = 0; tap < 9; tap++) {
        const float *from = w->w + (tap * w->o + o) * w->c + c;
        if (cols == NR && count == BLOCK)
            transpose_all(t[8 - tap], from, w->c);
        else
            transpose_some(t[8 - tap], from, w->c, cols, count);
    }
}

ZS_INLINE void panel(float *u, int64_t ks, const zs_wino_w *w, int64_t o, int64_t c0, int64_t c1,
                     int m)
{
    float t[9][BLOCK][NR];
    int64_t cols = w->o - o < NR ? w->o - o : NR;
    if (!w->transposed) {
        for (int64_t c = c0; c < c1; c++) {
            if (c + AHEAD < c1)
                ahead(w->w + (c + AHEAD) * w->o + o, w->c * w->o);
            row(u + (c - c0) * NR, ks, w->w + c * w->o + o, w->c * w->o, m, cols);
        }
        return;
    }
    for (int64_t c = c0; c < c1; c += BLOCK) {
        int64_t count = c1 - c < BLOCK ? c1 - c : BLOCK;
        transpose(t, w, o, cols, c, count);
        for (int64_t i = 0; i < count; i++)
            row(u + (c - c0 + i) * NR, ks, t[0][i], BLOCK * NR, m, cols);
    }
}

static void panel4(float *u, int64_t ks, const zs_wino_w *w, int64_t o, int64_t c0, int64_t c1)
{
    panel(u, ks, w, o, c0, c1, 4);
}

static void panel6(float *u, int64_t ks, const zs_wino_w *w, int64_t o, int64_t c0, int64_t c1)
{
    panel(u, ks, w, o, c0, c1, 6);
}

/* Rows of weights that lie together: of each tap and channel the panel's outputs, or transposed of
 * each tap and output the channels. */
static void ahead_part(const zs_wino_w *w, int64_t o, int64_t c0, int64_t c1, int64_t i, int64_t n)
{
    int64_t cols = w->o - o < NR ? w->o - o : NR, depth = c1 - c0;
    int64_t per_tap = w->transposed ? cols : depth, len = w->transposed ? depth : cols;
    int64_t r = i * 9 * per_tap / n, end = (i + 1) * 9 * per_tap / n;
    int64_t tap = r / per_tap, k = r % per_tap;
    for (; r < end; r++) {
        const float *p = w->transposed ? w->w + (tap * w->o + o + k) * w->c + c0
                                       : w->w + (tap * w->c + c0 + k) * w->o + o;
        for (int64_t j = 0; j < len; j += 16)
            VEC_PREFETCH_L2(p + j);
        if (++k == per_tap) {
            k = 0;
            tap++;
        }
    }
}

const zs_wino_w_fns ZS_SIMD(zs_wino_w) = {{panel4, panel6}, ahead_part};
