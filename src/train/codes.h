/* SPDX-License-Identifier: MIT */
/* The codes z_sem of a data set, encoded once and kept in a file.
 *
 * The file is safetensors: "z_sem" [views,n,dim] in f32, "label" [n] where the data set has
 * classes, and in the metadata what it was made from. While it is made, finished rows are appended
 * to "<path>.part" (train/codeparts.h), so that an interrupted encoding goes on where it
 * stopped. */
#ifndef ZS_TRAIN_CODES_H
#define ZS_TRAIN_CODES_H

#include "comm/comm.h"
#include "data/data.h"
#include "models/model.h"

enum { ZS_VIEWS_MAX = 64 };

typedef struct zs_codes {
    int64_t n, dim;
    int views;         /* view 0 is the image as it is, 1 its mirror image, the others are random
                          crops of it at 9/8 of its size, mirrored or not */
    float *z;          /* [views,n,dim] as the encoder gives them */
    float *mean, *std; /* [dim] the statistics of the model where it has them; else over all codes,
                          std with n-1 as torch.std, 1 where constant */
} zs_codes;

/* A number for the weights of the encoder, which goes on from another number h. */
uint64_t zs_encoder_fingerprint(const zs_model *m, uint64_t h);

/* Fingerprint of encoder weights, data, the size of images where the encoder was made for another,
 * and views: that of the codes. */
uint64_t zs_codes_fingerprint(const zs_model *m, const zs_source *data, int views);

/* Reads the codes from `path`, or encodes the data set and writes them there. A file that was made
 * by another encoder or from other data is refused (ZS_E_INVALID), since it may be somebody's work.
 * m has an encoder. Errors of reading images and of models; ZS_E_NUMERIC when a code is not finite;
 * ZS_E_CANCELLED: what is done so far is kept. */
int zs_codes_load(zs_codes *out, const char *path, zs_model *m, const zs_source *data, int views,
                  const zs_ui *ui, zs_error *err);

/* The same by several ranks, each of which encodes a part; rank 0 has the file. Collective. Parts
 * of an interrupted encoding are taken over by any number of ranks that see them. */
int zs_codes_load_together(zs_codes *out, const char *path, zs_model *m, const zs_source *data,
                           int views, zs_comm *comm, const zs_ui *ui, zs_error *err);

/* Idempotent. */
void zs_codes_free(zs_codes *c);

/* (z-mean)/std of one code. */
void zs_codes_normalise(const zs_codes *c, float *dst, const float *z);

#endif
