/* SPDX-License-Identifier: MIT */
/* The list of tasks, in the order in which help shows them. */
#include "tasks/call.h"

#include <string.h>

static const zs_task *const tasks[] = {
    &zs_task_demo,        &zs_task_train, &zs_task_info_,       &zs_task_convert, &zs_task_encode,
    &zs_task_reconstruct, &zs_task_vary,  &zs_task_interpolate, &zs_task_sample,  &zs_task_edit,
    &zs_task_eval,        &zs_task_apply, &zs_task_data,        &zs_task_bench,   NULL};

const zs_task_info *zs_task_at(size_t i)
{
    return i < sizeof tasks / sizeof tasks[0] - 1 ? &tasks[i]->info : NULL;
}

const zs_task *zs_task_lookup(const char *name)
{
    for (size_t i = 0; tasks[i]; i++)
        if (strcmp(tasks[i]->info.name, name) == 0)
            return tasks[i];
    return NULL;
}

const zs_task_info *zs_task_find(const char *name)
{
    const zs_task *t = zs_task_lookup(name);
    return t ? &t->info : NULL;
}
