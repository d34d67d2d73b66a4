/* SPDX-License-Identifier: MIT */
/* Face of the training layer. */
#ifndef ZS_TRAIN_TRAIN_H
#define ZS_TRAIN_TRAIN_H

#include "train/checkpoint.h" /* zs_checkpoint_write, zs_checkpoint_resume */
#include "train/generate.h"   /* zs_generate: a model under a sampler */
#include "train/gradient.h"   /* zs_gradient: loss and gradient of one batch */
#include "train/optim.h"      /* zs_optim_step: Adam, clipping, EMA */
#include "train/preview.h"    /* zs_preview: grids of how training goes */
#include "train/rundir.h"     /* zs_rundir: the folder of a run */
#include "train/state.h"      /* zs_train_state */
#include "train/trainer.h"    /* zs_train_run */

#endif
