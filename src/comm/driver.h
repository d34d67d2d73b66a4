/* SPDX-License-Identifier: MIT */
/* What carries messages. One struct of functions, with nothing but C types, so that it can live in
 * a module that is loaded when it is needed (mpi/module.c) and that nobody else must link. */
#ifndef ZS_COMM_DRIVER_H
#define ZS_COMM_DRIVER_H

#include <stddef.h>
#include <stdint.h>

/* Raised whenever something below changes: a module of another build is refused. */
enum { ZS_COMM_ABI = 1, ZS_COMM_HOST_MAX = 64 };

typedef struct zs_comm_place {
    int rank, size;
    char host[ZS_COMM_HOST_MAX];
} zs_comm_place;

/* A message on its way. */
typedef struct zs_comm_request {
    uintptr_t bits; /* the driver's */
} zs_comm_request;

/* All are called by one thread. Functions that return int give 0, or a negative number that
 * `explain` puts into words. Messages between two ranks with one tag arrive in order; n < 2^30;
 * buffers stay untouched until the message is done. */
typedef struct zs_comm_driver {
    int abi;
    const char *name;
    int (*open)(zs_comm_place *me);
    int (*send)(void *ctx, int to, int tag, const void *p, size_t n, zs_comm_request *r);
    int (*recv)(void *ctx, int from, int tag, void *p, size_t n, zs_comm_request *r);
    int (*test)(void *ctx, zs_comm_request *r); /* 1: done */
    void (*explain)(int code, char *text, size_t cap);
    void (*stop)(void *ctx, int code); /* ends every rank; does not return */
    void (*close)(void *ctx);          /* waits until every rank has come here */
} zs_comm_driver;

/* The one function that a module exports. */
#define ZS_COMM_ENTRY "zs_comm_module"
typedef const zs_comm_driver *(*zs_comm_entry)(void);

#endif
