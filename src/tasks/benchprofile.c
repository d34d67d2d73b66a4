/* SPDX-License-Identifier: MIT */
/* Where the time of a run goes: nodes summed per operation, and per operation and shapes. */
#include "tasks/benchrow.h"

#include <stdlib.h>

typedef struct line {
    zs_op op;
    zs_shape in, out; /* of the first input and output; nd 0 in sums over all shapes */
    int k;            /* of convolutions */
    double calls, seconds, flops, bytes;
} line;

struct zs_bench_profile {
    line *shapes;
    size_t n, cap;
    bool failed;
};

int zs_bench_profile_new(zs_bench_profile **p, zs_error *err)
{
    *p = zs_calloc(1, sizeof **p);
    return *p ? ZS_OK : zs_fail_nomem(err, sizeof **p, "a profile");
}

void zs_bench_profile_free(zs_bench_profile **p)
{
    if (*p)
        zs_free((*p)->shapes);
    zs_free(*p);
    *p = NULL;
}

void zs_bench_profile_clear(zs_bench_profile *p)
{
    p->n = 0;
}

static bool same_line(const line *a, const line *b)
{
    return a->op == b->op && a->k == b->k && zs_shape_equal(&a->in, &b->in) &&
           zs_shape_equal(&a->out, &b->out);
}

static line *find_line(zs_bench_profile *p, const line *like)
{
    void *items = p->shapes;
    for (size_t i = 0; i < p->n; i++)
        if (same_line(&p->shapes[i], like))
            return &p->shapes[i];
    if (!zs_grow(&items, &p->cap, p->n, sizeof *p->shapes)) {
        p->failed = true;
        return NULL;
    }
    p->shapes = items;
    p->shapes[p->n] = *like;
    return &p->shapes[p->n++];
}

static void add_to(line *l, const line *x)
{
    l->calls += x->calls;
    l->seconds += x->seconds;
    l->flops += x->flops;
    l->bytes += x->bytes;
}

/* Every tensor once. */
static double bytes_of(const zs_call *c)
{
    double n = 0;
    for (int i = 0; i < ZS_MAX_IN; i++)
        n += c->in[i].p ? (double)zs_shape_numel(&c->in[i].s) : 0;
    for (int i = 0; i < ZS_MAX_OUT; i++)
        n += c->out[i].p ? (double)zs_shape_numel(&c->out[i].s) : 0;
    return n * sizeof(float);
}

static zs_shape first_shape(const zs_view *v, int n)
{
    for (int i = 0; i < n; i++)
        if (v[i].p)
            return v[i].s;
    return (zs_shape){0};
}

void zs_bench_profile_node(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds)
{
    (void)node;
    bool conv = op == ZS_OP_CONV2D || op == ZS_OP_CONV2D_DX || op == ZS_OP_CONV2D_DW;
    line like = {.op = op,
                 .in = first_shape(c->in, ZS_MAX_IN),
                 .out = first_shape(c->out, ZS_MAX_OUT),
                 .k = conv ? c->a->k : 0};
    line *l = find_line(ctx, &like);
    line x = {.calls = 1, .seconds = seconds, .flops = zs_call_flops(op, c), .bytes = bytes_of(c)};
    if (l)
        add_to(l, &x);
}

static int slower_first(const void *a, const void *b)
{
    const line *x = a, *y = b;
    return (x->seconds < y->seconds) - (x->seconds > y->seconds);
}

static void name_shape(zs_strbuf *s, const zs_shape *x)
{
    for (int i = 0; i < x->nd; i++)
        zs_strbuf_addf(s, "%s%lld", i ? "," : "", (long long)x->d[i]);
}

/* One line of the table and its JSON. */
static json_t *report_line(const line *l, zs_strbuf *text, double runs, double total)
{
    zs_strbuf name = {0};
    double ms = l->seconds / runs * 1e3;
    zs_strbuf_addf(&name, "%s", zs_op_name(l->op));
    if (l->in.nd) {
        if (l->k)
            zs_strbuf_addf(&name, " %dx%d", l->k, l->k);
        zs_strbuf_addf(&name, " [");
        name_shape(&name, &l->in);
        zs_strbuf_addf(&name, "] -> [");
        name_shape(&name, &l->out);
        zs_strbuf_addf(&name, "]");
    }
    double gflops = l->flops / l->seconds * 1e-9, gbytes = l->bytes / l->seconds * 1e-9;
    zs_strbuf_addf(text, "  %-52s %5.0f x %9.3f ms %5.1f %%", name.s ? name.s : "", l->calls / runs,
                   ms, 100 * l->seconds / total);
    zs_strbuf_addf(text, l->flops > 0 ? " %7.1f GFLOP/s" : "                ", gflops);
    zs_strbuf_addf(text, " %6.1f GB/s\n", gbytes);
    json_t *j = json_pack("{s:s, s:f, s:f, s:f, s:f, s:f}", "op", name.s ? name.s : "", "calls",
                          l->calls / runs, "ms", ms, "share", l->seconds / total, "gflops", gflops,
                          "gbytes_per_s", gbytes);
    zs_strbuf_free(&name);
    return j;
}

static size_t sum_ops(line *ops, const zs_bench_profile *p)
{
    size_t used = 0;
    for (size_t i = 0; i < p->n; i++)
        add_to(&ops[p->shapes[i].op], &p->shapes[i]);
    for (int i = 0; i < ZS_OP_COUNT; i++)
        if (ops[i].calls > 0) {
            ops[used] = ops[i];
            ops[used++].op = (zs_op)i;
        }
    qsort(ops, used, sizeof *ops, slower_first);
    return used;
}

json_t *zs_bench_profile_report(zs_bench_profile *p, zs_strbuf *text, int64_t runs, double seconds,
                                size_t most)
{
    line ops[ZS_OP_COUNT] = {{0}};
    size_t n = sum_ops(ops, p);
    double total = seconds * (double)runs, nodes = 0;
    json_t *per_op = json_array(), *per_shape = json_array();
    qsort(p->shapes, p->n, sizeof *p->shapes, slower_first);
    for (size_t i = 0; i < n; i++) {
        nodes += ops[i].seconds;
        json_array_append_new(per_op, report_line(&ops[i], text, (double)runs, total));
    }
    zs_strbuf_addf(text, "  %-52s %7s %9.3f ms %5.1f %%\n", "outside the graph", "",
                   (total - nodes) / (double)runs * 1e3, 100 * (total - nodes) / total);
    for (size_t i = 0; i < p->n && i < most; i++)
        json_array_append_new(per_shape, report_line(&p->shapes[i], text, (double)runs, total));
    text->failed = text->failed || p->failed;
    return json_pack("{s:o, s:o, s:f}", "ops", per_op, "shapes", per_shape, "outside_ms",
                     (total - nodes) / (double)runs * 1e3);
}
