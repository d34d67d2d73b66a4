/* SPDX-License-Identifier: MIT */
#ifndef ZS_TENSOR_SHAPE_H
#define ZS_TENSOR_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

/* 1 to 4 dimensions, each >= 1, slowest first. */
typedef struct zs_shape {
    int nd;
    int64_t d[4];
} zs_shape;

static inline zs_shape zs_shape1(int64_t a)
{
    return (zs_shape){1, {a, 1, 1, 1}};
}

static inline zs_shape zs_shape2(int64_t a, int64_t b)
{
    return (zs_shape){2, {a, b, 1, 1}};
}

static inline zs_shape zs_shape4(int64_t a, int64_t b, int64_t c, int64_t d)
{
    return (zs_shape){4, {a, b, c, d}};
}

static inline int64_t zs_shape_numel(const zs_shape *s)
{
    int64_t n = 1;
    for (int i = 0; i < s->nd; i++)
        n *= s->d[i];
    return n;
}

/* Channels: the last dimension. Rows: everything before it. */
static inline int64_t zs_shape_last(const zs_shape *s)
{
    return s->d[s->nd - 1];
}

static inline int64_t zs_shape_rows(const zs_shape *s)
{
    return zs_shape_numel(s) / zs_shape_last(s);
}

static inline bool zs_shape_equal(const zs_shape *a, const zs_shape *b)
{
    if (a->nd != b->nd)
        return false;
    for (int i = 0; i < a->nd; i++)
        if (a->d[i] != b->d[i])
            return false;
    return true;
}

#endif
