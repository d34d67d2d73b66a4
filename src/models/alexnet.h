/* SPDX-License-Identifier: MIT */
/* The convolutions of torchvision's AlexNet, as LPIPS looks through them. */
#ifndef ZS_MODELS_ALEXNET_H
#define ZS_MODELS_ALEXNET_H

#include "models/frozen.h"

/* Smallest side of an image that still has a pixel after the last pool. */
enum { ZS_ALEXNET_LEAST = 31, ZS_ALEXNET_LAYERS = 5 };

/* Reads "features.*" of torchvision's alexnet-owt-*.pth. Input [n,h,w,3]; outputs "relu0" ..
 * "relu4" [n,h',w',c], after each ReLU. Errors of zs_frozen_open. */
int zs_alexnet_open(zs_frozen **out, const char *path, const char *backend, zs_error *err);

#endif
