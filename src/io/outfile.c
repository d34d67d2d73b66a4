/* SPDX-License-Identifier: MIT */
#include "io/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int zs_outfile_open(zs_outfile *o, const char *path, zs_error *err)
{
    *o = (zs_outfile){.path = zs_str_dup(path), .tmp = zs_str_format("%s.tmp-XXXXXX", path)};
    if (!o->path || !o->tmp) {
        zs_outfile_abort(o);
        return zs_fail_nomem(err, strlen(path), "a file name");
    }
    int fd = mkstemp(o->tmp);
    if (fd >= 0 && fchmod(fd, 0644) == 0)
        o->f = fdopen(fd, "wb");
    if (!o->f) {
        int e = errno;
        if (fd >= 0) {
            close(fd);
            unlink(o->tmp);
        }
        zs_outfile_abort(o);
        return zs_fail(err, ZS_E_IO, "%s: cannot be written: %s; choose another place", path,
                       strerror(e));
    }
    errno = 0; /* so that commit does not report somebody else's failure */
    return ZS_OK;
}

static void sync_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? zs_str_format("%.*s", (int)(slash - path + 1), path) : zs_str_dup(".");
    int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd); /* best effort: some file systems refuse to sync a folder */
        close(fd);
    }
    zs_free(dir);
}

int zs_outfile_commit(zs_outfile *o, zs_error *err)
{
    int e = 0;
    /* after a failed fwrite its errno is the only trace of the cause */
    if (ferror(o->f) || fflush(o->f) != 0 || fsync(fileno(o->f)) != 0)
        e = errno ? errno : EIO;
    if (fclose(o->f) != 0 && e == 0)
        e = errno;
    o->f = NULL;
    if (e == 0 && rename(o->tmp, o->path) != 0)
        e = errno;
    if (e != 0) {
        zs_fail(err, ZS_E_IO, "%s: could not be written: %s; make room or choose another place",
                o->path, strerror(e));
        unlink(o->tmp);
    } else {
        sync_folder_of(o->path);
    }
    zs_free(o->tmp);
    o->tmp = NULL;
    zs_outfile_abort(o);
    return e ? ZS_E_IO : ZS_OK;
}

void zs_outfile_abort(zs_outfile *o)
{
    if (o->f) {
        fclose(o->f);
        unlink(o->tmp);
    }
    zs_free(o->tmp);
    zs_free(o->path);
    *o = (zs_outfile){0};
}

int zs_file_write(const char *path, const void *bytes, size_t n, zs_error *err)
{
    zs_outfile o;
    int status = zs_outfile_open(&o, path, err);
    if (status < 0)
        return status;
    fwrite(bytes, 1, n, o.f);
    return zs_outfile_commit(&o, err);
}

int zs_mkdirs(const char *path, zs_error *err)
{
    char *p = zs_str_dup(path);
    if (!p)
        return zs_fail_nomem(err, strlen(path), "a folder name");
    int e = 0;
    /* an empty path is left for mkdir to refuse */
    for (char *s = p + (*p != '\0'); e == 0; s++) {
        if (*s != '/' && *s != '\0')
            continue;
        char c = *s;
        *s = '\0';
        if (mkdir(p, 0777) != 0 && errno != EEXIST)
            e = errno;
        *s = c;
        if (c == '\0')
            break;
    }
    struct stat st;
    if (e == 0 && (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)))
        e = ENOTDIR;
    zs_free(p);
    return e ? zs_fail(err, ZS_E_IO, "%s: folder cannot be created: %s; choose another place", path,
                       strerror(e))
             : ZS_OK;
}
