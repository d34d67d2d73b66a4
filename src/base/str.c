/* SPDX-License-Identifier: MIT */
#include "base/str.h"

#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(zs_strbuf *b, size_t extra)
{
    size_t need = 0;
    if (b->failed || !zs_add_size(b->n, extra, &need) || !zs_add_size(need, 1, &need)) {
        b->failed = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    char *s = zs_realloc(b->s, b->n, cap, 1);
    if (!s) {
        b->failed = true;
        return false;
    }
    b->s = s;
    b->cap = cap;
    return true;
}

void zs_strbuf_append(zs_strbuf *b, const char *s, size_t n)
{
    if (!reserve(b, n))
        return;
    memcpy(b->s + b->n, s, n);
    b->n += n;
    b->s[b->n] = '\0';
}

void zs_strbuf_addf(zs_strbuf *b, const char *fmt, ...)
{
    va_list ap, aq;
    va_start(ap, fmt);
    va_copy(aq, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        b->failed = true;
    else if (reserve(b, (size_t)n)) {
        vsnprintf(b->s + b->n, (size_t)n + 1, fmt, aq);
        b->n += (size_t)n;
    }
    va_end(aq);
}

void zs_strbuf_free(zs_strbuf *b)
{
    zs_free(b->s);
    *b = (zs_strbuf){0};
}

char *zs_str_dup(const char *s)
{
    if (!s)
        return NULL;
    size_t n = strlen(s) + 1;
    char *d = zs_alloc(n, 1);
    if (d)
        memcpy(d, s, n);
    return d;
}

char *zs_str_format(const char *fmt, ...)
{
    va_list ap, aq;
    va_start(ap, fmt);
    va_copy(aq, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = n < 0 ? NULL : zs_alloc((size_t)n + 1, 1);
    if (s)
        vsnprintf(s, (size_t)n + 1, fmt, aq);
    va_end(aq);
    return s;
}

bool zs_str_starts(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool zs_str_ends(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool zs_str_to_i64(const char *s, int64_t *out)
{
    if (s[strspn(s, "+-0123456789")] != '\0') /* strtoll alone skips leading spaces */
        return false;
    char *end = NULL;
    errno = 0;
    long long v = strtoll(s, &end, 10);
    if (end == s || *end != '\0' || errno == ERANGE)
        return false;
    *out = v;
    return true;
}

bool zs_str_to_f64(const char *s, double *out)
{
    if (s[strspn(s, "+-0123456789.eE")] != '\0') /* nor spaces, hexadecimal, "inf", "nan" */
        return false;
    char *end = NULL;
    errno = 0;
    double v = strtod(s, &end);
    if (end == s || *end != '\0' || !isfinite(v))
        return false;
    *out = v;
    return true;
}
