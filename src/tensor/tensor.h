/* SPDX-License-Identifier: MIT */
/* Face of the tensor layer: shapes, operations, and the seam to the kernels.
 *
 * Every tensor inside the engine is f32, contiguous and row-major. Images are NHWC: the channel
 * is the fastest dimension. Convolution weights are [kh,kw,C,O]; linear weights [O,K] as in
 * PyTorch. Files keep PyTorch's layouts; nn/params.c converts on the way in and out. */
#ifndef ZS_TENSOR_TENSOR_H
#define ZS_TENSOR_TENSOR_H

#include "base/base.h"
#include "tensor/backend.h"
#include "tensor/ops.h"
#include "tensor/shape.h"

#endif
