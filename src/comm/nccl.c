/* SPDX-License-Identifier: MIT */
/* Sums in the memory of GPUs, by NCCL; its ranks find each other through ours. Never run yet: there
 * was no GPU to run it on. */
#include "comm/internal.h"

#ifdef ZSEM_HAVE_NCCL

#include <nccl.h>
#include <stdlib.h>
#include <string.h>

struct zs_comm_device {
    zs_comm *c;
    ncclComm_t nccl;
};

static int failed(zs_comm_device *d, ncclResult_t r, zs_error *err)
{
    zs_comm *c = d->c;
    return zs_comm_break(c, err,
                         "rank %d (%s): NCCL: %s%s%s; NCCL_DEBUG=INFO says more, and ZSEM_NCCL=0 "
                         "sends gradients by MPI instead",
                         c->me.rank, zs_comm_host(c, c->me.rank), ncclGetErrorString(r),
                         d->nccl ? ": " : "", d->nccl ? ncclGetLastError(d->nccl) : "");
}

static int join(zs_comm_device *d, zs_error *err)
{
    ncclUniqueId id;
    zs_error why = {0};
    memset(&id, 0, sizeof id);
    ncclResult_t r = d->c->me.rank == 0 ? ncclGetUniqueId(&id) : ncclSuccess;
    int status = r == ncclSuccess ? ZS_OK
                                  : zs_fail(&why, ZS_E_UNSUPPORTED, "NCCL does not start: %s",
                                            ncclGetErrorString(r));
    status = zs_comm_agree(d->c, status, &why);
    if (status < 0)
        return zs_fail(err, status, "%s", why.message);
    status = zs_comm_broadcast(d->c, &id, sizeof id, err);
    if (status < 0)
        return status;
    r = ncclCommInitRank(&d->nccl, d->c->me.size, id, d->c->me.rank);
    return r == ncclSuccess ? ZS_OK : failed(d, r, err);
}

int zs_comm_device_new(zs_comm_device **out, zs_comm *c, zs_error *err)
{
    const char *use = getenv("ZSEM_NCCL");
    *out = NULL;
    if (zs_comm_size(c) == 1 || (use && strcmp(use, "0") == 0))
        return ZS_OK;
    zs_comm_device *d = zs_calloc(1, sizeof *d);
    if (!d)
        return zs_fail_nomem(err, sizeof *d, "NCCL");
    d->c = c;
    int status = join(d, err);
    if (status < 0)
        zs_comm_device_free(&d);
    *out = d;
    return status;
}

int zs_comm_device_sum(zs_comm_device *d, float *x, int64_t n, void *queue, zs_error *err)
{
    ncclResult_t r =
        ncclAllReduce(x, x, (size_t)n, ncclFloat, ncclSum, d->nccl, (struct CUstream_st *)queue);
    return r == ncclSuccess ? ZS_OK : failed(d, r, err);
}

int zs_comm_device_begin(zs_error *err)
{
    return ncclGroupStart() == ncclSuccess
               ? ZS_OK
               : zs_fail(err, ZS_E_IO, "NCCL cannot begin to add gradients up");
}

int zs_comm_device_end(zs_comm_device *d, zs_error *err)
{
    ncclResult_t r = ncclGroupEnd();
    return r == ncclSuccess ? ZS_OK : failed(d, r, err);
}

void zs_comm_device_free(zs_comm_device **d)
{
    if (*d && (*d)->nccl && (*d)->c->broken)
        (void)ncclCommAbort((*d)->nccl);
    else if (*d && (*d)->nccl)
        (void)ncclCommDestroy((*d)->nccl);
    zs_free(*d);
    *d = NULL;
}

#else

int zs_comm_device_new(zs_comm_device **out, zs_comm *c, zs_error *err)
{
    (void)c;
    (void)err;
    *out = NULL;
    return ZS_OK;
}

int zs_comm_device_begin(zs_error *err)
{
    return zs_fail(err, ZS_E_INTERNAL, "this build has no NCCL");
}

int zs_comm_device_sum(zs_comm_device *d, float *x, int64_t n, void *queue, zs_error *err)
{
    (void)d;
    (void)x;
    (void)n;
    (void)queue;
    return zs_comm_device_begin(err);
}

int zs_comm_device_end(zs_comm_device *d, zs_error *err)
{
    (void)d;
    return zs_comm_device_begin(err);
}

void zs_comm_device_free(zs_comm_device **d)
{
    *d = NULL;
}

#endif
