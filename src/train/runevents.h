/* SPDX-License-Identifier: MIT */
/* RUN/tensorboard/events.out.tfevents.zsem: what log.jsonl and samples/ say, for TensorBoard.
 * Private to train: the functions of rundir call these. */
#ifndef ZS_TRAIN_RUNEVENTS_H
#define ZS_TRAIN_RUNEVENTS_H

#include "train/rundir.h"

/* Makes the file anew from log.jsonl and from the samples up to `step`. */
int zs_runevents_rebuild(const zs_rundir *d, int64_t step, zs_error *err);

/* Appends a line of the log, or the PNG at `path`. */
int zs_runevents_line(const zs_rundir *d, const json_t *line, zs_error *err);
int zs_runevents_picture(const zs_rundir *d, int64_t step, const char *path, zs_error *err);

#endif
