/* SPDX-License-Identifier: MIT */
/* zsem-mpi.so: messages by MPI. Only one thread calls MPI (MPI_THREAD_FUNNELED): sums move on
 * between the nodes of a plan, by calls of MPI_Test, and need no thread of their own, which would
 * take a core from the kernels. Bytes of the program's own memory are all that MPI sees, so it need
 * not know of GPUs. */
#include "comm/driver.h"

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* MPI_Abort waits for the launcher, which may be out of reach as well. */
enum { ABORT_SECONDS = 20 };

static MPI_Comm ranks = MPI_COMM_NULL;
static int began; /* MPI was not running before */

static int code_of(int mpi)
{
    return mpi == MPI_SUCCESS ? 0 : -1 - mpi;
}

static void explain(int code, char *text, size_t cap)
{
    char why[MPI_MAX_ERROR_STRING + 1] = "";
    int n = 0;
    if (MPI_Error_string(-1 - code, why, &n) != MPI_SUCCESS)
        (void)snprintf(why, sizeof why, "error %d", -1 - code);
    why[sizeof why - 1] = '\0';
    (void)snprintf(text, cap, "%s", why);
}

static int describe(zs_comm_place *me)
{
    char name[MPI_MAX_PROCESSOR_NAME + 1] = "";
    int n = 0, r = MPI_Comm_rank(ranks, &me->rank);
    if (r == MPI_SUCCESS)
        r = MPI_Comm_size(ranks, &me->size);
    if (r == MPI_SUCCESS)
        r = MPI_Get_processor_name(name, &n);
    (void)snprintf(me->host, sizeof me->host, "%.*s", (int)sizeof me->host - 1, name);
    return code_of(r);
}

static int open_mpi(zs_comm_place *me)
{
    int running = 0, have = MPI_THREAD_FUNNELED, r = MPI_Initialized(&running);
    if (r == MPI_SUCCESS && !running)
        r = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &have);
    if (r == MPI_SUCCESS && have < MPI_THREAD_FUNNELED)
        r = MPI_ERR_OTHER;
    began = !running;
    ranks = MPI_COMM_WORLD;
    if (r == MPI_SUCCESS && running) /* not where all are ours: nobody could say who is missing */
        r = MPI_Comm_dup(MPI_COMM_WORLD, &ranks);
    if (r == MPI_SUCCESS)
        r = MPI_Comm_set_errhandler(ranks, MPI_ERRORS_RETURN);
    return r == MPI_SUCCESS ? describe(me) : code_of(r);
}

/* A request of MPI fits into one of ours, and is kept there byte by byte. */
_Static_assert(sizeof(MPI_Request) <= sizeof(((zs_comm_request *)0)->bits), "requests of MPI");

static void put(zs_comm_request *r, MPI_Request q)
{
    r->bits = 0;
    memcpy(&r->bits, &q, sizeof q);
}

static int send_bytes(void *ctx, int to, int tag, const void *p, size_t n, zs_comm_request *r)
{
    MPI_Request q = MPI_REQUEST_NULL;
    (void)ctx;
    int code = MPI_Isend(p, (int)n, MPI_BYTE, to, tag, ranks, &q);
    put(r, q);
    return code_of(code);
}

static int recv_bytes(void *ctx, int from, int tag, void *p, size_t n, zs_comm_request *r)
{
    MPI_Request q = MPI_REQUEST_NULL;
    (void)ctx;
    int code = MPI_Irecv(p, (int)n, MPI_BYTE, from, tag, ranks, &q);
    put(r, q);
    return code_of(code);
}

static int test(void *ctx, zs_comm_request *r)
{
    MPI_Request q;
    int done = 0;
    (void)ctx;
    memcpy(&q, &r->bits, sizeof q);
    int code = MPI_Test(&q, &done, MPI_STATUS_IGNORE);
    put(r, q);
    return code == MPI_SUCCESS ? done != 0 : code_of(code);
}

static void stop(void *ctx, int code)
{
    (void)ctx;
    (void)signal(SIGALRM, SIG_DFL);
    (void)alarm(ABORT_SECONDS);
    (void)MPI_Abort(ranks, code);
}

static void close_mpi(void *ctx)
{
    (void)ctx;
    if (ranks != MPI_COMM_NULL) /* launchers end all when one has ended badly */
        (void)MPI_Barrier(ranks);
    if (ranks != MPI_COMM_NULL && ranks != MPI_COMM_WORLD)
        (void)MPI_Comm_free(&ranks);
    ranks = MPI_COMM_NULL;
    if (began)
        (void)MPI_Finalize();
}

__attribute__((visibility("default"))) const zs_comm_driver *zs_comm_module(void);

const zs_comm_driver *zs_comm_module(void)
{
    static const zs_comm_driver driver = {.abi = ZS_COMM_ABI,
                                          .name = "MPI",
                                          .open = open_mpi,
                                          .send = send_bytes,
                                          .recv = recv_bytes,
                                          .test = test,
                                          .explain = explain,
                                          .stop = stop,
                                          .close = close_mpi};
    return &driver;
}
