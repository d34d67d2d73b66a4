/* SPDX-License-Identifier: MIT */
/* What the kinds of zsem train share. */
#ifndef ZS_TASKS_TRAIN_H
#define ZS_TASKS_TRAIN_H

#include "models/models.h"
#include "tasks/task.h"
#include "train/train.h"

/* c from the options that all kinds have; what a preset decides only where it was given. */
void zs_train_take_options(zs_train_config *c, zs_task_env *env);

/* "key=value" of --set when the key is one of training: 1 when it is not. */
int zs_train_take_key(zs_train_config *c, const char *key_value, zs_error *err);

/* Fails unless --data and --out are there; `kind` is for the message. */
int zs_train_take_places(zs_train_config *c, zs_task_env *env, const char *kind);

/* The preset asked for, or the one made for this data, or ffhq64: small colour images. */
int zs_train_preset(zs_preset *p, zs_task_env *env, const char *data);

/* Fails unless the part c of the preset has a box; `kind`, as in "an autoencoder", is for the
 * message. */
int zs_train_check_preset(const zs_preset *p, const zs_model_config *c, const char *kind,
                          zs_error *err);

/* Optimiser, batch and length of training as the preset has them. */
void zs_train_fill(zs_train_config *c, const zs_preset_train *t);

/* As many classes as the data has; ZS_E_INVALID when there are fewer than 2. */
int zs_train_count_classes(int64_t *n, const char *data, zs_error *err);

/* Trains and reports. */
int zs_train_go(zs_train_config *c, zs_task_env *env);

/* zsem train prior MODEL, zsem train probe MODEL. */
int zs_train_prior(zs_task_env *env);
int zs_train_probe(zs_task_env *env);

/* zsem train generator [--encoder MODEL | --class-cond]. */
int zs_train_generator(zs_task_env *env);

/* zsem train encoder --objective supervised. */
int zs_train_encoder(zs_task_env *env);

#endif
