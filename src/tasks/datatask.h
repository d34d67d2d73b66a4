/* SPDX-License-Identifier: MIT */
/* The parts of zsem data. Private to tasks. */
#ifndef ZS_TASKS_DATATASK_H
#define ZS_TASKS_DATATASK_H

#include "data/data.h"
#include "tasks/task.h"

/* Images that are decoded at once, by all threads, between two reports of progress. */
enum { ZS_DATA_CHUNK = 64 };

int zs_data_info(zs_task_env *env, const zs_source *s);
int zs_data_pack(zs_task_env *env, const zs_source *s, const char *out);

#endif
