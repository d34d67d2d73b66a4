/* SPDX-License-Identifier: MIT */
/* "PATH": a folder of images, searched recursively, or one image file. */
#include "data/sourcekind.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct entry {
    char *path; /* relative to the root, owned */
    int64_t size;
    int label;
} entry;

typedef struct folder {
    char *path; /* relative to the root, "" for the root itself; owned */
    dev_t dev;
    ino_t ino;
} folder;

typedef struct folder_source {
    char *root; /* NULL when `image` is the only image */
    entry *images;
    size_t count, cap;
    folder *folders; /* the search: seen folders, in the order in which they are read */
    size_t folder_count, folder_cap;
    size_t *seen; /* hash table of 1 + indices into folders, 0 is free; never over half full */
    size_t seen_cap;
} folder_source;

static bool claims_path(const char *spec)
{
    return *spec != '\0';
}

static void free_folders(folder_source *f)
{
    for (size_t i = 0; i < f->folder_count; i++)
        zs_free(f->folders[i].path);
    zs_free(f->folders);
    zs_free(f->seen);
    f->folders = NULL;
    f->seen = NULL;
    f->folder_count = f->folder_cap = f->seen_cap = 0;
}

static void close_folder(void *self)
{
    folder_source *f = self;
    if (!f)
        return;
    free_folders(f);
    for (size_t i = 0; i < f->count; i++)
        zs_free(f->images[i].path);
    zs_free(f->images);
    zs_free(f->root);
    zs_free(f);
}

static char *full_path(const folder_source *f, const char *path)
{
    return *path ? zs_str_format("%s/%s", f->root, path) : zs_str_dup(f->root);
}

/* Takes ownership of path, also on failure. */
static int add_image(folder_source *f, char *path, int64_t size, zs_error *err)
{
    void *p = f->images;
    bool ok = path && zs_grow(&p, &f->cap, f->count, sizeof *f->images);
    f->images = p;
    if (!ok) {
        zs_free(path);
        return zs_fail_nomem(err, f->cap * 2 * sizeof *f->images, "the list of images");
    }
    f->images[f->count++] = (entry){path, size, -1};
    return ZS_OK;
}

/* Where in the table this folder is, or belongs. */
static size_t *seen_at(const folder_source *f, dev_t dev, ino_t ino)
{
    uint64_t h = zs_source_hash_i64(ZS_SOURCE_HASH, (int64_t)dev);
    size_t i = (size_t)zs_source_hash_i64(h, (int64_t)ino) % f->seen_cap;
    while (f->seen[i] != 0) {
        const folder *d = &f->folders[f->seen[i] - 1];
        if (d->dev == dev && d->ino == ino)
            break;
        i = (i + 1) % f->seen_cap;
    }
    return &f->seen[i];
}

static bool seen_grow(folder_source *f)
{
    if (f->folder_count < f->seen_cap / 2)
        return true;
    size_t cap = 2 * f->seen_cap + 16;
    size_t *table = zs_calloc(cap, sizeof *table);
    if (!table)
        return false;
    zs_free(f->seen);
    f->seen = table;
    f->seen_cap = cap;
    for (size_t i = 0; i < f->folder_count; i++)
        *seen_at(f, f->folders[i].dev, f->folders[i].ino) = i + 1;
    return true;
}

/* Each real folder is read once, however many links lead to it: loops end. Takes ownership of
 * path, also on failure. */
static int add_folder(folder_source *f, char *path, const struct stat *st, zs_error *err)
{
    void *p = f->folders;
    bool ok =
        path && seen_grow(f) && zs_grow(&p, &f->folder_cap, f->folder_count, sizeof *f->folders);
    f->folders = p;
    if (!ok) {
        zs_free(path);
        return zs_fail_nomem(err, f->folder_cap * 2 * sizeof *f->folders, "the list of folders");
    }
    size_t *at = seen_at(f, st->st_dev, st->st_ino);
    if (*at != 0) {
        zs_free(path);
        return ZS_OK;
    }
    f->folders[f->folder_count++] = (folder){path, st->st_dev, st->st_ino};
    *at = f->folder_count;
    return ZS_OK;
}

static int add_name(folder_source *f, const char *folder_path, const char *name, zs_error *err)
{
    char *rel = *folder_path ? zs_str_format("%s/%s", folder_path, name) : zs_str_dup(name);
    char *full = rel ? full_path(f, rel) : NULL;
    struct stat st;
    int status = ZS_OK;
    if (!full) {
        status = zs_fail_nomem(err, strlen(name), "a file name");
    } else if (stat(full, &st) != 0) {
        /* A dangling link matters only when it should have been an image. */
        if (zs_image_name(name))
            status = zs_fail(err, ZS_E_IO, "%s: cannot be read: %s", full, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        status = add_folder(f, rel, &st, err);
        rel = NULL;
    } else if (S_ISREG(st.st_mode) && zs_image_name(name)) {
        status = add_image(f, rel, (int64_t)st.st_size, err);
        rel = NULL;
    }
    zs_free(full);
    zs_free(rel);
    return status;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names in a folder, sorted: which of two links to one folder wins must not depend on the
 * file system's order. Names that begin with a dot are hidden. */
static int list_names(char ***names, size_t *count, const char *path, zs_error *err)
{
    size_t cap = 0;
    int status = ZS_OK;
    DIR *d = opendir(path);
    if (!d)
        return zs_fail(err, ZS_E_IO, "%s: folder cannot be read: %s", path, strerror(errno));
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e)
            break;
        if (e->d_name[0] == '.')
            continue;
        void *p = *names;
        char *name = zs_str_dup(e->d_name);
        bool ok = name && zs_grow(&p, &cap, *count, sizeof **names);
        *names = p;
        if (!ok) {
            zs_free(name);
            status = zs_fail_nomem(err, cap * 2 * sizeof **names, "a list of files");
            break;
        }
        (*names)[(*count)++] = name;
    }
    if (status == ZS_OK && errno != 0)
        status = zs_fail(err, ZS_E_IO, "%s: folder cannot be read: %s", path, strerror(errno));
    closedir(d);
    if (*count > 0)
        qsort(*names, *count, sizeof **names, compare_names);
    return status;
}

static int scan_folder(folder_source *f, size_t which, zs_error *err)
{
    char **names = NULL;
    size_t count = 0;
    /* add_folder moves the array, never the string */
    const char *rel = f->folders[which].path;
    char *path = full_path(f, rel);
    int status = path ? list_names(&names, &count, path, err)
                      : zs_fail_nomem(err, strlen(rel), "a folder name");
    for (size_t i = 0; i < count; i++) {
        if (status == ZS_OK)
            status = add_name(f, rel, names[i], err);
        zs_free(names[i]);
    }
    zs_free(names);
    zs_free(path);
    return status;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const entry *)a)->path, ((const entry *)b)->path);
}

/* Length of the first-level folder in a relative path, 0 for a file at the top. */
static size_t class_length(const char *path)
{
    const char *slash = strchr(path, '/');
    return slash ? (size_t)(slash - path) : 0;
}

static bool same_class(const char *a, const char *b)
{
    size_t n = class_length(a);
    return n == class_length(b) && memcmp(a, b, n) == 0;
}

/* Images are sorted, so those of a class are neighbours. */
static int list_classes(zs_source *s, const folder_source *f, zs_error *err)
{
    size_t cap = 0, count = 0;
    for (size_t i = 0; i < f->count; i++) {
        const char *path = f->images[i].path;
        size_t n = class_length(path);
        if (n == 0 || (i > 0 && same_class(path, f->images[i - 1].path)))
            continue;
        void *p = s->class_names;
        char *name = zs_str_format("%.*s", (int)n, path);
        bool ok = name && zs_grow(&p, &cap, count, sizeof *s->class_names);
        s->class_names = p;
        if (!ok) {
            zs_free(name);
            return zs_fail_nomem(err, n, "a class name");
        }
        s->class_names[count++] = name;
        s->class_count = (int)count;
    }
    if (count > 0)
        qsort(s->class_names, count, sizeof *s->class_names, compare_names);
    return ZS_OK;
}

static void set_labels(const zs_source *s, folder_source *f, char *buf)
{
    for (size_t i = 0; i < f->count; i++) {
        entry *e = &f->images[i];
        size_t n = class_length(e->path);
        if (n == 0)
            continue;
        if (i > 0 && same_class(e->path, e[-1].path)) {
            e->label = e[-1].label;
            continue;
        }
        memcpy(buf, e->path, n);
        buf[n] = '\0';
        char **at = bsearch(&buf, s->class_names, (size_t)s->class_count, sizeof *s->class_names,
                            compare_names);
        e->label = at ? (int)(at - s->class_names) : -1;
    }
}

static int label_images(zs_source *s, folder_source *f, zs_error *err)
{
    size_t longest = 0;
    for (size_t i = 0; i < f->count; i++) {
        size_t n = class_length(f->images[i].path);
        longest = n > longest ? n : longest;
    }
    int status = list_classes(s, f, err);
    if (status < 0 || s->class_count == 0)
        return status;
    char *buf = zs_alloc(longest + 1, 1);
    if (!buf)
        return zs_fail_nomem(err, longest + 1, "a class name");
    set_labels(s, f, buf);
    zs_free(buf);
    return ZS_OK;
}

static int scan_root(zs_source *s, folder_source *f, const struct stat *st, zs_error *err)
{
    int status = add_folder(f, zs_str_dup(""), st, err);
    for (size_t i = 0; status == ZS_OK && i < f->folder_count; i++)
        status = scan_folder(f, i, err);
    free_folders(f);
    if (status < 0)
        return status;
    if (f->count == 0)
        return zs_fail(
            err, ZS_E_INVALID,
            "%s: the folder holds no images; .png, .jpg, .jpeg and .webp files are read, "
            "also in sub-folders; for tar shards give \"%s/*.tar\"",
            f->root, f->root);
    qsort(f->images, f->count, sizeof *f->images, compare_entries);
    return label_images(s, f, err);
}

static int open_file(folder_source *f, const char *path, const struct stat *st, zs_error *err)
{
    zs_image head;
    int status = zs_image_probe(&head, path, err);
    return status < 0 ? status : add_image(f, zs_str_dup(path), (int64_t)st->st_size, err);
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static uint64_t fingerprint(const folder_source *f)
{
    uint64_t h = zs_source_hash(ZS_SOURCE_HASH, "folder", 7);
    for (size_t i = 0; i < f->count; i++) {
        const char *name = f->root ? f->images[i].path : base_name(f->images[i].path);
        h = zs_source_hash(h, name, strlen(name) + 1);
        h = zs_source_hash_i64(h, f->images[i].size);
    }
    return h;
}

static int fail_scheme(const char *spec, int n, zs_error *err)
{
    zs_strbuf known = {0};
    zs_source_list_syntax(&known);
    int status = zs_fail(err, ZS_E_INVALID, "%s: \"%.*s:\" is no kind of data that is read; use %s",
                         spec, n, spec, known.failed ? "a folder" : known.s);
    zs_strbuf_free(&known);
    return status;
}

static int fail_missing(const char *spec, int e, zs_error *err)
{
    const char *p = spec;
    while (isalnum((unsigned char)*p) || *p == '-' || *p == '_')
        p++;
    if (e == ENOENT && *p == ':' && p > spec)
        return fail_scheme(spec, (int)(p - spec), err);
    return zs_fail(err, ZS_E_IO, "%s: cannot be opened: %s", spec, strerror(e));
}

static int open_path(zs_source *s, const char *spec, zs_error *err)
{
    struct stat st;
    if (stat(spec, &st) != 0)
        return fail_missing(spec, errno, err);
    folder_source *f = zs_calloc(1, sizeof *f);
    if (!f)
        return zs_fail_nomem(err, sizeof *f, "a data source");
    s->self = f;
    int status;
    if (S_ISDIR(st.st_mode)) {
        f->root = zs_str_dup(spec);
        status =
            f->root ? scan_root(s, f, &st, err) : zs_fail_nomem(err, strlen(spec), "a folder name");
    } else {
        status = open_file(f, spec, &st, err);
    }
    if (status < 0)
        return status;
    s->count = (int64_t)f->count;
    s->fingerprint = fingerprint(f);
    return ZS_OK;
}

static int read_path(const void *self, int64_t i, int channels, zs_image *out, zs_error *err)
{
    const folder_source *f = self;
    if (!f->root)
        return zs_image_read(out, f->images[i].path, channels, err);
    char *path = full_path(f, f->images[i].path);
    if (!path)
        return zs_fail_nomem(err, strlen(f->images[i].path), "a file name");
    int status = zs_image_read(out, path, channels, err);
    zs_free(path);
    return status;
}

static const char *name_path(const void *self, int64_t i, char *buf, size_t cap)
{
    (void)buf;
    (void)cap;
    const folder_source *f = self;
    return f->root ? f->images[i].path : base_name(f->images[i].path);
}

static int label_path(const void *self, int64_t i)
{
    return ((const folder_source *)self)->images[i].label;
}

static int encoded_path(const void *self, int64_t i, uint8_t **bytes, size_t *n, zs_error *err)
{
    const folder_source *f = self;
    zs_mapfile m = {0};
    char *path = f->root ? full_path(f, f->images[i].path) : zs_str_dup(f->images[i].path);
    if (!path)
        return zs_fail_nomem(err, strlen(f->images[i].path), "a file name");
    int status = zs_mapfile_open(&m, path, err);
    if (status == ZS_OK)
        status = zs_source_copy_bytes(bytes, n, m.p ? m.p : (const uint8_t *)"", m.n, err);
    zs_mapfile_close(&m);
    zs_free(path);
    return status;
}

const zs_source_kind zs_source_folder = {
    "a folder of images or an image file",
    claims_path,
    open_path,
    close_folder,
    read_path,
    name_path,
    label_path,
    "folder of images",
    encoded_path,
    false,
};
