/* SPDX-License-Identifier: MIT */
/* "cifar10:PATH[:train|:test]" and "cifar100:...": the binary version of
 * https://www.cs.toronto.edu/~kriz/cifar.html. A record is one label (CIFAR-10) or a coarse and a
 * fine one (CIFAR-100), then 32 x 32 red, green and blue planes. PATH is a folder of .bin files, or
 * the .tar.gz as it is distributed, or the .tar in it. */
#include "data/sourcekind.h"
#include "data/tarfile.h"
#include "io/gunzip.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { SIDE = 32, PLANE = SIDE * SIDE, PIXELS = 3 * PLANE, BATCHES_MAX = 5 };

/* The archive is 184 MB; a gzip file may claim anything. */
static const size_t archive_max = (size_t)1 << 30;

/* What distinguishes the two sets. */
typedef struct cifar_set {
    const char *prefix, *folder, *names; /* names: file of class names */
    int labels, classes;                 /* bytes of labels before the pixels; the last counts */
    const char *train[BATCHES_MAX + 1], *test[2];
} cifar_set;

static const cifar_set sets[] = {
    {"cifar10:",
     "cifar-10-batches-bin",
     "batches.meta.txt",
     1,
     10,
     {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
      "data_batch_5.bin", NULL},
     {"test_batch.bin", NULL}},
    {"cifar100:",
     "cifar-100-binary",
     "fine_label_names.txt",
     2,
     100,
     {"train.bin", NULL, NULL, NULL, NULL, NULL},
     {"test.bin", NULL}},
};

typedef struct cifar_source {
    const cifar_set *set;
    char *path;
    bool folder;
    zs_mapfile archive; /* a .tar or .tar.gz */
    uint8_t *inflated;  /* owned when the archive was compressed */
    zs_span tar;
    zs_mapfile maps[BATCHES_MAX + 1]; /* the files of a folder */
    int map_count;
    zs_span batches[BATCHES_MAX];
    int64_t first[BATCHES_MAX + 1]; /* image number each batch starts with */
    int batch_count;
} cifar_source;

static const cifar_set *set_of(const char *spec)
{
    for (size_t k = 0; k < sizeof sets / sizeof *sets; k++)
        if (zs_str_starts(spec, sets[k].prefix))
            return &sets[k];
    return NULL;
}

static bool claims_cifar(const char *spec)
{
    return set_of(spec) != NULL;
}

static void close_cifar(void *self)
{
    cifar_source *x = self;
    if (!x)
        return;
    for (int i = 0; i < x->map_count; i++)
        zs_mapfile_close(&x->maps[i]);
    zs_mapfile_close(&x->archive);
    zs_free(x->inflated);
    zs_free(x->path);
    zs_free(x);
}

/* ---- files ---- */

static int open_archive(cifar_source *x, zs_error *err)
{
    int status = zs_mapfile_open(&x->archive, x->path, err);
    x->tar = (zs_span){x->archive.p, x->archive.n};
    if (status == ZS_OK && zs_is_gzip(x->tar.p, x->tar.n))
        status = zs_gunzip(&x->inflated, &x->tar.n, x->path, x->archive.p, x->archive.n,
                           archive_max, err);
    if (x->inflated) {
        x->tar.p = x->inflated;
        zs_mapfile_close(&x->archive);
    }
    return status;
}

/* PATH may be the folder of the batches or the one above it. */
static int open_folder(cifar_source *x, zs_error *err)
{
    struct stat st;
    char *below = zs_str_format("%s/%s", x->path, x->set->folder);
    if (!below)
        return zs_fail_nomem(err, strlen(x->path), "a folder name");
    x->folder = true;
    if (stat(below, &st) == 0 && S_ISDIR(st.st_mode)) {
        zs_free(x->path);
        x->path = below;
    } else {
        zs_free(below);
    }
    return ZS_OK;
}

static int find_in_tar(zs_span *out, const cifar_source *x, const char *name, zs_error *err)
{
    zs_tar t = {.label = x->path, .p = x->tar.p, .n = x->tar.n};
    zs_tar_member m;
    int status;
    while ((status = zs_tar_next(&t, &m, err)) == 1) {
        const char *slash = strrchr(m.name, '/');
        if (strcmp(slash ? slash + 1 : m.name, name) != 0)
            continue;
        *out = m.data;
        break;
    }
    zs_tar_close(&t);
    return status;
}

/* 1 and the bytes of the file of that name, or 0 when there is none. */
static int find_file(zs_span *out, cifar_source *x, const char *name, zs_error *err)
{
    struct stat st;
    if (!x->folder)
        return find_in_tar(out, x, name, err);
    char *path = zs_str_format("%s/%s", x->path, name);
    if (!path)
        return zs_fail_nomem(err, strlen(name), "a file name");
    int status = 0;
    if (stat(path, &st) == 0) {
        zs_mapfile *m = &x->maps[x->map_count];
        status = zs_mapfile_open(m, path, err);
        *out = (zs_span){m->p, m->n};
        x->map_count += status == ZS_OK;
        status = status < 0 ? status : 1;
    }
    zs_free(path);
    return status;
}

static size_t record_size(const cifar_source *x)
{
    return PIXELS + (size_t)x->set->labels;
}

static int open_batch(cifar_source *x, const char *name, zs_error *err)
{
    zs_span s = {0};
    size_t record = record_size(x);
    int found = find_file(&s, x, name, err);
    if (found < 0)
        return found;
    if (found == 0)
        return zs_fail(err, ZS_E_IO,
                       "%s: has no file %s; give the folder or the archive of the binary version",
                       x->path, name);
    if (s.n == 0 || s.n % record != 0)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: %s holds %zu bytes, which is no whole number of images of %zu bytes; "
                       "copy it again",
                       x->path, name, s.n, record);
    int64_t n = (int64_t)(s.n / record);
    for (int64_t i = 0; i < n; i++)
        if (s.p[(size_t)i * record + record - PIXELS - 1] >= x->set->classes)
            return zs_fail(err, ZS_E_FORMAT, "%s: %s: label %d of image %lld is above %d", x->path,
                           name, s.p[(size_t)i * record + record - PIXELS - 1], (long long)i,
                           x->set->classes - 1);
    x->batches[x->batch_count] = s;
    x->first[x->batch_count + 1] = x->first[x->batch_count] + n;
    x->batch_count++;
    return ZS_OK;
}

/* ---- class names ---- */

/* The classes are called by their numbers where the file of names is missing or too short. */
static int set_classes(zs_source *s, cifar_source *x, zs_error *err)
{
    zs_span text = {0};
    int found = find_file(&text, x, x->set->names, err);
    if (found < 0)
        return found;
    s->class_names = zs_calloc((size_t)x->set->classes, sizeof *s->class_names);
    if (!s->class_names)
        return zs_fail_nomem(err, 1024, "class names");
    s->class_count = x->set->classes;
    for (int k = 0; k < s->class_count; k++) {
        size_t n = 0;
        while (n < text.n && text.p[n] != '\n' && text.p[n] != '\r')
            n++;
        s->class_names[k] = n > 0 && n < 100 ? zs_str_format("%.*s", (int)n, (const char *)text.p)
                                             : zs_str_format("%d", k);
        if (!s->class_names[k])
            return zs_fail_nomem(err, 64, "a class name");
        while (n < text.n && (text.p[n] == '\n' || text.p[n] == '\r'))
            n++;
        if (n > 0) /* else there may be no text at all */
            text.p += n;
        text.n -= n;
    }
    return ZS_OK;
}

/* ---- the source ---- */

static uint64_t fingerprint(const cifar_source *x)
{
    enum { HASHED = 1 << 18 };
    uint64_t h = zs_source_hash(ZS_SOURCE_HASH, x->set->prefix, strlen(x->set->prefix));
    for (int b = 0; b < x->batch_count; b++) {
        h = zs_source_hash_i64(h, (int64_t)x->batches[b].n);
        h = zs_source_hash(h, x->batches[b].p, x->batches[b].n < HASHED ? x->batches[b].n : HASHED);
    }
    return h;
}

/* PATH without the part; *test says which part. */
static int parse_spec(cifar_source *x, bool *test, const char *spec, zs_error *err)
{
    const char *path = spec + strlen(x->set->prefix), *colon = strrchr(path, ':');
    *test = colon && strcmp(colon, ":test") == 0;
    bool part = *test || (colon && strcmp(colon, ":train") == 0);
    x->path = zs_str_format("%.*s", part ? (int)(colon - path) : (int)strlen(path), path);
    if (!x->path)
        return zs_fail_nomem(err, strlen(spec), "a file name");
    struct stat st;
    if (!*x->path || stat(x->path, &st) != 0)
        return zs_fail(err, ZS_E_IO,
                       "%s: there is no \"%s\"; use %sPATH[:train|:test], PATH a folder of .bin "
                       "files or the .tar.gz",
                       spec, x->path, x->set->prefix);
    return S_ISDIR(st.st_mode) ? open_folder(x, err) : open_archive(x, err);
}

static int open_cifar(zs_source *s, const char *spec, zs_error *err)
{
    bool test = false;
    cifar_source *x = zs_calloc(1, sizeof *x);
    s->self = x;
    if (!x)
        return zs_fail_nomem(err, sizeof *x, "a data source");
    x->set = set_of(spec);
    int status = parse_spec(x, &test, spec, err);
    const char *const *names = test ? x->set->test : x->set->train;
    for (int b = 0; status == ZS_OK && names[b]; b++)
        status = open_batch(x, names[b], err);
    if (status == ZS_OK)
        status = set_classes(s, x, err);
    if (status < 0)
        return status;
    s->count = x->first[x->batch_count];
    s->fingerprint = fingerprint(x);
    return ZS_OK;
}

static const uint8_t *record_at(const cifar_source *x, int64_t i)
{
    int b = 0;
    while (i >= x->first[b + 1])
        b++;
    return x->batches[b].p + (size_t)(i - x->first[b]) * record_size(x);
}

static int read_cifar(const void *self, int64_t i, int channels, zs_image *out, zs_error *err)
{
    const cifar_source *x = self;
    const uint8_t *px = record_at(x, i) + x->set->labels;
    if (channels != 0 && channels != 1 && channels != 3)
        return zs_fail(err, ZS_E_INVALID,
                       "image #%lld cannot be read as %d channels; use 0, 1 or 3", (long long)i,
                       channels);
    int status = zs_image_alloc(out, SIDE, SIDE, 3, err);
    if (status < 0)
        return status;
    for (int k = 0; k < PLANE; k++)
        for (int c = 0; c < 3; c++)
            out->px[3 * k + c] = px[c * PLANE + k];
    if ((status = zs_image_convert(out, channels, err)) < 0)
        zs_image_free(out);
    return status;
}

static const char *name_cifar(const void *self, int64_t i, char *buf, size_t cap)
{
    (void)self;
    snprintf(buf, cap, "#%" PRId64, i);
    return buf;
}

static int label_cifar(const void *self, int64_t i)
{
    const cifar_source *x = self;
    return record_at(x, i)[x->set->labels - 1];
}

const zs_source_kind zs_source_cifar = {
    "cifar10:PATH[:train|:test] and cifar100:",
    claims_cifar,
    open_cifar,
    close_cifar,
    read_cifar,
    name_cifar,
    label_cifar,
    "CIFAR binary batches",
    NULL,
    true,
};
