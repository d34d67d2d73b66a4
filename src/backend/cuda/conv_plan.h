/* SPDX-License-Identifier: MIT */
/* The plan of each convolution of this process: chosen once, by timing, and remembered on disk. */
#ifndef ZS_BACKEND_CUDA_CONV_PLAN_H
#define ZS_BACKEND_CUDA_CONV_PLAN_H

#include "backend/cuda/dnn.h"

typedef struct zs_conv_choice {
    zs_dnn_plan plan; /* desc NULL: cuDNN has none, our own kernel computes it */
    bool fused;       /* it adds the bias that zs_cuda_conv.bias asks for */
} zs_conv_choice;

/* Stays where it is. NULL when the program is out of memory. The first call for a convolution takes
 * tens of milliseconds, unless the disk remembers it. */
const zs_conv_choice *zs_conv_choose(const zs_cuda_conv *c);

/* How many convolutions this process has met, and how many of them have no plan. */
void zs_conv_counts(int *all, int *without);

/* What conv2d, conv2d_dx, conv2d_dw or conv_relu of these shapes asks cuDNN for. False: it is a
 * matrix product, or another operation. */
bool zs_conv_problem(zs_cuda_conv *out, zs_op op, const zs_call *c);

/* ---- plan_file.c: what the disk remembers ---- */

/* Text that names a convolution. */
enum { ZS_PLAN_KEY = 200 };
void zs_plan_key(char out[ZS_PLAN_KEY], const zs_cuda_conv *c);

/* The choices of one device and one version of cuDNN, in $ZSEM_CACHE, $XDG_CACHE_HOME/zsem or
 * ~/.cache/zsem: a line each, key, tab and tag; the last line of a key holds. A file that cannot be
 * read or written, or lines that make no sense, are as if they were not there. */
typedef struct zs_plan_file {
    char *path; /* NULL: nowhere */
    char *text;
    bool read;
} zs_plan_file;

/* Reads it, the first time. */
void zs_plan_file_open(zs_plan_file *f, const char *device);
/* False: it is not there. */
bool zs_plan_file_get(char tag[ZS_DNN_TAG], const zs_plan_file *f, const char *key);
void zs_plan_file_add(const zs_plan_file *f, const char *key, const char *tag);
void zs_plan_file_close(zs_plan_file *f);

#endif
