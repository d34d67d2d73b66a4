/* SPDX-License-Identifier: MIT */
#include "data/shards.h"

#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SHARDS_MAX = 1000000, DIGITS_MAX = 18 };

/* Takes ownership of path, also on failure. */
static int add_path(zs_shards *s, char *path, zs_error *err)
{
    void *items = s->paths;
    bool ok = path && zs_grow(&items, &s->cap, s->count, sizeof *s->paths);
    s->paths = items;
    if (ok) {
        s->paths[s->count++] = path;
        return ZS_OK;
    }
    zs_free(path);
    return zs_fail_nomem(err, s->cap * 2 * sizeof *s->paths, "a list of shards");
}

static int add_matches(zs_shards *s, const char *pattern, zs_error *err)
{
    glob_t g = {0};
    int code = glob(pattern, 0, NULL, &g), status = ZS_OK;
    if (code == GLOB_NOMATCH)
        status = zs_fail(err, ZS_E_IO, "%s: matches no file", pattern);
    else if (code != 0)
        status = zs_fail(err, ZS_E_IO, "%s: the folder cannot be searched", pattern);
    for (size_t i = 0; status == ZS_OK && i < g.gl_pathc; i++)
        status = add_path(s, zs_str_dup(g.gl_pathv[i]), err);
    globfree(&g);
    return status;
}

static int expand(zs_shards *s, const char *pattern, zs_error *err);

/* Puts `middle` between what is before and after the braces, and goes on with later ones. */
static int expand_one(zs_shards *s, const char *pattern, const char *open, const char *close,
                      const char *middle, int n, zs_error *err)
{
    char *whole = zs_str_format("%.*s%.*s%s", (int)(open - pattern), pattern, n, middle, close + 1);
    if (!whole)
        return zs_fail_nomem(err, strlen(pattern), "a shard's name");
    int status =
        s->count >= SHARDS_MAX
            ? zs_fail(err, ZS_E_INVALID, "%s: names more than %d shards", pattern, SHARDS_MAX)
            : expand(s, whole, err);
    zs_free(whole);
    return status;
}

static bool read_bound(int64_t *v, const char *p, size_t n)
{
    char digits[DIGITS_MAX + 1];
    if (n == 0 || n > DIGITS_MAX || strspn(p, "0123456789") < n)
        return false;
    memcpy(digits, p, n);
    digits[n] = '\0';
    return zs_str_to_i64(digits, v);
}

static int expand_braces(zs_shards *s, const char *pattern, const char *open, const char *close,
                         zs_error *err)
{
    const char *dots = strstr(open, "..");
    int status = ZS_OK;
    if (dots && dots < close) {
        int64_t a, b;
        char digits[DIGITS_MAX + 2];
        size_t width = (size_t)(dots - open - 1);
        if (!read_bound(&a, open + 1, width) ||
            !read_bound(&b, dots + 2, (size_t)(close - dots - 2)) || a > b)
            return zs_fail(err, ZS_E_INVALID, "%s: braces must be {FIRST..LAST} or {one,other}",
                           pattern);
        for (; status == ZS_OK && a <= b; a++) {
            int n = snprintf(digits, sizeof digits, "%0*lld", (int)width, (long long)a);
            status = expand_one(s, pattern, open, close, digits, n, err);
        }
        return status;
    }
    for (const char *at = open + 1; status == ZS_OK && at <= close;) {
        size_t n = strcspn(at, ",}");
        status = expand_one(s, pattern, open, close, at, (int)n, err);
        at += n + 1;
    }
    return status;
}

static int expand(zs_shards *s, const char *pattern, zs_error *err)
{
    if (access(pattern, F_OK) == 0)
        return add_path(s, zs_str_dup(pattern), err);
    const char *open = strchr(pattern, '{'), *close = open ? strchr(open, '}') : NULL;
    if (close)
        return expand_braces(s, pattern, open, close, err);
    if (open)
        return zs_fail(err, ZS_E_INVALID, "%s: a brace is never closed", pattern);
    /* a shard that is named but missing is reported when it is opened */
    return strpbrk(pattern, "*?[") ? add_matches(s, pattern, err)
                                   : add_path(s, zs_str_dup(pattern), err);
}

int zs_shards_open(zs_shards *s, const char *pattern, zs_error *err)
{
    *s = (zs_shards){0};
    int status = expand(s, pattern, err);
    if (status < 0)
        zs_shards_close(s);
    return status;
}

void zs_shards_close(zs_shards *s)
{
    for (size_t i = 0; i < s->count; i++)
        zs_free(s->paths[i]);
    zs_free(s->paths);
    *s = (zs_shards){0};
}
