/* SPDX-License-Identifier: MIT */
#ifndef ZS_MODELS_PRESETS_H
#define ZS_MODELS_PRESETS_H

#include "models/config.h"

/* How the authors (or we, for fashion32) train a model of that kind. */
typedef struct zs_preset_train {
    int64_t batch;        /* images per optimiser step, over all devices */
    int64_t total_images; /* the official length of training */
    int64_t warmup;       /* steps of linear learning-rate warm-up */
    double lr, weight_decay, clip, ema;
    double beta2;          /* of Adam; 0: 0.999 */
    double t_weight;       /* most that a timestep counts in the loss; 0: all count alike */
    const char *optimizer; /* "adam" or "adamw" */
    const char *loss;      /* "mse", "l1" or "xent" */
    bool flip;             /* mirror images with probability 1/2 */
    bool lit_ema;          /* the average warms up and comes before the step (zs_optim_config) */
} zs_preset_train;

typedef struct zs_preset {
    const char *name;
    const char *about; /* one line for --help */
    const char *data;  /* the data set it is meant for, as --data takes it, or "" */
    /* What the preset can make; a configuration without any box is one that it cannot. */
    zs_model_config autoencoder, ddpm;
    zs_model_config encoder; /* the autoencoder's, to be trained on classes; classes is 0 */
    zs_model_config prior;   /* the prior alone; its z_dim is that of the encoder it is used with */
    zs_model_config generator; /* conditioned on nothing; zs_model_config_condition says on what */
    zs_preset_train train_autoencoder, train_ddpm, train_encoder, train_prior, train_generator;
} zs_preset;

/* Fills *out; ZS_E_INVALID lists the known names. */
int zs_preset_find(zs_preset *out, const char *name, zs_error *err);

/* Name of preset i, or NULL past the last. */
const char *zs_preset_name(size_t i);

#endif
