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

#endif
