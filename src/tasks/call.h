/* SPDX-License-Identifier: MIT */
#ifndef ZS_TASKS_CALL_H
#define ZS_TASKS_CALL_H

#include "tasks/task.h"

/* The task of that name with its run function, or NULL. */
const zs_task *zs_task_lookup(const char *name);

#endif
