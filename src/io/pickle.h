/* SPDX-License-Identifier: MIT */
/* Python pickles as data. Private to io.
 *
 * Every opcode of protocols 0 to 5 is understood, and none of them does anything but build
 * values: a class is its name, a call is an object that remembers class and arguments. Nothing
 * is imported, looked up or run. Source: the opcode table of CPython's pickletools. */
#ifndef ZS_IO_PICKLE_H
#define ZS_IO_PICKLE_H

#include "base/base.h"

typedef enum zs_pkind {
    ZS_P_NONE,
    ZS_P_BOOL,
    ZS_P_INT,    /* fits int64 */
    ZS_P_BIGINT, /* does not: only its sign (u.i = -1 or 1) and bytes are kept */
    ZS_P_FLOAT,
    ZS_P_STR,    /* u.s, meant to be UTF-8 but not checked */
    ZS_P_BYTES,  /* u.s */
    ZS_P_LIST,   /* u.seq */
    ZS_P_TUPLE,  /* u.seq */
    ZS_P_SET,    /* u.seq; also frozenset */
    ZS_P_DICT,   /* u.seq: key, value, key, value, ... with an even count */
    ZS_P_GLOBAL, /* u.global: a class or function, by name only */
    ZS_P_OBJECT, /* u.obj: what calling u.obj->cls would have made */
    ZS_P_PERSID  /* u.pid: a persistent id (torch: a storage) */
} zs_pkind;

typedef struct zs_pvalue zs_pvalue;

typedef struct zs_pseq {
    zs_pvalue **v;
    size_t n, cap;
} zs_pseq;

typedef struct zs_pobject {
    zs_pvalue *cls;
    zs_pvalue *args;   /* usually a tuple; never NULL */
    zs_pvalue *kwargs; /* a dictionary, or NULL */
    zs_pvalue *state;  /* what BUILD gave, or NULL */
    zs_pseq list;      /* appended items */
    zs_pseq pairs;     /* set items: key, value, ... */
} zs_pobject;

struct zs_pvalue {
    zs_pkind kind;
    bool active; /* for whoever walks the values, which may form cycles; false at first */
    union {
        int64_t i;
        double f;
        zs_span s;
        zs_pseq seq;
        struct {
            zs_span module, name;
        } global;
        zs_pobject *obj;
        zs_pvalue *pid;
    } u;
};

typedef struct zs_pickle {
    zs_pvalue *root;
    size_t used;     /* bytes up to and including STOP */
    zs_pseq persids; /* every ZS_P_PERSID value, in file order */
    struct zs_pchunk *chunks;
} zs_pickle;

/* Parses one pickle at the start of `bytes`, which must outlive *out: strings are borrowed from
 * it. Memory stays within a small multiple of the bytes consumed. `label` names the file in
 * messages. ZS_E_FORMAT, ZS_E_UNSUPPORTED (out-of-band buffers), ZS_E_NOMEM.
 * Zero-initialise; zs_pickle_free is idempotent. */
int zs_pickle_parse(zs_pickle *out, const char *label, zs_span bytes, zs_error *err);
void zs_pickle_free(zs_pickle *p);

/* True for ZS_P_GLOBAL "module name". */
bool zs_pvalue_is_global(const zs_pvalue *v, const char *module, const char *name);
/* True for a string that equals s. */
bool zs_pvalue_is_str(const zs_pvalue *v, const char *s);
/* Item i of a list, tuple or set, or NULL. */
zs_pvalue *zs_pvalue_at(const zs_pvalue *v, size_t i);

#endif
