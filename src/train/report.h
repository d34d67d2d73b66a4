/* SPDX-License-Identifier: MIT */
#ifndef ZS_TRAIN_REPORT_H
#define ZS_TRAIN_REPORT_H

#include "train/rundir.h"

/* Writes report.html, one page that needs no other file, and plots/NAME.svg, from what the folder
 * holds: settings (config.json), a curve for every number of log.jsonl, the newest and the first
 * samples. Works for any kind of run that logs through zs_rundir_log_append; what is missing is
 * left out. Called after each checkpoint. ZS_E_IO, ZS_E_NOMEM. */
int zs_run_report(const zs_rundir *d, zs_error *err);

#endif
