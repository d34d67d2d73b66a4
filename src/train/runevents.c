/* SPDX-License-Identifier: MIT */
#include "train/runevents.h"
#include "io/io.h"
#include "train/tbevents.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVENTS_DIR "tensorboard"
#define EVENTS_FILE EVENTS_DIR "/events.out.tfevents.zsem"

static double wall_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Frees b. */
static int append(const zs_rundir *d, zs_strbuf *b, zs_error *err)
{
    char *path = zs_rundir_file(d, EVENTS_FILE);
    FILE *f = path ? fopen(path, "ab") : NULL;
    bool ok = f && !b->failed && fwrite(b->s, 1, b->n, f) == b->n;
    if (f && fclose(f) != 0)
        ok = false;
    int status = ZS_OK;
    if (!ok)
        status = b->failed || !path
                     ? zs_fail_nomem(err, b->n, "events for TensorBoard")
                     : zs_fail(err, ZS_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    zs_free(path);
    zs_strbuf_free(b);
    return status;
}

int zs_runevents_line(const zs_rundir *d, const json_t *line, zs_error *err)
{
    zs_strbuf b = {0};
    zs_tbevents_scalars(&b, wall_now(), json_integer_value(json_object_get(line, "step")), line);
    return append(d, &b, err);
}

static int add_picture(zs_strbuf *b, double wall, int64_t step, const char *path, zs_error *err)
{
    zs_image head;
    zs_mapfile m = {0};
    int status = zs_image_probe(&head, path, err);
    if (status == ZS_OK)
        status = zs_mapfile_open(&m, path, err);
    if (status == ZS_OK)
        zs_tbevents_png(b, wall, step, "samples", m.p, m.n, (const int[3]){head.w, head.h, head.c});
    zs_mapfile_close(&m);
    return status;
}

int zs_runevents_picture(const zs_rundir *d, int64_t step, const char *path, zs_error *err)
{
    zs_strbuf b = {0};
    int status = add_picture(&b, wall_now(), step, path, err);
    if (status == ZS_OK)
        return append(d, &b, err);
    zs_strbuf_free(&b);
    return status;
}

/* The lines are stamped as if all training so far had just happened in one go: log.jsonl knows
 * seconds of training, not the time of day. */
static void rebuild_lines(zs_strbuf *b, const zs_rundir *d)
{
    char *path = zs_rundir_file(d, "log.jsonl"), *line = NULL;
    FILE *f = path ? fopen(path, "rb") : NULL;
    size_t cap = 0;
    double last = 0.0, now = wall_now();
    for (int pass = 0; f && pass < 2; pass++) {
        rewind(f);
        for (ssize_t len; (len = getline(&line, &cap, f)) > 0;) {
            json_t *j = json_loadb(line, (size_t)len, 0, NULL);
            double t = json_number_value(json_object_get(j, "time"));
            if (pass == 0)
                last = t > last ? t : last;
            else if (j)
                zs_tbevents_scalars(b, now - last + t,
                                    json_integer_value(json_object_get(j, "step")), j);
            json_decref(j);
        }
    }
    if (f)
        fclose(f);
    free(line); /* getline's own */
    zs_free(path);
}

/* Pictures of later steps belong to a future that will be trained again. */
static int rebuild_pictures(zs_strbuf *b, const zs_rundir *d, int64_t step, zs_error *err)
{
    int64_t *steps;
    size_t n;
    int status = zs_rundir_samples(d, &steps, &n, err);
    for (size_t i = 0; status == ZS_OK && i < n && steps[i] <= step; i++) {
        zs_error unreadable = {0}; /* a damaged picture of the past is no reason to stop */
        char *path = zs_rundir_step_file(d, "samples", steps[i], ".png");
        if (!path)
            status = zs_fail_nomem(err, 256, "a file name");
        else
            add_picture(b, wall_now(), steps[i], path, &unreadable);
        zs_free(path);
    }
    zs_free(steps);
    return status;
}

int zs_runevents_rebuild(const zs_rundir *d, int64_t step, zs_error *err)
{
    zs_strbuf b = {0};
    char *folder = zs_rundir_file(d, EVENTS_DIR), *path = zs_rundir_file(d, EVENTS_FILE);
    int status = folder && path ? zs_mkdirs(folder, err) : zs_fail_nomem(err, 256, "a file name");
    zs_tbevents_begin(&b, wall_now());
    rebuild_lines(&b, d);
    if (status == ZS_OK)
        status = rebuild_pictures(&b, d, step, err);
    if (status == ZS_OK)
        status = b.failed ? zs_fail_nomem(err, b.n, "events for TensorBoard")
                          : zs_file_write(path, b.s, b.n, err);
    zs_strbuf_free(&b);
    zs_free(folder);
    zs_free(path);
    return status;
}
