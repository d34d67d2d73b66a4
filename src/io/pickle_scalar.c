/* SPDX-License-Identifier: MIT */
/* Pickle opcodes that push numbers and strings. */
#include "io/pickle_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int push_int(zs_pmachine *m, int64_t i)
{
    zs_pvalue *v = zs_pm_value(m, ZS_P_INT);
    if (v)
        v->u.i = i;
    return zs_pm_push(m, v);
}

static int push_bool(zs_pmachine *m, bool b)
{
    zs_pvalue *v = zs_pm_value(m, ZS_P_BOOL);
    if (v)
        v->u.i = b;
    return zs_pm_push(m, v);
}

static int push_big(zs_pmachine *m, bool negative)
{
    zs_pvalue *v = zs_pm_value(m, ZS_P_BIGINT);
    if (v)
        v->u.i = negative ? -1 : 1;
    return zs_pm_push(m, v);
}

static int push_float(zs_pmachine *m, double f)
{
    zs_pvalue *v = zs_pm_value(m, ZS_P_FLOAT);
    if (v)
        v->u.f = f;
    return zs_pm_push(m, v);
}

static int push_span(zs_pmachine *m, zs_pkind kind, zs_span s)
{
    zs_pvalue *v = zs_pm_value(m, kind);
    if (v)
        v->u.s = s;
    return zs_pm_push(m, v);
}

int zs_pop_constant(zs_pmachine *m, uint8_t op)
{
    if (op == 'N')
        return zs_pm_push(m, zs_pm_value(m, ZS_P_NONE));
    return push_bool(m, op == 0x88);
}

int zs_pop_int(zs_pmachine *m, uint8_t op)
{
    uint64_t v = 0;
    int status = zs_pm_number(m, &v, op == 'J' ? 4 : op == 'M' ? 2 : 1);
    if (status < 0)
        return status;
    return push_int(m, op == 'J' ? (int64_t)(int32_t)(uint32_t)v : (int64_t)v);
}

/* Digits with an optional sign: 1 fits *v, 0 too large (its sign in *v), -1 not a number. */
static int parse_digits(int64_t *v, zs_span s)
{
    size_t i = s.n > 0 && (s.p[0] == '-' || s.p[0] == '+');
    bool negative = i > 0 && s.p[0] == '-', big = false;
    uint64_t n = 0, limit = (uint64_t)INT64_MAX + negative;
    if (i == s.n)
        return -1;
    for (; i < s.n; i++) {
        unsigned d = (unsigned)s.p[i] - '0';
        if (d > 9)
            return -1;
        big = big || n > (limit - d) / 10;
        n = big ? 0 : n * 10 + d;
    }
    if (big)
        *v = negative ? -1 : 1;
    else
        *v = negative ? (int64_t)(0 - n) : (int64_t)n;
    return !big;
}

int zs_pm_decimal(zs_pmachine *m, int64_t *v)
{
    zs_span s;
    int status = zs_pm_line(m, &s);
    if (status < 0)
        return status;
    return parse_digits(v, s) == 1 ? ZS_OK : zs_pm_fail(m, "a line is not a number");
}

/* INT and LONG: decimal lines; INT 00 and 01 are the booleans of protocol 1. */
int zs_pop_text_int(zs_pmachine *m, uint8_t op)
{
    zs_span s;
    int64_t v = 0;
    int status = zs_pm_line(m, &s);
    if (status < 0)
        return status;
    if (op == 'I' && s.n == 2 && s.p[0] == '0' && (s.p[1] == '0' || s.p[1] == '1'))
        return push_bool(m, s.p[1] == '1');
    if (op == 'L' && s.n > 0 && s.p[s.n - 1] == 'L')
        s.n--;
    int fits = parse_digits(&v, s);
    if (fits < 0)
        return zs_pm_fail(m, "an integer is not a number");
    return fits ? push_int(m, v) : push_big(m, v < 0);
}

/* LONG1 and LONG4: little-endian two's complement of any length. */
int zs_pop_long(zs_pmachine *m, uint8_t op)
{
    uint64_t n = 0, v = 0;
    zs_span s;
    int status = zs_pm_number(m, &n, op == 0x8A ? 1 : 4);
    if (status < 0 || (status = zs_pm_take(m, &s, n)) < 0)
        return status;
    if (s.n == 0)
        return push_int(m, 0);
    uint8_t fill = s.p[s.n - 1] & 0x80u ? 0xFF : 0;
    while (s.n > 8 && s.p[s.n - 1] == fill && ((s.p[s.n - 2] ^ fill) & 0x80u) == 0)
        s.n--;
    if (s.n > 8)
        return push_big(m, fill != 0);
    for (size_t i = 8; i-- > 0;)
        v = v << 8 | (i < s.n ? s.p[i] : fill);
    int64_t i64;
    memcpy(&i64, &v, sizeof i64);
    return push_int(m, i64);
}

int zs_pop_float(zs_pmachine *m, uint8_t op)
{
    (void)op;
    zs_span s;
    uint64_t bits = 0;
    double f;
    int status = zs_pm_take(m, &s, 8);
    if (status < 0)
        return status;
    for (size_t i = 0; i < 8; i++)
        bits = bits << 8 | s.p[i];
    memcpy(&f, &bits, sizeof f);
    return push_float(m, f);
}

int zs_pop_text_float(zs_pmachine *m, uint8_t op)
{
    (void)op;
    char text[64];
    char *end = NULL;
    zs_span s;
    int status = zs_pm_line(m, &s);
    if (status < 0)
        return status;
    if (s.n == 0 || s.n >= sizeof text)
        return zs_pm_fail(m, "a float is not a number");
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    double f = strtod(text, &end);
    return end == text + s.n ? push_float(m, f) : zs_pm_fail(m, "a float is not a number");
}

/* How each counted string states its length, and what it is. Python 2's str (T, U) is text in
 * every checkpoint that has it. */
static const struct {
    uint8_t op, size_bytes;
    zs_pkind kind;
} counted[] = {{'T', 4, ZS_P_STR},   {'U', 1, ZS_P_STR},    {'X', 4, ZS_P_STR},
               {0x8C, 1, ZS_P_STR},  {0x8D, 8, ZS_P_STR},   {'B', 4, ZS_P_BYTES},
               {'C', 1, ZS_P_BYTES}, {0x8E, 8, ZS_P_BYTES}, {0x96, 8, ZS_P_BYTES}};

int zs_pop_string(zs_pmachine *m, uint8_t op)
{
    size_t k = 0;
    uint64_t n = 0;
    zs_span s;
    while (counted[k].op != op)
        k++;
    int status = zs_pm_number(m, &n, counted[k].size_bytes);
    if (status < 0 || (status = zs_pm_take(m, &s, n)) < 0)
        return status;
    return push_span(m, counted[k].kind, s);
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* n hex digits at s[i..]; -1 when they are not there. */
static int64_t hex_at(zs_span s, size_t i, size_t n)
{
    int64_t v = 0;
    if (s.n - i < n)
        return -1;
    for (size_t k = 0; k < n; k++) {
        int d = hex_digit(s.p[i + k]);
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

static size_t put_utf8(uint8_t *d, uint32_t c)
{
    if (c < 0x80) {
        d[0] = (uint8_t)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6)
        d[i] = (uint8_t)(0x80u | (c & 0x3Fu));
    d[0] = (uint8_t)((0xF00u >> n) | c); /* C0, E0, F0 */
    return n;
}

/* STRING: a quoted Python 2 str with backslash escapes; unknown escapes stay as they are. */
static size_t unescape(uint8_t *d, zs_span s)
{
    static const char from[] = "nrtabfv", to[] = "\n\r\t\a\b\f\v";
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '\\' || i + 1 == s.n) {
            d[n++] = s.p[i];
            continue;
        }
        uint8_t c = s.p[++i];
        const char *e = c ? strchr(from, c) : NULL;
        int64_t hex = c == 'x' ? hex_at(s, i + 1, 2) : -1;
        if (e) {
            d[n++] = (uint8_t)to[e - from];
        } else if (hex >= 0) {
            d[n++] = (uint8_t)hex;
            i += 2;
        } else {
            if (c != '\\' && c != '\'' && c != '"')
                d[n++] = '\\';
            d[n++] = c;
        }
    }
    return n;
}

int zs_pop_text_string(zs_pmachine *m, uint8_t op)
{
    (void)op;
    zs_span s;
    int status = zs_pm_line(m, &s);
    if (status < 0)
        return status;
    if (s.n < 2 || (s.p[0] != '\'' && s.p[0] != '"') || s.p[s.n - 1] != s.p[0])
        return zs_pm_fail(m, "a string has no quotes");
    s = (zs_span){s.p + 1, s.n - 2};
    uint8_t *d = zs_pm_bytes(m, s.n);
    if (!d)
        return zs_pm_nomem(m);
    return push_span(m, ZS_P_STR, (zs_span){d, unescape(d, s)});
}

/* UNICODE: raw-unicode-escape, that is Latin-1 with \uXXXX and \UXXXXXXXX. */
int zs_pop_text_unicode(zs_pmachine *m, uint8_t op)
{
    (void)op;
    zs_span s;
    int status = zs_pm_line(m, &s);
    if (status < 0)
        return status;
    uint8_t *d = zs_pm_bytes(m, 2 * s.n); /* a Latin-1 byte takes two at most */
    if (!d)
        return zs_pm_nomem(m);
    size_t n = 0;
    for (size_t i = 0; i < s.n;) {
        size_t digits = 0;
        if (s.p[i] == '\\' && i + 1 < s.n)
            digits = s.p[i + 1] == 'u' ? 4 : s.p[i + 1] == 'U' ? 8 : 0;
        int64_t c = digits ? hex_at(s, i + 2, digits) : s.p[i];
        if (c < 0 || c > 0x10FFFF)
            return zs_pm_fail(m, "a string has a bad \\u escape");
        n += put_utf8(d + n, (uint32_t)c);
        i += digits ? 2 + digits : 1;
    }
    return push_span(m, ZS_P_STR, (zs_span){d, n});
}
