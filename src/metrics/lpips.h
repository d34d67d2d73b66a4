/* SPDX-License-Identifier: MIT */
#ifndef ZS_METRICS_LPIPS_H
#define ZS_METRICS_LPIPS_H

#include "tensor/tensor.h"

/* LPIPS, version 0.1, through AlexNet: the distance of Zhang et al. 2018. */
typedef struct zs_lpips zs_lpips;

/* trunk: torchvision's AlexNet; lin: alex.pth of the LPIPS repository ("lin0.model.1.weight" ...).
 * Errors of zs_frozen_open. */
int zs_lpips_open(zs_lpips **out, const char *trunk, const char *lin, const char *backend,
                  zs_error *err);
void zs_lpips_close(zs_lpips **l);

/* d[n] = distance of each pair of images a, b in [-1,1], shape xs = [n,h,w,3]. ZS_E_INVALID for
 * images below ZS_ALEXNET_LEAST pixels. */
int zs_lpips_distance(double *d, zs_lpips *l, const float *a, const float *b, zs_shape xs,
                      zs_error *err);

#endif
