/* SPDX-License-Identifier: MIT */
/* Where images come from. One syntax for all, the SRC of --data:
 *
 *     PATH                           folder of images, searched recursively, or one image file
 *     fashion-mnist[:train|:test]    Debian's dataset-fashion-mnist
 *     idx:IMAGES[,LABELS]            IDX files (the MNIST family), gzip or not
 *     cifar10:PATH[:train|:test]     CIFAR binary batches: folder, .tar or .tar.gz; also cifar100:
 *     PATH.lmdb, lmdb:PATH[,SIZE]    LMDB in the layout of Diffusion Autoencoders
 *     PATTERN.tar                    tar shards (webdataset): a{000..012}.tar, "a-*.tar"
 *
 * and behind any of these ":train=SHARE" or ":val=SHARE": so large a part of the images, chosen by
 * a hash of their names; shares that add up to 1 complement each other. ":train" and ":val" alone
 * are 0.95 and 0.05 where the set has no such parts of its own. A PATH that exists is taken as it
 * is even when it contains colons or braces. */
#ifndef ZS_DATA_SOURCE_H
#define ZS_DATA_SOURCE_H

#include "data/transform.h"

typedef struct zs_source zs_source;

/* The syntax in a few words, for --help. */
#define ZS_SOURCE_HELP                                                                            \
    "folder, SHARDS.tar, PATH.lmdb, fashion-mnist, cifar10:PATH, idx:IMAGES[,LABELS]; :val=0.05 " \
    "is "                                                                                         \
    "a part"

/* Opens a data set. Images are listed in a stable order (folders recursively, bytewise by
 * relative path; classes are the first-level sub-folders, bytewise). ZS_E_IO, ZS_E_FORMAT (also
 * files that were cut short), ZS_E_INVALID (empty folder or part, unknown scheme); the message
 * names the remedy. */
int zs_source_open(zs_source **out, const char *spec, zs_error *err);
void zs_source_close(zs_source **s);

int64_t zs_source_count(const zs_source *s); /* >= 1 */

/* Image i decoded; thread-safe; *out is owned by the caller. channels as zs_image_read. */
int zs_source_read(const zs_source *s, int64_t i, int channels, zs_image *out, zs_error *err);

/* Image i fitted to size x size as x [size,size,channels] in [-1,1]; thread-safe. */
int zs_source_read_float(const zs_source *s, int64_t i, int size, int channels, zs_fit fit,
                         float *x, zs_error *err);

/* A stable human name of image i ("sub/dir/a.png", "#17"); borrowed. buf is scratch. */
const char *zs_source_name(const zs_source *s, int64_t i, char *buf, size_t cap);

/* Class index of image i, or -1 when the set has no classes; class count and names. */
int zs_source_label(const zs_source *s, int64_t i);
int zs_source_class_count(const zs_source *s);
const char *zs_source_class_name(const zs_source *s, int k);

/* Image i as a PNG, JPEG or WebP file in memory that the caller frees (zs_free): the bytes it is
 * stored as, or a PNG made of its pixels. Thread-safe. */
int zs_source_encoded(const zs_source *s, int64_t i, uint8_t **bytes, size_t *n, zs_error *err);

/* True when zs_source_encoded copies what is stored. */
bool zs_source_is_encoded(const zs_source *s);

/* True when the spec says what kind it is, as "lmdb:x" and "x-*.tar" do, rather than being a plain
 * path. */
bool zs_source_is_scheme(const char *spec);

/* What kind of data set it is, in a few words; static storage. */
const char *zs_source_title(const zs_source *s);

/* A hash of what the source is (kind, names, sizes), so that resuming on other data is
 * noticed. */
uint64_t zs_source_fingerprint(const zs_source *s);

#endif
