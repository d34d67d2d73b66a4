/* SPDX-License-Identifier: MIT */
/* Named parameters and where they live in one flat f32 buffer.
 *
 * A layout knows nothing of weights: raw weights, EMA, gradients and optimiser moments are separate
 * buffers of zs_params_numel floats that all share it. Order is the official state_dict's.
 *
 * Every parameter begins at a multiple of 16 floats, which the libraries of accelerators need of
 * it, also in a copy of half precision. The up to 15 floats before the next one belong to nobody:
 * they are zero in every buffer and stay so (a step of the optimiser leaves zeros with a gradient
 * of zero alone), add nothing to a norm, and are in no file. */
#ifndef ZS_NN_PARAMS_H
#define ZS_NN_PARAMS_H

#include "graph/graph.h"
#include "io/tensorfile.h"

/* How a tensor of a file becomes a tensor of the engine. */
typedef enum zs_layout {
    ZS_LAYOUT_PLAIN, /* same order of elements: biases, norms, linear [O,K] */
    ZS_LAYOUT_CONV   /* file [O,C,k,k] (or [O,C,1]: a 1-d convolution) -> engine [k,k,C,O] */
} zs_layout;

/* What a parameter starts as (zs_params_init). */
typedef enum zs_init {
    ZS_INIT_ZERO,
    ZS_INIT_ONE,
    ZS_INIT_UNIFORM,        /* U(+-1/sqrt(fan_in)): PyTorch's default for weights and biases */
    ZS_INIT_KAIMING_NORMAL, /* N(0, 2/fan_in) */
    ZS_INIT_NORMAL,         /* N(0, 1): PyTorch's default for tables */
    ZS_INIT_NORMAL_02,      /* N(0, 0.02^2) */
    ZS_INIT_XAVIER,         /* U(+-sqrt(6/(in+out))), where shape[0] is out */
    ZS_INIT_POSITIONS       /* [1,g*g,C]: sines and cosines of a square grid, row by row. The first
                               half of the channels says the column, each half [sin | cos] of
                               10000^(-i/(C/4)) times the position (get_2d_sincos_pos_embed) */
} zs_init;

typedef struct zs_param {
    const char *name; /* official state_dict name */
    int nd;           /* 1..4 */
    int64_t shape[4]; /* as in the file */
    zs_layout layout;
    zs_init init;
    int64_t fan_in; /* >= 1 */
    int64_t offset; /* floats, into the flat buffer; a multiple of 16 */
    int64_t numel;
    int32_t alias; /* index of the parameter it shares its floats with, or -1: the state_dict
                          of the latent MLP lists one Linear under two names */
    bool trainable;
    bool plain; /* no moving average is made of it: where one is asked for, it is the weight */
} zs_param;

typedef struct zs_params zs_params;

int zs_params_new(zs_params **out, zs_error *err);
void zs_params_free(zs_params **ps);

/* Index of the parameter of that name, which is registered at the end of the layout when it is
 * new. `want` gives name, nd, shape, layout, init, fan_in, trainable, plain and alias; the name is
 * copied. -1 and an error in *err when a registered one has another shape (ZS_E_INVALID), when the
 * layout is sealed and has none (ZS_E_INTERNAL), or on overflow. */
long zs_params_add(zs_params *ps, const zs_param *want, zs_error *err);

/* No further names from now on: a builder that asks for one fails its graph. */
void zs_params_seal(zs_params *ps);

size_t zs_params_count(const zs_params *ps);
const zs_param *zs_params_at(const zs_params *ps, size_t i);
long zs_params_find(const zs_params *ps, const char *name); /* or -1 */
int64_t zs_params_numel(const zs_params *ps);   /* floats in a flat buffer, gaps among them */
int64_t zs_params_weights(const zs_params *ps); /* without gaps; aliases once */

/* Zeroes what lies between parameters, for those who fill a buffer whole. */
void zs_params_clear_gaps(const zs_params *ps, float *flat);

/* Fills flat, gaps too, with initial values: a pure function of seed and names' order (aliases
 * once). */
void zs_params_init(const zs_params *ps, float *flat, uint64_t seed);

/* Can parameter i be read from tensor `name` of f? Reads no numbers. ZS_E_FORMAT when the file has
 * no such tensor, or another shape: the message names file, tensor and both shapes. Ones at the end
 * of a shape do not count, since some files store 1x1 convolutions as matrices. */
int zs_params_match(const zs_params *ps, size_t i, const zs_tensorfile *f, const char *name,
                    zs_error *err);

/* Parameter i from tensor `name` of f, converted to the engine's layout. Errors of
 * zs_params_match and of reading. */
int zs_params_read(const zs_params *ps, size_t i, float *flat, zs_tensorfile *f, const char *name,
                   zs_error *err);

/* Every parameter from the tensor "<prefix><name>", and zeros between them; same errors. Aliases
 * are read last, as PyTorch's load_state_dict does, so the later name wins. */
int zs_params_import(const zs_params *ps, float *flat, zs_tensorfile *f, const char *prefix,
                     zs_error *err);

/* Parameter i of flat in the file's order of elements; dst holds numel floats. */
void zs_params_export(const zs_params *ps, size_t i, const float *flat, float *dst);

#endif
