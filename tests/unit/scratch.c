/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/scratch.h"

static char dir[64];

/* Paths are kept, so that none turns into another one while a test still has it. */
static struct path {
    struct path *next;
    char text[512];
} * paths;

int scratch_make(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/zsem-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

int scratch_remove(void **state)
{
    char command[100];
    (void)state;
    while (paths) {
        struct path *next = paths->next;
        free(paths);
        paths = next;
    }
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    return system(command);
}

const char *scratch_dir(void)
{
    return dir;
}

int scratch_files(void)
{
    int count = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

const char *scratch_path(const char *fmt, ...)
{
    va_list args;
    struct path *p = malloc(sizeof *p);
    assert_non_null(p);
    p->next = paths;
    paths = p;
    size_t n = (size_t)snprintf(p->text, sizeof p->text, "%s/", dir);
    va_start(args, fmt);
    int more = vsnprintf(p->text + n, sizeof p->text - n, fmt, args);
    va_end(args);
    assert_true(more >= 0 && n + (size_t)more < sizeof p->text);
    return p->text;
}
