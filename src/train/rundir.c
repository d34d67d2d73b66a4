/* SPDX-License-Identifier: MIT */
#include "train/rundir.h"
#include "io/outfile.h"
#include "train/runevents.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static const char checkpoint_ext[] = ".safetensors", picture_ext[] = ".png";

char *zs_rundir_file(const zs_rundir *d, const char *name)
{
    return zs_str_format("%s/%s", d->path, name);
}

char *zs_rundir_step_file(const zs_rundir *d, const char *kind, int64_t step, const char *ext)
{
    return zs_str_format("%s/%s/step-%08lld%s", d->path, kind, (long long)step, ext);
}

static int make_folder(const zs_rundir *d, const char *name, zs_error *err)
{
    char *path = zs_rundir_file(d, name);
    int status = path ? zs_mkdirs(path, err) : zs_fail_nomem(err, 256, "a file name");
    zs_free(path);
    return status;
}

static int take_lock(zs_rundir *d, zs_error *err)
{
    char *path = zs_rundir_file(d, ".lock");
    if (!path)
        return zs_fail_nomem(err, 256, "a file name");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), status = ZS_OK;
    if (fd < 0)
        status = zs_fail(err, ZS_E_IO, "%s: cannot be created: %s; choose a writable --out folder",
                         path, strerror(errno));
    else if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        status = zs_fail(err, ZS_E_INVALID,
                         "%s: another process is training in this folder; wait for it, or choose "
                         "another --out",
                         d->path);
    /* a file system without locks is used without */
    zs_free(path);
    if (status < 0 && fd >= 0)
        close(fd);
    d->lock = status < 0 ? 0 : fd + 1;
    return status;
}

/* Writers that were killed leave "<name>.tmp-XXXXXX" behind. Only safe under the lock. */
static void remove_temporary(const zs_rundir *d, const char *folder)
{
    char *path = zs_rundir_file(d, folder);
    DIR *dir = path ? opendir(path) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        const char *tmp = strstr(e->d_name, ".tmp-");
        if (tmp && strlen(tmp) == strlen(".tmp-XXXXXX"))
            unlinkat(dirfd(dir), e->d_name, 0);
    }
    if (dir)
        closedir(dir);
    zs_free(path);
}

int zs_rundir_open(zs_rundir *d, const char *path, zs_error *err)
{
    static const char *const folders[] = {".", "checkpoints", "samples"};
    static const char *const others[] = {"plots", "tensorboard"}; /* made by who writes there */
    *d = (zs_rundir){.path = zs_str_dup(path)};
    int status = d->path ? zs_mkdirs(path, err) : zs_fail_nomem(err, strlen(path), "a file name");
    if (status == ZS_OK)
        status = take_lock(d, err);
    for (size_t i = 0; status == ZS_OK && i < sizeof folders / sizeof *folders; i++) {
        status = make_folder(d, folders[i], err);
        remove_temporary(d, folders[i]);
    }
    for (size_t i = 0; status == ZS_OK && i < sizeof others / sizeof *others; i++)
        remove_temporary(d, others[i]);
    if (status < 0)
        zs_rundir_close(d);
    return status;
}

void zs_rundir_close(zs_rundir *d)
{
    if (d->lock)
        close(d->lock - 1);
    zs_free(d->path);
    *d = (zs_rundir){0};
}

/* "step-00001000<extension>" -> 1000; -1 for any other name. */
static int64_t step_of(const char *name, const char *extension)
{
    size_t n = strlen(name), ext = strlen(extension);
    char digits[24];
    int64_t step;
    if (!zs_str_starts(name, "step-") || !zs_str_ends(name, extension))
        return -1;
    n -= 5 + ext;
    if (n < 8 || n >= sizeof digits)
        return -1;
    memcpy(digits, name + 5, n);
    digits[n] = '\0';
    return zs_str_to_i64(digits, &step) && step >= 0 ? step : -1;
}

static int compare_steps(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static int list_steps(const zs_rundir *d, const char *folder, const char *extension,
                      int64_t **steps, size_t *n, zs_error *err)
{
    size_t cap = 0;
    void *items = NULL;
    *steps = NULL;
    *n = 0;
    char *path = zs_rundir_file(d, folder);
    DIR *dir = path ? opendir(path) : NULL;
    int status = ZS_OK;
    if (!dir)
        status =
            zs_fail(err, ZS_E_IO, "%s/%s: cannot be listed: %s", d->path, folder, strerror(errno));
    for (struct dirent *e; status == ZS_OK && (e = readdir(dir)) != NULL;) {
        int64_t step = step_of(e->d_name, extension);
        if (step < 0)
            continue;
        if (!zs_grow(&items, &cap, *n, sizeof **steps))
            status = zs_fail_nomem(err, 64, "a list of steps");
        else
            ((int64_t *)items)[(*n)++] = step;
    }
    if (dir)
        closedir(dir);
    zs_free(path);
    *steps = items;
    if (*n)
        qsort(*steps, *n, sizeof **steps, compare_steps);
    return status;
}

int zs_rundir_checkpoints(const zs_rundir *d, int64_t **steps, size_t *n, zs_error *err)
{
    return list_steps(d, "checkpoints", checkpoint_ext, steps, n, err);
}

int zs_rundir_samples(const zs_rundir *d, int64_t **steps, size_t *n, zs_error *err)
{
    return list_steps(d, "samples", picture_ext, steps, n, err);
}

int zs_rundir_prune(const zs_rundir *d, int64_t keep, zs_error *err)
{
    int64_t *steps;
    size_t n;
    int status = zs_rundir_checkpoints(d, &steps, &n, err);
    for (size_t i = 0; status == ZS_OK && (int64_t)(n - i) > keep; i++) {
        char *path = zs_rundir_step_file(d, "checkpoints", steps[i], checkpoint_ext);
        if (!path || unlink(path) != 0)
            status =
                zs_fail(err, ZS_E_IO, "%s/checkpoints: an old checkpoint cannot be deleted: %s",
                        d->path, strerror(errno));
        zs_free(path);
    }
    zs_free(steps);
    return status;
}

static bool line_is_before(const char *line, size_t len, int64_t step)
{
    if (len == 0 || line[len - 1] != '\n')
        return false;
    json_t *j = json_loadb(line, len, 0, NULL);
    const json_t *at = json_object_get(j, "step");
    bool before = json_is_integer(at) && json_integer_value(at) <= step;
    json_decref(j);
    return before;
}

int zs_rundir_log_truncate(const zs_rundir *d, int64_t step, zs_error *err)
{
    char *path = zs_rundir_file(d, "log.jsonl"), *line = NULL;
    if (!path)
        return zs_fail_nomem(err, 256, "a file name");
    FILE *f = fopen(path, "rb");
    size_t cap = 0;
    off_t keep = 0;
    int status = ZS_OK;
    if (f) {
        for (ssize_t len; (len = getline(&line, &cap, f)) > 0; keep += len)
            if (!line_is_before(line, (size_t)len, step))
                break;
        fclose(f);
        if (truncate(path, keep) != 0)
            status = zs_fail(err, ZS_E_IO, "%s: cannot be shortened to step %lld: %s", path,
                             (long long)step, strerror(errno));
    }
    free(line); /* getline's own */
    zs_free(path);
    return status < 0 ? status : zs_runevents_rebuild(d, step, err);
}

int zs_rundir_log_append(const zs_rundir *d, const json_t *line, zs_error *err)
{
    char *path = zs_rundir_file(d, "log.jsonl");
    FILE *f = path ? fopen(path, "ab") : NULL;
    int status = ZS_OK;
    bool ok = f && json_dumpf(line, f, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0 &&
              fputc('\n', f) != EOF;
    if (f && fclose(f) != 0)
        ok = false;
    if (!ok)
        status =
            zs_fail(err, ZS_E_IO, "%s/log.jsonl: cannot be written: %s", d->path, strerror(errno));
    zs_free(path);
    return status < 0 ? status : zs_runevents_line(d, line, err);
}

int zs_rundir_log_picture(const zs_rundir *d, int64_t step, const char *path, zs_error *err)
{
    return zs_runevents_picture(d, step, path, err);
}

int zs_rundir_write_config(const zs_rundir *d, const json_t *config, zs_error *err)
{
    char *path = zs_rundir_file(d, "config.json");
    char *text = json_dumps(config, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    int status;
    if (path && text)
        status = zs_file_write(path, text, strlen(text), err);
    else
        status = zs_fail_nomem(err, 4096, "config.json");
    free(text); /* jansson's own */
    zs_free(path);
    return status;
}
