/* SPDX-License-Identifier: MIT */
#ifndef ZS_METRICS_IMAGE_DISTANCE_H
#define ZS_METRICS_IMAGE_DISTANCE_H

#include "base/base.h"

/* a, b: n elements in [0,1]. Mean squared error, accumulated in double. */
double zs_metric_mse(const float *a, const float *b, size_t n);

/* -10 log10(mse): peak 1. Infinity for equal images. */
double zs_metric_psnr(double mse);

/* Structural similarity as the authors' ssim.py: 11x11 Gaussian window with sigma 1.5, zero
 * padding, C1 = 0.01^2, C2 = 0.03^2, mean over pixels and channels. a, b: [h,w,c] in [0,1].
 * ZS_E_NOMEM. */
int zs_metric_ssim(double *out, const float *a, const float *b, int h, int w, int c, zs_error *err);

#endif
