/* SPDX-License-Identifier: MIT */
#include "backend/cuda/plan_file.h"
#include "base/base.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LARGEST = 4 << 20 };

/* The folder that caches go to, or NULL. Owned by the caller. */
static char *folder(void)
{
    const char *own = getenv("ZSEM_CACHE"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (own && *own)
        return zs_str_dup(own);
    if (xdg && *xdg)
        return zs_str_format("%s/zsem", xdg);
    return home && *home ? zs_str_format("%s/.cache/zsem", home) : NULL;
}

/* Makes every folder on the way; failures show when the file is opened. */
static void make_folders(char *path)
{
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            (void)mkdir(path, 0777);
            *p = '/';
        }
    (void)mkdir(path, 0777);
}

static char *path_of(const char *library, size_t version, const char *device)
{
    char *name = zs_str_dup(device), *dir = folder(), *path = NULL;
    for (char *p = name; p && *p; p++)
        if (!isalnum((unsigned char)*p))
            *p = '-';
    if (name && dir) {
        make_folders(dir);
        path = zs_str_format("%s/%s-%zu-%s.txt", dir, library, version, name);
    }
    zs_free(name);
    zs_free(dir);
    return path;
}

/* The whole file as text, or NULL. One that is too large to be ours is removed: lines at its end
 * would never be read. */
static char *read_all(const char *path)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    size_t n = 0;
    if (fd < 0)
        return NULL;
    bool regular = fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
    if (regular && s.st_size <= LARGEST)
        text = zs_alloc((size_t)s.st_size + 1, 1);
    else if (regular)
        (void)unlink(path);
    while (text && n < (size_t)s.st_size) {
        ssize_t got = read(fd, text + n, (size_t)s.st_size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    for (size_t i = 0; text && i < n; i++)
        if (text[i] == '\0') /* damage, which shall not hide what follows */
            text[i] = '\n';
    if (text)
        text[n] = '\0';
    (void)close(fd);
    return text;
}

/* Of key, tab and tag, so that no damaged line is taken for another choice. */
static uint64_t sum_of(const char *s, size_t n)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 1099511628211u;
    return h;
}

enum { SUM = 1 + 16 }; /* tab and digits */

static void sum_text(char out[SUM + 1], const char *line, size_t n)
{
    (void)snprintf(out, SUM + 1, "\t%016llx", (unsigned long long)sum_of(line, n));
}

void zs_plan_file_open(zs_plan_file *f, const char *library, size_t version, const char *device)
{
    if (f->read)
        return;
    f->read = true;
    f->path = path_of(library, version, device);
    f->text = f->path ? read_all(f->path) : NULL;
}

/* Bytes of the tag in a line "key<tab>tag<tab>sum" of that length; 0: another line, or none. */
static size_t tag_length(const char *line, size_t length, const char *key, size_t n)
{
    char sum[SUM + 1];
    if (length <= n + 1 + SUM || length - n - 1 - SUM >= ZS_PLAN_TAG || line[n] != '\t' ||
        strncmp(line, key, n) != 0)
        return 0;
    sum_text(sum, line, length - SUM);
    return memcmp(line + length - SUM, sum, SUM) == 0 ? length - n - 1 - SUM : 0;
}

bool zs_plan_file_get(char tag[ZS_PLAN_TAG], const zs_plan_file *f, const char *key)
{
    size_t n = strlen(key);
    bool found = false;
    for (const char *line = f->text; line && *line;) {
        const char *end = strchr(line, '\n');
        /* a line without its end is half written */
        size_t length = end ? tag_length(line, (size_t)(end - line), key, n) : 0;
        if (length > 0) {
            memcpy(tag, line + n + 1, length);
            tag[length] = '\0';
            found = true;
        }
        line = end ? end + 1 : NULL;
    }
    return found;
}

/* Whether the file ends within a line, as when a process was stopped while it wrote. */
static bool ends_within(const char *text)
{
    size_t n = text ? strlen(text) : 0;
    return n > 0 && text[n - 1] != '\n';
}

bool zs_plan_file_add(const zs_plan_file *f, const char *key, const char *tag)
{
    char sum[SUM + 1] = "";
    int fd = f->path ? open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    char *choice = fd >= 0 ? zs_str_format("%s\t%s", key, tag) : NULL;
    if (choice)
        sum_text(sum, choice, strlen(choice));
    char *line =
        choice ? zs_str_format("%s%s%s\n", ends_within(f->text) ? "\n" : "", choice, sum) : NULL;
    /* one write, so that processes which choose at once do not mix their lines */
    bool ok = line && write(fd, line, strlen(line)) == (ssize_t)strlen(line);
    zs_free(choice);
    zs_free(line);
    if (fd >= 0)
        (void)close(fd);
    return ok;
}

void zs_plan_file_close(zs_plan_file *f)
{
    zs_free(f->path);
    zs_free(f->text);
    *f = (zs_plan_file){0};
}
