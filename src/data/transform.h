/* SPDX-License-Identifier: MIT */
#ifndef ZS_DATA_TRANSFORM_H
#define ZS_DATA_TRANSFORM_H

#include "io/io.h"

/* Antialiased bilinear (triangle filter) to exactly w x h, bit-exact with PIL's
 * Image.resize(BILINEAR) as torchvision uses it: separable, 8-bit intermediate, 22-bit fixed
 * point coefficients. */
int zs_image_resize(zs_image *out, const zs_image *in, int w, int h, zs_error *err);

/* Shorter side to `size` (the longer one truncated as torchvision's Resize(size) does), then
 * the centre size x size. */
int zs_image_resize_crop(zs_image *out, const zs_image *in, int size, zs_error *err);

/* How an image reaches the model's square: ZS_FIT_CROP as above; ZS_FIT_PAD centres an image
 * that is smaller in both directions on black without scaling (28x28 -> 32x32, Fashion-MNIST)
 * and otherwise behaves as CROP. */
typedef enum zs_fit { ZS_FIT_CROP, ZS_FIT_PAD } zs_fit;
zs_fit zs_fit_from_name(const char *name); /* "crop" or "pad", as configurations have them */
int zs_image_fit(zs_image *out, const zs_image *in, int size, zs_fit fit, zs_error *err);

void zs_image_flip(zs_image *im); /* mirrors left-right in place */

/* Bytes <-> model range, NHWC order (an image's own order): x/127.5 - 1, computed as
 * (x/255 - 0.5)/0.5 in f32 as torchvision does; back: clamp, (x+1)/2*255 rounded to nearest. */
void zs_image_to_float(float *dst, const zs_image *im);
int zs_image_from_float(zs_image *out, const float *src, int h, int w, int c, zs_error *err);

#endif
