/* SPDX-License-Identifier: MIT */
/* Rows and channels from one place to another: concat, slice, take_row, patches, broadcast_hw,
 * cast, resampling. Bytes moved: each tensor once. */
#include "backend/cuda/launch.cuh"

/* ---- parts of rows ---- */

/* y[row, yat + col] = x[row, xat + col] for cols of a row. */
template <class T, int V> struct copy_part {
    T *y;
    const T *x;
    int64_t yld, yat, xld, xat;

    __device__ void operator()(int64_t row, int64_t col) const
    {
        float r[V];
        load(r, x + row * xld + xat + col);
        store(y + row * yld + yat + col, r);
    }
};

/* All of those are multiples of V. A conversion to f32 and back leaves the bits alone. */
template <class T, int V>
static void copy_parts(const char *what, const zs_call *c, const zs_view *y, int64_t yld,
                       int64_t yat, const zs_view *x, int64_t xld, int64_t xat, int64_t n,
                       int64_t cols)
{
    rows<V>(what, c->queue, n, cols, copy_part<T, V>{at<T>(y), at<T>(x), yld, yat, xld, xat});
}

static void copy(const char *what, const zs_call *c, const zs_view *y, int64_t yld, int64_t yat,
                 const zs_view *x, int64_t xld, int64_t xat, int64_t n, int64_t cols)
{
    bool all = wide(yld | yat | xld | xat | cols, y->p, x->p);
    ZS_INSTANCE(x->type, all, copy_parts, what, c, y, yld, yat, x, xld, xat, n, cols);
}

static void run_concat(const zs_call *c)
{
    const zs_view *a = &c->in[0], *b = &c->in[1];
    int64_t n = zs_shape_rows(&a->s), ca = zs_shape_last(&a->s), cb = zs_shape_last(&b->s);
    copy("concat", c, &c->out[0], ca + cb, 0, a, ca, 0, n, ca);
    copy("concat", c, &c->out[0], ca + cb, ca, b, cb, 0, n, cb);
}

static void run_slice(const zs_call *c)
{
    const zs_view *x = &c->in[0];
    copy("slice", c, &c->out[0], c->a->len, 0, x, zs_shape_last(&x->s), c->a->offset,
         zs_shape_rows(&x->s), c->a->len);
}

static void run_take_row(const zs_call *c)
{
    int64_t t = c->in[0].s.d[1], ch = c->in[0].s.d[2];
    copy("take_row", c, &c->out[0], ch, 0, &c->in[0], t * ch, c->a->offset * ch, c->in[0].s.d[0],
         ch);
}

/* dx[N, t*C] is zero but for its columns at .. at+C. */
template <class T, int V> struct take_row_bwd_each {
    T *dx;
    const T *dy;
    int64_t ld, at, ch;

    __device__ void operator()(int64_t row, int64_t col) const
    {
        float r[V];
        if (col >= at && col < at + ch)
            load(r, dy + row * ch + col - at);
        else
            for (int j = 0; j < V; j++)
                r[j] = 0.0f;
        store(dx + row * ld + col, r);
    }
};

template <class T, int V> static void take_row_bwd(const zs_call *c)
{
    int64_t t = c->a->len, ch = c->in[0].s.d[1];
    rows<V>("take_row_bwd", c->queue, c->in[0].s.d[0], t * ch,
            take_row_bwd_each<T, V>{at<T>(&c->out[0]), at<T>(&c->in[0]), t * ch, c->a->offset * ch,
                                    ch});
}

static void run_take_row_bwd(const zs_call *c)
{
    const zs_view *dy = &c->in[0];
    ZS_INSTANCE(dy->type, wide(dy->s.d[1], dy->p, c->out[0].p), take_row_bwd, c);
}

/* ---- patches: one row of one patch is a run of k*C elements in image and tokens ---- */

template <class T, int V> struct patch_each {
    T *y;
    const T *x;
    int64_t k, w, run; /* rows of a patch, patches of a row */
    bool to_tokens;

    /* at: a run of the image, counted over batch, rows and patches of a row */
    __device__ void operator()(int64_t at, int64_t col) const
    {
        int64_t line = quotient(at, w), px = at - line * w, py = quotient(line, k);
        int64_t token = ((py * w + px) * k + (line - py * k)) * run;
        float r[V];
        load(r, x + (to_tokens ? at * run : token) + col);
        store(y + (to_tokens ? token : at * run) + col, r);
    }
};

template <class T, int V> static void patch_rows(const zs_call *c, bool to_tokens)
{
    const zs_shape *image = to_tokens ? &c->in[0].s : &c->out[0].s;
    int64_t run = c->a->k * image->d[3];
    patch_each<T, V> each = {at<T>(&c->out[0]), at<T>(&c->in[0]), c->a->k, c->a->w, run, to_tokens};
    rows<V>(to_tokens ? "patches" : "unpatch", c->queue, image->d[0] * image->d[1] * c->a->w, run,
            each);
}

static void run_patches(const zs_call *c)
{
    int64_t run = c->a->k * c->in[0].s.d[3];
    ZS_INSTANCE(c->in[0].type, wide(run, c->in[0].p, c->out[0].p), patch_rows, c, true);
}

static void run_unpatch(const zs_call *c)
{
    int64_t run = c->a->k * c->out[0].s.d[3];
    ZS_INSTANCE(c->in[0].type, wide(run, c->in[0].p, c->out[0].p), patch_rows, c, false);
}

/* ---- images ---- */

/* Pixel p of [N,h,w] is in row p/w; y[N,2h,2w] has its square at (2*row*2w + 2x). */
template <class T, int V> struct downsample_each {
    T *y;
    const T *x;
    int64_t w, ch; /* of y */
    float scale;

    __device__ void operator()(int64_t p, int64_t col) const
    {
        int64_t row = quotient(p, w), line = 2 * w * ch;
        const T *from = x + 2 * row * line + 2 * (p - row * w) * ch + col;
        float r[V], s[V], t[V], u[V];
        load(r, from);
        load(s, from + ch);
        load(t, from + line);
        load(u, from + line + ch);
        for (int j = 0; j < V; j++)
            r[j] = ((r[j] + s[j]) + (t[j] + u[j])) * scale;
        store(y + p * ch + col, r);
    }
};

/* A thread per pixel of x, which it writes four times. */
template <class T, int V> struct upsample_each {
    T *y;
    const T *x;
    int64_t w, ch; /* of x */
    float scale;

    __device__ void operator()(int64_t p, int64_t col) const
    {
        int64_t row = quotient(p, w), line = 2 * w * ch;
        T *to = y + 2 * row * line + 2 * (p - row * w) * ch + col;
        float r[V];
        load(r, x + p * ch + col);
        for (int j = 0; j < V; j++)
            r[j] *= scale;
        store(to, r);
        store(to + ch, r);
        store(to + line, r);
        store(to + line + ch, r);
    }
};

template <class T, int V> static void downsample2(const zs_call *c)
{
    const zs_shape *y = &c->out[0].s;
    rows<V>(
        "downsample2", c->queue, zs_shape_rows(y), y->d[3],
        downsample_each<T, V>{at<T>(&c->out[0]), at<T>(&c->in[0]), y->d[2], y->d[3], c->a->scale});
}

template <class T, int V> static void upsample2(const zs_call *c)
{
    const zs_shape *x = &c->in[0].s;
    rows<V>(
        "upsample2", c->queue, zs_shape_rows(x), x->d[3],
        upsample_each<T, V>{at<T>(&c->out[0]), at<T>(&c->in[0]), x->d[2], x->d[3], c->a->scale});
}

static void run_downsample2(const zs_call *c)
{
    ZS_INSTANCE(c->in[0].type, wide(c->in[0].s.d[3], c->in[0].p, c->out[0].p), downsample2, c);
}

static void run_upsample2(const zs_call *c)
{
    ZS_INSTANCE(c->in[0].type, wide(c->in[0].s.d[3], c->in[0].p, c->out[0].p), upsample2, c);
}

template <class T, int V> struct broadcast_each {
    T *y;
    const T *x;
    int64_t hw, ch;
    float scale;

    __device__ void operator()(int64_t p, int64_t col) const
    {
        float r[V];
        load(r, x + quotient(p, hw) * ch + col);
        for (int j = 0; j < V; j++)
            r[j] *= scale;
        store(y + p * ch + col, r);
    }
};

template <class T, int V> static void broadcast_hw(const zs_call *c)
{
    const zs_shape *y = &c->out[0].s;
    rows<V>("broadcast_hw", c->queue, zs_shape_rows(y), y->d[3],
            broadcast_each<T, V>{at<T>(&c->out[0]), at<T>(&c->in[0]), y->d[1] * y->d[2], y->d[3],
                                 c->a->scale});
}

static void run_broadcast_hw(const zs_call *c)
{
    ZS_INSTANCE(c->in[0].type, wide(c->in[0].s.d[1], c->in[0].p, c->out[0].p), broadcast_hw, c);
}

extern "C" {
const zs_kernel zs_cuda_concat = {run_concat, NULL};
const zs_kernel zs_cuda_slice = {run_slice, NULL};
const zs_kernel zs_cuda_take_row = {run_take_row, NULL};
const zs_kernel zs_cuda_take_row_bwd = {run_take_row_bwd, NULL};
const zs_kernel zs_cuda_patches = {run_patches, NULL};
const zs_kernel zs_cuda_unpatch = {run_unpatch, NULL};
const zs_kernel zs_cuda_downsample2 = {run_downsample2, NULL};
const zs_kernel zs_cuda_upsample2 = {run_upsample2, NULL};
const zs_kernel zs_cuda_broadcast_hw = {run_broadcast_hw, NULL};
}
