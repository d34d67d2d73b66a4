/* SPDX-License-Identifier: MIT */
/* The folder of a training run:
 *     config.json                       what is trained, on what, and how
 *     log.jsonl                         one JSON object per line
 *     checkpoints/step-00001000.safetensors
 *     samples/step-00001000.png
 *     tensorboard/events.out.tfevents.zsem   the log and the samples, for TensorBoard
 *     report.html, plots/NAME.svg       the same for people (train/report.h)
 *     model.safetensors                 bundle of the newest checkpoint's moving average
 *     .lock                             held while a process trains here */
#ifndef ZS_TRAIN_RUNDIR_H
#define ZS_TRAIN_RUNDIR_H

#include "base/base.h"

#include <jansson.h>

/* Zero-initialise; zs_rundir_close is idempotent. */
typedef struct zs_rundir {
    char *path;
    int lock; /* file descriptor + 1; 0 when not open */
} zs_rundir;

/* Creates the folder where needed, locks it, and removes temporary files of a killed process.
 * ZS_E_IO, ZS_E_INVALID when another process trains here. */
int zs_rundir_open(zs_rundir *d, const char *path, zs_error *err);
void zs_rundir_close(zs_rundir *d);

/* "<folder>/<name>", or "<folder>/<kind>/step-<step><ext>"; owned (zs_free), NULL when out of
 * memory. */
char *zs_rundir_file(const zs_rundir *d, const char *name);
char *zs_rundir_step_file(const zs_rundir *d, const char *kind, int64_t step, const char *ext);

/* Steps of the checkpoints in the folder, ascending; *steps is owned by the caller. */
int zs_rundir_checkpoints(const zs_rundir *d, int64_t **steps, size_t *n, zs_error *err);

/* The same for the pictures of samples/. */
int zs_rundir_samples(const zs_rundir *d, int64_t **steps, size_t *n, zs_error *err);

/* Deletes all but the newest `keep` checkpoints (keep >= 1). */
int zs_rundir_prune(const zs_rundir *d, int64_t keep, zs_error *err);

/* Cuts log.jsonl before its first line that is unreadable or has "step" above `step`, and makes the
 * events for TensorBoard anew. Called once before the first append. */
int zs_rundir_log_truncate(const zs_rundir *d, int64_t step, zs_error *err);

/* Appends one line: an object with "step" and any numbers. Each number but "step", "samples" and
 * "time" becomes a curve of that name in TensorBoard and in the report. */
int zs_rundir_log_append(const zs_rundir *d, const json_t *line, zs_error *err);

/* Shows the picture samples/step-<step>.png, which is at `path`, in TensorBoard as well. */
int zs_rundir_log_picture(const zs_rundir *d, int64_t step, const char *path, zs_error *err);

/* Writes config.json. */
int zs_rundir_write_config(const zs_rundir *d, const json_t *config, zs_error *err);

#endif
