/* SPDX-License-Identifier: MIT */
/* What the tests of data sets share. cmocka must be included first. */
#ifndef TESTS_UNIT_SOURCE_KIT_H
#define TESTS_UNIT_SOURCE_KIT_H

#include "data/data.h"

/* Writes a file. */
void kit_put(const char *path, const void *p, size_t n);

/* Opens a data set that must be good. */
zs_source *kit_source(const char *spec);

/* One that must not be opened, with this status and these words. */
void kit_source_refused(const char *spec, int status, const char *words);

/* The first byte of image i. */
int kit_first_byte(const zs_source *s, int64_t i);

#endif
