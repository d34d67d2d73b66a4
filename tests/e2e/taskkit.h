/* SPDX-License-Identifier: MIT */
/* Commands of the program, called as it calls them. cmocka must be included first. */
#ifndef TESTS_E2E_TASKKIT_H
#define TESTS_E2E_TASKKIT_H

#include "base/base.h"

#include <jansson.h>

typedef struct task_option {
    const char *name, *value; /* value NULL: a flag */
} task_option;

#define TASK_ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define TASK_OPTIONS(...) ((const task_option[]){__VA_ARGS__, {NULL, NULL}})

/* The status of a command with these arguments and options: lists ended by NULL, options NULL for
 * none. *json: its result (owned), or NULL where it failed; json NULL: nobody wants it. Clears *err
 * first. */
int task_run(json_t **json, const char *task, const char *const *args, const task_option *options,
             zs_error *err);

/* The result (owned) of a command that must succeed. */
json_t *task_must(const char *task, const char *const *args, const task_option *options);

/* Fails the running test unless the command is ZS_E_INVALID and says so in these words. */
void task_refused(const char *task, const char *const *args, const task_option *options,
                  const char *words);

#endif
