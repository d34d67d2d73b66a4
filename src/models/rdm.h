/* SPDX-License-Identifier: MIT */
/* The representation diffusion model (Li, Katabi, He 2024, "Return of Unconditional Generation",
 * appendix A): a residual MLP that sees a noisy representation and predicts the clean one. */
#ifndef ZS_MODELS_RDM_H
#define ZS_MODELS_RDM_H

#include "models/arch.h"

enum { ZS_RDM_MAX_BLOCKS = 256 };

typedef struct zs_rdm_config {
    int blocks;            /* 1..256; 0: the model has no such prior */
    int64_t z_dim;         /* 1..65536: length of a representation */
    int64_t width;         /* 2..65536, even: of the hidden state, and of the timestep features */
    int64_t bottleneck;    /* 1..65536: width between the two halves of a block */
    int64_t time_channels; /* 1..65536: width of the embedded timestep */
    int64_t classes;       /* 1..2^24: rows of the table of classes */
    int64_t class_dim;     /* 1..65536: length of one */
    bool conditional;      /* the blocks look at the class; else the table is there, and unused */
} zs_rdm_config;

/* z_t [N,z_dim], t [N], label [N] -> the clean representation [N,z_dim]. The label is the row of
 * the table of classes, in f32; not read unless the model is conditional, and may be ZS_NONE then.
 * Names start at the prefix of nn, "model.diffusion_model.*" and "cond_stage_model.*" below it.
 *
 * Block: y = Linear(SiLU(LN(h))) + Linear(SiLU(temb)) [+ Linear(SiLU(class))],
 *        h += Linear(SiLU(LN(y))); out = Linear(SiLU(LN(h))) (latentmlp.py).
 * Traps: the timestep features are as wide as the hidden state, not as the embedding; the norms
 * of the blocks have epsilon 1e-5, that of `out` 1e-6. */
zs_tid zs_rdm_build(zs_nn *nn, const zs_rdm_config *c, zs_tid z_t, zs_tid t, zs_tid label);

extern const zs_arch zs_arch_rdm;

#endif
