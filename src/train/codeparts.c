/* SPDX-License-Identifier: MIT */
#include "train/codeparts.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- names ---- */

char *zs_codepart_name(const char *path, int rank, int size)
{
    return size > 1 ? zs_str_format("%s.part-%d-of-%d", path, rank + 1, size)
                    : zs_str_format("%s.part", path);
}

/* Whose part the file is; false for files that merely begin with the same name. */
static bool is_part(const char *path, const char *file, int *rank, int *size)
{
    int k = 1, n = 1;
    const char *end = file + strlen(path);
    (void)sscanf(end, ".part-%7d-of-%7d", &k, &n);
    char *name = k >= 1 && k <= n ? zs_codepart_name(path, k - 1, n) : NULL;
    bool same = name && strcmp(name, file) == 0;
    zs_free(name);
    *rank = k - 1;
    *size = n;
    return same;
}

typedef void visit_fn(void *ctx, const char *file, int rank, int size);

/* Visits the parts of the codes at `path` that are in its folder. */
static void visit_parts(const char *path, visit_fn *visit, void *ctx)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *folder = slash ? zs_str_format("%.*s", (int)(base - path), path) : zs_str_dup(".");
    DIR *dir = folder ? opendir(folder) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        int rank, size;
        char *file = zs_str_starts(e->d_name, base)
                         ? zs_str_format("%.*s%s", (int)(base - path), path, e->d_name)
                         : NULL;
        if (file && is_part(path, file, &rank, &size))
            visit(ctx, file, rank, size);
        zs_free(file);
    }
    if (dir)
        closedir(dir);
    zs_free(folder);
}

/* ---- take over ---- */

typedef struct taking {
    const zs_codeparts *p;
    zs_part range;
    float *z;
    bool *have;
    int64_t taken; /* rows */
} taking;

static bool read_block(const taking *k, FILE *f, zs_part part, zs_part block)
{
    size_t row = k->p->row, n = (size_t)(block.end - block.begin);
    float *to = k->z + (size_t)block.begin * (row / sizeof *k->z);
    off_t at = ZS_CODEPART_HEADER + (off_t)(block.begin - part.begin) * (off_t)row;
    return fseeko(f, at, SEEK_SET) == 0 && fread(to, row, n, f) == n;
}

static void take_file(void *ctx, const char *file, int rank, int size)
{
    taking *k = ctx;
    char header[ZS_CODEPART_HEADER];
    int64_t b = k->p->block;
    zs_part part = zs_comm_rows_of(k->p->rows, b, rank, size);
    FILE *f = fopen(file, "rb");
    if (!f)
        return;
    bool ours = fread(header, 1, sizeof header, f) == sizeof header &&
                memcmp(header, k->p->header, sizeof header) == 0;
    for (int64_t i = k->range.begin; ours && i < k->range.end; i += b) {
        zs_part block = {i, i + b < k->range.end ? i + b : k->range.end};
        bool *have = &k->have[(i - k->range.begin) / b];
        if (*have || block.begin < part.begin || block.end > part.end)
            continue;
        *have = read_block(k, f, part, block);
        k->taken += *have ? block.end - block.begin : 0;
    }
    fclose(f);
}

int64_t zs_codeparts_take(const zs_codeparts *p, zs_part range, float *z, bool *have)
{
    taking k = {.p = p, .range = range, .z = z, .have = have};
    visit_parts(p->path, take_file, &k);
    return k.taken;
}

/* ---- delete ---- */

/* One that was killed at once has written nothing, or not all of the header. */
static void remove_file(void *ctx, const char *file, int rank, int size)
{
    char magic[] = ZS_CODEPART_MAGIC;
    FILE *f = fopen(file, "rb");
    (void)ctx;
    (void)rank;
    (void)size;
    if (!f)
        return;
    size_t n = fread(magic, 1, sizeof magic - 1, f);
    fclose(f);
    if (memcmp(magic, ZS_CODEPART_MAGIC, n) == 0)
        (void)unlink(file);
}

void zs_codeparts_remove(const char *path)
{
    visit_parts(path, remove_file, NULL);
}
