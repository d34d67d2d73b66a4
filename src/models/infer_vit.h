/* SPDX-License-Identifier: MIT */
/* Vision transformers in official files: MoCo v3 (.pth.tar, the online encoder), DINO and iBOT (the
 * teacher), DeiT, and a bare state dict of timm's names. */
#ifndef ZS_MODELS_INFER_VIT_H
#define ZS_MODELS_INFER_VIT_H

#include "models/model_impl.h"

/* Where a file has one. */
typedef struct zs_vit_file {
    const char *make; /* "MoCo v3", "DINO or iBOT", "DeiT", "timm" */
    const char *body,
        *head; /* what names of tensors begin with; those of the head with the latter */
} zs_vit_file;

/* Finds one in f; 1 when there is none. */
int zs_vit_find(zs_vit_file *out, const zs_tensorfile *f);

/* What it is, from names and shapes. No file says how many heads attention has: MoCo v3's ViT-S has
 * 12, all others one for each 64 channels; where that is no whole number `heads` is 0, to be given.
 * ZS_E_FORMAT when tensors are missing or do not go together. facts may be NULL. */
int zs_vit_infer(zs_vit_config *out, zs_facts *facts, const zs_tensorfile *f, const zs_vit_file *at,
                 zs_error *err);

/* As the encoder of m: its configuration, what it says of images, facts. The number of heads may
 * come from the overrides of o; ZS_E_UNSUPPORTED when nothing says it. */
int zs_vit_configure(zs_model *m, const zs_tensorfile *f, const zs_vit_file *at,
                     const zs_model_options *o, zs_error *err);

/* Whether f holds just the parameters "<prefix><name>" of ps, as far as they are a ViT's: all of
 * them, in their shapes, and nothing else that belongs to the encoder. ZS_E_FORMAT,
 * ZS_E_UNSUPPORTED. */
int zs_vit_match(const zs_params *ps, const char *prefix, const zs_tensorfile *f,
                 const zs_vit_file *at, zs_error *err);

/* Reads them into the flat buffer. A table of positions for images of another size is resized as
 * DINO and iBOT do. */
int zs_vit_import(const zs_params *ps, float *flat, const char *prefix, zs_tensorfile *f,
                  const zs_vit_file *at, zs_error *err);

/* pos [1+g*g][width] -> out [1+to*to][width], g from `rows` = 1+g*g: the first row as it is, the
 * grid by zs_bicubic with a step of g/(to+0.1): DINO adds the tenth so that the size rounds as it
 * should, and it shifts every sample. */
void zs_vit_resize_positions(float *out, int64_t to, const float *pos, int64_t rows, int64_t width);

#endif
