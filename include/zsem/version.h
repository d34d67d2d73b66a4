/* SPDX-License-Identifier: MIT */
/*
 * The version of the library that is running.
 *
 *     printf("zsem %s\n", zs_version());
 */
#ifndef ZSEM_VERSION_H
#define ZSEM_VERSION_H

#include "zsem/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "major.minor.patch"; static storage. */
ZS_API const char *zs_version(void);

#ifdef __cplusplus
}
#endif
#endif
