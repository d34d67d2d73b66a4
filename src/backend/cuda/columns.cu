/* SPDX-License-Identifier: MIT */
/* Sums over all rows, means of images, and what libraries leave out after their products: bias,
 * residual, ReLU. */
#include "backend/cuda/columns.cuh"

struct nothing {};

template <class T, int V_> struct plain_sum {
    enum { K = 1, V = V_ };
    typedef nothing state;
    const T *x;
    int64_t rows, cols;

    __device__ nothing begin(int64_t, int64_t) const
    {
        return nothing();
    }

    __device__ void add(float (&sum)[V_], const nothing &, int64_t segment, int64_t row,
                        int64_t col) const
    {
        float r[V_];
        load(r, x + (segment * rows + row) * cols + col);
        for (int j = 0; j < V_; j++)
            sum[j] += r[j];
    }
};

/* ---- column_sum: one read of x ---- */

size_t zs_column_sum_bytes(int64_t rows, int64_t cols)
{
    return partial_bytes(1, rows, cols, 1);
}

template <class T, int V>
static void column_sum(float *sum, const void *x, int64_t rows, int64_t cols, bool add,
                       float *partial, void *queue)
{
    columns d = sum_columns("column sums", queue, partial, 1, rows, cols,
                            plain_sum<T, V>{static_cast<const T *>(x), rows, cols});
    if (add)
        fold_columns("column sums", queue, partial, d, 1, end_add{sum});
    else
        fold_columns("column sums", queue, partial, d, 1, end_store<float>{sum, cols, 1.0});
}

void zs_launch_column_sum(float *sum, const void *x, zs_dtype type, int64_t rows, int64_t cols,
                          bool add, void *ws, void *queue)
{
    ZS_INSTANCE(type, wide(cols, x), column_sum, sum, x, rows, cols, add, static_cast<float *>(ws),
                queue);
}

/* ---- mean_hw: one read of x ---- */

static size_t mean_ws(const zs_call *c)
{
    const int64_t *d = c->in[0].s.d;
    return partial_bytes(d[0], d[1] * d[2], d[3], 1);
}

template <class T, int V> static void mean_hw(const zs_call *c)
{
    const int64_t *s = c->in[0].s.d;
    int64_t hw = s[1] * s[2];
    float *partial = static_cast<float *>(c->ws);
    columns d = sum_columns("mean_hw", c->queue, partial, s[0], hw, s[3],
                            plain_sum<T, V>{at<T>(&c->in[0]), hw, s[3]});
    fold_columns("mean_hw", c->queue, partial, d, 1,
                 end_store<T>{at<T>(&c->out[0]), s[3], 1.0 / static_cast<double>(hw)});
}

static void run_mean_hw(const zs_call *c)
{
    ZS_INSTANCE(c->in[0].type, wide(c->in[0].s.d[3], c->in[0].p), mean_hw, c);
}

/* ---- bias_residual: each tensor once ---- */

template <class T, int V> struct bias_residual {
    T *y;
    const T *x, *r;
    const float *bias;
    int64_t cols;
    bool relu;

    __device__ void operator()(int64_t row, int64_t col) const
    {
        float v[V], w[V];
        int64_t i = row * cols + col;
        load(v, x + i);
        if (r)
            load(w, r + i);
        for (int j = 0; j < V; j++) {
            v[j] += bias ? bias[col + j] : 0.0f;
            v[j] += r ? w[j] : 0.0f;
            v[j] = relu && v[j] < 0.0f ? 0.0f : v[j]; /* NaN stays */
        }
        store(y + i, v);
    }
};

template <class T, int V>
static void launch_bias_residual(void *y, const void *x, const float *bias, const void *r,
                                 int64_t n, int64_t cols, bool relu, void *queue)
{
    rows<V>("bias and residual", queue, n, cols,
            bias_residual<T, V>{static_cast<T *>(y), static_cast<const T *>(x),
                                static_cast<const T *>(r), bias, cols, relu});
}

void zs_launch_bias_residual(void *y, const void *x, const float *bias, const void *r,
                             zs_dtype type, int64_t rows, int64_t cols, bool relu, void *queue)
{
    ZS_INSTANCE(type, wide(cols, y, x, r), launch_bias_residual, y, x, bias, r, rows, cols, relu,
                queue);
}

extern "C" const zs_kernel zs_cuda_mean_hw = {run_mean_hw, mean_ws};
