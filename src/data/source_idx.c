/* SPDX-License-Identifier: MIT */
/* "fashion-mnist[:train|:test]" and "idx:IMAGES[,LABELS]". */
#include "data/idx.h"
#include "data/sourcekind.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FASHION "fashion-mnist"
#define FASHION_DIR "/usr/share/datasets/" FASHION

static const char *const fashion_names[] = {"T-shirt/top", "Trouser",   "Pullover", "Dress",
                                            "Coat",        "Sandal",    "Shirt",    "Sneaker",
                                            "Bag",         "Ankle boot"};

/* Bytes of pixels that the fingerprint covers besides all the sizes. */
enum { HASHED = 1 << 20, FASHION_CLASSES = 10 };

typedef struct idx_source {
    zs_idx images, labels; /* labels.px is NULL when there are none */
} idx_source;

static bool claims_fashion(const char *spec)
{
    size_t n = strlen(FASHION);
    return zs_str_starts(spec, FASHION) && (spec[n] == '\0' || spec[n] == ':');
}

static bool claims_idx(const char *spec)
{
    return zs_str_starts(spec, "idx:");
}

static void close_idx(void *self)
{
    idx_source *x = self;
    if (!x)
        return;
    zs_idx_close(&x->images);
    zs_idx_close(&x->labels);
    zs_free(x);
}

static int check_images(const idx_source *x, const char *path, zs_error *err)
{
    const int64_t *n = x->images.size;
    if (x->images.dims != 3)
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: holds %d-dimensional data; images are [count, height, width]", path,
                       x->images.dims);
    if (n[1] > ZS_IMAGE_MAX_PIXELS / n[2])
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: images of %lld x %lld pixels are too large",
                       path, (long long)n[2], (long long)n[1]);
    return ZS_OK;
}

static int check_labels(const idx_source *x, const char *path, int classes, zs_error *err)
{
    if (x->labels.dims != 1 || x->labels.size[0] != x->images.size[0])
        return zs_fail(err, ZS_E_FORMAT,
                       "%s: holds %lld labels (%d dimensions) for %lld images; give the labels of "
                       "these images",
                       path, (long long)x->labels.size[0], x->labels.dims,
                       (long long)x->images.size[0]);
    for (int64_t i = 0; classes > 0 && i < x->labels.size[0]; i++)
        if (x->labels.px[i] >= classes)
            return zs_fail(err, ZS_E_FORMAT, "%s: label %d of image %lld is above %d", path,
                           x->labels.px[i], (long long)i, classes - 1);
    return ZS_OK;
}

static int largest_label(const idx_source *x)
{
    int most = 0;
    for (int64_t i = 0; i < x->labels.size[0]; i++)
        most = x->labels.px[i] > most ? x->labels.px[i] : most;
    return most;
}

/* names == NULL: the classes are called by their numbers. */
static int set_classes(zs_source *s, int count, const char *const *names, zs_error *err)
{
    s->class_names = zs_calloc((size_t)count, sizeof *s->class_names);
    if (!s->class_names)
        return zs_fail_nomem(err, (size_t)count * sizeof *s->class_names, "class names");
    s->class_count = count;
    for (int k = 0; k < count; k++) {
        s->class_names[k] = names ? zs_str_dup(names[k]) : zs_str_format("%d", k);
        if (!s->class_names[k])
            return zs_fail_nomem(err, 16, "a class name");
    }
    return ZS_OK;
}

static uint64_t hash_sizes(uint64_t h, const zs_idx *x)
{
    for (int d = 0; d < ZS_IDX_DIMS; d++)
        h = zs_source_hash_i64(h, x->size[d]);
    size_t n = (size_t)x->size[0] * (size_t)x->size[1] * (size_t)x->size[2];
    return zs_source_hash(h, x->px, n < HASHED ? n : HASHED);
}

static uint64_t fingerprint(const idx_source *x)
{
    uint64_t h = hash_sizes(zs_source_hash(ZS_SOURCE_HASH, "idx", 4), &x->images);
    return x->labels.px ? hash_sizes(h, &x->labels) : h;
}

/* labels may be NULL. names, class_count: NULL, 0 when unknown. */
static int open_files(zs_source *s, const char *images, const char *labels,
                      const char *const *names, int classes, zs_error *err)
{
    idx_source *x = zs_calloc(1, sizeof *x);
    if (!x)
        return zs_fail_nomem(err, sizeof *x, "a data source");
    s->self = x;
    int status = zs_idx_open(&x->images, images, err);
    if (status < 0 || (status = check_images(x, images, err)) < 0)
        return status;
    if (labels) {
        if ((status = zs_idx_open(&x->labels, labels, err)) < 0 ||
            (status = check_labels(x, labels, classes, err)) < 0 ||
            (status = set_classes(s, names ? classes : largest_label(x) + 1, names, err)) < 0)
            return status;
    }
    s->count = x->images.size[0];
    s->fingerprint = fingerprint(x);
    return ZS_OK;
}

/* Cuts "IMAGES,LABELS" at its last comma, unless all of it names a file. */
static int open_pair(zs_source *s, const char *pair, zs_error *err)
{
    char *images = zs_str_dup(pair);
    if (!images)
        return zs_fail_nomem(err, strlen(pair), "a file name");
    char *comma = access(pair, F_OK) == 0 ? NULL : strrchr(images, ',');
    if (comma)
        *comma++ = '\0';
    int status =
        *images && !(comma && !*comma)
            ? open_files(s, images, comma, NULL, 0, err)
            : zs_fail(err, ZS_E_INVALID, "idx:%s: must be idx:IMAGES or idx:IMAGES,LABELS", pair);
    zs_free(images);
    return status;
}

/* The owned name of DIR/STEM or DIR/STEM.gz if one exists, else NULL. */
static char *find_file(const char *dir, const char *stem)
{
    static const char *const suffix[] = {".gz", ""};
    for (size_t i = 0; i < sizeof suffix / sizeof *suffix; i++) {
        char *path = zs_str_format("%s/%s%s", dir, stem, suffix[i]);
        if (path && access(path, R_OK) == 0)
            return path;
        zs_free(path);
    }
    return NULL;
}

/* 1 when both files were found and opened, 0 when this folder lacks one. */
static int try_fashion(zs_source *s, const char *dir, const char *part, zs_error *err)
{
    char stem[64];
    snprintf(stem, sizeof stem, "%s-images-idx3-ubyte", part);
    char *images = find_file(dir, stem);
    snprintf(stem, sizeof stem, "%s-labels-idx1-ubyte", part);
    char *labels = find_file(dir, stem);
    int status = 0;
    if (images && labels) {
        status = open_files(s, images, labels, fashion_names, FASHION_CLASSES, err);
        status = status < 0 ? status : 1;
    }
    zs_free(images);
    zs_free(labels);
    return status;
}

static int open_fashion(zs_source *s, const char *spec, zs_error *err)
{
    const char *colon = strchr(spec, ':'), *root = getenv("ZSEM_DATASETS");
    bool test = colon && strcmp(colon, ":test") == 0;
    if (colon && !test && strcmp(colon, ":train") != 0)
        return zs_fail(err, ZS_E_INVALID,
                       "%s: has no such part; use " FASHION ":train or " FASHION
                       ":test, or a share of one as in " FASHION ":train:val=0.05",
                       spec);
    const char *part = test ? "t10k" : "train";
    int found = 0;
    if (root && *root) {
        char *dir = zs_str_format("%s/" FASHION, root);
        if (!dir)
            return zs_fail_nomem(err, strlen(root), "a folder name");
        found = try_fashion(s, dir, part, err);
        zs_free(dir);
    }
    if (found == 0)
        found = try_fashion(s, FASHION_DIR, part, err);
    if (found == 0)
        return zs_fail(err, ZS_E_IO,
                       "%s: the data set is neither in " FASHION_DIR
                       " nor in $ZSEM_DATASETS/" FASHION
                       "; run: apt-get install dataset-fashion-mnist",
                       spec);
    return found < 0 ? found : ZS_OK;
}

static int open_idx(zs_source *s, const char *spec, zs_error *err)
{
    return open_pair(s, spec + 4, err);
}

static int read_idx(const void *self, int64_t i, int channels, zs_image *out, zs_error *err)
{
    const idx_source *x = self;
    int h = (int)x->images.size[1], w = (int)x->images.size[2];
    if (channels != 0 && channels != 1 && channels != 3)
        return zs_fail(err, ZS_E_INVALID,
                       "image #%lld cannot be read as %d channels; use 0, 1 or 3", (long long)i,
                       channels);
    int status = zs_image_alloc(out, w, h, 1, err);
    if (status < 0)
        return status;
    size_t n = (size_t)w * (size_t)h;
    memcpy(out->px, x->images.px + (size_t)i * n, n);
    if ((status = zs_image_convert(out, channels, err)) < 0)
        zs_image_free(out);
    return status;
}

static const char *name_idx(const void *self, int64_t i, char *buf, size_t cap)
{
    (void)self;
    snprintf(buf, cap, "#%" PRId64, i);
    return buf;
}

static int label_idx(const void *self, int64_t i)
{
    const idx_source *x = self;
    return x->labels.px ? x->labels.px[i] : -1;
}

const zs_source_kind zs_source_fashion = {
    FASHION "[:train|:test]",
    claims_fashion,
    open_fashion,
    close_idx,
    read_idx,
    name_idx,
    label_idx,
    "Fashion-MNIST",
    NULL,
    true,
};

const zs_source_kind zs_source_idx = {
    "idx:IMAGES[,LABELS]", claims_idx, open_idx, close_idx, read_idx, name_idx, label_idx,
    "IDX files",           NULL,       false,
};
