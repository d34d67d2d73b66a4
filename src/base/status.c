/* SPDX-License-Identifier: MIT */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *zs_status_name(int status)
{
    switch (status) {
    case ZS_OK: return "ok";
    case ZS_E_INVALID: return "invalid argument";
    case ZS_E_NOMEM: return "out of memory";
    case ZS_E_IO: return "input/output error";
    case ZS_E_FORMAT: return "bad file";
    case ZS_E_UNSUPPORTED: return "not supported";
    case ZS_E_CANCELLED: return "cancelled";
    case ZS_E_NUMERIC: return "not a number";
    case ZS_E_INTERNAL: return "internal error";
    default: return "unknown status";
    }
}

/* Drops a UTF-8 sequence that vsnprintf cut in the middle. */
static void trim_partial_utf8(char *s, size_t cap)
{
    size_t n = strlen(s);
    if (n + 1 < cap)
        return;
    while (n > 0 && ((unsigned char)s[n - 1] & 0xC0u) == 0x80u)
        n--;
    if (n > 0 && (unsigned char)s[n - 1] >= 0xC0u)
        n--;
    s[n] = '\0';
}

int zs_fail(zs_error *err, int status, const char *fmt, ...)
{
    if (!err || err->status != ZS_OK)
        return status;
    err->status = status;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    trim_partial_utf8(err->message, sizeof err->message);
    for (char *p = err->message; *p; p++)
        if ((unsigned char)*p < 0x20u || *p == 0x7F)
            *p = '?';
    return status;
}

int zs_fail_nomem(zs_error *err, unsigned long long bytes, const char *what)
{
    return zs_fail(err, ZS_E_NOMEM, "out of memory: %llu bytes for %s could not be allocated",
                   bytes, what);
}
