/* SPDX-License-Identifier: MIT */
/* The pickle machine: what pickle.c (control, containers) and pickle_scalar.c (literals) share. */
#ifndef ZS_IO_PICKLE_IMPL_H
#define ZS_IO_PICKLE_IMPL_H

#include "io/pickle.h"

typedef struct zs_pmachine {
    zs_pickle *out;
    const char *label;
    zs_error *err;
    zs_span in;
    size_t at;    /* next byte */
    size_t op_at; /* the opcode being run */
    zs_pvalue **stack;
    size_t depth, stack_cap;
    size_t *marks; /* stack depths */
    size_t mark_count, mark_cap;
    zs_pvalue **memo;
    size_t memo_count, memo_cap; /* memo_count: one past the highest slot in use */
    bool stopped;
} zs_pmachine;

typedef int (*zs_pop_fn)(zs_pmachine *m, uint8_t op);

/* ZS_E_FORMAT with the position. */
int zs_pm_fail(zs_pmachine *m, const char *what);
int zs_pm_nomem(zs_pmachine *m);
/* Bytes from the arena, 8-byte aligned, uninitialised; NULL when out of memory. */
void *zs_pm_bytes(zs_pmachine *m, size_t n);
zs_pvalue *zs_pm_value(zs_pmachine *m, zs_pkind kind);
int zs_pm_push(zs_pmachine *m, zs_pvalue *v); /* v NULL: out of memory */

/* The next n bytes; a line without its newline; a little-endian number of n <= 8 bytes. */
int zs_pm_take(zs_pmachine *m, zs_span *s, uint64_t n);
int zs_pm_line(zs_pmachine *m, zs_span *s);
int zs_pm_number(zs_pmachine *m, uint64_t *v, size_t n);
/* A whole line as decimal; ZS_E_FORMAT when it is not. */
int zs_pm_decimal(zs_pmachine *m, int64_t *v);

/* Handlers of literals, in pickle_scalar.c. */
int zs_pop_constant(zs_pmachine *m, uint8_t op);
int zs_pop_int(zs_pmachine *m, uint8_t op);
int zs_pop_text_int(zs_pmachine *m, uint8_t op);
int zs_pop_long(zs_pmachine *m, uint8_t op);
int zs_pop_float(zs_pmachine *m, uint8_t op);
int zs_pop_text_float(zs_pmachine *m, uint8_t op);
int zs_pop_string(zs_pmachine *m, uint8_t op);
int zs_pop_text_string(zs_pmachine *m, uint8_t op);
int zs_pop_text_unicode(zs_pmachine *m, uint8_t op);

#endif
