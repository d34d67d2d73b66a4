/* SPDX-License-Identifier: MIT */
/* One-dimensional transforms of F(4,3) and F(6,3) on vectors, for the wino*_simd.c files. `m` is a
 * constant where they are called: after inlining only one branch is left. */
#ifndef ZS_BACKEND_CPU_WINO_MATH_H
#define ZS_BACKEND_CPU_WINO_MATH_H

#include "backend/cpu/vec.h"

/* o[6] = B' d, points 0, 1, -1, 2, -2, infinity. */
ZS_INLINE void wino_in4(vec o[6], const vec d[6])
{
    vec a = d[4] - 4.0f * d[2], b = d[3] - 4.0f * d[1];
    vec c = d[4] - d[2], e = d[3] - d[1];
    o[0] = 4.0f * d[0] + (d[4] - 5.0f * d[2]);
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + 2.0f * e;
    o[4] = c - 2.0f * e;
    o[5] = 4.0f * d[1] + (d[5] - 5.0f * d[3]);
}

/* o[8] = B' d, points 0, 1, -1, 2, -2, 1/2, -1/2, infinity. */
ZS_INLINE void wino_in6(vec o[8], const vec d[8])
{
    vec a = (d[2] + d[6]) - 4.25f * d[4], b = (d[1] + d[5]) - 4.25f * d[3];
    vec c = 0.25f * d[2] + (d[6] - 1.25f * d[4]);
    vec e = 0.5f * d[1] + (2.0f * d[5] - 2.5f * d[3]);
    vec f = 4.0f * d[2] + (d[6] - 5.0f * d[4]);
    vec g = 2.0f * d[1] + (0.5f * d[5] - 2.5f * d[3]);
    o[0] = 5.25f * (d[4] - d[2]) + (d[0] - d[6]);
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + e;
    o[4] = c - e;
    o[5] = f + g;
    o[6] = f - g;
    o[7] = 5.25f * (d[3] - d[5]) + (d[7] - d[1]);
}

ZS_INLINE void wino_in(vec *o, const vec *d, int m)
{
    if (m == 4)
        wino_in4(o, d);
    else
        wino_in6(o, d);
}

/* o[6] = G g. */
ZS_INLINE void wino_weights4(vec o[6], const vec g[3])
{
    vec a = (-1.0f / 6) * (g[0] + g[2]), b = (-1.0f / 6) * g[1];
    vec c = (1.0f / 24) * g[0] + (1.0f / 6) * g[2], d = (1.0f / 12) * g[1];
    o[0] = 0.25f * g[0];
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + d;
    o[4] = c - d;
    o[5] = g[2];
}

/* o[8] = G g. */
ZS_INLINE void wino_weights6(vec o[8], const vec g[3])
{
    vec a = (-2.0f / 9) * (g[0] + g[2]), b = (-2.0f / 9) * g[1];
    vec c = (1.0f / 90) * g[0] + (2.0f / 45) * g[2], d = (1.0f / 45) * g[1];
    vec e = (32.0f / 45) * g[0] + (8.0f / 45) * g[2], f = (16.0f / 45) * g[1];
    o[0] = g[0];
    o[1] = a + b;
    o[2] = a - b;
    o[3] = c + d;
    o[4] = c - d;
    o[5] = e + f;
    o[6] = e - f;
    o[7] = g[2];
}

ZS_INLINE void wino_weights(vec *o, const vec *g, int m)
{
    if (m == 4)
        wino_weights4(o, g);
    else
        wino_weights6(o, g);
}

/* o[4] = A' v. */
ZS_INLINE void wino_out4(vec o[4], const vec v[6])
{
    vec a = v[1] + v[2], b = v[1] - v[2], c = v[3] + v[4], d = v[3] - v[4];
    o[0] = (v[0] + a) + c;
    o[1] = b + 2.0f * d;
    o[2] = a + 4.0f * c;
    o[3] = (b + v[5]) + 8.0f * d;
}

/* o[6] = A' v. */
ZS_INLINE void wino_out6(vec o[6], const vec v[8])
{
    vec a = v[1] + v[2], b = v[1] - v[2], c = v[3] + v[4], d = v[3] - v[4];
    vec e = v[5] + v[6], f = v[5] - v[6];
    o[0] = (v[0] + a) + (c + e);
    o[1] = (b + 2.0f * d) + 0.5f * f;
    o[2] = (a + 4.0f * c) + 0.25f * e;
    o[3] = (b + 8.0f * d) + 0.125f * f;
    o[4] = (a + 16.0f * c) + 0.0625f * e;
    o[5] = (b + 32.0f * d) + (v[7] + 0.03125f * f);
}

ZS_INLINE void wino_out(vec *o, const vec *v, int m)
{
    if (m == 4)
        wino_out4(o, v);
    else
        wino_out6(o, v);
}

#endif
