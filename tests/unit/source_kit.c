/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/must.h"
#include "tests/unit/source_kit.h"

void kit_put(const char *path, const void *p, size_t n)
{
    zs_error err = {0};
    must(zs_file_write(path, p, n, &err), &err);
}

zs_source *kit_source(const char *spec)
{
    zs_source *s = NULL;
    zs_error err = {0};
    if (zs_source_open(&s, spec, &err) < 0)
        fail_msg("%s: %s", spec, err.message);
    return s;
}

void kit_source_refused(const char *spec, int status, const char *words)
{
    zs_source *s = (zs_source *)(uintptr_t)1;
    zs_error err = {0};
    int got = zs_source_open(&s, spec, &err);
    assert_null(s);
    if (got != status || err.status != status || !strstr(err.message, words))
        fail_msg("%s: status %d, \"%s\"; want %d, \"%s\"", spec, got, err.message, status, words);
}

int kit_first_byte(const zs_source *s, int64_t i)
{
    zs_image im;
    zs_error err = {0};
    must(zs_source_read(s, i, 0, &im, &err), &err);
    int v = im.px[0];
    zs_image_free(&im);
    return v;
}
