/* SPDX-License-Identifier: MIT */
/* A folder of image files, one sub-folder per class. */
#include "data/sinkkind.h"
#include "io/outfile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int open_folder(zs_sink *s, const char *path, zs_error *err)
{
    zs_outfolder *o = s->self = zs_calloc(1, sizeof *o);
    return o ? zs_outfolder_open(o, path, err) : zs_fail_nomem(err, sizeof *o, "an output");
}

/* Not synced one by one: the folder is temporary until the end. */
static int write_file(const char *path, const zs_sink_item *item, zs_error *err)
{
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(item->bytes, 1, item->n, f) == item->n;
    if (f && fclose(f) != 0)
        ok = false;
    return ok ? ZS_OK
              : zs_fail(err, ZS_E_IO,
                        "%s: cannot be written: %s; make room or choose another place", path,
                        strerror(errno));
}

static int add_file(zs_sink *s, const char *name, const zs_sink_item *item, zs_error *err)
{
    const zs_outfolder *o = s->self;
    const char *slash = strrchr(name, '/');
    char *path = zs_str_format("%s/%s", o->tmp, name), *dir = NULL;
    int status = path ? ZS_OK : zs_fail_nomem(err, strlen(name), "a file name");
    if (path && slash) {
        dir = zs_str_format("%s/%.*s", o->tmp, (int)(slash - name), name);
        status = dir ? zs_mkdirs(dir, err) : zs_fail_nomem(err, strlen(name), "a folder name");
    }
    if (status == ZS_OK)
        status = write_file(path, item, err);
    zs_free(dir);
    zs_free(path);
    return status;
}

static int commit_folder(zs_sink *s, zs_error *err)
{
    return zs_outfolder_commit(s->self, err);
}

static void close_folder(void *self)
{
    if (self)
        zs_outfolder_abort(self);
    zs_free(self);
}

const zs_sink_kind zs_sink_folder = {"folder",      open_folder,  add_file,
                                     commit_folder, close_folder, false};
