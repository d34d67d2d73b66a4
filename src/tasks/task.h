/* SPDX-License-Identifier: MIT */
/* What a task sees of its call. Private to the tasks layer; the public half is zsem/task.h. */
#ifndef ZS_TASKS_TASK_H
#define ZS_TASKS_TASK_H

#include "base/base.h"
#include "zsem/task.h"

#include <jansson.h>

typedef struct zs_task_env {
    const zs_task_call *call;
    const zs_ui *ui;
    json_t *result;  /* object to fill in */
    zs_strbuf *text; /* the same for people */
    zs_error *err;
} zs_task_env;

typedef struct zs_task {
    zs_task_info info;
    int (*run)(zs_task_env *env);
} zs_task;

/* Positional arguments. */
size_t zs_arg_count(const zs_task_env *env);
const char *zs_arg(const zs_task_env *env, size_t i); /* i < count */

/* Options by name; the name must be in the task's table or among the common ones. The default of
 * the table counts as given. */
bool zs_opt_given(const zs_task_env *env, const char *name); /* by the caller, default aside */
bool zs_opt_flag(const zs_task_env *env, const char *name);
int64_t zs_opt_int(const zs_task_env *env, const char *name);
double zs_opt_real(const zs_task_env *env, const char *name);
const char *zs_opt_text(const zs_task_env *env, const char *name); /* NULL: not given, no default */
size_t zs_opt_list_count(const zs_task_env *env, const char *name);
const char *zs_opt_list(const zs_task_env *env, const char *name, size_t i);

/* ZS_E_INVALID when the caller gave an option of the command's own table that is not among `used`,
 * names each between spaces: `who` is the part of the command that would silently do without it. */
int zs_opt_only(const zs_task_env *env, const char *who, const char *used);

/* Adds a member to the result; steals v; a NULL v (out of memory) is reported by the runner. */
void zs_result_set(zs_task_env *env, const char *key, json_t *v);

extern const zs_task zs_task_demo, zs_task_info_, zs_task_convert, zs_task_train, zs_task_encode,
    zs_task_reconstruct, zs_task_vary, zs_task_interpolate, zs_task_apply, zs_task_bench,
    zs_task_data, zs_task_sample, zs_task_edit, zs_task_eval;

#endif
