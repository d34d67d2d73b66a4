/* SPDX-License-Identifier: MIT */
/* What the tests of models share. cmocka must be included first. */
#ifndef TESTS_UNIT_MODEL_KIT_H
#define TESTS_UNIT_MODEL_KIT_H

#include "io/io.h"
#include "models/models.h"

/* A small random configuration, the same sequence in every run; of a DDPM when not conditional. */
zs_model_config kit_config(bool conditional);

/* Its JSON with sorted keys; free() it. */
char *kit_config_text(const zs_model_config *c);

/* A small DiT of images of KIT_DIT_SIDE with as many channels, as its preset would have it, of no
 * condition yet. */
enum { KIT_DIT_SIDE = 4 };
zs_model_config kit_dit(void);

/* An official checkpoint's state_dict: model.*, ema_model.* with random weights, and x_T last. */
typedef struct kit_sd {
    zs_params *ps;
    float *raw, *averaged; /* flat */
    zs_tensorout *t;
    char (*names)[160];
    float *data;
    size_t n;
} kit_sd;

kit_sd kit_sd_new(const zs_model_config *c);
void kit_sd_free(kit_sd *s);
void kit_sd_write(const kit_sd *s, const char *path); /* as safetensors */

/* n normal numbers of deviation `scale` (owned), the same for the same index. */
float *kit_normal(size_t n, uint64_t index, float scale);

/* |a-b| / |b| */
double kit_difference(const float *a, const float *b, size_t n);

/* The name of a new empty file in buf, which it returns. */
const char *kit_scratch(char buf[64]);

#endif
