/* SPDX-License-Identifier: MIT */
/* Byte spans and growing strings. */
#ifndef ZS_BASE_STR_H
#define ZS_BASE_STR_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes: valid as long as their owner. */
typedef struct zs_span {
    const uint8_t *p;
    size_t n;
} zs_span;

/* A growing, always NUL-terminated string. Zero-initialise; release with zs_strbuf_free.
 * `failed` is sticky: after an allocation failure every append is a no-op, so callers check
 * once at the end. */
typedef struct zs_strbuf {
    char *s; /* NULL while empty */
    size_t n, cap;
    bool failed;
} zs_strbuf;

void zs_strbuf_append(zs_strbuf *b, const char *s, size_t n);
void zs_strbuf_addf(zs_strbuf *b, const char *fmt, ...) ZS_PRINTF(2, 3);
void zs_strbuf_free(zs_strbuf *b);

/* Owned copy of s, or NULL when out of memory (or when s is NULL). Free with zs_free. */
char *zs_str_dup(const char *s);
/* Owned printf, or NULL. Free with zs_free. */
char *zs_str_format(const char *fmt, ...) ZS_PRINTF(1, 2);
bool zs_str_starts(const char *s, const char *prefix);
bool zs_str_ends(const char *s, const char *suffix);
/* Whole-string decimal parse; false on anything else (empty, trailing bytes, overflow). */
bool zs_str_to_i64(const char *s, int64_t *out);
bool zs_str_to_f64(const char *s, double *out);

#endif
