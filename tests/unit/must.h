/* SPDX-License-Identifier: MIT */
/* Statuses, with the sentence that comes with a failure. */
#ifndef TESTS_UNIT_MUST_H
#define TESTS_UNIT_MUST_H

#include "base/base.h"

/* Fails the running test with the sentence unless status is ZS_OK. */
void must(int status, const zs_error *err);

/* Fails the running test unless status is `want` and the sentence has these words in it. Clears
 * *err for the next call. */
void must_refuse(int status, zs_error *err, int want, const char *words);

#endif
