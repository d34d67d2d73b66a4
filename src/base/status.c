/* SPDX-License-Identifier: MIT */
#include "base/status.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
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

/* Bytes of the printable UTF-8 character at s, or 0: malformed, overlong, a surrogate, beyond
 * U+10FFFF, or a control character (which could steer the terminal that shows it). */
static size_t printable_utf8(const unsigned char *s)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (s[0] < 0x80)
        return s[0] >= 0x20 && s[0] != 0x7F;
    size_t n = s[0] >= 0xF0 ? 4 : s[0] >= 0xE0 ? 3 : 2;
    if (s[0] < 0xC0 || s[0] > 0xF7)
        return 0;
    uint32_t c = s[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0u) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3Fu);
    }
    bool bad = c < smallest[n] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) || c < 0xA0;
    return bad ? 0 : n;
}

static void replace_unprintable(char *text)
{
    for (char *p = text; *p;) {
        size_t n = printable_utf8((const unsigned char *)p);
        if (n == 0)
            *p = '?';
        p += n ? n : 1;
    }
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
    replace_unprintable(err->message);
    return status;
}

int zs_fail_nomem(zs_error *err, unsigned long long bytes, const char *what)
{
    const char *remedy = strchr(what, ';');
    int n = remedy ? (int)(remedy - what) : (int)strlen(what);
    return zs_fail(err, ZS_E_NOMEM, "out of memory: %llu bytes for %.*s could not be allocated%s",
                   bytes, n, what, remedy ? remedy : "");
}
