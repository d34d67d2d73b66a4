/* SPDX-License-Identifier: MIT */
#include "backend/cuda/plan_file.h"
#include "base/base.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
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

/* The whole file as text, or NULL. */
static char *read_all(const char *path)
{
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    size_t n = 0;
    if (fd < 0)
        return NULL;
    if (fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && s.st_size <= LARGEST)
        text = zs_alloc((size_t)s.st_size + 1, 1);
    while (text && n < (size_t)s.st_size) {
        ssize_t got = read(fd, text + n, (size_t)s.st_size - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        n += (size_t)got;
    }
    if (text)
        text[n] = '\0'; /* text ends at the first NUL, as that of a damaged file may */
    (void)close(fd);
    return text;
}

void zs_plan_file_open(zs_plan_file *f, const char *library, size_t version, const char *device)
{
    if (f->read)
        return;
    f->read = true;
    f->path = path_of(library, version, device);
    f->text = f->path ? read_all(f->path) : NULL;
}

bool zs_plan_file_get(char tag[ZS_PLAN_TAG], const zs_plan_file *f, const char *key)
{
    size_t n = strlen(key);
    bool found = false;
    for (const char *line = f->text; line && *line;) {
        const char *end = strchr(line, '\n');
        size_t length = end ? (size_t)(end - line) : 0; /* a line without its end is half written */
        if (length > n + 1 && length - n - 1 < ZS_PLAN_TAG && line[n] == '\t' &&
            strncmp(line, key, n) == 0) {
            memcpy(tag, line + n + 1, length - n - 1);
            tag[length - n - 1] = '\0';
            found = true;
        }
        line = end ? end + 1 : NULL;
    }
    return found;
}

bool zs_plan_file_add(const zs_plan_file *f, const char *key, const char *tag)
{
    int fd = f->path ? open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    char *line = fd >= 0 ? zs_str_format("%s\t%s\n", key, tag) : NULL;
    /* one write, so that processes which choose at once do not mix their lines */
    bool ok = line && write(fd, line, strlen(line)) == (ssize_t)strlen(line);
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
