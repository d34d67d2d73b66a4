/* SPDX-License-Identifier: MIT */
/*
 * Tasks: everything the command line can do, callable from a program.
 *
 *     zs_task_call *c = NULL;
 *     zs_task_result r = {0};
 *     if (zs_task_call_new(&c, "reconstruct", &err) == 0 &&
 *         zs_task_call_add(c, "last.ckpt", &err) == 0 &&
 *         zs_task_call_add(c, "photos/", &err) == 0 &&
 *         zs_task_call_set(c, "steps", "100", &err) == 0 && zs_task_run(c, &ui, &r, &err) == 0)
 *         puts(r.json);
 *     zs_task_result_clear(&r);
 *     zs_task_call_free(&c);
 */
#ifndef ZSEM_TASK_H
#define ZSEM_TASK_H

#include "zsem/error.h"
#include "zsem/ui.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum zs_option_type {
    ZS_OPTION_FLAG, /* no value; set to "1" */
    ZS_OPTION_INT,  /* decimal integer in [min, max] */
    ZS_OPTION_REAL, /* decimal number in [min, max] */
    ZS_OPTION_TEXT, /* any text; the last one given counts */
    ZS_OPTION_LIST  /* any text; may be given again and again */
} zs_option_type;

/* One row of a task's option table: the parser, --help and the docs are made from it. */
typedef struct zs_option {
    const char *name; /* without dashes */
    zs_option_type type;
    const char *metavar; /* "N", "FILE", ...; NULL for flags */
    const char *def;     /* default as text, or NULL */
    double min, max;     /* INT and REAL */
    const char *help;
} zs_option;

typedef struct zs_task_info {
    const char *name;
    const char *usage;           /* what follows the name: "MODEL IMAGES... [options]" */
    const char *summary;         /* one line */
    const char *details;         /* a paragraph for --help, or NULL */
    int min_args, max_args;      /* positional arguments; max -1 for any number */
    const zs_option *options;    /* ends with name == NULL; own options only */
    const char *const *examples; /* NULL-terminated, at least two */
} zs_task_info;

/* All tasks, in the order of the help text; NULL past the end. Static storage. */
ZS_API const zs_task_info *zs_task_at(size_t i);
/* By name, or NULL. */
ZS_API const zs_task_info *zs_task_find(const char *name);
/* Options that every task takes (seed, threads, device, ...); ends with name == NULL. */
ZS_API const zs_option *zs_task_common_options(void);

typedef struct zs_task_call zs_task_call;

/* What a task hands back. Both strings are owned by the result and may be NULL. */
typedef struct zs_task_result {
    char *json; /* one JSON object */
    char *text; /* the same for people; lines end in \n */
} zs_task_result;

/* ZS_E_INVALID for an unknown name (the message lists the tasks). */
ZS_API ZS_NODISCARD int zs_task_call_new(zs_task_call **out, const char *task, zs_error *err);
/* Appends a positional argument; copied. */
ZS_API ZS_NODISCARD int zs_task_call_add(zs_task_call *c, const char *value, zs_error *err);
/* Sets an option; value NULL for flags; copied. ZS_E_INVALID for an unknown option or a value out
 * of its range. */
ZS_API ZS_NODISCARD int zs_task_call_set(zs_task_call *c, const char *option, const char *value,
                                         zs_error *err);
/* Runs the task. Anything of zs_status; files are written whole or not at all. */
ZS_API ZS_NODISCARD int zs_task_run(zs_task_call *c, const zs_ui *ui, zs_task_result *out,
                                    zs_error *err);
ZS_API void zs_task_call_free(zs_task_call **c);
ZS_API void zs_task_result_clear(zs_task_result *r);

#ifdef __cplusplus
}
#endif
#endif
