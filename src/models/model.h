/* SPDX-License-Identifier: MIT */
/* A model: configuration, parameters, weights, and its networks as plain functions.
 *
 *     zs_model *m = NULL;
 *     if (zs_model_open(&m, "last.ckpt,latent.pkl", NULL, err) < 0) ...
 *     status = zs_model_encode(m, z, x, zs_shape4(n, h, w, c), err);
 *     status = zs_model_eps(m, eps, x_t, zs_shape4(n, h, w, c), t, z, err);
 *     zs_model_close(&m);
 *
 * Images are NHWC in [-1,1]. Batches are cut into pieces of options.batch, so n is unbounded. A
 * sample's result does not depend on what its neighbours are. How many there are changes it by
 * rounding (1e-6 relative): the fast kernels add in another order for another number of rows. The
 * same piece gives the same bits with any number of threads; the backend "cpu-ref" gives them for
 * pieces of any size. One thread at a time per model. */
#ifndef ZS_MODELS_MODEL_H
#define ZS_MODELS_MODEL_H

#include "models/config.h"
#include "models/probe.h"

typedef struct zs_model zs_model;

/* Packed weights make each run of a network faster, at this much memory. */
#define ZS_MODEL_PACKED 0.15

typedef struct zs_model_options {
    const char *backend;    /* zs_backend_find; NULL: the default */
    unsigned exec_flags;    /* zs_exec_flag */
    int64_t batch;          /* images per run of a network; 0: 16 */
    unsigned boxes;         /* 1 << zs_box of those that will be used: the weights of the others are
                               neither read nor kept; 0: all */
    bool raw;               /* the weights that were trained instead of their moving average; a
                               bundle has one kind, which stays, and the facts say so */
    const char *const *set; /* NULL or NULL-terminated "key=value" (zs_model_config_set), for what
                               a file does not say; one of a box is for the files that bring it */
    double packed;          /* memory for packed forms of the weights (zs_packs), in units of the
                               weights' own; 0: ZS_MODEL_PACKED; negative: none */
    zs_node_hook hook;      /* called after every node of every network, or NULL */
    void *hook_ctx;
} zs_model_options;

/* Opens `spec`: a bundle, the folder of a training run (its model.safetensors), one of its
 * checkpoints, official files, or several of these joined with commas, each with boxes that the
 * others have not; "FILE:encoder+prior" takes only these boxes of a file. *out is NULL on failure.
 * ZS_E_IO, ZS_E_FORMAT, ZS_E_UNSUPPORTED, ZS_E_INVALID (an override; boxes of two files that do
 * not fit each other), ZS_E_NOMEM. */
int zs_model_open(zs_model **out, const char *spec, const zs_model_options *o, zs_error *err);

/* A model around weights that live elsewhere in the program's memory (borrowed, in the order of
 * zs_model_layout; read at every call, so it follows changes). */
int zs_model_wrap(zs_model **out, const zs_model_config *c, float *weights,
                  const zs_model_options *o, zs_error *err);

/* The same around a buffer in the memory of the backend, such as a trainer's: zs_model_weights is
 * NULL where the program cannot read it. */
int zs_model_wrap_buffer(zs_model **out, const zs_model_config *c, float *weights,
                         const zs_model_options *o, zs_error *err);

/* Says that the borrowed weights stay as they are while m lives, as those of a file do: packed
 * forms of them are then kept from call to call. */
void zs_model_promise(zs_model *m);

void zs_model_close(zs_model **m);

/* Every parameter of the model in the official order, sealed: box by box. */
int zs_model_layout(zs_params **out, const zs_model_config *c, zs_error *err);

const zs_model_config *zs_model_configuration(const zs_model *m);
const zs_params *zs_model_params(const zs_model *m);
const float *zs_model_weights(const zs_model *m); /* flat buffer, in the program's memory */
bool zs_model_has(const zs_model *m, zs_box b);
zs_box zs_param_box(const char *official_name);
const char *zs_param_local_name(const char *official_name); /* below its box's module; borrowed */

/* Statistics of z_sem [z_dim], or NULL. Codes are normalised as (z-mean)/std. */
const float *zs_model_z_mean(const zs_model *m);
const float *zs_model_z_std(const zs_model *m);

/* The probe of its codes, or NULL. Borrowed. */
const zs_probe *zs_model_probe(const zs_model *m);

/* What is known about the model and where from, for people: {"image size", "32", "hyper_parameters
 * .img_size of last.ckpt"}. Borrowed; *n entries. */
typedef struct zs_fact {
    char key[40];
    char value[88];
    char source[128];
} zs_fact;
const zs_fact *zs_model_facts(const zs_model *m, size_t *n);

/* Fails (ZS_E_INVALID, with the model and the remedy named) unless images of shape s can be fed. */
int zs_model_check_images(const zs_model *m, zs_shape s, zs_error *err);

/* Likewise for what the generator works on: images, or latents where there is a first stage. */
int zs_model_check_states(const zs_model *m, zs_shape s, zs_error *err);

/* z [n,h,w,latent_channels] = latents, as the generator takes them, of images x, shape xs =
 * [n,H,W,channels]; noise, of z's shape, or NULL for the mean, where the first stage has variances.
 * And images of any values near [-1,1] of latents z, shape zs. ZS_E_INVALID without a first stage,
 * or when the shape does not fit it. */
int zs_model_to_latents(zs_model *m, float *z, const float *x, zs_shape xs, const float *noise,
                        zs_error *err);
int zs_model_from_latents(zs_model *m, float *x, const float *z, zs_shape zs, zs_error *err);

/* The representation [z_dim] that stands for none: what guidance moves away from. ZS_E_INVALID when
 * the generator was trained without any left out. */
int zs_model_absent_z(const zs_model *m, float *z, zs_error *err);

/* z [n,z_dim] = semantic code of x, shape xs = [n,h,w,channels]. ZS_E_INVALID when the model has
 * no encoder or xs does not fit. */
int zs_model_encode(zs_model *m, float *z, const float *x, zs_shape xs, zs_error *err);

/* What a vision transformer has besides: NULL where it is not wanted. */
typedef struct zs_encoder_taps {
    float *features; /* [n,width] */
    float *head;     /* [n,head_dim]; not touched where there is no head */
} zs_encoder_taps;

/* As zs_model_encode; taps may be NULL, and are left alone by other encoders. */
int zs_model_encode_taps(zs_model *m, float *z, const zs_encoder_taps *taps, const float *x,
                         zs_shape xs, zs_error *err);

/* logits [n,classes] of images x as zs_model_encode takes them; softmax gives probabilities.
 * ZS_E_INVALID for a model without classes. */
int zs_model_classify(zs_model *m, float *logits, const float *x, zs_shape xs, zs_error *err);

/* What a network is told about each of n samples, beside its timestep. */
typedef struct zs_cond {
    const float *z;   /* [n,z_dim] representations, or NULL where it takes none */
    const int64_t *y; /* [n] classes, or NULL where it takes none */
    /* [n], not 0 where a learned row takes the place of z; NULL: nowhere. Of generators that take z
     * and can be guided (zs_ports.guided); for an absent class y is the last one. */
    const float *drop;
    /* Only for the loss of a network that learns its variance: [n,ZS_BOUND_NUMBERS], rows of
     * zs_bound_row; such a network also needs x0. */
    const float *steps;
} zs_cond;

/* eps [n,h,w,out] = what the generator predicts from x_t at the original timesteps t[n] (noise, and
 * variances where it has learned them); cond (NULL: nothing) holds all that it is conditioned
 * on. */
int zs_model_eps(zs_model *m, float *eps, const float *x_t, zs_shape xs, const int64_t *t,
                 const zs_cond *cond, zs_error *err);

/* out [n,z_dim] = what the prior predicts (noise or clean codes) from the normalised codes
 * z_t [n,z_dim] at t[n]; y [n] or NULL as in zs_cond. */
int zs_model_prior_eps(zs_model *m, float *out, const float *z_t, int64_t n, const int64_t *t,
                       const int64_t *y, zs_error *err);

/* Loss mean((eps(x_t,t,encoder(x0)) - noise)^2), of a generator that predicts x0 mean((x0(x_t,t) -
 * x0)^2), for a learned variance that of loss_vlb, and, added to grads (flat, caller zeroes it),
 * its gradient; dropout 0. x0 may be NULL where there is no encoder to train
 * (zs_model_config_joint), no variance, and noise is predicted; cond is what a conditional
 * generator is told. The whole batch runs as one piece. Meant for raw weights. */
int zs_model_grad(zs_model *m, float *loss, float *grads, const float *x0, const float *x_t,
                  zs_shape xs, const int64_t *t, const float *noise, const zs_cond *cond,
                  zs_error *err);

/* The training graph behind zs_model_grad and the trainer, differentiated. Inputs "x0" (only where
 * an encoder is trained, x0 predicted, or a variance learned, and then "steps"
 * [n,ZS_BOUND_NUMBERS] too), "x_t", "noise" [n,h,w,c], "t" [n], "z", "y" and "drop" where the
 * generator takes them; of a model with classes "x0" and "target" [n,classes], probabilities.
 * Output "loss" [1]. Dropout as given (not from c). With `weighted`, and no learned variance and no
 * classes, an input "weights" [n] says how often each sample counts. ps: zs_model_layout(c). */
int zs_train_graph_build(zs_graph **out, zs_params *ps, const zs_model_config *c, zs_shape xs,
                         double dropout, bool weighted, zs_error *err);

/* What goes into a bundle beside the weights. */
typedef struct zs_bundle {
    const zs_model_config *config;
    const zs_params *params;
    const float *weights;        /* flat */
    const float *z_mean, *z_std; /* [z_dim] or NULL */
    const zs_probe *probe;       /* or NULL */
    const json_t *extra;         /* object kept under "training" in the metadata, or NULL */
} zs_bundle;

/* Writes a bundle whole or not at all; dtype ZS_F32, ZS_F16 or ZS_BF16. ZS_E_NUMERIC when a weight
 * is not finite or overflows the dtype. */
int zs_bundle_write(const char *path, const zs_bundle *b, zs_dtype dtype, zs_error *err);

/* zs_bundle_write of an opened model. */
int zs_model_save(const zs_model *m, const char *path, zs_dtype dtype, zs_error *err);

/* The "training" object of the bundle a model came from, or NULL. Borrowed. */
const json_t *zs_model_extra(const zs_model *m);

/* NHWC <-> NCHW, n images of h x w x c; dst and src do not overlap. */
void zs_nchw_from_nhwc(float *dst, const float *src, int64_t n, int64_t h, int64_t w, int64_t c);
void zs_nhwc_from_nchw(float *dst, const float *src, int64_t n, int64_t h, int64_t w, int64_t c);

/* Multiply-adds times two of one forward pass for one image of the given size, convolutions,
 * linears and attention only. */
typedef struct zs_flops {
    double box[ZS_BOX_COUNT];
} zs_flops;
int zs_model_flops(zs_flops *out, const zs_model_config *c, int64_t h, int64_t w, zs_error *err);

#endif
