/* SPDX-License-Identifier: MIT */
/* InceptionV3 as FID uses it: the network of 2015-12-05 with 1008 classes, in pytorch-fid's file
 * pt_inception-2015-12-05-6726825d.pth. Its average pools do not count the padding, and the last
 * block takes the maximum instead (pytorch_fid/inception.py). */
#ifndef ZS_MODELS_INCEPTION_H
#define ZS_MODELS_INCEPTION_H

#include "models/frozen.h"

enum { ZS_INCEPTION_SIZE = 299 };

/* Outputs: "block0" [n,73,73,64], "block1" [n,35,35,192], "block2" [n,17,17,768], "pool3" [n,2048]
 * and, when the file has the classifier, "logits" [n,1008] (without its bias, as evaluation code
 * takes them). Input [n,299,299,3] from zs_inception_input. Errors of zs_frozen_open. */
int zs_inception_open(zs_frozen **out, const char *path, const char *backend, zs_error *err);

/* True when f looks like the file of an InceptionV3. */
bool zs_inception_probe(const zs_tensorfile *f);

/* How an image becomes input; the two differ in every number that follows. */
typedef enum zs_inception_resize {
    ZS_INCEPTION_PYTORCH, /* pytorch-fid: x/255, bilinear with half-pixel centres, 2x-1 */
    ZS_INCEPTION_TF       /* torch-fidelity, ADM: bilinear from the corner (TensorFlow 1), then
                             (x-128)/128 */
} zs_inception_resize;

/* src [h,w,3] with values 0..255 -> dst [299,299,3]. Neither way smooths before it shrinks. */
void zs_inception_input(float *dst, const float *src, int h, int w, zs_inception_resize how);

/* One block below the prefix, as a part of other networks: for tests. */
typedef enum zs_inception_block {
    ZS_INCEPTION_A,
    ZS_INCEPTION_B,
    ZS_INCEPTION_C,
    ZS_INCEPTION_D,
    ZS_INCEPTION_E1, /* mean pool */
    ZS_INCEPTION_E2  /* max pool */
} zs_inception_block;
zs_tid zs_inception_block_build(zs_frozen_build *b, zs_inception_block kind, zs_tid x);

#endif
