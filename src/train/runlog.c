/* SPDX-License-Identifier: MIT */
#include "train/runlog.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool zs_runlog_is_axis(const char *name)
{
    return strcmp(name, "step") == 0 || strcmp(name, "samples") == 0 || strcmp(name, "time") == 0;
}

const zs_runlog_column *zs_runlog_find(const zs_runlog *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->columns[i].name, name) == 0)
            return &l->columns[i];
    return NULL;
}

/* The column of that name, made where needed; NULL when out of memory. */
static zs_runlog_column *column(zs_runlog *l, const char *name)
{
    for (size_t i = 0; i < l->count; i++)
        if (strcmp(l->columns[i].name, name) == 0)
            return &l->columns[i];
    void *items = l->columns;
    bool ok = zs_grow(&items, &l->cap, l->count, sizeof *l->columns);
    l->columns = items;
    char *copy = ok ? zs_str_dup(name) : NULL;
    if (!copy)
        return NULL;
    l->columns[l->count] = (zs_runlog_column){.name = copy};
    return &l->columns[l->count++];
}

/* Extends c with NAN to n values and one more, v. */
static bool put(zs_runlog_column *c, size_t n, double v)
{
    bool ok = true;
    while (ok && c->n <= n) {
        void *items = c->v;
        ok = zs_grow(&items, &c->cap, c->n, sizeof *c->v);
        c->v = items;
        if (ok)
            c->v[c->n++] = (double)NAN;
    }
    if (ok)
        c->v[n] = v;
    return ok;
}

static bool add_line(zs_runlog *l, json_t *line)
{
    const char *key;
    json_t *v;
    bool ok = true;
    json_object_foreach(line, key, v)
    {
        zs_runlog_column *c = ok && json_is_number(v) ? column(l, key) : NULL;
        if (ok && json_is_number(v))
            ok = c && put(c, l->rows, json_number_value(v));
    }
    l->rows++;
    return ok;
}

static bool fill_up(zs_runlog *l)
{
    bool ok = true;
    for (size_t i = 0; ok && i < l->count; i++)
        if (l->columns[i].n < l->rows)
            ok = put(&l->columns[i], l->rows - 1, (double)NAN);
    return ok;
}

int zs_runlog_read(zs_runlog *l, const char *path, zs_error *err)
{
    *l = (zs_runlog){0};
    FILE *f = fopen(path, "rb");
    char *line = NULL;
    size_t cap = 0;
    bool ok = true;
    for (ssize_t len; f && ok && (len = getline(&line, &cap, f)) > 0;) {
        json_t *j = json_loadb(line, (size_t)len, 0, NULL);
        if (!json_is_object(j)) {
            json_decref(j);
            break;
        }
        ok = add_line(l, j);
        json_decref(j);
    }
    if (f)
        fclose(f);
    free(line); /* getline's own */
    if (ok && fill_up(l))
        return ZS_OK;
    zs_runlog_free(l);
    return zs_fail_nomem(err, 4096, "the log");
}

void zs_runlog_free(zs_runlog *l)
{
    for (size_t i = 0; i < l->count; i++) {
        zs_free(l->columns[i].name);
        zs_free(l->columns[i].v);
    }
    zs_free(l->columns);
    *l = (zs_runlog){0};
}
