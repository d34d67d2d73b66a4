/* SPDX-License-Identifier: MIT */
/* Output folders that appear whole or not at all. */
#ifndef ZS_IO_OUTFOLDER_H
#define ZS_IO_OUTFOLDER_H

#include "base/base.h"

/* Between open and commit the files live in a folder of a temporary name beside the target.
 * Zero-initialise. */
typedef struct zs_outfolder {
    char *path; /* target */
    char *tmp;  /* "<path>.tmp-XXXXXX": write here */
} zs_outfolder;

/* ZS_E_INVALID when the target exists; ZS_E_IO. */
int zs_outfolder_open(zs_outfolder *o, const char *path, zs_error *err);

/* Renames the folder. On failure nothing of it remains. Closes o either way. */
int zs_outfolder_commit(zs_outfolder *o, zs_error *err);

/* Removes the temporary folder and everything in it; a no-op after commit. */
void zs_outfolder_abort(zs_outfolder *o);

#endif
