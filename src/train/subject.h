/* SPDX-License-Identifier: MIT */
/* What a training run learns from, and what becomes of it: images make an autoencoder or a DDPM,
 * images with representations or classes a generator, images with classes an encoder, codes a
 * prior. One file and one kind each; the loop (trainer.c) knows nothing else of them. Private to
 * train. */
#ifndef ZS_TRAIN_SUBJECT_H
#define ZS_TRAIN_SUBJECT_H

#include "train/gradient.h"
#include "train/rundir.h"
#include "train/state.h"
#include "train/trainer.h"

typedef struct zs_subject zs_subject;

typedef struct zs_subject_kind {
    const char *unit; /* what samples are called: "images", "codes" */
    zs_objective objective;

    /* Checks and opens what the run is made from; nothing is written yet. Fills self, fingerprint
     * and count. On failure the caller closes the subject, so it must be consistent. */
    int (*open)(zs_subject *s, const zs_train_config *c, zs_error *err);
    int (*layout)(zs_params **out, const zs_model_config *c, zs_error *err);
    /* Long work before the first step, once the folder of the run is locked; may be NULL. */
    int (*prepare)(zs_subject *s, const zs_train_config *c, const zs_ui *ui, zs_error *err);
    /* The next batch will begin with sample `first`. */
    int (*start)(zs_subject *s, const zs_train_config *c, int64_t first, zs_error *err);
    /* The next batch of samples, in order, into the empty *b: samples, their number, conditions,
     * and the target where it is not noise. Valid until the next call. */
    int (*next)(zs_subject *s, const zs_train_config *c, zs_train_batch *b, zs_error *err);
    /* Name of sample i of that batch, for messages; borrowed, buf is scratch. */
    const char *(*name)(const zs_subject *s, int64_t i, char *buf, size_t cap);
    /* Shows what the weights can do: a picture, a line of the log. */
    int (*preview)(zs_subject *s, const zs_train_config *c, const zs_rundir *d,
                   const zs_train_state *state, zs_error *err);
    /* Writes the bundle; extra goes into it. */
    int (*bundle)(zs_subject *s, const zs_train_config *c, const char *path,
                  const zs_train_state *state, const json_t *extra, zs_error *err);
    void (*close)(zs_subject *s);
} zs_subject_kind;

struct zs_subject {
    const zs_subject_kind *kind;
    void *self;
    uint64_t fingerprint; /* of the data */
    int64_t count;        /* different samples */
    double distance;      /* rep-FD of the newest preview; < 0: none */
};

extern const zs_subject_kind zs_subject_images, zs_subject_conditional, zs_subject_classes,
    zs_subject_codes;

#endif
