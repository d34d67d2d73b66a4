/* SPDX-License-Identifier: MIT */
#ifndef ZS_DIFFUSION_SPACING_H
#define ZS_DIFFUSION_SPACING_H

#include "diffusion/schedule.h"

/* Keeps some timesteps of a full process; the new betas are 1 - abar[i]/abar[i-1] of the kept
 * ones, and t holds the original timesteps. `spec` is that of guided-diffusion's respace.py:
 *   "ddimN"    the smallest whole stride from 0 that keeps exactly N (error when there is none)
 *   "N"        N steps spread evenly, first and last included
 *   "A,B,..."  the process cut into as many equal parts, with A, B, ... even steps in each
 * out must not be `full`. ZS_E_INVALID names the spec and a remedy. */
int zs_schedule_respace(zs_schedule *out, const zs_schedule *full, const char *spec, zs_error *err);

#endif
