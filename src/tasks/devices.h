/* SPDX-License-Identifier: MIT */
/* Processors and accelerators, for people. Private to the tasks layer. */
#ifndef ZS_TASKS_DEVICES_H
#define ZS_TASKS_DEVICES_H

#include "tasks/task.h"
#include "tensor/tensor.h"

/* This machine's processor: its name, instruction set, threads in use, memory. */
void zs_devices_cpu(zs_device *out);

/* What --device can name and what it would run on, as text and under "devices". A device that is
 * not there is no failure: the reason is listed. */
int zs_devices_report(zs_task_env *env);

#endif
