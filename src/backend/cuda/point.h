/* SPDX-License-Identifier: MIT */
/* What linear layers and 1x1 convolutions are alike: y[rows,out] = x[rows,in] times weights. */
#ifndef ZS_BACKEND_CUDA_POINT_H
#define ZS_BACKEND_CUDA_POINT_H

#include "backend/cuda/blas.h"

typedef enum zs_point_kind { ZS_POINT_FORWARD, ZS_POINT_DX, ZS_POINT_DW } zs_point_kind;

typedef struct zs_point {
    zs_dtype type; /* of x, y and w */
    int64_t rows, in, out;
    bool turned; /* weights are [out,in], as linear layers have them, not [in,out] */
} zs_point;

/* Workspace of one of the three, having chosen its algorithms; `bias` and `residual` of the forward
 * operation. */
size_t zs_point_workspace(const zs_point *p, zs_point_kind kind, bool bias, bool residual);

/* y = x w + b + r; b (f32) and r may be NULL. */
void zs_point_forward(const zs_point *p, void *y, const void *x, const void *w, const float *b,
                      const void *r, void *ws);
void zs_point_dx(const zs_point *p, void *dx, const void *dy, const void *w, void *ws);
/* dw += , db += ; db may be NULL. */
void zs_point_dw(const zs_point *p, float *dw, float *db, const void *x, const void *dy, void *ws);

#endif
