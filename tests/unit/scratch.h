/* SPDX-License-Identifier: MIT */
/* A folder for the files of a test, or of a whole program of tests. */
#ifndef TESTS_UNIT_SCRATCH_H
#define TESTS_UNIT_SCRATCH_H

#include "base/base.h"

/* Setup and teardown functions: an empty folder, and that it and all that is in it are gone. One at
 * a time. */
int scratch_make(void **state);
int scratch_remove(void **state);

const char *scratch_dir(void);

/* How many files and folders are in it, those that start with a dot aside. */
int scratch_files(void);

/* "<folder>/<text>"; valid until scratch_remove. */
const char *scratch_path(const char *fmt, ...) ZS_PRINTF(1, 2);

#endif
