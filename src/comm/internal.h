/* SPDX-License-Identifier: MIT */
/* Private to the communication layer. */
#ifndef ZS_COMM_INTERNAL_H
#define ZS_COMM_INTERNAL_H

#include "comm/comm.h"

enum { ZS_COMM_CPUS = 1024, ZS_COMM_RANKS_MAX = 4096 };

/* What ranks tell each other at the beginning. */
typedef struct zs_comm_card {
    char host[ZS_COMM_HOST_MAX];
    char version[32];
    uint8_t cpus[ZS_COMM_CPUS / 8]; /* those that the rank may run on */
} zs_comm_card;

typedef struct zs_flight {
    zs_comm_request r;
    int peer;
    bool receives, done;
} zs_flight;

struct zs_comm {
    const zs_comm_driver *d;
    void *ctx;
    zs_comm_place me;
    zs_comm_card *cards; /* [size] */
    double timeout;      /* seconds; 0: for ever */
    bool broken;         /* nobody can be reached any more */
    bool lost_first;     /* rank 0 is among those who cannot be reached */
    zs_error verdict;    /* of the failure that all know; status ZS_OK: none */
    void **kept;         /* memory that messages may still be written to */
    size_t n_kept, cap_kept;
};

/* Message tags; sums have two each, from ZS_TAG_SUMS on. */
enum { ZS_TAG_MEET = 1, ZS_TAG_TEXT, ZS_TAG_MOVE, ZS_TAG_SUMS = 16 };

int zs_comm_send(zs_comm *c, zs_flight *f, int to, int tag, const void *p, size_t n, zs_error *err);
int zs_comm_recv(zs_comm *c, zs_flight *f, int from, int tag, void *p, size_t n, zs_error *err);

/* 1 when all n are done, 0 when not yet. */
int zs_comm_test(zs_comm *c, zs_flight *f, size_t n, zs_error *err);

/* Until all n are done; gives up after `timeout` seconds (0: never), and says who is missing. */
int zs_comm_wait(zs_comm *c, zs_flight *f, size_t n, double timeout, zs_error *err);

/* all [size][bytes] from everybody's mine [bytes]; a few hundred bytes at most. */
int zs_comm_meet(zs_comm *c, void *all, const void *mine, size_t bytes, double timeout,
                 zs_error *err);

/* Whether that rank is on this one's machine. */
bool zs_comm_is_near(const zs_comm *c, int rank);

/* CPUs that this process may run on, and the cores behind CPUs: of those that share a core only the
 * first is left. `folder` is /sys/devices/system/cpu. Sets of ZS_COMM_CPUS bits. */
void zs_comm_cpus(uint8_t *bits);
void zs_comm_cores(uint8_t *cores, const uint8_t *cpus, const char *folder);

/* Frees what messages were made from or written to: at once, or, where some of them were given up,
 * with c. */
void zs_comm_drop(zs_comm *c, void *p);

/* A failure of messages: nothing can be sent from now on. */
int zs_comm_break(zs_comm *c, zs_error *err, const char *fmt, ...) ZS_PRINTF(3, 4);

/* The failure again, for calls after it; ZS_OK when there was none. */
int zs_comm_repeat(const zs_comm *c, zs_error *err);

/* A failure that every rank has found out by itself. */
int zs_comm_refuse(zs_comm *c, zs_error *err, const char *fmt, ...) ZS_PRINTF(3, 4);

#endif
