/* SPDX-License-Identifier: MIT */
/* What the tests of tensor files share. cmocka must be included first. */
#ifndef TESTS_UNIT_TENSOR_KIT_H
#define TESTS_UNIT_TENSOR_KIT_H

#include "io/tensorfile.h"

/* Bytes of a file under tests/unit/data/tensor (zs_free); fails the test when unreadable. */
uint8_t *kit_load(size_t *n, const char *name);

/* "<repository>/tests/unit/data/tensor/<name>", in a static buffer. */
const char *kit_path(const char *name);

/* Reads every tensor in all three ways and dumps the metadata: under sanitizers this proves that
 * everything the directory promises is there. Status of the first failure. */
int kit_read_all(zs_tensorfile *f, zs_error *err);

/* Opens and reads the bytes, which lie at the end of an exact allocation. A failure must come
 * with a sentence that starts with the label, and must be ZS_E_FORMAT or ZS_E_UNSUPPORTED. */
int kit_try(const uint8_t *p, size_t n, zs_error *err);

/* Every proper prefix must be refused. */
void kit_truncate(const uint8_t *p, size_t n);
/* Every single-bit flip must be refused or read without a fault; returns how many were refused. */
size_t kit_flip(const uint8_t *p, size_t n);
/* Fails every allocation in turn, then those of jansson too: each time an error, no leak. */
void kit_alloc_sweep(const uint8_t *p, size_t n);

/* Opens a fixture that must be good. */
zs_tensorfile *kit_open(const char *name);
/* The f32 values of a tensor that must exist and have n elements, in a static buffer. */
const float *kit_values(zs_tensorfile *f, const char *name, size_t n);

#endif
