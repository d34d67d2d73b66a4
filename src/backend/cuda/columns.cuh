/* SPDX-License-Identifier: MIT */
/* Sums over rows, for every column of every segment (a sample, or all rows): what norms, gates,
 * means and the gradients of biases and tables have in common.
 *
 * Rows of a segment are split so that the device has work even for one small sample. A block adds
 * the rows of one split for one slab of columns: each thread its own rows one after the other in
 * f32, at most ROWS_EACH of them, then the threads of a column in a tree. The partial sums
 * [segments][splits][K][cols] lie in the workspace and are added over the splits in double. What
 * is cut where depends on shapes alone. */
#ifndef ZS_BACKEND_CUDA_COLUMNS_CUH
#define ZS_BACKEND_CUDA_COLUMNS_CUH

#include "backend/cuda/launch.cuh"

enum {
    BLOCKS = 1024,   /* aimed at: two waves of what 132 multiprocessors hold of blocks of 256 */
    ROWS_LEAST = 4,  /* per thread, or a block is not worth its tree */
    ROWS_EACH = 256, /* per thread, or f32 sums lose too much */
    FOLD_COLUMNS = 32
};

/* How columns are summed; made from shapes on the host. */
typedef struct columns {
    int64_t segments, rows, cols; /* rows of each segment */
    int64_t per;                  /* rows of a split */
    int splits, tx, slabs;
} columns;

static inline columns columns_of(int64_t segments, int64_t rows, int64_t cols, int vector)
{
    tiles t = tiles_of((cols + vector - 1) / vector);
    int64_t ny = THREADS / t.tx, blocks = segments * t.slabs;
    int64_t most = (rows + ny * ROWS_LEAST - 1) / (ny * ROWS_LEAST);
    int64_t least = (rows + ny * ROWS_EACH - 1) / (ny * ROWS_EACH);
    int64_t splits = (BLOCKS + blocks - 1) / blocks;
    splits = splits > most ? most : splits < least ? least : splits;
    int64_t per = (rows + splits - 1) / splits;
    columns c = {segments, rows, cols, per, 0, t.tx, t.slabs};
    c.splits = static_cast<int>((rows + per - 1) / per); /* none is empty */
    return c;
}

/* Floats of partial sums of K numbers; enough for either width of access. */
static inline size_t partial_floats(int64_t segments, int64_t rows, int64_t cols, int k)
{
    columns a = columns_of(segments, rows, cols, 1), b = columns_of(segments, rows, cols, WIDE);
    int splits = a.splits > b.splits ? a.splits : b.splits;
    return static_cast<size_t>(segments * splits) * static_cast<size_t>(k * cols);
}

/* The same, in bytes that keep what follows 8-byte aligned. */
static inline size_t partial_bytes(int64_t segments, int64_t rows, int64_t cols, int k)
{
    return (partial_floats(segments, rows, cols, k) * sizeof(float) + 7) / 8 * 8;
}

/* Adds the K*V numbers of the threads of a column; those of the first row have the sums. sh holds
 * K*V*THREADS floats. */
template <int N> static __device__ void tree(float (&sum)[N], float *sh, int tx)
{
    int t = threadIdx.x;
    for (int j = 0; j < N; j++)
        sh[j * THREADS + t] = sum[j];
    for (int half = THREADS / 2; half >= tx; half /= 2) {
        __syncthreads();
        if (t < half)
            for (int j = 0; j < N; j++)
                sh[j * THREADS + t] += sh[j * THREADS + t + half];
    }
    for (int j = 0; j < N && t < tx; j++)
        sum[j] = sh[j * THREADS + t]; /* written by this very thread */
}

/* Op: K, V; `state begin(segment, col)` for what a thread needs in all rows; `add(sum, state,
 * segment, row, col)` adds the terms of V columns to sum[K*V], row counted within the segment. */
template <class Op>
static __global__ void __launch_bounds__(THREADS, 2)
    partial_kernel(float *__restrict__ partial, columns d, Op op)
{
    constexpr int K = Op::K, V = Op::V;
    ZS_SHARED(float, sh);
    int64_t block = quotient(blockIdx.x, d.slabs), slab = blockIdx.x - block * d.slabs;
    int64_t segment = quotient(block, d.splits), split = block - segment * d.splits;
    int64_t col = (slab * d.tx + threadIdx.x % d.tx) * V;
    int64_t row = split * d.per + threadIdx.x / d.tx, end = split * d.per + d.per;
    float sum[K * V];
    for (int j = 0; j < K * V; j++)
        sum[j] = 0.0f;
    if (col < d.cols) {
        typename Op::state s = op.begin(segment, col);
        end = end < d.rows ? end : d.rows;
#pragma unroll 2
        for (; row < end; row += THREADS / d.tx)
            op.add(sum, s, segment, row, col);
    }
    tree(sum, sh, d.tx);
    if (static_cast<int>(threadIdx.x) >= d.tx || col >= d.cols)
        return;
    for (int k = 0; k < K; k++)
        for (int j = 0; j < V; j++)
            partial[(block * K + k) * d.cols + col + j] = sum[k * V + j];
}

/* partial: partial_floats(segments, rows, cols, K) floats. Returns how the sums were cut. */
template <class Op>
static columns sum_columns(const char *what, void *queue, float *partial, int64_t segments,
                           int64_t rows, int64_t cols, Op op)
{
    columns d = columns_of(segments, rows, cols, Op::V);
    unsigned blocks = static_cast<unsigned>(segments * d.splits * d.slabs);
    ZS_LAUNCH_SYNC(what, (partial_kernel<Op>), blocks, THREADS,
                   Op::K * Op::V * THREADS * sizeof(float), queue, partial, d, op);
    return d;
}

/* Sum of `count` numbers `step` apart for column threadIdx.x % 32, by the 8 threads of a column,
 * in all of them; sh holds THREADS doubles. Columns that do not exist take part with count 0. */
static __device__ double fold(const float *from, int64_t count, int64_t step, double *sh)
{
    int t = threadIdx.x, lanes = THREADS / FOLD_COLUMNS;
    double sum = 0;
    for (int64_t i = t / FOLD_COLUMNS; i < count; i += lanes)
        sum += static_cast<double>(from[i * step]);
    sh[t] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < lanes; i++)
        sum += sh[t % FOLD_COLUMNS + i * FOLD_COLUMNS];
    __syncthreads();
    return sum;
}

/* End(segment, number k of K, column, sum) for the total of each. */
template <class End>
static __global__ void fold_kernel(const float *__restrict__ partial, columns d, int k, End end)
{
    ZS_SHARED(double, sh);
    int64_t width = k * d.cols, parts = (width + FOLD_COLUMNS - 1) / FOLD_COLUMNS;
    int64_t segment = quotient(blockIdx.x, parts);
    int64_t at = (blockIdx.x - segment * parts) * FOLD_COLUMNS + threadIdx.x % FOLD_COLUMNS;
    bool in = at < width;
    double sum =
        fold(partial + segment * d.splits * width + (in ? at : 0), in ? d.splits : 0, width, sh);
    if (in && threadIdx.x < FOLD_COLUMNS)
        end(segment, static_cast<int>(at / d.cols), at % d.cols, sum);
}

template <class End>
static void fold_columns(const char *what, void *queue, const float *partial, columns d, int k,
                         End end)
{
    unsigned blocks = blocks_of(k * d.cols, FOLD_COLUMNS) * static_cast<unsigned>(d.segments);
    ZS_LAUNCH_SYNC(what, (fold_kernel<End>), blocks, THREADS, THREADS * sizeof(double), queue,
                   partial, d, k, end);
}

/* Ends for fold_columns: a row of `cols` per segment, written or added to. */
template <class T> struct end_store {
    T *to;
    int64_t cols;
    double factor;

    __device__ void operator()(int64_t segment, int, int64_t col, double sum) const
    {
        put(to + segment * cols + col, static_cast<float>(sum * factor));
    }
};

struct end_add {
    float *to;

    __device__ void operator()(int64_t, int, int64_t col, double sum) const
    {
        to[col] += static_cast<float>(sum);
    }
};

#endif
