/* SPDX-License-Identifier: MIT */
/* What the loop does when several ranks train together. Everything is collective, and does nothing
 * for a single rank. Private to train. */
#ifndef ZS_TRAIN_TEAM_H
#define ZS_TRAIN_TEAM_H

#include "train/state.h"
#include "train/trainer.h"

/* Rank 0: the one that reads and writes files and talks. */
bool zs_team_leads(const zs_comm *comm);

/* The part of the configuration that this rank's subject and gradient see: its share of each batch,
 * and how far apart these are. *first is where the share begins within the batch. */
zs_train_config zs_team_share(const zs_train_config *c, int64_t *first);

/* Fails on all ranks when one of them sees other data or has other options than rank 0: names
 * it. */
int zs_team_same_run(zs_comm *comm, const zs_train_config *c, uint64_t fingerprint, int64_t count,
                     const json_t *config, zs_error *err);

/* Weights, moments and counters of rank 0 to all. */
int zs_team_share_state(zs_comm *comm, zs_train_state *s, zs_error *err);

/* *loss of all from the share of each, and what became of the step: `status` is this rank's. */
int zs_team_loss(zs_comm *comm, double *loss, int status, zs_error *err);

/* Now and then: all ranks hold the same weights, as they must by the same arithmetic. `first` is
 * the first step of the session. Names the rank that does not. */
int zs_team_check(zs_comm *comm, const zs_train_state *s, int64_t first, zs_error *err);

#endif
