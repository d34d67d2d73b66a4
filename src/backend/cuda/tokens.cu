/* SPDX-License-Identifier: MIT */
/* Tokens with a learned first one and a table of positions, rows of tables, rows in place of
 * others, features of timesteps. Bytes moved: each tensor once. */
#include "backend/cuda/columns.cuh"

/* ---- tokens ---- */

template <class T, int V> struct token_each {
    T *y;
    const T *x;
    const float *first, *table; /* or NULL */
    int64_t t, ch;

    __device__ void operator()(int64_t row, int64_t col) const
    {
        int64_t n = quotient(row, t), k = row - n * t, skip = first ? 1 : 0;
        float r[V];
        if (k < skip)
            for (int j = 0; j < V; j++)
                r[j] = first[col + j];
        else
            load(r, x + (n * (t - skip) + k - skip) * ch + col);
        for (int j = 0; j < V && table; j++)
            r[j] += table[k * ch + col + j];
        store(y + row * ch + col, r);
    }
};

template <class T, int V> static void tokens(const zs_call *c)
{
    const int64_t *d = c->out[0].s.d;
    rows<V>(
        "tokens", c->queue, d[0] * d[1], d[2],
        token_each<T, V>{at<T>(&c->out[0]), at<T>(&c->in[0]), c->in[1].p, c->in[2].p, d[1], d[2]});
}

static void run_tokens(const zs_call *c)
{
    const zs_view *y = &c->out[0];
    ZS_INSTANCE(y->type, wide(y->s.d[2], c->in[0].p, y->p), tokens, c);
}

/* dx[N, len*C] = the last len rows of dy[N, t*C]. */
template <class T, int V> struct token_dx {
    T *dx;
    const T *dy;
    int64_t len, ld;

    __device__ void operator()(int64_t n, int64_t col) const
    {
        float r[V];
        load(r, dy + n * ld + (ld - len) + col);
        store(dx + n * len + col, r);
    }
};

/* Sums over samples of dy[N, t*C], for columns below `cols`. */
template <class T, int V_> struct token_sums {
    enum { K = 1, V = V_ };
    struct state {};
    const T *dy;
    int64_t ld;

    __device__ state begin(int64_t, int64_t) const
    {
        return state();
    }

    __device__ void add(float (&sum)[V_], const state &, int64_t, int64_t row, int64_t col) const
    {
        float r[V_];
        load(r, dy + row * ld + col);
        for (int j = 0; j < V_; j++)
            sum[j] += r[j];
    }
};

/* The sums of the first row are those of `first` too. */
struct token_end {
    float *dfirst, *dtable;
    int64_t ch;

    __device__ void operator()(int64_t, int, int64_t col, double sum) const
    {
        if (dfirst && col < ch)
            dfirst[col] += static_cast<float>(sum);
        if (dtable)
            dtable[col] += static_cast<float>(sum);
    }
};

static size_t tokens_bwd_ws(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    return partial_bytes(1, d[0], d[1] * d[2], 1);
}

template <class T, int V> static void tokens_bwd(const zs_call *c)
{
    const int64_t *s = c->in[0].s.d;
    int64_t ch = s[2], ld = s[1] * ch, cols = c->out[2].p ? ld : ch;
    const T *dy = at<T>(&c->in[0]);
    if (c->out[0].p)
        rows<V>("tokens_bwd", c->queue, s[0], c->a->len * ch,
                token_dx<T, V>{at<T>(&c->out[0]), dy, c->a->len * ch, ld});
    if (!c->out[1].p && !c->out[2].p)
        return;
    float *partial = static_cast<float *>(c->ws);
    columns d =
        sum_columns("tokens_bwd", c->queue, partial, 1, s[0], cols, token_sums<T, V>{dy, ld});
    fold_columns("tokens_bwd", c->queue, partial, d, 1, token_end{c->out[1].p, c->out[2].p, ch});
}

static void run_tokens_bwd(const zs_call *c)
{
    const zs_view *dy = &c->in[0];
    ZS_INSTANCE(dy->type, wide(dy->s.d[2], dy->p, c->out[0].p), tokens_bwd, c);
}

/* ---- rows of tables: indices, table and gradient of the table are f32 ---- */

/* The row of a table of v rows that index i names, or -1. */
static __device__ int64_t row_of(float i, int64_t v)
{
    bool in = i >= 0.0f && i < static_cast<float>(v);
    int64_t row = in ? static_cast<int64_t>(i) : -1;
    return in && i == static_cast<float>(row) ? row : -1;
}

template <class T, int V> struct embed_each {
    T *y;
    const float *index, *table;
    int64_t v, ch;

    __device__ void operator()(int64_t n, int64_t col) const
    {
        int64_t row = row_of(index[n], v);
        float r[V];
        for (int j = 0; j < V; j++)
            r[j] = row < 0 ? NAN : table[row * ch + col + j];
        store(y + n * ch + col, r);
    }
};

template <class T, int V> static void embed(const zs_call *c)
{
    int64_t v = c->in[1].s.d[0], ch = c->in[1].s.d[1];
    rows<V>("embed", c->queue, c->in[0].s.d[0], ch,
            embed_each<T, V>{at<T>(&c->out[0]), c->in[0].p, c->in[1].p, v, ch});
}

static void run_embed(const zs_call *c)
{
    const zs_view *y = &c->out[0];
    ZS_INSTANCE(y->type, wide(y->s.d[1], y->p), embed, c);
}

/* The first index that names a row adds the gradients of all that do, in their order; so no two
 * threads add to one number. */
template <class T, int V> struct embed_bwd_each {
    float *dtable;
    const float *index;
    const T *dy;
    int64_t n, v, ch;

    __device__ void operator()(int64_t at, int64_t col) const
    {
        float i = index[at];
        int64_t row = row_of(i, v);
        if (row < 0)
            return;
        for (int64_t k = 0; k < at; k++)
            if (index[k] == i)
                return;
        float sum[V], r[V];
        for (int j = 0; j < V; j++)
            sum[j] = dtable[row * ch + col + j];
        for (int64_t k = at; k < n; k++) {
            if (index[k] != i)
                continue;
            load(r, dy + k * ch + col);
            for (int j = 0; j < V; j++)
                sum[j] += r[j];
        }
        for (int j = 0; j < V; j++)
            dtable[row * ch + col + j] = sum[j];
    }
};

template <class T, int V> static void embed_bwd(const zs_call *c)
{
    int64_t n = c->in[0].s.d[0], v = c->out[0].s.d[0], ch = c->out[0].s.d[1];
    rows<V>("embed_bwd", c->queue, n, ch,
            embed_bwd_each<T, V>{c->out[0].p, c->in[0].p, at<T>(&c->in[1]), n, v, ch});
}

static void run_embed_bwd(const zs_call *c)
{
    const zs_view *dy = &c->in[1];
    ZS_INSTANCE(dy->type, wide(dy->s.d[1], dy->p), embed_bwd, c);
}

/* ---- rows in place of others ---- */

template <class T, int V> struct substitute_each {
    T *y;
    const T *x; /* NULL beside the gradient: the row is zero */
    const float *row, *mask;
    int64_t ch;

    __device__ void operator()(int64_t n, int64_t col) const
    {
        float r[V];
        if (mask[n] == 0.0f)
            load(r, x + n * ch + col);
        else
            for (int j = 0; j < V; j++)
                r[j] = row ? row[col + j] : 0.0f;
        store(y + n * ch + col, r);
    }
};

template <class T, int V>
static void substitute_rows(const char *what, const zs_call *c, const zs_view *x, const float *row,
                            const float *mask)
{
    rows<V>(what, c->queue, x->s.d[0], x->s.d[1],
            substitute_each<T, V>{at<T>(&c->out[0]), at<T>(x), row, mask, x->s.d[1]});
}

static void run_substitute(const zs_call *c)
{
    const zs_view *x = &c->in[0];
    ZS_INSTANCE(x->type, wide(x->s.d[1], x->p, c->out[0].p), substitute_rows, "substitute", c, x,
                c->in[1].p, c->in[2].p);
}

template <class T, int V_> struct substitute_sums {
    enum { K = 1, V = V_ };
    struct state {};
    const T *dy;
    const float *mask;
    int64_t ch;

    __device__ state begin(int64_t, int64_t) const
    {
        return state();
    }

    __device__ void add(float (&sum)[V_], const state &, int64_t, int64_t row, int64_t col) const
    {
        float r[V_];
        if (mask[row] == 0.0f)
            return;
        load(r, dy + row * ch + col);
        for (int j = 0; j < V_; j++)
            sum[j] += r[j];
    }
};

static size_t substitute_bwd_ws(const zs_call *c)
{
    return partial_bytes(1, c->in[1].s.d[0], c->in[1].s.d[1], 1);
}

template <class T, int V> static void substitute_drow(const zs_call *c)
{
    const zs_view *dy = &c->in[1];
    float *partial = static_cast<float *>(c->ws);
    columns d = sum_columns("substitute_bwd", c->queue, partial, 1, dy->s.d[0], dy->s.d[1],
                            substitute_sums<T, V>{at<T>(dy), c->in[0].p, dy->s.d[1]});
    fold_columns("substitute_bwd", c->queue, partial, d, 1, end_add{c->out[1].p});
}

static void run_substitute_bwd(const zs_call *c)
{
    const zs_view *dy = &c->in[1];
    if (c->out[0].p)
        ZS_INSTANCE(dy->type, wide(dy->s.d[1], dy->p, c->out[0].p), substitute_rows,
                    "substitute_bwd", c, dy, NULL, c->in[0].p);
    if (c->out[1].p)
        ZS_INSTANCE(dy->type, wide(dy->s.d[1], dy->p), substitute_drow, c);
}

/* ---- timesteps: frequencies and arguments are rounded to f32 as in the authors' code, functions
 * are in double, as on the processor; there are few of them ---- */

template <class T, int V> struct timestep_each {
    T *y;
    const float *t;
    int64_t dim, half;

    __device__ void operator()(int64_t e) const
    {
        int64_t n = quotient(e, dim), i = e - n * dim, k = i < half ? i : i - half;
        float v = 0.0f;
        if (i < 2 * half) {
            float power = __fdiv_rn(__fmul_rn(-9.210340371976184f, static_cast<float>(k)),
                                    static_cast<float>(half));
            float f = static_cast<float>(exp(static_cast<double>(power)));
            double arg = static_cast<double>(__fmul_rn(t[n], f));
            v = static_cast<float>(i < half ? cos(arg) : sin(arg));
        }
        put(y + e, v);
    }
};

template <class T, int V> static void timestep(const zs_call *c)
{
    int64_t dim = zs_shape_last(&c->out[0].s);
    flat<1>("timestep", c->queue, c->in[0].s.d[0] * dim,
            timestep_each<T, V>{at<T>(&c->out[0]), c->in[0].p, dim, dim / 2});
}

static void run_timestep(const zs_call *c)
{
    ZS_INSTANCE(c->out[0].type, false, timestep, c);
}

extern "C" {
const zs_kernel zs_cuda_tokens = {run_tokens, NULL};
const zs_kernel zs_cuda_tokens_bwd = {run_tokens_bwd, tokens_bwd_ws};
const zs_kernel zs_cuda_embed = {run_embed, NULL};
const zs_kernel zs_cuda_embed_bwd = {run_embed_bwd, NULL};
const zs_kernel zs_cuda_substitute = {run_substitute, NULL};
const zs_kernel zs_cuda_substitute_bwd = {run_substitute_bwd, substitute_bwd_ws};
const zs_kernel zs_cuda_timestep = {run_timestep, NULL};
}
