/* SPDX-License-Identifier: MIT */
/* Representation-conditioned generation on one modest machine. */
#include "models/presets_impl.h"

#include <string.h>

static void describe(zs_model_config *c, const char *name, int64_t side, int64_t channels,
                     const char *fit)
{
    *c = (zs_model_config){.image_size = side, .channels = channels};
    (void)snprintf(c->name, sizeof c->name, "%s", name);
    (void)snprintf(c->fit, sizeof c->fit, "%s", fit);
}

static const zs_preset_train fashion_training = {.batch = 64,
                                                 .total_images = 1200000,
                                                 .warmup = 500,
                                                 .lr = 4e-4,
                                                 .clip = 1,
                                                 .ema = 0.999,
                                                 .t_weight = 100,
                                                 .optimizer = "adamw",
                                                 .loss = "mse"};

/* As wide as fashion32's UNet. */
static void fashion32_adm(zs_preset *p)
{
    zs_model_config *c = &p->generator;
    describe(c, "fashion32-adm", 32, 1, "pad");
    c->diffusion = zs_process_adm;
    c->adm = (zs_adm_config){.levels = 4,
                             .in_channels = 1,
                             .model_channels = 32,
                             .ch = {32, 32, 64, 128},
                             .num_res_blocks = 1,
                             .attn_levels = 1u << 2,
                             .head_channels = 32,
                             .learn_sigma = true};
    p->train_generator = fashion_training;
}

static const struct {
    const char *name, *about, *data;
    void (*fill)(zs_preset *p);
} rows[] = {
    {"fashion32-adm", "ADM for 32x32 grey pictures, conditioned on representations", "",
     fashion32_adm},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

const char *zs_preset_small_name(size_t i)
{
    return i < ROWS ? rows[i].name : NULL;
}

bool zs_preset_small_find(zs_preset *out, const char *name)
{
    for (size_t i = 0; i < ROWS; i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        *out = (zs_preset){.name = rows[i].name, .about = rows[i].about, .data = rows[i].data};
        rows[i].fill(out);
        return true;
    }
    return false;
}
