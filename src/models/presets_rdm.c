/* SPDX-License-Identifier: MIT */
/* Representation diffusion models: the authors' (config/rdm/mocov3vit*_simplemlp_l12_w1536*.yaml
 * and their command lines), and one of ours for two CPU cores. */
#include "models/presets_impl.h"

#include <string.h>

enum { IMAGENET = 1281167, EPOCHS = 200 };

typedef struct row {
    const char *name, *about;
    int blocks;
    int64_t z_dim, width, time_channels, class_dim;
    bool conditional;
    int64_t batch, codes;
    double lr;
} row;

/* The learning rate is 1e-6 for each sample of a batch over all devices. */
#define OFFICIAL 12, 256, 1536, 256, 512
#define TRAINED 512, (int64_t)EPOCHS *IMAGENET, 5.12e-4

static const row rows[] = {
    {"rdm-mocov3-b", "RDM on representations of MoCo v3 ViT-B", OFFICIAL, false, TRAINED},
    {"rdm-mocov3-l", "RDM on representations of MoCo v3 ViT-L", OFFICIAL, false, TRAINED},
    {"rdm-mocov3-b-class", "the same for ViT-B, told the class", OFFICIAL, true, TRAINED},
    {"rdm-mocov3-l-class", "the same for ViT-L, told the class", OFFICIAL, true, TRAINED},
    {"rdm-small", "RDM that trains on two CPU cores", 6, 128, 512, 128, 128, false, 256, 6000000,
     1e-3},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

const char *zs_preset_rdm_name(size_t i)
{
    return i < ROWS ? rows[i].name : NULL;
}

static void fill(zs_preset *p, const row *r)
{
    zs_model_config *c = &p->prior;
    *c = (zs_model_config){.latent = zs_process_rdm};
    (void)snprintf(c->name, sizeof c->name, "%s", r->name);
    c->rdm = (zs_rdm_config){.blocks = r->blocks,
                             .z_dim = r->z_dim,
                             .width = r->width,
                             .bottleneck = r->width,
                             .time_channels = r->time_channels,
                             .classes = r->conditional ? 1000 : 1,
                             .class_dim = r->class_dim,
                             .conditional = r->conditional};
    p->train_prior = (zs_preset_train){.batch = r->batch,
                                       .total_images = r->codes,
                                       .lr = r->lr,
                                       .weight_decay = 0.01,
                                       .ema = 0.9999,
                                       .lit_ema = true,
                                       .optimizer = "adamw",
                                       .loss = "mse"};
}

bool zs_preset_rdm_find(zs_preset *out, const char *name)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        *out = (zs_preset){.name = rows[i].name, .about = rows[i].about, .data = ""};
        fill(out, &rows[i]);
        return true;
    }
    return false;
}
