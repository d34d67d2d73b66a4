/* SPDX-License-Identifier: MIT */
/* Generators that are conditioned on the representations of a frozen encoder, as the authors of
 * representation-conditioned generation train them, and smaller ones of ours. */
#include "models/presets_impl.h"

#include <string.h>

enum { IMAGENET = 1281167 };

/* An ADM UNet; heads are 64 channels wide, two residual blocks to a level. */
typedef struct adm_row {
    const char *name, *about;
    int64_t image_size, model_channels, rep_dim;
    int64_t mult[ZS_MAX_LEVELS + 1]; /* ended by 0 */
    int64_t attention[4];            /* resolutions, ended by 0 */
    int64_t epochs;                  /* of ImageNet */
} adm_row;

static const adm_row adm_rows[] = {
    {"adm256-rep",
     "ADM at 256x256 on representations of MoCo v3 ViT-B",
     256,
     256,
     256,
     {1, 1, 2, 2, 4, 4},
     {32, 16, 8},
     100},
    {"adm64-rep",
     "ADM at 64x64 with 128 channels, on the same representations",
     64,
     128,
     256,
     {1, 2, 3, 4},
     {32, 16, 8},
     100},
};
enum { ADM_ROWS = sizeof adm_rows / sizeof adm_rows[0] };

static void fill_adm(zs_preset *p, const adm_row *r)
{
    zs_model_config *c = &p->generator;
    size_t n = 0;
    *c = (zs_model_config){.image_size = r->image_size, .channels = 3, .diffusion = zs_process_adm};
    (void)snprintf(c->name, sizeof c->name, "%s", r->name);
    (void)snprintf(c->fit, sizeof c->fit, "crop");
    c->adm = (zs_adm_config){.in_channels = 3,
                             .model_channels = r->model_channels,
                             .num_res_blocks = 2,
                             .head_channels = 64,
                             .rep_dim = r->rep_dim,
                             .learn_sigma = true};
    for (; r->mult[c->adm.levels]; c->adm.levels++)
        c->adm.ch[c->adm.levels] = r->mult[c->adm.levels] * r->model_channels;
    while (r->attention[n])
        n++;
    c->adm.attn_levels = zs_attn_levels(r->image_size, c->adm.levels, r->attention, n);
    p->ddpm = *c; /* the baseline: the same without representations */
    p->ddpm.adm.rep_dim = 0;
    p->train_generator = p->train_ddpm = (zs_preset_train){.batch = 256,
                                                           .total_images = r->epochs * IMAGENET,
                                                           .lr = 1e-4,
                                                           .ema = 0.9999,
                                                           .optimizer = "adamw",
                                                           .loss = "mse",
                                                           .flip = true};
}

/* A DiT on latents of 32x32 with 4 channels, those of an image of 256x256, in squares of 2. */
typedef struct dit_row {
    const char *name, *about;
    int depth;
    int64_t hidden;
} dit_row;

static const dit_row dit_rows[] = {
    {"dit-s2-rep", "DiT-S/2 on latents of 256x256, on representations of MoCo v3 ViT-B", 12, 384},
    {"dit-b2-rep", "DiT-B/2, likewise", 12, 768},
    {"dit-l2-rep", "DiT-L/2, likewise", 24, 1024},
    {"dit-xl2-rep", "DiT-XL/2, likewise", 28, 1152},
};
enum { DIT_ROWS = sizeof dit_rows / sizeof dit_rows[0] };

static void fill_dit(zs_preset *p, const dit_row *r)
{
    zs_model_config *c = &p->generator;
    *c = (zs_model_config){.image_size = 32, .channels = 4, .diffusion = zs_process_dit};
    (void)snprintf(c->name, sizeof c->name, "%s", r->name);
    (void)snprintf(c->fit, sizeof c->fit, "crop");
    c->dit = (zs_dit_config){.depth = r->depth,
                             .heads = zs_dit_heads(r->hidden),
                             .hidden = r->hidden,
                             .mlp = 4 * r->hidden,
                             .patch = 2,
                             .grid = 16,
                             .in_channels = 4,
                             .learn_sigma = true,
                             .time_channels = 256,
                             .z_dim = 256,
                             .classes = 1,
                             .substitute = true,
                             .z_drop = 0.1};
    p->ddpm = *c; /* the baseline: the same without representations */
    p->ddpm.dit.z_dim = 0;
    p->ddpm.dit.substitute = false;
    p->ddpm.dit.z_drop = 0;
    c->dit.class_drop = 0.1; /* where it is told classes instead */
    p->train_generator = p->train_ddpm = (zs_preset_train){.batch = 2048,
                                                           .total_images = (int64_t)400 * IMAGENET,
                                                           .lr = 1e-4,
                                                           .beta2 = 0.95,
                                                           .ema = 0.9999,
                                                           .optimizer = "adamw",
                                                           .loss = "mse",
                                                           .flip = true};
}

const char *zs_preset_rep_name(size_t i)
{
    if (i < ADM_ROWS)
        return adm_rows[i].name;
    return i - ADM_ROWS < DIT_ROWS ? dit_rows[i - ADM_ROWS].name : NULL;
}

bool zs_preset_rep_find(zs_preset *out, const char *name)
{
    for (size_t i = 0; i < ADM_ROWS; i++) {
        if (strcmp(adm_rows[i].name, name) != 0)
            continue;
        *out = (zs_preset){.name = adm_rows[i].name, .about = adm_rows[i].about, .data = ""};
        fill_adm(out, &adm_rows[i]);
        return true;
    }
    for (size_t i = 0; i < DIT_ROWS; i++) {
        if (strcmp(dit_rows[i].name, name) != 0)
            continue;
        *out = (zs_preset){.name = dit_rows[i].name, .about = dit_rows[i].about, .data = ""};
        fill_dit(out, &dit_rows[i]);
        return true;
    }
    return false;
}
