/* SPDX-License-Identifier: MIT */
#ifndef ZS_TRAIN_TRAINER_H
#define ZS_TRAIN_TRAINER_H

#include "comm/comm.h"
#include "models/model.h"
#include "train/optim.h"

/* How to train. Everything above `images` decides what the run computes and is kept fixed when it
 * is resumed; the rest may change from session to session. */
typedef struct zs_train_config {
    zs_model_config model; /* what is trained: generator and encoder together (an autoencoder), a
                              generator alone, an encoder with classes, or, with `base`, the prior
                              of a whole model */
    zs_model *encoder; /* borrowed: makes the representations that a generator is conditioned on;
                              else NULL */
    zs_model *first_stage; /* borrowed: makes the latents that `model` learns, of pictures as
                              zs_train_pictures says; else NULL */
    zs_model *base;        /* borrowed: the model whose encoder makes the codes that the prior is
                              trained on. Its configuration is `model` but for the prior; NULL:
                              images are trained on */
    int views;             /* codes of each image, 1..64 (zs_codes); only with `base` */
    zs_optim_config optim;
    int64_t batch;  /* images per optimiser step, 1..2^20 */
    double dropout; /* 0 <= p < 1 */
    double flip;    /* probability of mirroring an image, 0..1 */
    double
        t_weight; /* >= 1: timesteps count min(t_weight, max(1, (1-abar)/abar)) times in the loss of
                        images; 1: alike, as the papers have it */
    uint64_t seed;

    int64_t images;            /* train until at least so many images were seen, >= 1 */
    const char *data;          /* zs_source_open; the content may not change, its place may */
    const char *val;           /* of an encoder: images to measure accuracy on, or NULL */
    const char *base_name;     /* what base or encoder was opened from, for people */
    const char *codes;         /* file that keeps the codes; NULL: codes.safetensors in the run */
    const char *out;           /* folder of the run */
    const char *init;          /* MODEL whose weights a new run starts from, or NULL */
    int64_t micro_batch;       /* divides a rank's part of the batch; 0: all of it. Changes the last
                                  bits of sums */
    zs_comm *comm;             /* borrowed: ranks that train together, each on a part of every
                                  batch; NULL: this process alone. Their number changes the last
                                  bits too */
    double bucket_mb;          /* > 0: gradients are sent in pieces of about so many 10^6 bytes */
    int64_t stride;            /* set by the loop for its subject: samples from a batch to the next,
                                  of which `batch` is then a part; 0: batch */
    int64_t log_steps;         /* a line of log.jsonl every so many steps; 0: none */
    int64_t checkpoint_steps;  /* a checkpoint every so many steps; 0: by time alone */
    double checkpoint_minutes; /* and when the last is older; 0: never */
    int64_t keep;              /* checkpoints kept, >= 1 */
    int64_t preview_images;    /* a sample grid every so many images; 0: none. Of a prior: the
                                  distance of its codes to real ones */
    int loader_threads;        /* >= 1 */
    const char *backend;       /* zs_backend_find; NULL: the default */
    unsigned exec_flags;       /* zs_exec_flag */
    const json_t *note;        /* object kept in config.json under "note" (borrowed), or NULL */
} zs_train_config;

/* What the pictures of a run look like: image_size, channels and fit of its model, or, where this
 * learns latents, those of the images that become such. */
typedef struct zs_train_picture {
    int64_t size, channels;
    const char *fit; /* borrowed from c */
} zs_train_picture;
zs_train_picture zs_train_pictures(const zs_train_config *c);

/* Defaults for everything but model, data, out and images. */
zs_train_config zs_train_defaults(void);

typedef struct zs_train_report {
    int64_t start_step; /* what the session started from; 0 for a new run */
    int64_t step, samples;
    double loss;       /* of the last step */
    double seconds;    /* of all sessions */
    double per_second; /* images, this session */
    double rep_fd;     /* of a prior: Frechet distance between generated and real normalised codes
                          at the newest preview of this session; < 0: none */
} zs_train_report;

/* With ranks every one of them calls this with the same configuration. Rank 0 alone reads and
 * writes c->out; the outcome is the same on all of them (zs_comm_agree), and a run may be resumed
 * by any number of ranks.
 *
 * Trains, from the newest whole checkpoint of c->out where there is one: bit for bit as if the run
 * had never been interrupted, with any number of threads. Writes checkpoints, log, previews and
 * the bundle model.safetensors (zs_rundir). *report (may be NULL) is filled in also on failure.
 *
 * ZS_E_INVALID   an option, another configuration than the run's, or a folder in use
 * ZS_E_CANCELLED ui's progress callback asked to stop: the step was finished and saved
 * ZS_E_NUMERIC   NaN or Inf in loss or gradient: step, images and the last checkpoint are named
 * ZS_E_IO, ZS_E_FORMAT, ZS_E_NOMEM */
int zs_train_run(const zs_train_config *c, const zs_ui *ui, zs_train_report *report, zs_error *err);

/* The run's configuration as config.json and checkpoints hold it (new reference, NULL when out of
 * memory): "model" and "train" must agree to resume; "run" is for people. */
json_t *zs_train_config_to_json(const zs_train_config *c, uint64_t data_fingerprint,
                                int64_t data_images);

/* ZS_E_INVALID names the field and its range. */
int zs_train_config_validate(const zs_train_config *c, zs_error *err);

#endif
