/* SPDX-License-Identifier: MIT */
#include "graph/internal.h"

static void dump_tensor(const zs_graph *g, zs_tid t, FILE *f)
{
    static const char kind[] = {
        [ZS_KIND_INPUT] = 'i', [ZS_KIND_PARAM] = 'p', [ZS_KIND_GRAD] = 'g', [ZS_KIND_ACT] = '%'};
    if (t < 0) {
        fprintf(f, " -");
        return;
    }
    fprintf(f, " %c%d%s", kind[g->t[t].kind], (int)t, g->t[t].type == ZS_BF16 ? "h" : "");
}

void zs_graph_dump(const zs_graph *g, FILE *f)
{
    static const char *const phase[] = {[ZS_FWD] = "fwd", [ZS_RECOMP] = "rec", [ZS_BWD] = "bwd"};
    for (size_t i = 0; i < g->nn; i++) {
        const zs_gnode *n = &g->n[i];
        fprintf(f, "%5zu %s s%-3d %-13s", i, phase[n->phase], (int)n->segment, zs_op_name(n->op));
        for (int k = 0; k < zs_op_inputs(n->op); k++)
            dump_tensor(g, n->in[k], f);
        fprintf(f, " ->");
        for (int k = 0; k < zs_op_outputs(n->op); k++)
            dump_tensor(g, n->out[k], f);
        if (n->out[0] >= 0) {
            const zs_shape *s = &g->t[n->out[0]].shape;
            for (int k = 0; k < s->nd; k++)
                fprintf(f, "%s%lld", k ? "x" : "  ", (long long)s->d[k]);
        }
        fputc('\n', f);
    }
}
