/* SPDX-License-Identifier: MIT */
/* The --attr options of a command: attributes of a probe by name. */
#ifndef ZS_TASKS_ATTRIBUTES_H
#define ZS_TASKS_ATTRIBUTES_H

#include "models/models.h"
#include "tasks/task.h"

enum { ZS_ATTRS_MAX = 64 };

typedef struct zs_attr_choice {
    int attr;
    double amount; /* of NAME=AMOUNT */
} zs_attr_choice;

typedef struct zs_attr_list {
    zs_attr_choice at[ZS_ATTRS_MAX];
    int n;
} zs_attr_list;

/* Every --attr NAME or NAME=AMOUNT; without an amount it is `amount`. ZS_E_INVALID when there is no
 * such attribute, or no number after the last '='. */
int zs_attributes(zs_attr_list *out, zs_task_env *env, const zs_model *m, double amount);

/* Moves z_sem [n,z_dim] along every attribute of the list, `scale` times its amount. */
int zs_attributes_move(const zs_attr_list *l, const zs_model *m, float *z, int64_t n, double scale,
                       zs_error *err);

#endif
