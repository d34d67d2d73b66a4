/* SPDX-License-Identifier: MIT */
/* Zip archives in memory, read with the suspicion that checkpoints deserve. Private to io.
 * Entry names are only compared, never used as paths. */
#ifndef ZS_IO_ZIPARCHIVE_H
#define ZS_IO_ZIPARCHIVE_H

#include "base/base.h"

#include <zip.h>

/* Opens the directory; `bytes` must outlive *out (zip_discard). ZS_E_FORMAT, ZS_E_NOMEM. */
int zs_ziparchive_open(zip_t **out, const char *label, zs_span bytes, zs_error *err);

/* *size = the unpacked size of an entry, believed only if its packed bytes can hold that much:
 * equal for stored entries, at most 1032 times more for deflate (its limit). ZS_E_UNSUPPORTED
 * for encryption and other methods. */
int zs_ziparchive_size(uint64_t *size, zip_t *zip, uint64_t entry, size_t archive_bytes,
                       const char *label, zs_error *err);

/* The whole entry, exactly n bytes, checksum verified. */
int zs_ziparchive_read(zip_t *zip, uint64_t entry, void *dst, size_t n, const char *label,
                       zs_error *err);

/* Up to n first bytes; *got says how many. */
int zs_ziparchive_peek(size_t *got, zip_t *zip, uint64_t entry, void *dst, size_t n,
                       const char *label, zs_error *err);

#endif
