/* SPDX-License-Identifier: MIT */
/* Everything a model is, apart from its weights. */
#ifndef ZS_MODELS_CONFIG_H
#define ZS_MODELS_CONFIG_H

#include "models/adm.h"
#include "models/dit.h"
#include "models/first_stage.h"
#include "models/latent_mlp.h"
#include "models/rdm.h"
#include "models/sem_encoder.h"
#include "models/unet.h"
#include "models/vit.h"

#include <jansson.h>

/* Bytes of a zs_rep_fingerprint. */
enum { ZS_REP_FINGERPRINT = 160 };

/* What something was made for, when that is not in the same bundle: what it is called, and its
 * zs_rep_fingerprint; or empty. */
typedef struct zs_maker {
    char name[64];
    char fingerprint[ZS_REP_FINGERPRINT];
} zs_maker;

/* The diffusion process that a network was made for. */
typedef struct zs_process_config {
    int64_t T;              /* 1..1000000 training timesteps */
    char beta_schedule[48]; /* zs_schedule_make: "linear", "cosine", "const0.008", ... */
    char prediction[8];     /* what the network predicts: "eps" or "x0" */
    char variance[16];      /* of a step back: "fixed_large", "fixed_small", or "learned" */
    bool clip;              /* predicted samples are clamped to [-1,1] at each step */
    char spacing[8];        /* of DDIM's steps (zs_schedule_respace): "" or "ddim", or "ldm" */
} zs_process_config;

/* At most one architecture of each box is there; the first field of the others is 0. */
typedef struct zs_model_config {
    char name[64];        /* preset or run it came from; may be empty */
    int64_t image_size;   /* height and width, 0 when a file does not say; else a multiple of
                           every network's unit, at most 65536 */
    int64_t channels;     /* of images: 1 or 3; 0 when the model is a prior alone; those of its
                           latents when a generator waits for its first stage */
    int64_t encoder_size; /* image_size of the file that the encoder came from, where that is
                             another, and the encoder takes any; else 0 */
    char fit[8];          /* how images are brought to image_size: "crop" or "pad" (zs_fit) */
    zs_unet_config unet;  /* generator */
    zs_adm_config adm;    /* generator */
    zs_dit_config dit;    /* generator */
    zs_sem_encoder_config sem_encoder; /* encoder */
    zs_vit_config vit;                 /* encoder */
    zs_latent_mlp_config latent_mlp;   /* prior */
    zs_rdm_config rdm;                 /* prior */
    zs_vae_config vae;                 /* first stage */
    int64_t classes;                   /* 2..2^24 that the head of an encoder tells apart, or 0 */
    zs_process_config diffusion;       /* of the generator */
    zs_process_config latent;          /* of the prior */
    zs_maker reps;    /* the encoder whose representations generator and prior were made for */
    zs_maker latents; /* the first stage whose latents the generator was made for */
} zs_model_config;

/* "linear" betas, T 1000, eps, fixed-large variance, clipped: Diffusion Autoencoders' generator;
 * and "const0.008", not clipped: its prior; "sqrt0.0015:0.0195", x0: RCG's. */
extern const zs_process_config zs_process_diffae, zs_process_diffae_latent, zs_process_rdm;

/* The same with a learned variance: ADM, which clips, and DiT, which does not. */
extern const zs_process_config zs_process_adm, zs_process_dit;

/* Whether the generator returns a variance beside what it predicts: twice as many channels. */
bool zs_model_config_learns_variance(const zs_model_config *c);

/* The architecture that fills the box, or NULL; *config (may be NULL) is its configuration. */
const zs_arch *zs_model_config_arch(const zs_model_config *c, zs_box box, const void **config);

/* Its ports; false, and all zero, when the box is empty. */
bool zs_model_config_ports(const zs_model_config *c, zs_box box, zs_ports *p);

/* Shape of what the generator works on for n images: these, or their latents where there is a first
 * stage. */
zs_shape zs_model_config_states(const zs_model_config *c, int64_t n);

/* Dimensions of the representations that the boxes share; 0 when there are none. */
int64_t zs_model_config_z_dim(const zs_model_config *c);

/* Height and width of the images that the encoder was made for; 0 when no file says so. An encoder
 * of any size that changes company keeps it: zs_rep_fingerprint shows it a picture of that size. */
int64_t zs_model_config_encoder_size(const zs_model_config *c);

/* Makes it `size` (0: not known) after image_size has changed. */
void zs_model_config_keep_encoder(zs_model_config *c, int64_t size);

/* Dropout that the generator is trained with. */
double zs_model_config_dropout(const zs_model_config *c);

/* Whether generator and encoder are one network that is trained together, as in Diffusion
 * Autoencoders; else an encoder is frozen, and its representations are inputs. */
bool zs_model_config_joint(const zs_model_config *c);

/* Architecture of that name (NULL: the oldest) for that box, or NULL; and the i-th of all, NULL
 * past the last. */
const zs_arch *zs_arch_find(zs_box box, const char *name);
const zs_arch *zs_arch_at(size_t i);

/* Where c keeps the configuration of an architecture, to be filled. */
void *zs_model_config_slot(zs_model_config *c, const zs_arch *a);

/* Makes the generator one that is conditioned on representations of z_dim numbers (0: none), or on
 * one of `classes` (0: none). ZS_E_INVALID when its architecture cannot be. */
int zs_model_config_condition(zs_model_config *c, int64_t z_dim, int64_t classes, zs_error *err);

/* Empties a box. image_size and channels become those of the latents when a generator loses its
 * first stage, and an encoder's when it loses a generator of latents. */
void zs_model_config_clear(zs_model_config *c, zs_box box);

/* Copies a box, its process and (generator, encoder) what it says of images from `from` to c. */
void zs_model_config_take(zs_model_config *c, zs_box box, const zs_model_config *from);

/* Checks every range above and that the parts fit each other. ZS_E_INVALID; the message names
 * the field, its value and what is allowed. */
int zs_model_config_validate(const zs_model_config *c, zs_error *err);

/* Sets one field from "key=value", keys as in zs_model_config_keys, or any field of any network as
 * "<box>.<field>=value". Returns 1 when the key is not one of these (it may be somebody else's),
 * ZS_OK when set, or ZS_E_INVALID. channel_mult counts in the model_channels, attention in the
 * image_size in force at that moment; a new model_channels scales the channels of every level.
 * Call zs_model_config_validate when all are set. */
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
