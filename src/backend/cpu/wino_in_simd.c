/* SPDX-License-Identifier: MIT */
/* The input transform of the Winograd convolutions: V[k] = (B' patch B)[k], VL channels at once. */
#include "backend/cpu/wino.h"
#include "backend/cpu/wino_math.h"
#include "backend/cpu/wino_patch.h"

static zs_wino_patch patch_of(const zs_wino *g, const float *x, int64_t tile)
{
    return zs_wino_patch_of(x, g->h, g->w, g->c, tile / (g->th * g->tw),
                            tile / g->tw % g->th * g->m - g->pad, tile % g->tw * g->m - g->pad,
                            g->p);
}

/* Column j of the patch, transformed; `whole`: all of the patch is inside. */
ZS_INLINE void column(vec *o, const zs_wino_patch *t, int64_t c, int j, int m, int lanes,
                      bool whole)
{
    const float *p = t->p + (t->at + j * t->pixel + c);
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
ZS_INLINE void ahead(const zs_wino_patch *t, int64_t c, int m)
{
    const float *p = t->p + (t->at + (m + 2) * t->pixel + c);
    for (int i = 0; i < m + 2; i++, p += t->row)
        for (int j = 0; j < m; j++)
            VEC_PREFETCH(p + j * t->pixel);
}

ZS_INLINE void transform(float *v, int64_t ks, const zs_wino_patch *t, int64_t c, int m, int lanes,
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
        zs_wino_patch t = patch_of(g, x, first + i);
        int64_t c = 0;
        for (; t.whole && c + VL <= g->c; c += VL)
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
