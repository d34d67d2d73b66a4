/* SPDX-License-Identifier: MIT */
#include "io/outfolder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_exists(const char *path, zs_error *err)
{
    return zs_fail(err, ZS_E_INVALID, "%s: exists already; choose another name, or remove it first",
                   path);
}

int zs_outfolder_open(zs_outfolder *o, const char *path, zs_error *err)
{
    struct stat st;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    *o = (zs_outfolder){.path = zs_str_format("%.*s", (int)n, path)};
    if (o->path)
        o->tmp = zs_str_format("%s.tmp-XXXXXX", o->path);
    int status = ZS_OK;
    if (!o->tmp)
        status = zs_fail_nomem(err, n, "a folder name");
    else if (lstat(o->path, &st) == 0)
        status = fail_exists(o->path, err);
    else if (!mkdtemp(o->tmp))
        status = zs_fail(err, ZS_E_IO, "%s: cannot be created: %s; choose another place", o->path,
                         strerror(errno));
    if (status == ZS_OK && chmod(o->tmp, 0755) == 0)
        return ZS_OK;
    if (status < 0) { /* there is no folder yet to remove */
        zs_free(o->tmp);
        o->tmp = NULL;
    } else {
        status = zs_fail(err, ZS_E_IO, "%s: %s", o->path, strerror(errno));
    }
    zs_outfolder_abort(o);
    return status;
}

int zs_outfolder_commit(zs_outfolder *o, zs_error *err)
{
    struct stat st;
    int status = ZS_OK;
    /* rename would replace an empty folder that appeared meanwhile */
    if (lstat(o->path, &st) == 0)
        status = fail_exists(o->path, err);
    else if (rename(o->tmp, o->path) != 0)
        status = zs_fail(err, ZS_E_IO, "%s: cannot be created: %s; choose another place", o->path,
                         strerror(errno));
    if (status == ZS_OK) {
        zs_free(o->tmp);
        o->tmp = NULL;
    }
    zs_outfolder_abort(o);
    return status;
}

/* Removes what is in the folder dir_fd/name and the folder; links are not followed. */
static void remove_tree(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(fd, e->d_name, 0) != 0)
            remove_tree(fd, e->d_name);
    }
    if (d)
        closedir(d);
    else if (fd >= 0)
        close(fd);
    unlinkat(dir_fd, name, AT_REMOVEDIR);
}

void zs_outfolder_abort(zs_outfolder *o)
{
    if (o->tmp)
        remove_tree(AT_FDCWD, o->tmp);
    zs_free(o->tmp);
    zs_free(o->path);
    *o = (zs_outfolder){0};
}
