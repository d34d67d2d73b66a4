/* SPDX-License-Identifier: MIT */
/* The output transform of the Winograd convolutions: y = A' M A + bias + residual, VL outputs at
 * once. */
#include "backend/cpu/wino.h"
#include "backend/cpu/wino_math.h"

enum { NR = 2 * VL };

/* A tile in y: offset of its first pixel, and the part of it that is inside of the image. */
typedef struct place {
    int64_t at, row, pixel;
    int rows, cols;
} place;

static place place_of(const zs_wino *g, const zs_wino_out *out, int64_t tile)
{
    int64_t n = tile / (g->th * g->tw), y = tile / g->tw % g->th * g->m, x = tile % g->tw * g->m;
    return (place){.at = ((n * g->oh + y) * g->ow + x) * out->channels + out->o,
                   .row = g->ow * out->channels,
                   .pixel = out->channels,
                   .rows = (int)(g->oh - y < g->m ? g->oh - y : g->m),
                   .cols = (int)(g->ow - x < g->m ? g->ow - x : g->m)};
}

ZS_INLINE void transform(const zs_wino_out *out, const float *mm, int64_t ks, const place *t,
                         int64_t o, int m, int lanes, bool whole)
{
    vec e[6][8], v[8], q[6];
    const int p = m + 2;
    for (int j = 0; j < p; j++) {
        const float *from = mm + j * ks;
        for (int i = 0; i < p; i++, from += p * ks) {
            VEC_HOLD(from);
            v[i] = vec_load(from);
            VEC_KEEP(v[i]);
        }
        wino_out(q, v, m);
        for (int i = 0; i < m; i++)
            e[i][j] = q[i];
    }
    vec b = out->bias ? vec_load_n(out->bias + out->o + o, lanes) : vec_zero();
    for (int i = 0; i < m && (whole || i < t->rows); i++) {
        wino_out(q, e[i], m);
        int64_t at = t->at + i * t->row + o;
        for (int j = 0; j < m && (whole || j < t->cols); j++, at += t->pixel) {
            vec r = q[j] + b;
            if (out->residual)
                r += vec_load_n(out->residual + at, lanes);
            vec_save_n(out->y + at, r, lanes);
        }
    }
}

ZS_INLINE void tiles(const zs_wino_out *out, const float *mm, int64_t ks, const zs_wino *g,
                     int64_t first, int64_t count, int m)
{
    for (int64_t i = 0; i < count; i++, mm += NR) {
        place t = place_of(g, out, first + i);
        bool whole = t.rows == m && t.cols == m;
        int o = 0;
        for (; whole && o + VL <= out->cols; o += VL)
            transform(out, mm + o, ks, &t, o, m, VL, true);
        for (; o + VL <= out->cols; o += VL)
            transform(out, mm + o, ks, &t, o, m, VL, false);
        if (o < out->cols)
            transform(out, mm + o, ks, &t, o, m, out->cols - o, false);
    }
}

static void ahead(const zs_wino_out *out, const zs_wino *g, int64_t tile)
{
    place t = place_of(g, out, tile);
    for (int i = 0; i < t.rows; i++)
        for (int j = 0; j < t.cols; j++)
            for (int o = 0; o < out->cols; o += 16)
                VEC_PREFETCH_WRITE(out->y + t.at + i * t.row + j * t.pixel + o);
}

static void tiles4(const zs_wino_out *out, const float *mm, int64_t ks, const zs_wino *g,
                   int64_t first, int64_t count)
{
    tiles(out, mm, ks, g, first, count, 4);
}

static void tiles6(const zs_wino_out *out, const float *mm, int64_t ks, const zs_wino *g,
                   int64_t first, int64_t count)
{
    tiles(out, mm, ks, g, first, count, 6);
}

const zs_wino_out_fns ZS_SIMD(zs_wino_out) = {{tiles4, tiles6}, ahead};
