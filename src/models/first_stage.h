/* SPDX-License-Identifier: MIT */
/* First stages: autoencoders that turn images into a few channels at a fraction of the resolution,
 * the space where latent diffusion works.
 *
 * One family covers them: the KL-f8 of Stable Diffusion, with its means and variances, and the
 * VQ-f8 of latent diffusion up to where it would quantise (ldm/modules/diffusionmodules/model.py,
 * ldm/models/autoencoder.py). */
#ifndef ZS_MODELS_FIRST_STAGE_H
#define ZS_MODELS_FIRST_STAGE_H

#include "io/tensorfile.h"
#include "models/arch.h"
#include "models/unet.h"

typedef struct zs_vae_config {
    int levels;                /* 1..ZS_MAX_LEVELS; 0: there is none. An image is 2^(levels-1) times
                                  as large as its latents */
    int64_t channels;          /* 1..64, of images */
    int64_t latent_channels;   /* 1..64, of latents (embed_dim) */
    int64_t z_channels;        /* 1..64, between the networks and their 1x1 convolutions */
    int64_t ch[ZS_MAX_LEVELS]; /* channels of each level, 1..16384, multiples of 32 or below */
    int num_res_blocks;        /* 1..ZS_MAX_RES_BLOCKS on the way down; one more on the way up */
    uint32_t attn_levels; /* bit i: attention after each block of level i; always in the middle */
    bool gaussian;        /* the encoder gives means and log variances (double_z) */
    double scale;         /* > 0: what generators see is latents times this */
} zs_vae_config;

/* x [N,H,W,channels] in [-1,1], H and W multiples of 2^(levels-1) -> [N,h,w,E]: the latents before
 * any scale or quantisation; where the configuration is gaussian E is 2 latent_channels, the means
 * first, then the log variances. Names start at the prefix of nn ("first_stage_model." in official
 * files): encoder.*, quant_conv.*. */
zs_tid zs_vae_encoder_build(zs_nn *nn, const zs_vae_config *c, zs_tid x);

/* z [N,h,w,latent_channels], not scaled -> [N,H,W,channels]; nothing clamps the result. Names:
 * post_quant_conv.*, decoder.*. */
zs_tid zs_vae_decoder_build(zs_nn *nn, const zs_vae_config *c, zs_tid z);

/* What a generator works on, from `pixels` rows of an encoder's output: z[pixels][latent_channels]
 * = scale * (mean + exp(logvar/2) * noise), the log variance clamped to [-30,20]. noise
 * [pixels][latent_channels], NULL: the mean. Without variances noise is not used. */
void zs_vae_latents(float *z, const zs_vae_config *c, const float *encoded, const float *noise,
                    int64_t pixels);

extern const zs_arch zs_arch_vae;

/* ---- files ---- */

/* How a file names the tensors. */
typedef enum zs_vae_names {
    ZS_VAE_LDM,       /* latent diffusion: encoder.down.0.block.0..., attention as q k v proj_out */
    ZS_VAE_DIFFUSERS, /* encoder.down_blocks.0.resnets.0..., attention as to_q to_k to_v to_out.0 */
    ZS_VAE_DIFFUSERS_OLD /* the same, attention as query key value proj_attn */
} zs_vae_names;

/* Where a file has a first stage. */
typedef struct zs_vae_file {
    char prefix[64];
    zs_vae_names names;
} zs_vae_file;

/* Finds one in f: at its root, or below "state_dict." and "first_stage_model.". Returns 1 when
 * there is none. */
int zs_vae_find(zs_vae_file *out, const zs_tensorfile *f);

/* What the first stage is, from names and shapes. scale is 0.18215 for a gaussian one (that of
 * Stable Diffusion; no file says it), 1 for others. ZS_E_FORMAT when f lacks parts. */
int zs_vae_infer(zs_vae_config *out, const zs_tensorfile *f, const zs_vae_file *at, zs_error *err);

/* The tensor in a file that holds the parameter `name` (names as the builders give them, levels as
 * in the configuration), into buf. False when it does not fit. */
bool zs_vae_file_name(char *buf, size_t cap, const zs_vae_file *at, int levels, const char *name);

#endif
