/* SPDX-License-Identifier: MIT */
/* Adam and AdamW with PyTorch's formulas, gradient clipping and the moving average of the weights,
 * on flat buffers and in one pass over memory. Every result has the same bits for any number of
 * threads. */
#ifndef ZS_TRAIN_OPTIM_H
#define ZS_TRAIN_OPTIM_H

#include "models/presets.h"
#include "tensor/tensor.h"

typedef struct zs_optim_config {
    double lr;           /* > 0 */
    double beta1, beta2; /* [0, 1) */
    double eps;          /* > 0; added outside the square root */
    double weight_decay; /* >= 0 */
    bool decoupled;      /* AdamW: decay times lr off the weight, instead of into the gradient */
    double clip;         /* > 0: largest gradient norm over all parameters; 0: no clipping */
    double ema;          /* [0, 1): decay of the moving average */
    bool ema_warmup;     /* at step n, counted from 1, at most (1+n)/(10+n) (LitEma) */
    bool ema_first;      /* the average takes the weights in before the step moves them (LitEma) */
    int64_t warmup;      /* >= 0: steps over which lr rises from lr/warmup; 0: none */
} zs_optim_config;

/* Adam 1e-4, no decay, clip 1, EMA 0.9999: what Diffusion Autoencoders are trained with. */
zs_optim_config zs_optim_defaults(void);

/* As a preset has it. */
zs_optim_config zs_optim_of_preset(const zs_preset_train *t);

/* ZS_E_INVALID names the field and its range. */
int zs_optim_config_validate(const zs_optim_config *c, zs_error *err);

/* n floats each; ema may be NULL. */
typedef struct zs_optim_buffers {
    float *param, *grad, *m, *v, *ema;
    size_t n;
} zs_optim_buffers;

/* Euclidean norm of gradients (or weights), summed in double over fixed blocks; NaN or Inf when g
 * holds one. */
double zs_grad_norm(const float *g, size_t n);

/* Learning rate of step `step`, counted from 1. */
double zs_optim_lr(const zs_optim_config *c, int64_t step);

/* Decay of the moving average at step `step`, counted from 1. */
double zs_optim_ema(const zs_optim_config *c, int64_t step);

/* One update with gradients of norm grad_norm (zs_grad_norm; only read when clipping). step
 * counts from 1. The gradients are zero afterwards, ready for the next sum. */
void zs_optim_step(const zs_optim_config *c, const zs_optim_buffers *b, int64_t step,
                   double grad_norm);

/* The same in two halves, for backends that do the second themselves (zs_remote.adam): the numbers
 * of a step, to which the caller adds buffers, n and norm; and the update in the program's memory,
 * which makes no shadow. */
zs_adam zs_optim_numbers(const zs_optim_config *c, int64_t step);
void zs_optim_apply(const zs_adam *a, double grad_norm);

#endif
