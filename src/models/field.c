/* SPDX-License-Identifier: MIT */
#include "models/field.h"

#include <limits.h>
#include <string.h>

enum { SET_MAX = 64 };

static void *member(void *config, size_t at)
{
    return (char *)config + at;
}

static const void *at(const void *config, size_t offset)
{
    return (const char *)config + offset;
}

static int64_t integer(const zs_field *f, const void *config)
{
    return f->type == ZS_TYPE_INT ? *(const int *)at(config, f->at)
                                  : *(const int64_t *)at(config, f->at);
}

static int length(const zs_field *f, const void *config)
{
    return *(const int *)at(config, f->count);
}

static uint64_t bits(const zs_field *f, const void *config)
{
    return f->type == ZS_TYPE_BITS32 ? *(const uint32_t *)at(config, f->at)
                                     : *(const uint64_t *)at(config, f->at);
}

bool zs_fields_present(const zs_field *f, const void *config)
{
    return f->type == ZS_TYPE_LIST ? length(f, config) > 0 : integer(f, config) != 0;
}

/* ---- ranges ---- */

static int check_integer(const zs_field *f, const char *name, int64_t v, zs_error *err)
{
    if ((double)v < f->lo || (double)v > f->hi)
        return zs_fail(err, ZS_E_INVALID, "%s is %lld, outside %.0f..%.0f", name, (long long)v,
                       f->lo, f->hi);
    if (f->flags & ZS_FIELD_EVEN && v % 2)
        return zs_fail(err, ZS_E_INVALID, "%s is %lld; it must be even", name, (long long)v);
    return ZS_OK;
}

static int check_real(const zs_field *f, const char *name, double v, zs_error *err)
{
    if (v >= f->lo && v < f->hi)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "%s is %g, outside %g <= v < %g", name, v, f->lo, f->hi);
}

static int check_list(const zs_field *f, const char *name, const void *config, zs_error *err)
{
    const int64_t *v = at(config, f->at);
    int n = length(f, config), status = ZS_OK;
    char entry[96];
    if (n < 1 || (size_t)n > f->cap)
        return zs_fail(err, ZS_E_INVALID, "%s has %d entries, outside 1..%zu", name, n, f->cap);
    for (int i = 0; status == ZS_OK && i < n; i++) {
        (void)snprintf(entry, sizeof entry, "%s[%d]", name, i);
        status = check_integer(f, entry, v[i], err);
    }
    return status;
}

static int check_bits(const zs_field *f, const char *name, const void *config, zs_error *err)
{
    int n = (int)f->hi;
    if (n >= SET_MAX || bits(f, config) >> n == 0)
        return ZS_OK;
    return zs_fail(err, ZS_E_INVALID, "%s names one beyond the last of %d", name, n);
}

int zs_fields_check(const zs_field *f, const void *config, const char *what, zs_error *err)
{
    int status = ZS_OK;
    char name[80];
    for (; f->name && status == ZS_OK; f++) {
        (void)snprintf(name, sizeof name, "%s.%s", what, f->name);
        if (f->type == ZS_TYPE_INT || f->type == ZS_TYPE_I64)
            status = check_integer(f, name, integer(f, config), err);
        else if (f->type == ZS_TYPE_F64)
            status = check_real(f, name, *(const double *)at(config, f->at), err);
        else if (f->type == ZS_TYPE_LIST)
            status = check_list(f, name, config, err);
        else if (f->type == ZS_TYPE_BITS32 || f->type == ZS_TYPE_BITS64)
            status = check_bits(f, name, config, err);
    }
    return status;
}

/* ---- to JSON ---- */

static json_t *list_to_json(const int64_t *v, int n)
{
    json_t *a = json_array();
    for (int i = 0; a && i < n; i++)
        if (json_array_append_new(a, json_integer(v[i])) < 0) {
            json_decref(a);
            return NULL;
        }
    return a;
}

static json_t *set_to_json(uint64_t set)
{
    int64_t v[SET_MAX];
    int n = 0;
    for (int i = 0; i < SET_MAX; i++)
        if (set >> i & 1)
            v[n++] = i;
    return list_to_json(v, n);
}

static json_t *value_to_json(const zs_field *f, const void *config)
{
    switch (f->type) {
    case ZS_TYPE_F64: return json_real(*(const double *)at(config, f->at));
    case ZS_TYPE_BOOL: return json_boolean(*(const bool *)at(config, f->at));
    case ZS_TYPE_TEXT: return json_string(at(config, f->at));
    case ZS_TYPE_LIST: return list_to_json(at(config, f->at), length(f, config));
    case ZS_TYPE_BITS32:
    case ZS_TYPE_BITS64: return set_to_json(bits(f, config));
    default: return json_integer(integer(f, config));
    }
}

static bool left_out(const zs_field *f, const void *config)
{
    if (!(f->flags & ZS_FIELD_OPTIONAL))
        return false;
    return f->type == ZS_TYPE_TEXT  ? *(const char *)at(config, f->at) == 0
           : f->type == ZS_TYPE_I64 ? integer(f, config) == 0
                                    : false;
}

json_t *zs_fields_to_json(const zs_field *f, const void *config)
{
    json_t *j = json_object();
    for (; j && f->name; f++)
        if (!left_out(f, config) && json_object_set_new(j, f->name, value_to_json(f, config)) < 0) {
            json_decref(j);
            return NULL;
        }
    return j;
}

/* ---- from JSON ---- */

static bool list_from_json(int64_t *out, int *n, size_t cap, const json_t *a)
{
    size_t count = json_array_size(a);
    if (!json_is_array(a) || count > cap)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *v = json_array_get(a, i);
        if (!json_is_integer(v))
            return false;
        out[i] = json_integer_value(v);
    }
    *n = (int)count;
    return true;
}

static void put_integer(const zs_field *f, void *config, int64_t v)
{
    if (f->type == ZS_TYPE_INT)
        *(int *)member(config, f->at) = (int)v;
    else
        *(int64_t *)member(config, f->at) = v;
}

/* An int of C is narrower than what a file can hold. */
static bool integer_fits(const zs_field *f, int64_t v)
{
    return f->type == ZS_TYPE_I64 || (v >= INT_MIN && v <= INT_MAX);
}

static bool put_set(const zs_field *f, void *config, const int64_t *v, size_t n)
{
    uint64_t set = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i] < 0 || (double)v[i] >= f->hi)
            return false;
        set |= (uint64_t)1 << v[i];
    }
    if (f->type == ZS_TYPE_BITS32)
        *(uint32_t *)member(config, f->at) = (uint32_t)set;
    else
        *(uint64_t *)member(config, f->at) = set;
    return true;
}

static bool put_text(const zs_field *f, void *config, const char *s)
{
    if (!s || strlen(s) >= f->cap)
        return false;
    memcpy(member(config, f->at), s, strlen(s) + 1);
    return true;
}

static bool put_json(const zs_field *f, void *config, const json_t *v)
{
    int64_t set[SET_MAX];
    int n;
    switch (f->type) {
    case ZS_TYPE_F64:
        *(double *)member(config, f->at) = json_number_value(v);
        return json_is_number(v);
    case ZS_TYPE_BOOL: *(bool *)member(config, f->at) = json_is_true(v); return json_is_boolean(v);
    case ZS_TYPE_TEXT: return put_text(f, config, json_string_value(v));
    case ZS_TYPE_LIST:
        return list_from_json(member(config, f->at), member(config, f->count), f->cap, v);
    case ZS_TYPE_BITS32:
    case ZS_TYPE_BITS64:
        return list_from_json(set, &n, SET_MAX, v) && put_set(f, config, set, (size_t)n);
    default:
        if (!json_is_integer(v) || !integer_fits(f, json_integer_value(v)))
            return false;
        put_integer(f, config, json_integer_value(v));
        return true;
    }
}

static int refuse(const zs_field *f, const json_t *v, const char *where, const char *what,
                  zs_error *err)
{
    if (json_is_integer(v))
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: the model configuration is damaged: %s: %s is %lld, which no model has",
                       where, what, f->name, (long long)json_integer_value(v));
    return zs_fail(err, ZS_E_FORMAT, "%s: the model configuration is damaged: %s: %s %s", where,
                   what, f->name, v ? "has a value that no model has" : "is missing");
}

int zs_fields_from_json(const zs_field *f, void *config, const json_t *j, const char *where,
                        const char *what, zs_error *err)
{
    if (!json_is_object(j))
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: the model configuration is damaged: %s is missing or no object", where,
                       what);
    for (; f->name; f++) {
        const json_t *v = json_object_get(j, f->name);
        if (!v && f->flags & ZS_FIELD_OPTIONAL)
            continue;
        if (!v || !put_json(f, config, v))
            return refuse(f, v, where, what, err);
    }
    return ZS_OK;
}

/* ---- overrides ---- */

size_t zs_list_parse(int64_t *out, size_t cap, const char *text)
{
    char word[32];
    size_t n = 0;
    for (const char *s = text; n < cap; n++) {
        size_t k = strcspn(s, ",");
        if (k >= sizeof word)
            return 0;
        memcpy(word, s, k);
        word[k] = 0;
        if (!zs_str_to_i64(word, &out[n]))
            return 0;
        if (!s[k])
            return n + 1;
        s += k + 1;
    }
    return 0;
}

static bool put_list(const zs_field *f, void *config, const char *text)
{
    int64_t v[SET_MAX];
    size_t n = zs_list_parse(v, f->cap < SET_MAX ? f->cap : SET_MAX, text);
    if (n == 0)
        return false;
    memcpy(member(config, f->at), v, n * sizeof *v);
    *(int *)member(config, f->count) = (int)n;
    return true;
}

static bool put_value(const zs_field *f, void *config, const char *text)
{
    int64_t v[SET_MAX];
    size_t n;
    switch (f->type) {
    case ZS_TYPE_F64: return zs_str_to_f64(text, member(config, f->at));
    case ZS_TYPE_BOOL:
        *(bool *)member(config, f->at) = strcmp(text, "true") == 0;
        return strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
    case ZS_TYPE_TEXT: return put_text(f, config, text);
    case ZS_TYPE_LIST: return put_list(f, config, text);
    case ZS_TYPE_BITS32:
    case ZS_TYPE_BITS64:
        n = strcmp(text, "none") == 0 ? 0 : zs_list_parse(v, SET_MAX, text);
        return (n > 0 || strcmp(text, "none") == 0) && put_set(f, config, v, n);
    default:
        if (!zs_str_to_i64(text, &v[0]) || !integer_fits(f, v[0]))
            return false;
        put_integer(f, config, v[0]);
        return true;
    }
}

int zs_fields_set(const zs_field *f, void *config, const char *name, size_t n, const char *text,
                  zs_error *err)
{
    for (; f->name; f++)
        if (strlen(f->name) == n && memcmp(f->name, name, n) == 0)
            return put_value(f, config, text)
                       ? ZS_OK
                       : zs_fail(err, ZS_E_INVALID, "%s: \"%s\" is not a value it can have",
                                 f->name, text);
    return 1;
}
