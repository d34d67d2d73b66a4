/* SPDX-License-Identifier: MIT */
/* The fields of a configuration as a table: one row says what a field is called, where it is and
 * what it may be. Ranges, metadata and overrides all follow from the rows.
 *
 *     static const zs_field fields[] = {
 *         ZS_FIELD_INT(zs_dit_config, depth, 1, 128),
 *         ZS_FIELD_I64(zs_dit_config, width, 1, 16384),
 *         ZS_FIELDS_END};
 *
 * The first row is an int or a list whose zero (or length zero) says that there is no such box. */
#ifndef ZS_MODELS_FIELD_H
#define ZS_MODELS_FIELD_H

#include "base/base.h"

#include <jansson.h>
#include <stddef.h>

typedef enum zs_field_type {
    ZS_TYPE_INT,    /* int */
    ZS_TYPE_I64,    /* int64_t */
    ZS_TYPE_F64,    /* double, lo <= v < hi */
    ZS_TYPE_BOOL,   /* bool */
    ZS_TYPE_BITS32, /* uint32_t: a set of numbers below hi, a list in JSON */
    ZS_TYPE_BITS64, /* uint64_t, likewise */
    ZS_TYPE_LIST,   /* int64_t[cap]; its length is the int at `count` */
    ZS_TYPE_TEXT    /* char[cap] */
} zs_field_type;

enum {
    ZS_FIELD_EVEN = 1,
    ZS_FIELD_OPTIONAL = 2 /* may be missing in a file, and then keeps the value it had; numbers and
                             texts are not written when they are 0 and empty */
};

typedef struct zs_field {
    const char *name; /* in metadata, in messages and after --set <box>. */
    zs_field_type type;
    size_t at;     /* offset in the configuration */
    double lo, hi; /* inclusive, but for F64 */
    size_t cap;    /* of lists and texts */
    size_t count;  /* of lists: offset of the length */
    unsigned flags;
} zs_field;

#define ZS_FIELD_ROW(type, config, member, lo, hi, flags)            \
    {                                                                \
#member, type, offsetof(config, member), lo, hi, 0, 0, flags \
    }
#define ZS_FIELD_INT(config, member, lo, hi) ZS_FIELD_ROW(ZS_TYPE_INT, config, member, lo, hi, 0)
#define ZS_FIELD_I64(config, member, lo, hi) ZS_FIELD_ROW(ZS_TYPE_I64, config, member, lo, hi, 0)
#define ZS_FIELD_F64(config, member, lo, hi) ZS_FIELD_ROW(ZS_TYPE_F64, config, member, lo, hi, 0)
#define ZS_FIELD_BOOL(config, member) ZS_FIELD_ROW(ZS_TYPE_BOOL, config, member, 0, 1, 0)
/* An even width of timestep features. */
#define ZS_FIELD_WIDTH(config, member) \
    ZS_FIELD_ROW(ZS_TYPE_I64, config, member, 2, 4096, ZS_FIELD_EVEN)
/* A set of levels or layers, and a list with a length of its own, under another name than the
 * member's. */
#define ZS_FIELD_BITS(type, name, config, member, n)        \
    {                                                       \
        name, type, offsetof(config, member), 0, n, 0, 0, 0 \
    }
#define ZS_FIELD_LIST(name, config, member, length, lo, hi, n)                               \
    {                                                                                        \
        name, ZS_TYPE_LIST, offsetof(config, member), lo, hi, n, offsetof(config, length), 0 \
    }
#define ZS_FIELD_TEXT(config, member, n)                               \
    {                                                                  \
#member, ZS_TYPE_TEXT, offsetof(config, member), 0, 0, n, 0, 0 \
    }
#define ZS_FIELDS_END                       \
    {                                       \
        NULL, ZS_TYPE_INT, 0, 0, 0, 0, 0, 0 \
    }

/* Whether the first field says that the configuration is there. */
bool zs_fields_present(const zs_field *f, const void *config);

/* ZS_E_INVALID when a value is outside its range: "generator.heads is 0, outside 1..64". `what` is
 * the name before the dot. */
int zs_fields_check(const zs_field *f, const void *config, const char *what, zs_error *err);

/* As a JSON object (new reference; NULL when out of memory), and back. Ranges are not checked;
 * unknown members are ignored. ZS_E_FORMAT names the file and the member that is missing or that
 * cannot be one. */
json_t *zs_fields_to_json(const zs_field *f, const void *config);
int zs_fields_from_json(const zs_field *f, void *config, const json_t *j, const char *where,
                        const char *what, zs_error *err);

/* Sets the field `name` of n characters from text: numbers, lists as 1,2,4, sets likewise or none,
 * true or false. 1 when there is no such field; ZS_E_INVALID when the text is no value for it.
 * Ranges are not checked. */
int zs_fields_set(const zs_field *f, void *config, const char *name, size_t n, const char *text,
                  zs_error *err);

/* "1,2,4" -> out[cap]; how many, or 0 when it is no list of integers. */
size_t zs_list_parse(int64_t *out, size_t cap, const char *text);

#endif
