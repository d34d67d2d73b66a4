/* SPDX-License-Identifier: MIT */
#ifndef ZS_TRAIN_CHECKPOINT_H
#define ZS_TRAIN_CHECKPOINT_H

#include "train/rundir.h"
#include "train/state.h"

/* A checkpoint is one safetensors file, written whole or not at all: "model.", "ema_model.",
 * "adam_m." and "adam_v." in front of the official names (PyTorch layouts), and in __metadata__
 * "config" (the run's configuration), "state" (counters) and check sums of both and of the
 * weights, so that a damaged file is noticed before it is trained on. */

/* ZS_E_IO, ZS_E_NOMEM. */
int zs_checkpoint_write(const char *path, const zs_train_state *s, const json_t *config,
                        zs_error *err);

/* Restores s, whose layout is that of `config`. ZS_E_INVALID when the file belongs to another
 * configuration (the first field that differs is named, with both values); ZS_E_FORMAT,
 * ZS_E_UNSUPPORTED or ZS_E_IO when it is damaged: s is then undefined. */
int zs_checkpoint_read(zs_train_state *s, const char *path, const json_t *config, zs_error *err);

/* Reads the newest whole checkpoint of the folder; damaged ones are reported through ui and passed
 * over. Returns 1 when one was read and 0 when there is none. ZS_E_FORMAT when there are some
 * and all are damaged, else as zs_checkpoint_read. */
int zs_checkpoint_resume(zs_train_state *s, const zs_rundir *d, const json_t *config,
                         const zs_ui *ui, zs_error *err);

/* ZS_OK when "model" and "train" of both configurations are equal; else ZS_E_INVALID as above, with
 * the option that goes on with the run named too (sameconfig.c). */
int zs_checkpoint_same_config(const json_t *have, const json_t *want, const char *where,
                              zs_error *err);

#endif
