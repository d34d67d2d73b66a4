/* SPDX-License-Identifier: MIT */
/* Face of the diffusion layer: schedules, spacing, conversions, samplers. */
#ifndef ZS_DIFFUSION_DIFFUSION_H
#define ZS_DIFFUSION_DIFFUSION_H

#include "diffusion/convert.h"   /* zs_q_sample, eps <-> x0 */
#include "diffusion/guidance.h"  /* zs_guidance_net: two networks as one */
#include "diffusion/posterior.h" /* zs_posterior_at: mean and variances of a step */
#include "diffusion/sampler.h"   /* zs_sample: ddpm, ddim, ddim-invert */
#include "diffusion/schedule.h"  /* zs_schedule: betas and what follows from them */
#include "diffusion/spacing.h"   /* fewer steps: "ddim20", "10", "10,15,20" */

#endif
