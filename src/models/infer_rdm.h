/* SPDX-License-Identifier: MIT */
/* Official files of the representation diffusion model, as the authors' training writes them.
 *
 * Beside the network they hold tables of the diffusion process, the frozen encoder
 * ("pretrained_encoder.*") and the moving average, whose names are those of the network without
 * "model." and without dots: "model_ema.diffusion_modelres_blocks0in_layers0weight". The table of
 * classes has no average. */
#ifndef ZS_MODELS_INFER_RDM_H
#define ZS_MODELS_INFER_RDM_H

#include "models/model_impl.h"
#include "models/rdm.h"

typedef struct zs_rdm_file {
    zs_tensorfile *f; /* borrowed */
    char prefix[16];  /* of everything: "model.", "state_dict." or "" */
    bool averaged;    /* the moving average is taken where there is one */
    bool encoder;     /* the file holds the encoder as well */
    zs_rdm_config net;
    int64_t T;         /* training timesteps */
    char schedule[32]; /* zs_schedule_make */
} zs_rdm_file;

/* Finds the network in f, its architecture and its process; `raw` asks for the trained weights
 * rather than their average. What the file does not say is a fact with its default. Returns 1 when
 * f holds no such network, ZS_OK, or ZS_E_FORMAT, ZS_E_UNSUPPORTED. */
int zs_rdm_find(zs_rdm_file *out, zs_tensorfile *f, bool raw, zs_facts *facts, zs_error *err);

/* Name in the file of the network's parameter `name` (zs_rdm_build at an empty prefix). */
void zs_rdm_tensor(char *buf, size_t cap, const zs_rdm_file *r, const char *name);

/* Refuses a file with a tensor that is neither a parameter "<below><name>" of ps nor known to stand
 * beside the network: then it is of another make than it seems. ZS_E_UNSUPPORTED. */
int zs_rdm_check_leftovers(const zs_rdm_file *r, const zs_params *ps, const char *below,
                           zs_error *err);

#endif
