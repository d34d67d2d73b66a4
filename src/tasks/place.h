/* SPDX-License-Identifier: MIT */
/* Where ranks work: cores, GPUs and folders. Private to the tasks layer. */
#ifndef ZS_TASKS_PLACE_H
#define ZS_TASKS_PLACE_H

#include "tasks/task.h"

/* As many threads as asked for; 0: one for each core, or for this rank's share of them. Warns of
 * cores that nobody uses. */
void zs_place_threads(const zs_task_env *env, int threads);

/* Of several ranks each has a GPU of its own, where --device is one. ZS_E_INVALID when there are
 * too few. */
int zs_place_device(const zs_task_env *env);

/* Before all ranks write into `dir`: warns when that is not one folder for all of them. Begins with
 * zs_comm_agree on `status`. */
int zs_place_output(const zs_task_env *env, const char *dir, int status);

#endif
