/* SPDX-License-Identifier: MIT */
/* Runs that are over in a second: a folder of tiny pictures, tiny models, and what is said about
 * them. Helpers fail the running test with a message. cmocka must be included first. */
#ifndef TESTS_E2E_TRAINKIT_H
#define TESTS_E2E_TRAINKIT_H

#include "tests/unit/scratch.h"
#include "train/train.h"

/* ---- files of the scratch folder (tests/unit/scratch.h) ---- */

/* "<folder>/<a>,<folder>/<b>" */
const char *tiny_joined(const char *a, const char *b);

bool tiny_exists(const char *path);

/* ---- pictures, grey ---- */

enum { TINY = 8 }; /* their side, where nothing else is said */

/* px [side*side] as the file `name` of the folder, whose own folders are made. */
void tiny_picture(const char *name, int side, const uint8_t *px);

/* Two classes, bright on the left and bright on the right, in turns: FOLDER/right/00.png,
 * FOLDER/left/01.png, FOLDER/right/02.png, ... Without classes FOLDER/00.png, FOLDER/01.png. */
void tiny_halves(const char *folder, int count, bool classes);

/* ---- models ---- */

/* Of TINY pictures; codes of `dim` numbers. */
zs_model_config tiny_autoencoder(int64_t dim);

/* Of images or latents of one channel. */
zs_model_config tiny_adm(int64_t side);

/* Weights that nobody trained (owned), and where each is. What starts at zero is moved a little
 * away from it: it would give nothing. */
float *tiny_weights(zs_params **ps, const zs_model_config *c, uint64_t seed);

/* Writes them to the file `name` of the folder. stats: mean and also deviation of the codes, or
 * NULL. */
void tiny_bundle(const char *name, const zs_model_config *c, uint64_t seed, const float *stats,
                 zs_dtype dtype);

/* Opens what a path or several joined paths say. */
zs_model *tiny_open(const char *spec);
void tiny_open_refused(const char *spec, const char *words);

/* Two runs or bundles of the folder hold the same numbers. */
void tiny_same_weights(const char *a, const char *b);

/* ---- runs ---- */

/* The status must be `want`. ui and report may be NULL. */
void tiny_train(const zs_train_config *c, const zs_ui *ui, int want, zs_train_report *report);
void tiny_train_refused(const zs_train_config *c, const char *words);

/* Stops what it is shown the progress of once so much is done. *done is borrowed. */
zs_ui tiny_stop_at(const double *done);

#endif
