/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/e2e/taskkit.h"
#include "tests/unit/must.h"
#include "zsem/task.h"

int task_run(json_t **json, const char *task, const char *const *args, const task_option *options,
             zs_error *err)
{
    zs_task_call *c = NULL;
    zs_task_result r = {0};
    *err = (zs_error){0};
    int status = zs_task_call_new(&c, task, err);
    for (; status == ZS_OK && *args; args++)
        status = zs_task_call_add(c, *args, err);
    for (; status == ZS_OK && options && options->name; options++)
        status = zs_task_call_set(c, options->name, options->value, err);
    if (status == ZS_OK)
        status = zs_task_run(c, NULL, &r, err);
    if (json)
        *json = status == ZS_OK ? json_loads(r.json, 0, NULL) : NULL;
    zs_task_result_clear(&r);
    zs_task_call_free(&c);
    return status;
}

json_t *task_must(const char *task, const char *const *args, const task_option *options)
{
    json_t *j = NULL;
    zs_error err;
    if (task_run(&j, task, args, options, &err) < 0)
        fail_msg("zsem %s: %s", task, err.message);
    assert_non_null(j);
    return j;
}

void task_refused(const char *task, const char *const *args, const task_option *options,
                  const char *words)
{
    zs_error err;
    must_refuse(task_run(NULL, task, args, options, &err), &err, ZS_E_INVALID, words);
}
