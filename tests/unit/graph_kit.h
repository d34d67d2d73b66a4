/* SPDX-License-Identifier: MIT */
/* Graphs with parameters that nobody names. cmocka must be included first. */
#ifndef TESTS_UNIT_GRAPH_KIT_H
#define TESTS_UNIT_GRAPH_KIT_H

#include "graph/graph.h"

/* Parameters of one graph, one after the other in its flat buffer. */
typedef struct kit_params {
    int64_t used, room;
} kit_params;

/* The next one, trainable; fails the test when there is no room for it. */
zs_tid kit_param(zs_graph *g, kit_params *p, zs_shape s);

/* A residual block of x [N,H,W,ch] as one recompute segment: norm of `groups`, dropout, 3x3
 * convolution, norm of 2, 1x1 convolution, and a sum that the peephole folds into it. */
zs_tid kit_block(zs_graph *g, kit_params *p, zs_tid x, int64_t ch, int groups);

#endif
