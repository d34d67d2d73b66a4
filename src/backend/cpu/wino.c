/* SPDX-License-Identifier: MIT */
#include "backend/cpu/wino.h"
#include "backend/cpu/conv_direct.h"

/* Floats: what lies multiples of 2 KiB apart shares few sets of the L1 cache. */
enum { BAD_STRIDE = 512 };

zs_wino zs_wino_of(zs_wino_kind kind, const zs_view *x, int64_t oh, int64_t ow, int64_t pad)
{
    int m = kind == ZS_WINO_F4 ? 4 : 6;
    zs_wino g = {.kind = kind,
                 .m = m,
                 .p = m + 2,
                 .points = (m + 2) * (m + 2),
                 .n = x->s.d[0],
                 .h = x->s.d[1],
                 .w = x->s.d[2],
                 .c = x->s.d[3],
                 .oh = oh,
                 .ow = ow,
                 .pad = pad,
                 .th = zs_div_up(oh, m),
                 .tw = zs_div_up(ow, m)};
    g.tiles = g.n * g.th * g.tw;
    g.ld = zs_align16(g.c);
    if (g.ld % BAD_STRIDE == 0)
        g.ld += 16;
    return g;
}

int64_t zs_wino_ks(const zs_wino *g, int64_t tiles)
{
    int64_t floats = tiles * g->ld + 16;
    return floats % BAD_STRIDE == 0 ? floats + 16 : floats;
}
