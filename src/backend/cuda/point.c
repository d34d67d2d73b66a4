/* SPDX-License-Identifier: MIT */
/* Workspaces: first what cuBLASLt takes, then a copy of the bias in the type of y, or partial sums
 * of the bias's gradient. Parameters lie where cuBLASLt can read them in vectors (nn/params.h). */
#include "backend/cuda/point.h"
#include "backend/cuda/kernels.h"

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

/* dw += dy' x, or x' dy where weights are [in,out]. */
static zs_blas dw_of(const zs_point *p)
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
                     .beta = 1};
}

size_t zs_point_workspace(const zs_point *p, zs_point_kind kind, bool bias, bool residual)
{
    zs_blas g = kind == ZS_POINT_FORWARD ? forward_of(p, bias, residual)
                : kind == ZS_POINT_DX    ? dx_of(p)
                                         : dw_of(p);
    size_t more = kind == ZS_POINT_DW ? zs_column_sum_bytes(p->rows, p->out)
                  : bias              ? (size_t)p->out * sizeof(float)
                                      : 0;
    zs_blas_prepare(&g);
    return (size_t)ZS_BLAS_WS + more;
}

void zs_point_forward(const zs_point *p, void *y, const void *x, const void *w, const float *b,
                      const void *r, void *ws)
{
    unsigned char *bias = (unsigned char *)ws + ZS_BLAS_WS;
    zs_blas g = forward_of(p, b != NULL, r != NULL);
    if (b)
        zs_launch_cast(bias, p->type, b, ZS_F32, p->out, zs_cuda_get()->stream);
    zs_blas_run(&g,
                &(zs_blas_args){
                    .alpha = 1, .a = x, .b = w, .c = r, .d = y, .bias = b ? bias : NULL, .ws = ws});
}

void zs_point_dx(const zs_point *p, void *dx, const void *dy, const void *w, void *ws)
{
    zs_blas g = dx_of(p);
    zs_blas_run(&g, &(zs_blas_args){.alpha = 1, .a = dy, .b = w, .d = dx, .ws = ws});
}

void zs_point_dw(const zs_point *p, float *dw, float *db, const void *x, const void *dy, void *ws)
{
    zs_blas g = dw_of(p);
    zs_blas_run(&g, &(zs_blas_args){.alpha = 1,
                                    .a = p->turned ? dy : x,
                                    .b = p->turned ? x : dy,
                                    .c = dw,
                                    .d = dw,
                                    .ws = ws});
    if (db)
        zs_launch_column_sum(db, dy, p->type, p->rows, p->out, true,
                             (unsigned char *)ws + ZS_BLAS_WS, zs_cuda_get()->stream);
}
