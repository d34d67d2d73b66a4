/* SPDX-License-Identifier: MIT */
/* Where ranks work: those of one machine share its cores and GPUs, and all of them folders. */
#include "tasks/place.h"

#include "comm/comm.h"
#include "tensor/backend.h"
#ifdef ZSEM_HAVE_CUDA
#include "backend/cuda/cuda.h"
#endif

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MARK = 6 }; /* letters of a name that mkstemp chooses */

static void warn_of_idle_cores(const zs_task_env *env, const zs_comm *comm)
{
    int idle = zs_comm_idle_cpus(comm);
    if (zs_comm_rank(comm) == 0 && idle > 0)
        zs_ui_log(env->ui, ZS_LOG_WARN,
                  "CPUs of %s that no rank may use: %d; launchers bind ranks to cores; start them "
                  "with mpirun --bind-to none, or srun --cpus-per-task=N",
                  zs_comm_host(comm, 0), idle);
}

void zs_place_threads(const zs_task_env *env, int threads)
{
    const zs_comm *comm = zs_comm_world();
    if (threads == 0 && comm)
        warn_of_idle_cores(env, comm);
    zs_threads_set(threads ? threads : zs_comm_threads(comm));
}

#ifdef ZSEM_HAVE_CUDA
static int count_devices(const zs_backend *b)
{
    zs_device d;
    zs_error ignored = {0};
    int n = 0;
    while (b->remote->device && b->remote->device(&d, n, &ignored) == 1)
        n++;
    return n;
}

/* A launcher that gives each rank a GPU of its own shows it one. */
int zs_place_device(const zs_task_env *env)
{
    const zs_comm *comm = zs_comm_world();
    const zs_backend *b = zs_backend_find(zs_opt_text(env, "device"));
    if (zs_comm_size(comm) == 1 || (b != &zs_backend_cuda && b != &zs_backend_cuda_f32))
        return ZS_OK;
    int n = count_devices(b), mine = zs_comm_local_rank(comm);
    if (n > 1 && mine >= n)
        return zs_fail(env->err, ZS_E_INVALID,
                       "%s has %d GPUs for %d ranks; start as many ranks on it as it has GPUs",
                       zs_comm_host(comm, zs_comm_rank(comm)), n, zs_comm_local_size(comm));
    return n > 1 ? zs_cuda_select(mine, env->err) : ZS_OK;
}
#else
int zs_place_device(const zs_task_env *env)
{
    (void)env;
    return ZS_OK;
}
#endif

/* ---- folders ---- */

/* seen[rank] on rank 0: whether that rank finds a file which rank 0 has just made. */
static int look_around(uint8_t *seen, char *mark, zs_comm *comm, zs_error *err)
{
    int fd = -1, rank = zs_comm_rank(comm), size = zs_comm_size(comm), status = ZS_OK;
    if (rank == 0 && (fd = mkstemp(mark)) < 0)
        status = zs_fail(err, ZS_E_IO, "%s: cannot be made: %s", mark, strerror(errno));
    status = zs_comm_agree(comm, status, err);
    if (status == ZS_OK)
        status = zs_comm_broadcast(comm, mark + strlen(mark) - MARK, MARK, err);
    seen[rank] = access(mark, F_OK) == 0;
    status = zs_comm_collect(comm, seen, size, 1, size, 1, status, err);
    if (fd >= 0) {
        close(fd);
        (void)unlink(mark);
    }
    return status;
}

static void warn_of_folders(const zs_task_env *env, const char *dir, const uint8_t *seen)
{
    const zs_comm *comm = zs_comm_world();
    int first = -1, n = 0, size = zs_comm_size(comm);
    for (int i = size - 1; i > 0; i--) {
        first = seen[i] ? first : i;
        n += !seen[i];
    }
    if (n > 0)
        zs_ui_log(env->ui, ZS_LOG_WARN,
                  "%s is another folder on %s, for %d of %d ranks: images that they make stay "
                  "there; collect them, or let --out be a folder that all machines share",
                  dir, zs_comm_host(comm, first), n, size);
}

int zs_place_output(const zs_task_env *env, const char *dir, int status)
{
    zs_comm *comm = zs_comm_world();
    int size = zs_comm_size(comm);
    status = zs_comm_agree(comm, status, env->err);
    if (status < 0 || size == 1)
        return status;
    char *mark = zs_str_format("%s/.ranks-XXXXXX", dir);
    uint8_t *seen = zs_calloc((size_t)size, 1);
    if (!mark || !seen)
        status = zs_fail_nomem(env->err, (unsigned long long)size, "a file name");
    status = zs_comm_agree(comm, status, env->err);
    if (status == ZS_OK)
        status = look_around(seen, mark, comm, env->err);
    if (status == ZS_OK && zs_comm_rank(comm) == 0)
        warn_of_folders(env, dir, seen);
    zs_free(seen);
    zs_free(mark);
    return status;
}
