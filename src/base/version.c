/* SPDX-License-Identifier: MIT */
#include "zsem/version.h"

/* ZSEM_VERSION comes from project(VERSION) in CMakeLists.txt. */
const char *zs_version(void)
{
    return ZSEM_VERSION;
}
