/* SPDX-License-Identifier: MIT */
/* What reading the files of others has in common: an architecture from names and shapes of tensors,
 * and what they leave open from the stored hyper-parameters. Private to models. */
#ifndef ZS_MODELS_INFER_H
#define ZS_MODELS_INFER_H

#include "models/model_impl.h"

typedef struct zs_infer {
    const zs_official *o;
    const json_t *hyper;    /* the hyper-parameters in the file's metadata, or NULL */
    const char *hyper_name; /* what they are called there, such as "hyper_parameters" */
    zs_facts *facts;
    const char *file; /* base name, for sources */
} zs_infer;

zs_infer zs_infer_open(const zs_official *o, const char *hyper_name, zs_facts *facts);

/* Whether f has the tensor "<prefix><name>". */
bool zs_infer_has(const zs_tensorfile *f, const char *prefix, const char *name);

/* Whether the user gave the override that begins with `key`, such as "generator.heads=". */
bool zs_infer_given(const zs_model_options *o, const char *key);

/* The network that `is` recognises in a file of representation-conditioned generation, or of the
 * original DiT: "model_ema." or "ema.", or, when both are missing or `raw` asks for it, "model." or
 * the whole file. 1 when f
 * holds none; ZS_E_INVALID when only the average is there and `raw` asks for the other. */
int zs_infer_envelope(zs_official *out, zs_tensorfile *f,
                      bool (*is)(const zs_tensorfile *f, const char *prefix), bool raw,
                      zs_error *err);

/* The tensor "<prefix><printf>", or NULL; dimension i of t, 0 when there is none. */
const zs_tensorinfo *zs_infer_tensor(const zs_infer *x, const char *fmt, ...) ZS_PRINTF(2, 3);
int64_t zs_infer_dim(const zs_tensorinfo *t, int i);

/* ZS_E_FORMAT: the tensors do not form a network. */
int zs_infer_damaged(const zs_infer *x, const char *what, zs_error *err);

/* A hyper-parameter, or the fallback where the file has none. A text becomes a fact. */
int64_t zs_infer_int(const zs_infer *x, const char *key, int64_t fallback);
double zs_infer_real(const zs_infer *x, const char *key, double fallback);
void zs_infer_text(const zs_infer *x, const char *key, char *out, size_t cap, const char *fallback);

/* Input blocks "<net>input_blocks.*" of a network of residual blocks, the first convolution
 * included. */
int zs_infer_count_blocks(const zs_infer *x, const char *net);

/* Blocks per level of a way down of n input blocks, the first convolution included: `stated` when
 * it is not 0, else the only number that fits. 0 when none does, -1 when several do. */
int zs_infer_res_blocks(const zs_infer *x, const char *net, int n, int64_t stated);

/* Levels of that way down: ch[ZS_MAX_LEVELS], bits of those with attention. */
void zs_infer_read_levels(const zs_infer *x, const char *net, int n, int r, int *levels,
                          int64_t *ch, uint32_t *attn);

/* num_res_blocks, levels, ch and attn_levels of a UNet, whose two ways must mirror each other. */
int zs_infer_unet_levels(zs_unet_config *u, const zs_infer *x, zs_error *err);

#endif
