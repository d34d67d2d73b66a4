/* SPDX-License-Identifier: MIT */
/* Recognises what a torch pickle calls to build tensors. Private to io. */
#ifndef ZS_IO_TORCHTENSOR_H
#define ZS_IO_TORCHTENSOR_H

#include "io/torchtree.h"

/* The description of a tensor, with its storage still a persistent id. */
typedef struct zs_torchtensor {
    const zs_pvalue *storage; /* ZS_P_PERSID */
    const zs_pvalue *dtype;   /* torch.<dtype>, or NULL: that of the storage */
    zs_tfview view;           /* nd, shape, stride, offset */
} zs_torchtensor;

/* 1 and *t when v is a tensor (or a Parameter around one), 0 when it is something else,
 * negative when it is a tensor that is damaged or of a kind that is not read. */
int zs_torch_tensor(zs_torchtensor *t, const zs_pvalue *v, const char *path, const char *name,
                    zs_error *err);

/* The dtype of a storage class ("FloatStorage") or a torch.dtype ("float32"). */
bool zs_torch_storage_dtype(zs_dtype *t, zs_span class_name);
bool zs_torch_dtype(zs_dtype *t, zs_span name);

#endif
