/* SPDX-License-Identifier: MIT */
/* The input transform of the Winograd convolutions: V[k] = (B' patch B)[k], VL channels at once. */
#include "backend/cpu/wino.h"
#include "backend/cpu/wino_math.h"

/* A patch: the offset of its first pixel in x (which need not exist) and the part
 * [y0,y1) x [x0,x1) of it that lies inside of the image; the rest is zeros. */
typedef struct patch {
    const float *x;
    int64_t at;
    int64_t row, pixel; /* floats from a row and from a pixel to the next */
    int y0, y1, x0, x1;
} patch;

static int clamp(int64_t v, int most)
{
    return v < 0 ? 0 : v > most ? most : (int)v;
}

static patch patch_of(const zs_wino *g, const float *x, int64_t tile)
{
    int64_t n = tile / (g->th * g->tw), y = tile / g->tw % g->th * g->m - g->pad;
    int64_t left = tile % g->tw * g->m - g->pad;
    return (patch){.x = x,
                   .at = ((n * g->h + y) * g->w + left) * g->c,
                   .row = g->w * g->c,
                   .pixel = g->c,
                   .y0 = clamp(-y, g->p),
                   .y1 = clamp(g->h - y, g->p),
                   .x0 = clamp(-left, g->p),
                   .x1 = clamp(g->w - left, g->p)};
}

/* Column j of the patch, transformed; `whole`: all of the patch is inside. */
ZS_INLINE void column(vec *o, const patch *t, int64_t c, int j, int m, int lanes, bool whole)
{
    const float *p = t->x + (t->at + j * t->pixel + c);
    vec d[8];
    for (int i = 0; i < m + 2; i++, p += t->row) {
        VEC_HOLD(p);
        if (whole || (i >= t->y0 && i < t->y1)) {
            d[i] = vec_load_n(p, lanes);
            VEC_KEEP(d[i]);
        } else {
            d[i] = vec_zero();
        }
    }
    wino_in(o, d, m);
}

/* Asks for the part of the next patch to the right that this one does not share. */
ZS_INLINE void ahead(const patch *t, int64_t c, int m)
{
    const float *p = t->x + (t->at + (m + 2) * t->pixel + c);
    for (int i = 0; i < m + 2; i++, p += t->row)
        for (int j = 0; j < m; j++)
            VEC_PREFETCH(p + j * t->pixel);
}

ZS_INLINE void transform(float *v, int64_t ks, const patch *t, int64_t c, int m, int lanes,
                         bool whole)
{
    vec e[8][8], o[8];
    const int p = m + 2;
    ahead(t, c, m);
    for (int j = 0; j < p; j++) {
        if (whole || (j >= t->x0 && j < t->x1))
            column(o, t, c, j, m, lanes, whole);
        else
            for (int i = 0; i < p; i++)
                o[i] = vec_zero();
        for (int i = 0; i < p; i++)
            e[i][j] = o[i];
    }
    v += c;
    for (int i = 0; i < p; i++) {
        wino_in(o, e[i], m);
        for (int j = 0; j < p; j++, v += ks) {
            VEC_HOLD(v);
            vec_save(v, o[j]);
        }
    }
}

ZS_INLINE void tiles(float *v, int64_t ks, const zs_wino *g, const float *x, int64_t first,
                     int64_t count, int m)
{
    for (int64_t i = 0; i < count; i++, v += g->ld) {
        patch t = patch_of(g, x, first + i);
        bool whole = t.y0 == 0 && t.x0 == 0 && t.y1 == m + 2 && t.x1 == m + 2;
        int64_t c = 0;
        for (; whole && c + VL <= g->c; c += VL)
            transform(v, ks, &t, c, m, VL, true);
        for (; c + VL <= g->c; c += VL)
            transform(v, ks, &t, c, m, VL, false);
        if (c < g->c)
            transform(v, ks, &t, c, m, (int)(g->c - c), false);
    }
}

static void tiles4(float *v, int64_t ks, const zs_wino *g, const float *x, int64_t first,
                   int64_t count)
{
    tiles(v, ks, g, x, first, count, 4);
}

static void tiles6(float *v, int64_t ks, const zs_wino *g, const float *x, int64_t first,
                   int64_t count)
{
    tiles(v, ks, g, x, first, count, 6);
}

const zs_wino_in_fns ZS_SIMD(zs_wino_in) = {{tiles4, tiles6}};
