/* SPDX-License-Identifier: MIT */
#ifndef ZS_DIFFUSION_SPACING_H
#define ZS_DIFFUSION_SPACING_H

#include "diffusion/schedule.h"

/* Keeps some timesteps of a full process; the new betas are 1 - abar[i]/abar[i-1] of the kept
 * ones, and t holds the original timesteps. `spec` is that of guided-diffusion's respace.py, or of
 * latent diffusion:
 *   "ddimN"    the smallest whole stride from 0 that keeps exactly N (error when there is none)
 *   "ldmN"     stride floor(total/N) from timestep 1 on, as latent diffusion takes them
 *              (make_ddim_timesteps): about N steps, 31 of 1000 for "ldm30", and none at all when
 *              the last one would lie past the end. Below the first step lies timestep 0, not a
 *              clean sample: abar_prev[0] is the full process's abar[0], and samplers end there
 *   "N"        N steps spread evenly, first and last included
 *   "A,B,..."  the process cut into as many equal parts, with A, B, ... even steps in each
 * out must not be `full`. ZS_E_INVALID names the spec and a remedy. */
int zs_schedule_respace(zs_schedule *out, const zs_schedule *full, const char *spec, zs_error *err);

#endif
