/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/must.h"

void must(int status, const zs_error *err)
{
    if (status != ZS_OK)
        fail_msg("status %d: %s", status, err->message);
}

void must_refuse(int status, zs_error *err, int want, const char *words)
{
    if (status != want)
        fail_msg("status %d, not %d: %s", status, want, err->message);
    if (!strstr(err->message, words))
        fail_msg("\"%s\" does not say \"%s\"", err->message, words);
    *err = (zs_error){0};
}
