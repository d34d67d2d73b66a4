/* SPDX-License-Identifier: MIT */
#ifndef ZS_METRICS_PERCEPTUAL_H
#define ZS_METRICS_PERCEPTUAL_H

#include <stdint.h>

/* One layer of LPIPS (Zhang et al. 2018, eq. 1) for one pair of images: features a, b [pixels,c] of
 * a layer, each pixel divided by its norm + 1e-10; mean over pixels of sum_c lin[c] (a - b)^2. The
 * distance is the sum over layers. */
double zs_lpips_layer(const float *a, const float *b, int64_t pixels, int64_t c, const float *lin);

#endif
