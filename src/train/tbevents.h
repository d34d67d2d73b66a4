/* SPDX-License-Identifier: MIT */
/* The bytes of TensorBoard event files: records framed as TFRecord (length, masked CRC-32C of it,
 * data, masked CRC-32C of that) that hold protocol buffers of tensorflow's event.proto and
 * summary.proto. Failures are the strbuf's sticky flag. */
#ifndef ZS_TRAIN_TBEVENTS_H
#define ZS_TRAIN_TBEVENTS_H

#include "base/base.h"

#include <jansson.h>

/* The record that every event file starts with. wall: seconds since 1970. */
void zs_tbevents_begin(zs_strbuf *b, double wall);

/* One event with a scalar for every number of `line` but "step", "samples" and "time". */
void zs_tbevents_scalars(zs_strbuf *b, double wall, int64_t step, const json_t *line);

/* One event with a PNG of w x h pixels and c channels. */
void zs_tbevents_png(zs_strbuf *b, double wall, int64_t step, const char *tag, const void *png,
                     size_t n, const int size[3]);

/* CRC-32C (Castagnoli) of n bytes; "123456789" gives 0xE3069283. */
uint32_t zs_crc32c(const void *p, size_t n);

#endif
