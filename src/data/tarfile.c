/* SPDX-License-Identifier: MIT */
/* The format: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; base-256 sizes
 * and types L and K: the GNU tar manual, "Basic Tar Format". */
#include "data/tarfile.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    BLOCK = 512,
    NAME_AT = 0,
    NAME_SIZE = 100,
    MODE_AT = 100,
    SIZE_AT = 124,
    SIZE_SIZE = 12,
    TIME_AT = 136,
    SUM_AT = 148,
    SUM_SIZE = 8,
    TYPE_AT = 156,
    MAGIC_AT = 257,
    PREFIX_AT = 345,
    PREFIX_SIZE = 155
};

/* ---- numbers of a header ---- */

/* Octal digits among blanks and NULs, or big-endian base 256 when the first bit is set. */
static bool read_number(uint64_t *out, const uint8_t *p, size_t n)
{
    uint64_t v = 0;
    size_t i = 0;
    if (p[0] & 0x80) {
        v = p[0] & 0x7F;
        for (i = 1; i < n; i++) {
            if (v >> 55)
                return false;
            v = v << 8 | p[i];
        }
        *out = v;
        return true;
    }
    while (i < n && p[i] == ' ')
        i++;
    for (; i < n && p[i] >= '0' && p[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(p[i] - '0');
    *out = v;
    return i == n || p[i] == ' ' || p[i] == '\0';
}

/* All bytes as unsigned, those of the sum itself as blanks. */
static uint64_t sum_of(const uint8_t *h)
{
    uint64_t sum = 0;
    for (int i = 0; i < BLOCK; i++)
        sum += i >= SUM_AT && i < SUM_AT + SUM_SIZE ? ' ' : h[i];
    return sum;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i])
            return false;
    return true;
}

/* ---- names ---- */

static void set_text(zs_strbuf *b, const void *p, size_t n)
{
    const char *end = n ? memchr(p, 0, n) : NULL;
    b->n = 0;
    if (b->s)
        b->s[0] = '\0';
    zs_strbuf_append(b, p, end ? (size_t)(end - (const char *)p) : n);
}

static void add_field(zs_strbuf *b, const uint8_t *p, size_t n)
{
    const uint8_t *end = memchr(p, 0, n);
    zs_strbuf_append(b, (const char *)p, end ? (size_t)(end - p) : n);
}

static void take_name(zs_tar *t, const uint8_t *h)
{
    set_text(&t->name, "", 0);
    if (t->has_next_name) {
        zs_strbuf_append(&t->name, t->next_name.s ? t->next_name.s : "", t->next_name.n);
        return;
    }
    if (memcmp(h + MAGIC_AT, "ustar\0", 6) == 0 && h[PREFIX_AT]) {
        add_field(&t->name, h + PREFIX_AT, PREFIX_SIZE);
        zs_strbuf_append(&t->name, "/", 1);
    }
    add_field(&t->name, h + NAME_AT, NAME_SIZE);
}

static const char *plain_name(const zs_tar *t)
{
    const char *s = t->name.s ? t->name.s : "";
    while (s[0] == '.' && s[1] == '/')
        s += 2;
    return s;
}

/* ---- headers ---- */

static int fail_damaged(const zs_tar *t, const char *what, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: is damaged: the tar %s at byte %zu is wrong; copy it again", t->label, what,
                   t->at);
}

static int fail_short(const zs_tar *t, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: was cut short: the tar archive ends at byte %zu without its end mark; copy "
                   "it again",
                   t->label, t->n);
}

static int fail_header(const zs_tar *t, zs_error *err)
{
    return t->at > 0 ? fail_damaged(t, "header", err)
                     : zs_fail(err, ZS_E_FORMAT, "%s: is not a tar archive", t->label);
}

/* One "LENGTH KEY=VALUE\n" of a pax header. */
static int pax_record(zs_tar *t, const char *key, size_t key_n, const char *value, size_t n,
                      zs_error *err)
{
    if (key_n == 4 && memcmp(key, "path", 4) == 0) {
        set_text(&t->next_name, value, n);
        t->has_next_name = true;
    } else if (key_n == 4 && memcmp(key, "size", 4) == 0) {
        char digits[24];
        int64_t v;
        if (n >= sizeof digits)
            return fail_damaged(t, "pax header", err);
        memcpy(digits, value, n);
        digits[n] = '\0';
        if (!zs_str_to_i64(digits, &v) || v < 0)
            return fail_damaged(t, "pax header", err);
        t->next_size = (uint64_t)v;
        t->has_next_size = true;
    } else if (key_n > 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: holds sparse files, which are not read; make it without --sparse",
                       t->label);
    }
    return ZS_OK;
}

static int read_pax(zs_tar *t, zs_span s, zs_error *err)
{
    int status = ZS_OK;
    while (status == ZS_OK && s.n > 0 && s.p[0] != '\0') {
        size_t len = 0, i = 0;
        for (; i < s.n && i < 9 && s.p[i] >= '0' && s.p[i] <= '9'; i++)
            len = 10 * len + (size_t)(s.p[i] - '0');
        if (i == 0 || i >= s.n || s.p[i] != ' ' || len > s.n || len < i + 2 || s.p[len - 1] != '\n')
            return fail_damaged(t, "pax header", err);
        const char *key = (const char *)s.p + i + 1, *end = (const char *)s.p + len - 1;
        const char *eq = key < end ? memchr(key, '=', (size_t)(end - key)) : NULL;
        if (!eq)
            return fail_damaged(t, "pax header", err);
        status = pax_record(t, key, (size_t)(eq - key), eq + 1, (size_t)(end - eq - 1), err);
        s.p += len;
        s.n -= len;
    }
    return status;
}

/* The header at t->at, whose data comes back as *data; t->at moves behind both. */
static int read_entry(zs_tar *t, char *type, zs_span *data, zs_error *err)
{
    const uint8_t *h = t->p + t->at;
    uint64_t size, sum;
    if (!read_number(&sum, h + SUM_AT, SUM_SIZE) || sum != sum_of(h))
        return fail_header(t, err);
    *type = (char)h[TYPE_AT];
    if (!read_number(&size, h + SIZE_AT, SIZE_SIZE))
        return fail_damaged(t, "size", err);
    bool file = *type == '0' || *type == '\0' || *type == '7';
    if (file && t->has_next_size)
        size = t->next_size;
    /* links, folders and devices have no data, whatever their size says */
    if (*type >= '1' && *type <= '6')
        size = 0;
    if (size > t->n - t->at - BLOCK)
        return fail_short(t, err);
    *data = (zs_span){h + BLOCK, (size_t)size};
    size_t padded = ((size_t)size + BLOCK - 1) / BLOCK * BLOCK, rest = t->n - t->at - BLOCK;
    if (file)
        take_name(t, h);
    t->at += BLOCK + (padded < rest ? padded : rest);
    return ZS_OK;
}

int zs_tar_next(zs_tar *t, zs_tar_member *m, zs_error *err)
{
    t->has_next_name = t->has_next_size = false;
    for (;;) {
        char type = 0;
        zs_span data;
        if (t->n - t->at < BLOCK)
            return t->ended && all_zero(t->p + t->at, t->n - t->at) ? 0 : fail_short(t, err);
        t->ended = all_zero(t->p + t->at, BLOCK);
        if (t->ended) { /* archives that were joined go on behind the end mark */
            t->at += BLOCK;
            continue;
        }
        int status = read_entry(t, &type, &data, err);
        if (status == ZS_OK && type == 'x')
            status = read_pax(t, data, err);
        if (status < 0)
            return status;
        if (type == 'S')
            return zs_fail(err, ZS_E_UNSUPPORTED,
                           "%s: holds sparse files, which are not read; make it without --sparse",
                           t->label);
        if (type == 'L') {
            set_text(&t->next_name, data.p, data.n);
            t->has_next_name = true;
        }
        bool file = type == '0' || type == '\0' || type == '7';
        if (t->name.failed || t->next_name.failed)
            return zs_fail_nomem(err, 256, "the name of a tar member");
        if (file && *plain_name(t) && !zs_str_ends(plain_name(t), "/")) {
            *m = (zs_tar_member){plain_name(t), data};
            return 1;
        }
        if (type != 'x' && type != 'L' && type != 'K' && type != 'g')
            t->has_next_name = t->has_next_size = false;
    }
}

void zs_tar_close(zs_tar *t)
{
    zs_strbuf_free(&t->name);
    zs_strbuf_free(&t->next_name);
    *t = (zs_tar){0};
}

/* ---- writing ---- */

static void put_header(zs_strbuf *b, const char *name, size_t name_n, size_t size, char type)
{
    char h[BLOCK] = {0};
    memcpy(h + NAME_AT, name, name_n < NAME_SIZE ? name_n : NAME_SIZE);
    snprintf(h + MODE_AT, 8, "%07o", 0644u);
    memset(h + 108, '0', 7); /* owner and group 0 */
    memset(h + 116, '0', 7);
    if ((uint64_t)size >> 33) { /* 11 octal digits are not enough */
        h[SIZE_AT] = (char)0x80;
        for (int i = 0; i < 8; i++)
            h[SIZE_AT + SIZE_SIZE - 1 - i] = (char)(uint8_t)((uint64_t)size >> (8 * i));
    } else {
        snprintf(h + SIZE_AT, SIZE_SIZE, "%011" PRIo64, (uint64_t)size);
    }
    memset(h + TIME_AT, '0', 11); /* 1970: the same images make the same archive */
    h[TYPE_AT] = type;
    memcpy(h + MAGIC_AT,
           "ustar\0"
           "00",
           8);
    snprintf(h + SUM_AT, SUM_SIZE, "%06o", (unsigned)sum_of((const uint8_t *)h));
    h[SUM_AT + 7] = ' ';
    zs_strbuf_append(b, h, BLOCK);
}

static void put_data(zs_strbuf *b, const void *p, size_t n)
{
    static const char zeros[BLOCK] = {0};
    zs_strbuf_append(b, p, n);
    zs_strbuf_append(b, zeros, (BLOCK - n % BLOCK) % BLOCK);
}

/* "LENGTH path=NAME\n", where LENGTH counts its own digits. */
static void put_pax_name(zs_strbuf *b, const char *name)
{
    static const char pax[] = "PaxHeader";
    zs_strbuf record = {0};
    size_t rest = strlen(" path=\n") + strlen(name), len = rest + 1;
    for (size_t digits = 1, limit = 10; len >= limit; limit *= 10)
        len = rest + ++digits;
    zs_strbuf_addf(&record, "%zu path=%s\n", len, name);
    if (record.failed)
        b->failed = true;
    put_header(b, pax, sizeof pax - 1, record.n, 'x');
    put_data(b, record.s ? record.s : "", record.n);
    zs_strbuf_free(&record);
}

void zs_tar_add(zs_strbuf *b, const char *name, const void *p, size_t n)
{
    size_t len = strlen(name);
    if (len > NAME_SIZE)
        put_pax_name(b, name);
    put_header(b, name, len, n, '0');
    put_data(b, p, n);
}

void zs_tar_end(zs_strbuf *b)
{
    static const char zeros[2 * BLOCK] = {0};
    zs_strbuf_append(b, zeros, sizeof zeros);
}
