/* SPDX-License-Identifier: MIT */
/* Frozen networks that others trained, such as the ones that metrics look through: read from an
 * official file, with batch norms folded into the convolutions before them.
 *
 * Widths are those of the file; what a network is made of is said by its builder. */
#ifndef ZS_MODELS_FROZEN_H
#define ZS_MODELS_FROZEN_H

#include "nn/nn.h"

/* What a builder of a frozen network works with. */
typedef struct zs_frozen_build {
    zs_nn nn;         /* names are prefixes of the file's tensors */
    zs_tensorfile *f; /* says how wide each layer is */
    float norm_eps;   /* > 0: convolutions have a batch norm with this epsilon, and no bias */
} zs_frozen_build;

typedef struct zs_window {
    int kh, kw, stride, ph, pw;
} zs_window;

/* x[N,H,W,C] -> ReLU(convolution) [N,H',W',O]. With batch norm the file holds "<name>.conv.weight"
 * and "<name>.bn.{weight,bias,running_mean,running_var}", else "<name>.weight" and
 * "<name>.bias". */
zs_tid zs_frozen_conv(zs_frozen_build *b, const char *name, zs_tid x, zs_window w);

/* x[N,C] -> x w^T [N,O] with "<name>.weight" [O,C], without its bias; ZS_NONE when the file has no
 * such tensor. */
zs_tid zs_frozen_matrix(zs_frozen_build *b, const char *name, zs_tid x);

typedef struct zs_frozen_kind {
    const char *what; /* for messages: "an InceptionV3 of pytorch-fid (pt_inception...)" */
    float norm_eps;
    zs_shape probe; /* images that the network accepts */
    /* Adds input "x" [shape] and the outputs. */
    void (*build)(zs_frozen_build *b, zs_shape s);
} zs_frozen_kind;

typedef struct zs_frozen zs_frozen;

/* Reads the weights from `path`; backend as zs_backend_open. What metrics look through computes in
 * single precision, also on a device that is told to do without. ZS_E_IO, ZS_E_FORMAT (not such a
 * network), ZS_E_NUMERIC (weights that are not finite), ZS_E_NOMEM. */
int zs_frozen_open(zs_frozen **out, const char *path, const zs_frozen_kind *kind,
                   const char *backend, zs_error *err);
void zs_frozen_close(zs_frozen **n);
const char *zs_frozen_path(const zs_frozen *n);

/* Runs the network on x, shape xs = [n,h,w,c]; plans are kept for the last two shapes. */
int zs_frozen_run(zs_frozen *n, const float *x, zs_shape xs, zs_error *err);

/* An output of the last run, valid until the next; NULL when there is none of that name. *s (may be
 * NULL) is its shape. */
const float *zs_frozen_output(const zs_frozen *n, const char *name, zs_shape *s);

#endif
