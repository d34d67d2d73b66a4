/* SPDX-License-Identifier: MIT */
/* Pickled values that are not tensors, as JSON. Private to io. */
#ifndef ZS_IO_TORCHMETA_H
#define ZS_IO_TORCHMETA_H

#include "io/pickle.h"

#include <jansson.h>

/* How an object is shown. */
typedef enum zs_tmkind {
    ZS_TM_DICT,   /* OrderedDict and defaultdict: an object of its items */
    ZS_TM_LIST,   /* set(list), torch.Size(tuple), ...: args[0] is a sequence */
    ZS_TM_SCALAR, /* numpy scalars and arrays, paths, bytes: zs_torchmeta_scalar */
    ZS_TM_OPAQUE  /* {"__class__": ...} */
} zs_tmkind;

zs_tmkind zs_torchmeta_kind(const zs_pobject *o);

/* New references, or NULL when out of memory. Integers beyond int64 become the nearest one,
 * non-finite floats the strings "NaN", "Infinity", "-Infinity"; bytes are only counted; text
 * that is not UTF-8 has '?' for every byte that is not ASCII. */
json_t *zs_torchmeta_plain(const zs_pvalue *v);
json_t *zs_torchmeta_scalar(const zs_pobject *o);
json_t *zs_torchmeta_class(const zs_pvalue *cls);

/* How much text zs_torchmeta_scalar may make. */
size_t zs_torchmeta_cost(const zs_pobject *o);

/* A dictionary key as an owned string (zs_free): text as it is, numbers in decimal, tuples as
 * "(a, b)", classes as "module.name", anything else "<key 3>" with its position. NULL when out of
 * memory. */
char *zs_torchmeta_key(const zs_pvalue *key, size_t position);

#endif
