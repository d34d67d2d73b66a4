/* SPDX-License-Identifier: MIT */
/* Face of the communication layer: several processes ("ranks"), on one machine or many, that work
 * on one command.
 *
 * Everything is made from messages between two ranks that arrive in order (driver.h), so that what
 * ranks compute together depends on their number alone: sums are added up in the order of the
 * ranks, in double precision, by one rank for each element, which then sends the result to the
 * others. Hence the same bits on every rank, in every run, with any MPI library and any placement
 * of the ranks.
 *
 * The calls below are collective: every rank makes the same ones in the same order. A failure of
 * one rank is made known to the others by zs_comm_agree, with which every piece of work that can
 * fail on one rank alone ends. Only one thread may use a zs_comm. NULL is a single process, with
 * which everything here works and does nothing. */
#ifndef ZS_COMM_COMM_H
#define ZS_COMM_COMM_H

#include "base/base.h"
#include "comm/driver.h"

typedef struct zs_comm zs_comm;

/* ---- who is there ---- */

int zs_comm_rank(const zs_comm *c);
int zs_comm_size(const zs_comm *c);
int zs_comm_local_rank(const zs_comm *c); /* among those on this machine */
int zs_comm_local_size(const zs_comm *c);
const char *zs_comm_host(const zs_comm *c, int rank); /* borrowed */

/* Threads for this rank, so that the ranks which share its cores have as many each: one for a core,
 * also where it counts as two CPUs. */
int zs_comm_threads(const zs_comm *c);

/* CPUs of this machine that none of its ranks may use because Open MPI has bound them; else 0. */
int zs_comm_idle_cpus(const zs_comm *c);

/* Part `rank` of n things in consecutive, nearly equal parts. */
typedef struct zs_part {
    int64_t begin, end;
} zs_part;
zs_part zs_comm_part(const zs_comm *c, int64_t n);
zs_part zs_comm_part_of(int64_t n, int rank, int size);

/* ---- together ---- */

/* How long a rank waits for another one before it gives up: then the status is ZS_E_IO, the message
 * names who is missing, and every later call fails likewise. 0: for ever. 1800 s at first. */
void zs_comm_set_timeout(zs_comm *c, double seconds);

/* The outcome of what ranks have done each on its own: ZS_OK when it is that everywhere. Else every
 * rank gets the status and message of the same one of those that failed: the first, but one that
 * was merely asked to stop last, and named with its host unless rank 0 failed too. *err is
 * replaced. After a failure nothing is sent any more, and later calls repeat it. */
int zs_comm_agree(zs_comm *c, int status, zs_error *err);

/* The same after work of a length that nobody knows: waits for ever. */
int zs_comm_agree_at_last(zs_comm *c, int status, zs_error *err);

/* True once ranks could no longer be reached: all that is left is to stop. */
bool zs_comm_is_broken(const zs_comm *c);

/* x[i] = sum over ranks, n <= ZS_COMM_SMALL. */
enum { ZS_COMM_SMALL = 16 };
int zs_comm_add(zs_comm *c, double *x, int n, zs_error *err);

/* Fails on every rank when number v is not that of rank 0 everywhere: `what` begins the sentence
 * after the rank's name, as in "reads other data than rank 0; copy ...". */
int zs_comm_same(zs_comm *c, uint64_t v, const char *what, zs_error *err);

/* n bytes of rank 0 to all. */
int zs_comm_broadcast(zs_comm *c, void *p, size_t n, zs_error *err);

/* Rows of this rank when n rows are shared out in whole blocks of `block`: as those that compute
 * rows in such blocks get the same bits for any number of ranks. */
zs_part zs_comm_rows(const zs_comm *c, int64_t n, int64_t block);
zs_part zs_comm_rows_of(int64_t n, int64_t block, int rank, int size);

/* Rank 0 gets the rows of the others below `upto`: p holds that many, `row` bytes each. Begins with
 * zs_comm_agree_at_last on `status`, which is that of the work before. */
int zs_comm_collect(zs_comm *c, void *p, int64_t n, int64_t block, int64_t upto, size_t row,
                    int status, zs_error *err);

/* ---- sums of many numbers ---- */

/* One sum on its way: x[0..n) of every rank becomes the sum over ranks. Sums may overlap each other
 * and computation that leaves x alone; each has a number `slot` of its own, the same on all
 * ranks. */
typedef struct zs_comm_sum zs_comm_sum;
int zs_comm_sum_new(zs_comm_sum **out, zs_comm *c, int slot, int64_t n, zs_error *err);
void zs_comm_sum_free(zs_comm_sum **s);
int zs_comm_sum_start(zs_comm_sum *s, float *x, zs_error *err);
/* Moves on what can be moved on; 1 when the sum is there. */
int zs_comm_sum_poll(zs_comm_sum *s, zs_error *err);
int zs_comm_sum_wait(zs_comm_sum *s, zs_error *err);

/* The same in the memory of a GPU, where the build has NCCL: *out is NULL where it has not, where
 * ZSEM_NCCL is 0, and for a single rank. The device must be open. Sums between begin and end are
 * queued in the order of the calls, behind what is in `queue` (a cudaStream_t); what comes there
 * later sees them. */
typedef struct zs_comm_device zs_comm_device;
int zs_comm_device_new(zs_comm_device **out, zs_comm *c, zs_error *err);
int zs_comm_device_begin(zs_error *err);
int zs_comm_device_sum(zs_comm_device *d, float *x, int64_t n, void *queue, zs_error *err);
int zs_comm_device_end(zs_comm_device *d, zs_error *err);
void zs_comm_device_free(zs_comm_device **d);

/* ---- the ranks of this process ---- */

/* The processes that mpirun or srun started, or NULL (world.c). */
zs_comm *zs_comm_world(void);

/* Made by tests and by world.c: takes part as `me`. Ranks get to know each other here: ZS_E_INVALID
 * on every rank when one of them is another version of the program. `ctx` is the driver's. */
int zs_comm_new(zs_comm **out, const zs_comm_driver *d, void *ctx, const zs_comm_place *me,
                zs_error *err);
void zs_comm_free(zs_comm **c);

#endif
