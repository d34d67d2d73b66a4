/* SPDX-License-Identifier: MIT */
/* log.jsonl as columns of numbers. Private to train. */
#ifndef ZS_TRAIN_RUNLOG_H
#define ZS_TRAIN_RUNLOG_H

#include "base/base.h"

typedef struct zs_runlog_column {
    char *name;
    double *v; /* [rows of the log], NAN where a line lacks it; allocated for `cap` */
    size_t n, cap;
} zs_runlog_column;

/* Zero-initialise; zs_runlog_free is idempotent. */
typedef struct zs_runlog {
    zs_runlog_column *columns;
    size_t count, cap;
    size_t rows;
} zs_runlog;

/* Stops at the first line that cannot be read; a missing file is an empty log. ZS_E_NOMEM. */
int zs_runlog_read(zs_runlog *l, const char *path, zs_error *err);
void zs_runlog_free(zs_runlog *l);

/* What a line is counted by, and no curve: "step", "samples", "time". */
bool zs_runlog_is_axis(const char *name);

/* NULL when no line has it. */
const zs_runlog_column *zs_runlog_find(const zs_runlog *l, const char *name);

#endif
