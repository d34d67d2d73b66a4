/* SPDX-License-Identifier: MIT */
#include "base/base.h"
#include "zsem/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* The folder that ZSEM_SHARE names is the only one looked into. */
static void test_environment(void **state)
{
    (void)state;
    char *path = NULL;
    zs_error err = {0};
    assert_int_equal(setenv("ZSEM_SHARE", ZSEM_SOURCE_DIR "/src/base", 1), 0);
    assert_int_equal(zs_share_find(&path, "share.c", &err), ZS_OK);
    assert_string_equal(path, ZSEM_SOURCE_DIR "/src/base/share.c");
    zs_free(path);
    assert_int_equal(zs_share_find(&path, "absent", &err), ZS_E_IO);
    assert_null(path);
    assert_non_null(strstr(err.message, "src/base/absent"));
    assert_non_null(strstr(err.message, "ZSEM_SHARE"));
}

static void test_without_environment(void **state)
{
    (void)state;
    char *path = NULL;
    assert_int_equal(unsetenv("ZSEM_SHARE"), 0);
    assert_int_equal(zs_share_find(&path, ".", NULL), ZS_OK);
    assert_int_equal(access(path, R_OK), 0);
    zs_free(path);
    zs_alloc_fail_at(1);
    int status = zs_share_find(&path, ".", NULL);
    zs_alloc_fail_at(0);
    assert_int_equal(status, ZS_E_NOMEM);
    assert_null(path);
}

/* NEWS.md opens with the version that the library reports. */
static void test_version(void **state)
{
    (void)state;
    char line[64] = "", want[64];
    FILE *f = fopen(ZSEM_SOURCE_DIR "/NEWS.md", "r");
    assert_non_null(f);
    while (strncmp(line, "## ", 3) != 0)
        assert_non_null(fgets(line, sizeof line, f));
    fclose(f);
    snprintf(want, sizeof want, "## %s", zs_version());
    assert_memory_equal(line, want, strlen(want));
    assert_true(line[strlen(want)] == '\n' || line[strlen(want)] == ' ');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_without_environment),
        cmocka_unit_test(test_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
