/* SPDX-License-Identifier: MIT */
/* The transforms of the weight gradient: some rows of V = B' patch B and of D = A dY A', and the
 * way back from dU to dw. */
#include "backend/cpu/vec.h"
#include "backend/cpu/wino_dw.h"
#include "backend/cpu/wino_math.h"
#include "backend/cpu/wino_patch.h"

enum { M = 4, P = ZS_WINO_DW_P };

/* o[6] = A y, y[4]. */
ZS_INLINE void spread(vec o[P], const vec y[M])
{
    vec p = y[0] + y[2], q = y[1] + y[3];
    vec r = y[0] + 4.0f * y[2], s = 2.0f * y[1] + 8.0f * y[3];
    o[0] = y[0];
    o[1] = p + q;
    o[2] = p - q;
    o[3] = r + s;
    o[4] = r - s;
    o[5] = y[3];
}

/* o[3] = G' u, u[6]. */
ZS_INLINE void gather(vec o[3], const vec u[P])
{
    vec s = (-1.0f / 6) * (u[1] + u[2]), d = (-1.0f / 6) * (u[1] - u[2]), p = u[3] + u[4];
    o[0] = 0.25f * u[0] + ((1.0f / 24) * p + s);
    o[1] = (1.0f / 12) * (u[3] - u[4]) + d;
    o[2] = u[5] + ((1.0f / 6) * p + s);
}

/* VL channels of column j; `lanes` of them exist. */
ZS_INLINE void column(vec *d, const zs_wino_patch *s, int64_t c, int j, int side, int lanes,
                      bool whole)
{
    const float *p = s->p + (s->at + j * s->pixel + c);
    for (int i = 0; i < side; i++, p += s->row) {
        VEC_HOLD(p);
        if (whole || (i >= s->y0 && i < s->y1 && j >= s->x0 && j < s->x1))
            d[i] = vec_load_n(p, lanes);
        else
            d[i] = vec_zero();
    }
}

/* Asks for the part of the next square to the right that this one does not share. */
ZS_INLINE void ahead(const zs_wino_patch *s, int64_t c, int side)
{
    const float *p = s->p + (s->at + side * s->pixel + c);
    for (int i = 0; i < side; i++, p += s->row) {
        VEC_HOLD(p);
        for (int j = 0; j < M; j++)
            VEC_PREFETCH(p + j * s->pixel);
    }
}

/* The rows `cut`, `set` of a square transformed: B' patch B, or with `dy` A tile A'. */
ZS_INLINE void transform(float *to, int64_t ks, const zs_wino_patch *s, int64_t c, zs_wino_cut cut,
                         int set, bool dy, int lanes, bool whole)
{
    vec e[P][P], in[P], out[P];
    const int side = dy ? M : P, rows = zs_wino_cut_rows(cut);
    ahead(s, c, side);
    for (int j = 0; j < side; j++) {
        column(in, s, c, j, side, lanes, whole);
        if (dy)
            spread(out, in);
        else
            wino_in4(out, in);
        for (int i = 0; i < rows; i++)
            e[i][j] = out[zs_wino_cut_row(cut, set, i)];
    }
    for (int i = 0; i < rows; i++) {
        if (dy)
            spread(out, e[i]);
        else
            wino_in4(out, e[i]);
        for (int j = 0; j < P; j++, to += ks) {
            VEC_HOLD(to);
            vec_save(to, out[j]);
        }
    }
}

ZS_INLINE void rows_of_x(float *v, int64_t ks, const zs_wino *g, const zs_wino_x *x, int64_t first,
                         int64_t count, zs_wino_cut cut, int set)
{
    v -= x->c0;
    for (int64_t i = first; i < first + count; i++, v += g->ld) {
        int64_t n = i / (g->th * g->tw), c = x->c0;
        zs_wino_patch s = zs_wino_patch_of(
            x->x, g->h, g->w, g->c, n, i / g->tw % g->th * M - g->pad, i % g->tw * M - g->pad, P);
        for (; s.whole && c + VL <= x->c1; c += VL)
            transform(v + c, ks, &s, c, cut, set, false, VL, true);
        for (; c + VL <= x->c1; c += VL)
            transform(v + c, ks, &s, c, cut, set, false, VL, false);
        if (c < x->c1)
            transform(v + c, ks, &s, c, cut, set, false, (int)(x->c1 - c), false);
    }
}

ZS_INLINE void rows_of_dy(float *d, const zs_wino_dy *t, int64_t first, int64_t count,
                          int64_t begin, int64_t end, zs_wino_cut cut, int set)
{
    const zs_wino *g = t->g;
    for (int64_t i = first; i < first + count; i++, d += t->nr) {
        zs_wino_patch s = zs_wino_patch_of(t->dy, g->oh, g->ow, t->o, i / (g->th * g->tw),
                                           i / g->tw % g->th * M, i % g->tw * M, M);
        for (int64_t panel = begin; panel < end; panel++) {
            for (int64_t j = 0; j < t->nr; j += VL) {
                float *to = d + (panel - begin) * t->step + j;
                int64_t o = panel * t->nr + j, left = t->o - o;
                if (left < VL)
                    transform(to, t->ks, &s, o, cut, set, true, zs_wino_clamp(left, VL), false);
                else if (s.whole)
                    transform(to, t->ks, &s, o, cut, set, true, VL, true);
                else
                    transform(to, t->ks, &s, o, cut, set, true, VL, false);
            }
        }
    }
}

#define SET(CUT, N)                                                                         \
    static void x_##CUT##_##N(float *v, int64_t ks, const zs_wino *g, const zs_wino_x *x,   \
                              int64_t first, int64_t count)                                 \
    {                                                                                       \
        rows_of_x(v, ks, g, x, first, count, ZS_WINO_##CUT, N);                             \
    }                                                                                       \
    static void dy_##CUT##_##N(float *d, const zs_wino_dy *t, int64_t first, int64_t count, \
                               int64_t begin, int64_t end)                                  \
    {                                                                                       \
        rows_of_dy(d, t, first, count, begin, end, ZS_WINO_##CUT, N);                       \
    }

SET(ROW, 0)
SET(ROW, 1)
SET(ROW, 2)
SET(ROW, 3)
SET(ROW, 4)
SET(ROW, 5)
SET(PAIR, 0)
SET(PAIR, 1)
SET(PAIR, 2)
SET(HALF, 0)
SET(HALF, 1)
SET(ALL, 0)

static void fold(float *t, int64_t ts, const float *u, int64_t us, int64_t n, bool fresh)
{
    for (int64_t i = 0; i < n; i += VL) {
        vec in[P], out[3];
        for (int j = 0; j < P; j++)
            in[j] = vec_load(u + j * us + i);
        gather(out, in);
        for (int s = 0; s < 3; s++) {
            float *to = t + s * ts + i;
            vec_save(to, fresh ? out[s] : vec_load(to) + out[s]);
        }
    }
}

enum { AHEAD = 4 }; /* channels that are asked for while one is worked on */

/* VL outputs of a channel. */
ZS_INLINE void unpack_vec(float *dw, const zs_wino_unpack *t, const float *from, int lanes)
{
    for (int s = 0; s < 3; s++) {
        vec in[P], out[3];
        for (int i = 0; i < P; i++) {
            in[i] = vec_load(from + (i * 3 + s) * t->ts);
            VEC_PREFETCH(from + (i * 3 + s) * t->ts + AHEAD * t->nr);
        }
        for (int64_t n = 1; n < t->parts; n++)
            for (int i = 0; i < P; i++)
                in[i] += vec_load(from + n * t->part + (i * 3 + s) * t->ts);
        gather(out, in);
        for (int r = 0; r < 3; r++) {
            float *to = dw + (r * 3 + s) * t->plane;
            VEC_PREFETCH(to + AHEAD * t->ld);
            vec_save_n(to, vec_load_n(to, lanes) + out[r], lanes);
        }
    }
}

static void unpack(const zs_wino_unpack *t)
{
    for (int i = 0; i < t->rows; i++) {
        float *dw = t->dw + i * t->ld;
        const float *from = t->t + i * t->nr;
        int j = 0;
        for (; j + VL <= t->cols; j += VL)
            unpack_vec(dw + j, t, from + j, VL);
        if (j < t->cols)
            unpack_vec(dw + j, t, from + j, t->cols - j);
    }
}

static void sum(double *y, const float *x, int64_t count, int nr)
{
    for (int j = 0; j < nr; j += VL) {
        vec s = vec_zero();
        float lanes[VL];
        for (int64_t i = 0; i < count; i++)
            s += vec_load(x + i * nr + j);
        vec_save(lanes, s);
        for (int i = 0; i < VL; i++)
            y[j + i] += (double)lanes[i];
    }
}

#define TABLE(K)                                                                         \
    {                                                                                    \
        {K##_ROW_0, K##_ROW_1, K##_ROW_2, K##_ROW_3, K##_ROW_4, K##_ROW_5},              \
            {K##_PAIR_0, K##_PAIR_1, K##_PAIR_2}, {K##_HALF_0, K##_HALF_1}, {K##_ALL_0}, \
    }

const zs_wino_dw_fns ZS_SIMD(zs_wino_dw) = {TABLE(x), TABLE(dy), fold, unpack, sum};
