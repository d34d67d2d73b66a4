/* SPDX-License-Identifier: MIT */
#include "data/sinkkind.h"

#include <stdio.h>
#include <string.h>

static const zs_sink_kind *const kinds[] = {&zs_sink_folder, &zs_sink_tar, &zs_sink_lmdb, NULL};

const char *zs_sink_kind_of(const char *path)
{
    if (zs_str_ends(path, ".tar"))
        return "tar";
    return zs_str_ends(path, ".lmdb") || zs_str_ends(path, ".mdb") ? "lmdb" : "folder";
}

/* ---- names ---- */

/* Part of a path that is safe anywhere: no separators, not hidden, not "..". */
static void make_plain(char *s)
{
    for (char *p = s; *p; p++)
        if (*p == '/' || *p == '\\' || (unsigned char)*p < ' ')
            *p = '-';
    if (*s == '.')
        *s = '_';
}

/* True when no part of the path is empty, hidden, or leads upwards. */
static bool is_plain_path(const char *s)
{
    for (const char *p = s;; p++) {
        if (*p == '/' || *p == '.' || *p == '\0' || strchr(p, '\\'))
            return false;
        p = strchr(p, '/');
        if (!p)
            return true;
    }
}

static const char *extension_of(const zs_sink_item *item)
{
    const uint8_t *p = item->bytes;
    if (item->n >= 2 && p[0] == 0xFF && p[1] == 0xD8)
        return ".jpg";
    return item->n >= 4 && memcmp(p, "RIFF", 4) == 0 ? ".webp" : ".png";
}

/* "#17" and "256-00017" become "00017"; the extension becomes that of the bytes, unless the name
 * has a fitting one. */
static char *plain_name(const char *name, const zs_sink_item *item)
{
    const char *ext = extension_of(item), *dot = strrchr(name, '.');
    size_t n = zs_image_name(name) ? (size_t)(dot - name) : strlen(name);
    long long number;
    int end = 0;
    if (sscanf(name, "#%lld%n", &number, &end) == 1 && name[end] == '\0')
        return zs_str_format("%05lld%s", number, ext);
    bool jpeg =
        n < strlen(name) && strcmp(ext, ".jpg") == 0 &&
        (zs_str_ends(name, ".jpeg") || zs_str_ends(name, ".JPG") || zs_str_ends(name, ".JPEG"));
    return zs_str_format("%.*s%s", (int)n, name, jpeg ? dot : ext);
}

static void remove_dots(char *name)
{
    char *slash = strrchr(name, '/'), *end = strrchr(name, '.');
    for (char *p = slash ? slash : name; p < end; p++)
        *p = *p == '.' ? '_' : *p;
}

/* Owned. With a class, the first folder is the class. */
static char *target_name(const zs_sink *s, const zs_sink_item *item)
{
    char *plain = plain_name(item->name, item);
    const char *class_folder = item->label >= 0 ? s->class_folders[item->label] : NULL;
    size_t n = class_folder ? strlen(class_folder) : 0;
    if (plain && class_folder && strncmp(plain, class_folder, n) == 0 && plain[n] == '/' &&
        is_plain_path(plain))
        return plain;
    if (plain)
        make_plain(plain);
    if (!plain || !class_folder)
        return plain;
    char *whole = zs_str_format("%s/%s", class_folder, plain);
    zs_free(plain);
    return whole;
}

static int name_classes(zs_sink *s, zs_error *err)
{
    int n = s->c.set ? zs_source_class_count(s->c.set) : 0, status = ZS_OK;
    zs_nameindex seen = {0};
    s->class_folders = zs_calloc((size_t)n, sizeof *s->class_folders);
    if (!s->class_folders)
        return zs_fail_nomem(err, (size_t)n * sizeof *s->class_folders, "class names");
    s->class_count = n;
    for (int k = 0; status == ZS_OK && k < n; k++) {
        char *name = s->class_folders[k] = zs_str_dup(zs_source_class_name(s->c.set, k));
        size_t other;
        if (!name) {
            status = zs_fail_nomem(err, 64, "a class name");
            break;
        }
        make_plain(name);
        if (zs_nameindex_get(&seen, &other, name, strlen(name)))
            status = zs_fail(err, ZS_E_INVALID,
                             "classes \"%s\" and \"%s\" are one and the same as the name of a "
                             "folder; rename one",
                             zs_source_class_name(s->c.set, (int)other),
                             zs_source_class_name(s->c.set, k));
        else if (!zs_nameindex_add(&seen, name, strlen(name), (size_t)k))
            status = zs_fail_nomem(err, 64, "a class name");
    }
    zs_nameindex_free(&seen);
    return status;
}

static bool keep(char ***list, size_t *cap, int64_t n, char *s)
{
    void *items = *list;
    bool ok = s && zs_grow(&items, cap, (size_t)n, sizeof **list);
    *list = items;
    if (ok)
        (*list)[n] = s;
    else
        zs_free(s);
    return ok;
}

/* Takes ownership of name. Files that differ in their extensions alone are one sample of a tar
 * archive, so they are duplicates everywhere. */
static int claim_name(zs_sink *s, char *name, const zs_sink_item *item, zs_error *err)
{
    size_t other;
    const char *dot = strrchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen(name);
    if (zs_nameindex_get(&s->index, &other, name, n)) {
        zs_fail(err, ZS_E_INVALID,
                "%s and %s would both be written as %s; rename one of them, or use --rename",
                s->from[other], item->name, name);
        zs_free(name);
        return ZS_E_INVALID;
    }
    size_t i = (size_t)s->added;
    if (!keep(&s->names, &s->names_cap, s->added, name))
        return zs_fail_nomem(err, 256, "the names of images");
    if (!keep(&s->from, &s->from_cap, s->added, zs_str_dup(item->name))) {
        zs_free(s->names[i]);
        return zs_fail_nomem(err, 256, "the names of images");
    }
    s->added++;
    return zs_nameindex_add(&s->index, s->names[i], n, i)
               ? ZS_OK
               : zs_fail_nomem(err, 256, "the names of images");
}

/* ---- the sink ---- */

int zs_sink_open(zs_sink **out, const char *kind, const char *path, const zs_sink_config *c,
                 zs_error *err)
{
    *out = NULL;
    int k = 0;
    while (kinds[k] && strcmp(kinds[k]->name, kind) != 0)
        k++;
    if (!kinds[k])
        return zs_fail(err, ZS_E_INVALID, "'%s' is nothing to pack to; use folder, tar or lmdb",
                       kind);
    zs_sink *s = zs_calloc(1, sizeof *s);
    if (!s)
        return zs_fail_nomem(err, sizeof *s, "an output");
    s->kind = kinds[k];
    s->c = *c;
    int status = name_classes(s, err);
    if (status == ZS_OK)
        status = s->kind->open(s, path, err);
    if (status < 0)
        zs_sink_abort(&s);
    *out = s;
    return status;
}

int zs_sink_add(zs_sink *s, const zs_sink_item *item, zs_error *err)
{
    char *name = target_name(s, item);
    if (!name)
        return zs_fail_nomem(err, 256, "a file name");
    if (s->kind->no_dots)
        remove_dots(name);
    int status = claim_name(s, name, item, err);
    return status < 0 ? status : s->kind->add(s, s->names[s->added - 1], item, err);
}

int zs_sink_commit(zs_sink **s, zs_error *err)
{
    int status = (*s)->kind->commit(*s, err);
    zs_sink_abort(s);
    return status;
}

void zs_sink_abort(zs_sink **sp)
{
    zs_sink *s = *sp;
    if (!s)
        return;
    s->kind->close(s->self);
    zs_nameindex_free(&s->index);
    for (int64_t i = 0; i < s->added; i++) {
        zs_free(s->names[i]);
        zs_free(s->from[i]);
    }
    zs_free(s->names);
    zs_free(s->from);
    for (int k = 0; k < s->class_count; k++)
        zs_free(s->class_folders[k]);
    zs_free(s->class_folders);
    zs_free(s);
    *sp = NULL;
}
