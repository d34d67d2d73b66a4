/* SPDX-License-Identifier: MIT */
/* Everything a model is, apart from its weights. */
#ifndef ZS_MODELS_CONFIG_H
#define ZS_MODELS_CONFIG_H

#include "models/latent_mlp.h"
#include "models/sem_encoder.h"
#include "models/unet.h"

#include <jansson.h>

typedef enum zs_model_kind {
    ZS_MODEL_DIFFAE,
    ZS_MODEL_DDPM,
    ZS_MODEL_ENCODER, /* an encoder and a linear classifier of its codes: no generator */
    ZS_MODEL_KINDS
} zs_model_kind;

typedef struct zs_diffusion_config {
    int64_t T;                     /* 1..1000000 training timesteps */
    char beta_schedule[24];        /* "linear" or "cosine" */
    char latent_beta_schedule[24]; /* "linear" or "const<beta>" such as "const0.008" */
} zs_diffusion_config;

typedef struct zs_model_config {
    char name[64]; /* preset or run it came from; may be empty */
    zs_model_kind kind;
    int64_t image_size;  /* height and width, 0 when a file does not say; else a multiple of
                           2^(levels-1) of every network, at most 65536 */
    int64_t channels;    /* of images: 1 or 3 */
    char fit[8];         /* how images are brought to image_size: "crop" or "pad" (zs_fit) */
    zs_unet_config unet; /* levels 0 when kind is ZS_MODEL_ENCODER */
    zs_sem_encoder_config encoder; /* levels 0 when kind is ZS_MODEL_DDPM */
    zs_latent_mlp_config prior;    /* layers 0 when there is none */
    int64_t classes; /* of ZS_MODEL_ENCODER: 2..2^24 that its head tells apart; else 0 */
    zs_diffusion_config diffusion;
} zs_model_config;

/* Checks every range above and that the parts fit each other. ZS_E_INVALID; the message names
 * the field, its value and what is allowed. */
int zs_model_config_validate(const zs_model_config *c, zs_error *err);

/* Sets one field from "key=value", keys as in zs_model_config_keys. Returns 1 when the key is not
 * one of these (it may be somebody else's), ZS_OK when set, or ZS_E_INVALID. channel_mult counts in
 * the model_channels, attention in the image_size in force at that moment; a new model_channels
 * scales the channels of every level. Call zs_model_config_validate when all are set. */
int zs_model_config_set(zs_model_config *c, const char *key_value, zs_error *err);

/* The keys, one sentence each, for --help: NULL-terminated pairs {key, help}. */
extern const char *const zs_model_config_keys[][2];

/* As a JSON object (new reference, NULL when out of memory), and back, validated; unknown
 * members are ignored, missing ones are an error that names them. `where` is for messages. */
json_t *zs_model_config_to_json(const zs_model_config *c);
int zs_model_config_from_json(zs_model_config *c, const json_t *j, const char *where,
                              zs_error *err);

/* Attention levels from resolutions: bit i is set when image_size >> i is among res[n]. */
uint32_t zs_attn_levels(int64_t image_size, int levels, const int64_t *res, size_t n);

#endif
