/* SPDX-License-Identifier: MIT */
/* Output files appear whole or not at all. */
#include "io/outfile.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

static void assert_content(const char *path, const char *want)
{
    char got[64] = {0};
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    got[fread(got, 1, sizeof got - 1, f)] = '\0';
    fclose(f);
    assert_string_equal(got, want);
}

static void test_appears_at_commit(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_outfile o;
    const char *path = scratch_path("new");
    assert_int_equal(zs_outfile_open(&o, path, &err), ZS_OK);
    fputs("hello", o.f);
    assert_int_equal(fflush(o.f), 0);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(zs_outfile_commit(&o, &err), ZS_OK);
    assert_content(path, "hello");
    assert_int_equal(scratch_files(), 1);
    zs_outfile_abort(&o); /* a no-op now */
    assert_content(path, "hello");
}

static void test_replaces_at_commit(void **state)
{
    (void)state;
    zs_error err = {0};
    zs_outfile o;
    const char *path = scratch_path("old");
    assert_int_equal(zs_file_write(path, "before", 6, &err), ZS_OK);
    assert_int_equal(zs_outfile_open(&o, path, &err), ZS_OK);
    fputs("after", o.f);
    assert_content(path, "before");
    assert_int_equal(zs_outfile_commit(&o, &err), ZS_OK);
    assert_content(path, "after");
    assert_int_equal(scratch_files(), 1);
}

static void test_abort_leaves_nothing(void **state)
{
    (void)state;
    zs_outfile o;
    const char *path = scratch_path("kept");
    assert_int_equal(zs_file_write(path, "kept", 4, NULL), ZS_OK);
    assert_int_equal(zs_outfile_open(&o, path, NULL), ZS_OK);
    fputs("discarded", o.f);
    zs_outfile_abort(&o);
    zs_outfile_abort(&o);
    assert_content(path, "kept");
    assert_int_equal(scratch_files(), 1);
}

static void test_relative_name(void **state)
{
    (void)state;
    char back[256];
    assert_non_null(getcwd(back, sizeof back));
    assert_int_equal(chdir(scratch_dir()), 0);
    int status = zs_file_write("bare", "x", 1, NULL);
    assert_int_equal(chdir(back), 0);
    assert_int_equal(status, ZS_OK);
    assert_content(scratch_path("bare"), "x");
}

static void assert_refused(const char *path)
{
    zs_error err = {0};
    assert_int_equal(zs_file_write(path, "x", 1, &err), ZS_E_IO);
    assert_int_equal(err.status, ZS_E_IO);
    assert_non_null(strstr(err.message, path));
}

static void test_impossible_targets(void **state)
{
    (void)state;
    assert_int_equal(zs_file_write(scratch_path("file"), "x", 1, NULL), ZS_OK);
    assert_refused(scratch_path("missing/file"));
    assert_refused(scratch_path("file/inside"));
    assert_int_equal(mkdir(scratch_path("sub"), 0755), 0);
    assert_refused(scratch_path("sub"));
    assert_refused(scratch_path("sub/"));
    assert_int_equal(scratch_files(), 2);
    assert_int_equal(rmdir(scratch_path("sub")), 0); /* empty: nothing was left in it */
}

static void test_read_only_folder(void **state)
{
    (void)state;
    assert_int_equal(chmod(scratch_dir(), 0555), 0);
    uid_t me = geteuid();
    if (me == 0) /* root may write anywhere */
        assert_int_equal(seteuid(65534), 0);
    zs_error err = {0};
    int status = zs_file_write(scratch_path("file"), "x", 1, &err);
    if (me == 0)
        assert_int_equal(seteuid(0), 0);
    assert_int_equal(chmod(scratch_dir(), 0755), 0);
    assert_int_equal(status, ZS_E_IO);
    assert_non_null(strstr(err.message, "Permission denied"));
    assert_int_equal(scratch_files(), 0);
}

/* A file size limit stands for a full disk: write() stops in the middle and fails. */
static void test_full_disk(void **state)
{
    (void)state;
    const char *path = scratch_path("checkpoint");
    assert_int_equal(zs_file_write(path, "good", 4, NULL), ZS_OK);
    struct rlimit old, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 100000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    char *big = zs_calloc(300000, 1);
    zs_error err = {0};
    int status = zs_file_write(path, big, 300000, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, handler);
    zs_free(big);
    assert_int_equal(status, ZS_E_IO);
    assert_non_null(strstr(err.message, path));
    assert_content(path, "good");
    assert_int_equal(scratch_files(), 1);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    const char *path = scratch_path("file");
    for (long n = 1; n <= 2; n++) {
        zs_error err = {0};
        zs_alloc_fail_at(n);
        int status = zs_file_write(path, "x", 1, &err);
        zs_alloc_fail_at(0);
        assert_int_equal(status, ZS_E_NOMEM);
        assert_int_equal(err.status, ZS_E_NOMEM);
        assert_int_equal(scratch_files(), 0);
    }
    /* syncing the folder is best effort: by then the file is in place */
    zs_alloc_fail_at(3);
    assert_int_equal(zs_file_write(path, "x", 1, NULL), ZS_OK);
    zs_alloc_fail_at(0);
    assert_content(path, "x");
}

static void test_mkdirs(void **state)
{
    (void)state;
    struct stat st;
    zs_error err = {0};
    assert_int_equal(zs_mkdirs(scratch_path("a/b//c/"), &err), ZS_OK);
    assert_int_equal(stat(scratch_path("a/b/c"), &st), 0);
    assert_true(S_ISDIR(st.st_mode));
    assert_int_equal(zs_mkdirs(scratch_path("a/b"), &err), ZS_OK);
    assert_int_equal(zs_mkdirs("/", &err), ZS_OK);
    assert_int_equal(zs_mkdirs(".", &err), ZS_OK);
    assert_int_equal(err.status, ZS_OK);
    assert_int_equal(zs_file_write(scratch_path("file"), "x", 1, NULL), ZS_OK);
    assert_int_equal(zs_mkdirs(scratch_path("file"), NULL), ZS_E_IO);
    assert_int_equal(zs_mkdirs(scratch_path("file/below"), &err), ZS_E_IO);
    assert_non_null(strstr(err.message, "file/below"));
    assert_int_equal(zs_mkdirs("", NULL), ZS_E_IO);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(test_appears_at_commit),
        IN_FOLDER(test_replaces_at_commit),
        IN_FOLDER(test_abort_leaves_nothing),
        IN_FOLDER(test_relative_name),
        IN_FOLDER(test_impossible_targets),
        IN_FOLDER(test_read_only_folder),
        IN_FOLDER(test_full_disk),
        IN_FOLDER(test_out_of_memory),
        IN_FOLDER(test_mkdirs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
