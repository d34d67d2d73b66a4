/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/unit/graph_kit.h"

zs_tid kit_param(zs_graph *g, kit_params *p, zs_shape s)
{
    int64_t at = (p->used + 15) / 16 * 16; /* as nn/params.h places them */
    p->used = at + zs_shape_numel(&s);
    assert_true(p->used <= p->room);
    return zs_graph_param(g, at, s, true);
}

static zs_tid norm(zs_graph *g, kit_params *p, zs_tid x, int64_t ch, int groups)
{
    zs_tid gamma = kit_param(g, p, zs_shape1(ch)), beta = kit_param(g, p, zs_shape1(ch));
    return zs_gn_act(g, x, gamma, beta, ZS_NONE, ZS_NONE, groups, 1e-5f, ZS_ACT_SILU);
}

zs_tid kit_block(zs_graph *g, kit_params *p, zs_tid x, int64_t ch, int groups)
{
    zs_graph_segment_begin(g);
    zs_tid h = zs_dropout(g, norm(g, p, x, ch, groups), 0.25f);
    zs_tid w = kit_param(g, p, zs_shape4(3, 3, ch, ch)), b = kit_param(g, p, zs_shape1(ch));
    h = norm(g, p, zs_conv2d(g, h, w, b, ZS_NONE, 1, 1), ch, 2);
    h = zs_conv2d(g, h, kit_param(g, p, zs_shape4(1, 1, ch, ch)), ZS_NONE, ZS_NONE, 1, 0);
    h = zs_add(g, h, x);
    zs_graph_segment_end(g);
    return h;
}
