/* SPDX-License-Identifier: MIT */
#ifndef ZS_MODELS_BICUBIC_H
#define ZS_MODELS_BICUBIC_H

#include <stdint.h>

/* Images src[n,h,w,c] -> dst[n,oh,ow,c] by cubic convolution with a = -0.75 (Keys 1981): no
 * antialiasing, no clamping of results, pixels beyond the edge are those at the edge; as PyTorch's
 * interpolate(mode="bicubic", align_corners=False). `step` is the distance of neighbouring pixels
 * of dst in those of src: h/oh and w/ow, unless the caller knows better. All threads. */
void zs_bicubic(float *dst, int64_t oh, int64_t ow, const float *src, int64_t n, int64_t h,
                int64_t w, int64_t c, double step_h, double step_w);

#endif
