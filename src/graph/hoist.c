/* SPDX-License-Identifier: MIT */
/* Cuts a forward graph where what depends on one input alone meets the rest. */
#include "graph/internal.h"

#include <string.h>

/* only[t]: computed, and from no other input than `source`. */
static void mark_invariant(const zs_graph *g, zs_tid source, bool *only)
{
    only[source] = true;
    for (size_t i = 0; i < g->nn; i++) {
        const zs_gnode *n = &g->n[i];
        bool some = false, all = true;
        for (int k = 0; k < ZS_MAX_IN; k++) {
            if (n->in[k] < 0 || g->t[n->in[k]].kind == ZS_KIND_PARAM)
                continue;
            some = true;
            all = all && only[n->in[k]];
        }
        for (int k = 0; k < ZS_MAX_OUT; k++)
            if (n->out[k] >= 0)
                only[n->out[k]] = some && all;
    }
    only[source] = false; /* given already: nothing to gain */
}

/* cut[t]: invariant, and read by a node whose result is not. */
static void mark_cut(const zs_graph *g, const bool *only, bool *cut)
{
    for (size_t i = 0; i < g->nn; i++)
        for (int k = 0; k < ZS_MAX_IN; k++) {
            zs_tid t = g->n[i].in[k];
            if (t >= 0 && only[t] && !only[g->n[i].out[0]])
                cut[t] = true;
        }
}

/* From here on t is an input; the node that made it is left dead. */
static void become_input(zs_graph *g, zs_tid t, const char *name)
{
    char *copy = zs_str_dup(name);
    if (!copy) {
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while building the graph");
        return;
    }
    zs_gnode *n = &g->n[g->t[t].producer];
    for (int k = 0; k < ZS_MAX_OUT; k++)
        if (n->out[k] == t)
            n->out[k] = ZS_NONE;
    g->t[t].kind = ZS_KIND_INPUT;
    g->t[t].producer = -1;
    g->t[t].name = copy;
}

static void drop_outputs(zs_graph *g)
{
    while (g->n_outputs > 0)
        zs_free(g->outputs[--g->n_outputs].name);
}

static zs_tid find_input(const zs_graph *g, const char *name)
{
    for (size_t i = 0; i < g->nt; i++)
        if (g->t[i].name && strcmp(g->t[i].name, name) == 0)
            return (zs_tid)i;
    return ZS_NONE;
}

int zs_graph_hoist(zs_graph *g, const char *input, zs_hoist side)
{
    char name[64];
    int n = 0;
    zs_tid source = g->err.status ? ZS_NONE : find_input(g, input);
    if (source < 0)
        return 0;
    bool *only = zs_calloc(2 * g->nt, sizeof *only);
    if (!only) {
        zs_graph_fail(g, ZS_E_NOMEM, "out of memory while building the graph");
        return 0;
    }
    bool *cut = only + g->nt;
    mark_invariant(g, source, only);
    mark_cut(g, only, cut);
    if (side == ZS_HOIST_COMPUTE)
        drop_outputs(g);
    for (size_t t = 0; t < g->nt; t++) {
        if (!cut[t])
            continue;
        (void)snprintf(name, sizeof name, "%s/%d", input, n++);
        if (side == ZS_HOIST_COMPUTE)
            zs_graph_output(g, name, (zs_tid)t);
        else
            become_input(g, (zs_tid)t, name);
    }
    zs_free(only);
    return n;
}
