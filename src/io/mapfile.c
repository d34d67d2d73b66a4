/* SPDX-License-Identifier: MIT */
#include "io/mapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int zs_mapfile_open(zs_mapfile *m, const char *path, zs_error *err)
{
    *m = (zs_mapfile){0};
    struct stat st;
    /* without O_NONBLOCK a named pipe waits for a writer that may never come */
    int status = ZS_OK, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return zs_fail(err, ZS_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    if (fstat(fd, &st) != 0) {
        status = zs_fail(err, ZS_E_IO, "%s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        status = zs_fail(err, ZS_E_IO, "%s: is not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            status = zs_fail(err, ZS_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
        else
            *m = (zs_mapfile){p, (size_t)st.st_size};
    }
    close(fd);
    return status;
}

void zs_mapfile_close(zs_mapfile *m)
{
    if (m->p)
        munmap((void *)(uintptr_t)m->p, m->n);
    *m = (zs_mapfile){0};
}

void zs_mapfile_drop(const zs_mapfile *m, const uint8_t *p, size_t n)
{
    enum { WORTH_A_CALL = 1 << 16 };
    uintptr_t first = (uintptr_t)m->p, page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)p, end = begin + n;
    if (!m->p || n < WORTH_A_CALL || begin < first || end > first + m->n)
        return;
    begin -= begin % page; /* a neighbour's bytes on the page come back from the file */
    (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}
