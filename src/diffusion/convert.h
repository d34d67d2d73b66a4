/* SPDX-License-Identifier: MIT */
/* x_t = sqrt(abar) x0 + sqrt(1-abar) eps, solved for each of its three parts. n elements;
 * coefficients in float64, arithmetic in float32; dst may be any of the sources. */
#ifndef ZS_DIFFUSION_CONVERT_H
#define ZS_DIFFUSION_CONVERT_H

#include "base/base.h"

/* What a network predicts. */
typedef enum zs_pred { ZS_PRED_EPS, ZS_PRED_X0 } zs_pred;

/* Forward process: x_t. */
void zs_q_sample(float *xt, const float *x0, const float *eps, double abar, size_t n);

void zs_eps_to_x0(float *x0, const float *xt, const float *eps, double abar, size_t n);

/* abar < 1. */
void zs_x0_to_eps(float *eps, const float *xt, const float *x0, double abar, size_t n);

/* To [-1, 1]; NaN stays NaN. */
void zs_clamp_unit(float *x, size_t n);

#endif
