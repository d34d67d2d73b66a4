/* SPDX-License-Identifier: MIT */
/* Members of a tar archive in memory: ustar, GNU long names and pax headers. Private to data. */
#ifndef ZS_DATA_TARFILE_H
#define ZS_DATA_TARFILE_H

#include "base/base.h"

/* Set label, p and n (which must outlive it), zero the rest; release with zs_tar_close. */
typedef struct zs_tar {
    const char *label; /* starts every message */
    const uint8_t *p;
    size_t n, at;
    bool ended; /* the last block read was an end mark */
    zs_strbuf name, next_name;
    uint64_t next_size; /* from a pax header */
    bool has_next_name, has_next_size;
} zs_tar;

typedef struct zs_tar_member {
    const char *name; /* without leading "./"; valid until the next call */
    zs_span data;     /* within the archive */
} zs_tar_member;

/* The next regular file: 1, or 0 at the end. ZS_E_FORMAT: not a tar file, a damaged header, or an
 * archive that was cut short, be it at the end of a member; ZS_E_UNSUPPORTED: sparse files. */
int zs_tar_next(zs_tar *t, zs_tar_member *m, zs_error *err);
void zs_tar_close(zs_tar *t);

/* Appends one member, or the end mark. Names over 100 bytes get a pax header. */
void zs_tar_add(zs_strbuf *b, const char *name, const void *p, size_t n);
void zs_tar_end(zs_strbuf *b);

#endif
