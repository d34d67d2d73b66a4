/* SPDX-License-Identifier: MIT */
/* Which gradients are final when: the moment at which they may leave the machine. */
#include "graph/internal.h"

#include <stdlib.h>

typedef struct moment {
    int32_t node; /* after this one; -1: no node adds to the range */
    size_t range;
} moment;

struct zs_ready {
    zs_ready_config c;
    moment *at; /* ascending; ranges without a node left out */
    size_t n, next;
};

/* The last node that adds to gradients [begin,end), or -1. */
static int32_t last_writer(const zs_graph *g, zs_grad_range r)
{
    for (size_t i = g->nn; i-- > 0;)
        for (int k = 0; k < ZS_MAX_OUT; k++) {
            zs_tid t = g->n[i].out[k];
            if (t < 0 || g->t[t].kind != ZS_KIND_GRAD)
                continue;
            int64_t begin = g->t[t].offset, end = begin + zs_shape_numel(&g->t[t].shape);
            if (begin < r.end && r.begin < end)
                return (int32_t)i;
        }
    return -1;
}

static int by_node(const void *a, const void *b)
{
    const moment *x = a, *y = b;
    if (x->node != y->node)
        return x->node < y->node ? -1 : 1;
    return x->range < y->range ? -1 : x->range > y->range;
}

int zs_ready_new(zs_ready **out, const zs_graph *g, const zs_ready_config *c, zs_error *err)
{
    zs_ready *r = zs_calloc(1, sizeof *r);
    *out = r;
    if (r)
        r->at = zs_alloc(c->n + 1, sizeof *r->at);
    if (!r || !r->at) {
        zs_ready_free(out);
        return zs_fail_nomem(err, (c->n + 1) * sizeof *r->at, "an executor");
    }
    r->c = *c;
    for (size_t i = 0; i < c->n; i++) {
        int32_t node = last_writer(g, c->ranges[i]);
        if (node >= 0)
            r->at[r->n++] = (moment){node, i};
    }
    qsort(r->at, r->n, sizeof *r->at, by_node);
    return ZS_OK;
}

void zs_ready_free(zs_ready **r)
{
    if (*r)
        zs_free((*r)->at);
    zs_free(*r);
    *r = NULL;
}

void zs_ready_after(zs_ready *r, size_t node)
{
    if (node == 0)
        r->next = 0;
    for (; r->next < r->n && (size_t)r->at[r->next].node <= node; r->next++)
        r->c.ready(r->c.ctx, r->at[r->next].range);
    if (r->c.tick)
        r->c.tick(r->c.ctx);
}
