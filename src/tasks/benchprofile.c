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

/* All runs of one node: a pause in one of them must not count. */
typedef struct node {
    size_t id;
    line l;
    double *t;
    size_t n, cap;
} node;

struct zs_bench_profile {
    node *nodes;
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
    if (*p) {
        zs_bench_profile_clear(*p);
        zs_free((*p)->nodes);
    }
    zs_free(*p);
    *p = NULL;
}

void zs_bench_profile_clear(zs_bench_profile *p)
{
    for (size_t i = 0; i < p->n; i++)
        zs_free(p->nodes[i].t);
    p->n = 0;
}

static bool same_line(const line *a, const line *b)
{
    return a->op == b->op && a->k == b->k && zs_shape_equal(&a->in, &b->in) &&
           zs_shape_equal(&a->out, &b->out);
}

static node *find_node(zs_bench_profile *p, size_t id, const line *like)
{
    void *items = p->nodes;
    for (size_t i = 0; i < p->n; i++)
        if (p->nodes[i].id == id && same_line(&p->nodes[i].l, like))
            return &p->nodes[i];
    if (!zs_grow(&items, &p->cap, p->n, sizeof *p->nodes))
        return NULL;
    p->nodes = items;
    p->nodes[p->n] = (node){.id = id, .l = *like};
    return &p->nodes[p->n++];
}

static bool add_time(node *x, double seconds)
{
    void *items = x->t;
    if (!zs_grow(&items, &x->cap, x->n, sizeof *x->t))
        return false;
    x->t = items;
    x->t[x->n++] = seconds;
    return true;
}

static void add_to(line *l, const line *x)
{
    l->calls += x->calls;
    l->seconds += x->seconds;
    l->flops += x->flops;
    l->bytes += x->bytes;
}

static double view_bytes(const zs_view *v)
{
    return v->p ? (double)zs_shape_numel(&v->s) * (double)zs_dtype_size(v->type) : 0;
}

/* Every tensor once. */
static double bytes_of(const zs_call *c)
{
    double n = 0;
    for (int i = 0; i < ZS_MAX_IN; i++)
        n += view_bytes(&c->in[i]);
    for (int i = 0; i < ZS_MAX_OUT; i++)
        n += view_bytes(&c->out[i]);
    return n;
}

static zs_shape first_shape(const zs_view *v, int n)
{
    for (int i = 0; i < n; i++)
        if (v[i].p)
            return v[i].s;
    return (zs_shape){0};
}

void zs_bench_profile_node(void *ctx, size_t id, zs_op op, const zs_call *c, double seconds)
{
    zs_bench_profile *p = ctx;
    bool conv = op == ZS_OP_CONV2D || op == ZS_OP_CONV2D_DX || op == ZS_OP_CONV2D_DW;
    line like = {.op = op,
                 .in = first_shape(c->in, ZS_MAX_IN),
                 .out = first_shape(c->out, ZS_MAX_OUT),
                 .k = conv ? c->a->k : 0,
                 .flops = zs_call_flops(op, c),
                 .bytes = bytes_of(c)};
    node *x = find_node(p, id, &like);
    if (!x || !add_time(x, seconds))
        p->failed = true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What all runs of a node would have taken at its median. */
static line line_of(node *x)
{
    line l = x->l;
    qsort(x->t, x->n, sizeof *x->t, by_value);
    l.calls = (double)x->n;
    l.seconds = l.calls * x->t[x->n / 2];
    l.flops *= l.calls;
    l.bytes *= l.calls;
    return l;
}

/* Lines of equal operations and shapes; returns how many. */
static size_t sum_shapes(line *shapes, const zs_bench_profile *p)
{
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        line l = line_of(&p->nodes[i]);
        size_t k = 0;
        while (k < n && !same_line(&shapes[k], &l))
            k++;
        if (k < n)
            add_to(&shapes[k], &l);
        else
            shapes[n++] = l;
    }
    return n;
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

static size_t sum_ops(line *ops, const line *shapes, size_t n)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        add_to(&ops[shapes[i].op], &shapes[i]);
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
    line ops[ZS_OP_COUNT] = {{0}}, *shapes = zs_alloc(p->n + 1, sizeof *shapes);
    size_t n_shapes = shapes ? sum_shapes(shapes, p) : 0, n = sum_ops(ops, shapes, n_shapes);
    double total = seconds * (double)runs, nodes = 0;
    json_t *per_op = json_array(), *per_shape = json_array();
    if (shapes)
        qsort(shapes, n_shapes, sizeof *shapes, slower_first);
    for (size_t i = 0; i < n; i++) {
        nodes += ops[i].seconds;
        json_array_append_new(per_op, report_line(&ops[i], text, (double)runs, total));
    }
    zs_strbuf_addf(text, "  %-52s %7s %9.3f ms %5.1f %%\n", "outside the graph", "",
                   (total - nodes) / (double)runs * 1e3, 100 * (total - nodes) / total);
    for (size_t i = 0; i < n_shapes && i < most; i++)
        json_array_append_new(per_shape, report_line(&shapes[i], text, (double)runs, total));
    text->failed = text->failed || p->failed || !shapes;
    zs_free(shapes);
    return json_pack("{s:o, s:o, s:f}", "ops", per_op, "shapes", per_shape, "outside_ms",
                     (total - nodes) / (double)runs * 1e3);
}
