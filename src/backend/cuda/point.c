/* SPDX-License-Identifier: MIT */
/* Workspaces: first what cuBLASLt takes, then a copy of the bias in the type of y and one of the
 * weights, or the gradient of the weights and partial sums of the bias's. The copies are made where
 * parameters, which lie side by side, are not aligned. */
#include "backend/cuda/point.h"
#include "backend/cuda/kernels.h"

enum { ALIGN = 256 };

static size_t rounded(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static zs_blas forward_of(const zs_point *p, bool bias, bool residual)
{
    return (zs_blas){.in = p->type,
                     .out = p->type,
                     .m = p->rows,
                     .n = p->out,
                     .k = p->in,
                     .tb = p->turned,
                     .lda = p->in,
                     .ldb = p->turned ? p->in : p->out,
                     .ldc = p->out,
                     .batch = 1,
                     .bias = bias,
                     .beta = residual};
}

static zs_blas dx_of(const zs_point *p)
{
    return (zs_blas){.in = p->type,
                     .out = p->type,
                     .m = p->rows,
                     .n = p->in,
                     .k = p->out,
                     .tb = !p->turned,
                     .lda = p->out,
                     .ldb = p->turned ? p->in : p->out,
                     .ldc = p->in,
                     .batch = 1};
}

/* dw = dy' x, or x' dy where weights are [in,out]. */
static zs_blas dw_of(const zs_point *p, bool add)
{
    int64_t m = p->turned ? p->out : p->in, n = p->turned ? p->in : p->out;
    return (zs_blas){.in = p->type,
                     .out = ZS_F32,
                     .m = m,
                     .n = n,
                     .k = p->rows,
                     .ta = 1,
                     .lda = m,
                     .ldb = n,
                     .ldc = n,
                     .batch = 1,
                     .beta = add};
}

static size_t weight_bytes(const zs_point *p, zs_dtype type)
{
    return (size_t)p->in * (size_t)p->out * zs_dtype_size(type);
}

size_t zs_point_workspace(const zs_point *p, zs_point_kind kind, bool bias, bool residual)
{
    zs_blas g = kind == ZS_POINT_FORWARD ? forward_of(p, bias, residual)
                : kind == ZS_POINT_DX    ? dx_of(p)
                                         : dw_of(p, true);
    zs_blas_prepare(&g);
    if (kind == ZS_POINT_DW)
        return (size_t)ZS_BLAS_WS + rounded(weight_bytes(p, ZS_F32)) +
               rounded(zs_column_sum_bytes(p->rows, p->out));
    return (size_t)ZS_BLAS_WS + rounded((size_t)p->out * sizeof(float)) +
           rounded(weight_bytes(p, p->type));
}

void zs_point_forward(const zs_point *p, void *y, const void *x, const void *w, const float *b,
                      const void *r, void *ws)
{
    unsigned char *bias = (unsigned char *)ws + ZS_BLAS_WS;
    void *copy = bias + rounded((size_t)p->out * sizeof(float));
    zs_blas g = forward_of(p, b != NULL, r != NULL);
    if (b)
        zs_launch_cast(bias, p->type, b, ZS_F32, p->out, zs_cuda_get()->stream);
    zs_blas_run(&g, &(zs_blas_args){.alpha = 1,
                                    .a = x,
                                    .b = zs_blas_aligned(w, weight_bytes(p, p->type), copy),
                                    .c = r,
                                    .d = y,
                                    .bias = b ? bias : NULL,
                                    .ws = ws});
}

void zs_point_dx(const zs_point *p, void *dx, const void *dy, const void *w, void *ws)
{
    void *copy = (unsigned char *)ws + ZS_BLAS_WS + rounded((size_t)p->out * sizeof(float));
    zs_blas g = dx_of(p);
    zs_blas_run(&g, &(zs_blas_args){.alpha = 1,
                                    .a = dy,
                                    .b = zs_blas_aligned(w, weight_bytes(p, p->type), copy),
                                    .d = dx,
                                    .ws = ws});
}

void zs_point_dw(const zs_point *p, float *dw, float *db, const void *x, const void *dy, void *ws)
{
    void *queue = zs_cuda_get()->stream;
    unsigned char *apart = (unsigned char *)ws + ZS_BLAS_WS;
    bool aligned = ((uintptr_t)dw & 15) == 0;
    float *to = aligned ? dw : (float *)(void *)apart;
    zs_blas g = dw_of(p, aligned);
    zs_blas_run(&g, &(zs_blas_args){.alpha = 1,
                                    .a = p->turned ? dy : x,
                                    .b = p->turned ? x : dy,
                                    .c = aligned ? dw : NULL,
                                    .d = to,
                                    .ws = ws});
    if (!aligned)
        zs_launch_accumulate(dw, to, ZS_F32, p->in * p->out, queue);
    if (db)
        zs_launch_column_sum(db, dy, p->type, p->rows, p->out, true,
                             apart + rounded(weight_bytes(p, ZS_F32)), queue);
}
