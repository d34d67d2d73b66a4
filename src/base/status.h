/* SPDX-License-Identifier: MIT */
/* How a failure is recorded; the types are public (zsem/error.h). */
#ifndef ZS_BASE_STATUS_H
#define ZS_BASE_STATUS_H

#include "zsem/error.h"

/* Records `status` with a printf-style sentence in *err unless err is NULL or already
 * holds an error (the first one wins). Returns `status`, so that callers write
 * `return zs_fail(err, ZS_E_FORMAT, "%s: ...", path);`. Control characters and
 * malformed UTF-8 coming from hostile file names or contents are replaced by '?'. */
int zs_fail(zs_error *err, int status, const char *fmt, ...) ZS_PRINTF(3, 4);

/* zs_fail(ZS_E_NOMEM) with the number of bytes that were asked for and for what. A remedy may
 * follow in `what`, as in "codes; lower --batch". */
int zs_fail_nomem(zs_error *err, unsigned long long bytes, const char *what);

#endif
