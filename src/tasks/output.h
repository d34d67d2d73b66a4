/* SPDX-License-Identifier: MIT */
/* Pictures that tasks write: single images and grids, as PNG. */
#ifndef ZS_TASKS_OUTPUT_H
#define ZS_TASKS_OUTPUT_H

#include "data/data.h"
#include "tensor/tensor.h"

/* Model-range images x, shape xs = [n,h,w,c], as a grid of `cols` columns at dir/name. */
int zs_output_grid(const char *dir, const char *name, const float *x, zs_shape xs, int cols,
                   zs_error *err);

/* One model-range image x [h,w,c] as dir/name. */
int zs_output_image(const char *dir, const char *name, const float *x, zs_shape xs, zs_error *err);

/* Fails unless `dir` can be made and written to: asked before long work starts. */
int zs_output_folder(const char *dir, zs_error *err);

#endif
