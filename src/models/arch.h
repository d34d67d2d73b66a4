/* SPDX-License-Identifier: MIT */
/* What can fill a box: one row per architecture, which says all that the rest of the program needs
 * to know of a network.
 *
 * To add one: its builder, its configuration and fields, `const zs_arch zs_arch_<name>` beside
 * them, a member in zs_model_config and a row in config.c. */
#ifndef ZS_MODELS_ARCH_H
#define ZS_MODELS_ARCH_H

#include "models/field.h"
#include "nn/nn.h"

/* The boxes of a bundle; a tensor of a bundle is named "<box>.<official name within the box>". */
typedef enum zs_box {
    ZS_BOX_GENERATOR,   /* representation + noise -> image (or latents of a first stage) */
    ZS_BOX_ENCODER,     /* image -> representation */
    ZS_BOX_PRIOR,       /* noise -> representation */
    ZS_BOX_FIRST_STAGE, /* image <-> latents */
    ZS_BOX_PROBE,       /* not among the parameters of a layout: zs_model_probe */
    ZS_BOX_COUNT
} zs_box;
const char *zs_box_name(zs_box b); /* "generator", "encoder", "prior", "first_stage", "probe" */

/* What a network works on; ZS_NONE where it takes none. */
typedef struct zs_inputs {
    zs_tid x;    /* images [N,H,W,C], or codes [N,z_dim] of a prior */
    zs_tid t;    /* timesteps [N] */
    zs_tid z;    /* representations [N,z_dim] */
    zs_tid y;    /* classes [N] */
    zs_tid drop; /* [N], not 0 where a learned row takes the place of z; of those that take z and
                    can be guided (zs_ports.guided) */
} zs_inputs;

/* The sizes of a network's inputs and outputs. */
typedef struct zs_ports {
    int64_t in_channels, out_channels; /* of images; out of a generator only; 0: none */
    int64_t z_dim;   /* of representations: an encoder makes, a prior draws, a generator takes
                        them; 0: none */
    int64_t classes; /* y is one of 0..classes-1; 0: it takes none */
    int64_t unit;    /* sides of images are multiples of this; 1 for a prior */
    int64_t side;    /* the only side of images that the network takes; 0: any */
    int64_t guided;  /* of a generator that was trained to do without its representation, or its
                        class, now and then: guidance moves the first so many channels of what it
                        returns; 0: it never had to */
    double z_drop;   /* so often z is left out in training, 0 <= p < 1; of those with such a row */
    double y_drop;   /* so often the last class takes the place of the class */
} zs_ports;

typedef struct zs_arch {
    const char *name; /* in metadata and for --arch */
    zs_box box;
    const char *about;  /* for people, as in "AdaGN UNet of Diffusion Autoencoders" */
    const char *module; /* its names start at "<module>."; "" when they stand alone */
    const zs_field *fields;
    /* What ranges alone do not say; may be NULL. ZS_E_INVALID names the field. */
    int (*check)(const void *config, zs_error *err);
    void (*ports)(const void *config, zs_ports *p);
    /* The network below the prefix of nn: predicted noise (and variance), a representation, or
     * latents. */
    zs_tid (*build)(zs_nn *nn, const void *config, const zs_inputs *in);
    /* Of generators: makes the configuration one of a network that is conditioned on
     * representations of z_dim numbers (0: none) and on one of `classes` (0: none). ZS_E_INVALID
     * when this architecture cannot be. */
    int (*condition)(void *config, int64_t z_dim, int64_t classes, zs_error *err);
    /* For encoders with a preprocessing of their own, or NULL: images x of any size, shape
     * [n,h,w,in_channels] in [-1,1], become the network's [n,side,side,in_channels]. */
    void (*prepare)(const void *config, float *dst, const float *x, zs_shape xs);
    /* Likewise: what becomes of the n representations in place. */
    void (*finish)(const void *config, float *z, int64_t n);
    const char *prepares; /* prepare in words; NULL: pixels from -1 to 1 go in as they are */
} zs_arch;

#endif
