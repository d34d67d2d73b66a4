/* SPDX-License-Identifier: MIT */
#ifndef ZS_IO_GUNZIP_H
#define ZS_IO_GUNZIP_H

#include "base/base.h"

/* True for the first bytes of a gzip file. */
bool zs_is_gzip(const void *p, size_t n);

/* Decompresses a whole gzip file, of one member or several, into memory that the caller frees
 * (zs_free). label starts every message. More than `most` bytes are refused as a decompression
 * bomb: ZS_E_UNSUPPORTED; ZS_E_FORMAT for damaged or truncated data, ZS_E_NOMEM. */
int zs_gunzip(uint8_t **out, size_t *out_n, const char *label, const void *p, size_t n, size_t most,
              zs_error *err);

#endif
