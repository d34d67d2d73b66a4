/* SPDX-License-Identifier: MIT */
/* y = x + f*g with one g per sample. Bytes moved: each tensor once, for dg f and dy once more. */
#include "backend/cuda/columns.cuh"

/* Columns at .. at+C of g[N, ld]; per rows of a sample. */
template <class T, int V> struct gate_each {
    T *y;
    const T *x, *f, *g; /* x NULL: without it */
    int64_t ch, per, ld, at;
    bool vector; /* g can be read in vectors */

    __device__ void operator()(int64_t row, int64_t col) const
    {
        const T *from = g + quotient(row, per) * ld + at + col;
        float r[V], s[V], k[V];
        load(s, f + row * ch + col);
        load_any(k, from, vector);
        if (x)
            load(r, x + row * ch + col);
        for (int j = 0; j < V; j++)
            r[j] = x ? r[j] + s[j] * k[j] : s[j] * k[j];
        store(y + row * ch + col, r);
    }
};

template <class T, int V>
static void gate_rows(const char *what, const zs_call *c, const zs_view *x, const zs_view *f,
                      const zs_view *g)
{
    int64_t n = zs_shape_rows(&f->s), ch = zs_shape_last(&f->s);
    bool vector = wide(c->a->offset | g->s.d[1], g->p);
    gate_each<T, V> each = {at<T>(&c->out[0]), x ? at<T>(x) : NULL, at<T>(f),     at<T>(g), ch,
                            n / g->s.d[0],     g->s.d[1],           c->a->offset, vector};
    rows<V>(what, c->queue, n, ch, each);
}

static void run_gate(const zs_call *c)
{
    const zs_view *x = &c->in[0], *f = &c->in[1];
    ZS_INSTANCE(x->type, wide(zs_shape_last(&x->s), x->p, f->p, c->out[0].p), gate_rows, "gate", c,
                x, f, &c->in[2]);
}

/* ---- backward: df = dy*g; dg = the sums of f*dy over a sample, zero beside its columns ---- */

template <class T, int V_> struct gate_sums {
    enum { K = 1, V = V_ };
    struct state {};
    const T *f, *dy;
    int64_t per, ch;

    __device__ state begin(int64_t, int64_t) const
    {
        return state();
    }

    __device__ void add(float (&sum)[V_], const state &, int64_t n, int64_t row, int64_t col) const
    {
        float r[V_], s[V_];
        load(r, f + (n * per + row) * ch + col);
        load(s, dy + (n * per + row) * ch + col);
        for (int j = 0; j < V_; j++)
            sum[j] += r[j] * s[j];
    }
};

template <class T> struct gate_zero {
    T *dg;
    int64_t ld, at, ch;

    __device__ void operator()(int64_t e) const
    {
        int64_t i = e - quotient(e, ld) * ld - at;
        if (i < 0 || i >= ch)
            put(dg + e, 0.0f);
    }
};

static size_t gate_bwd_ws(const zs_call *c)
{
    int64_t n = c->in[1].s.d[0];
    return partial_bytes(n, zs_shape_rows(&c->in[0].s) / n, zs_shape_last(&c->in[0].s), 1);
}

template <class T, int V> static void gate_dg(const zs_call *c)
{
    int64_t n = c->in[1].s.d[0], ld = c->in[1].s.d[1], ch = zs_shape_last(&c->in[0].s);
    int64_t per = zs_shape_rows(&c->in[0].s) / n;
    float *partial = static_cast<float *>(c->ws);
    T *dg = at<T>(&c->out[1]);
    columns d = sum_columns("gate_bwd", c->queue, partial, n, per, ch,
                            gate_sums<T, V>{at<T>(&c->in[0]), at<T>(&c->in[2]), per, ch});
    fold_columns("gate_bwd", c->queue, partial, d, 1, end_store<T>{dg + c->a->offset, ld, 1.0});
    if (ch < ld)
        flat<1>("gate_bwd", c->queue, n * ld, gate_zero<T>{dg, ld, c->a->offset, ch});
}

static void run_gate_bwd(const zs_call *c)
{
    const zs_view *f = &c->in[0], *dy = &c->in[2];
    int64_t ch = zs_shape_last(&f->s);
    if (c->out[0].p)
        ZS_INSTANCE(f->type, wide(ch, dy->p, c->out[0].p), gate_rows, "gate_bwd", c, NULL, dy,
                    &c->in[1]);
    if (c->out[1].p)
        ZS_INSTANCE(f->type, wide(ch, f->p, dy->p), gate_dg, c);
}

extern "C" {
const zs_kernel zs_cuda_gate = {run_gate, NULL};
const zs_kernel zs_cuda_gate_bwd = {run_gate_bwd, gate_bwd_ws};
}
