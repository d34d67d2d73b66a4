/* SPDX-License-Identifier: MIT */
/* Where the ranks of one machine work: cores and GPUs are shared between them. */
#include "tasks/place.h"

#include "comm/comm.h"
#include "tensor/backend.h"
#ifdef ZSEM_HAVE_CUDA
#include "backend/cuda/cuda.h"
#endif

static void warn_of_idle_cores(const zs_task_env *env, const zs_comm *comm)
{
    int idle = zs_comm_idle_cores(comm);
    if (zs_comm_rank(comm) == 0 && idle > 0)
        zs_ui_log(env->ui, ZS_LOG_WARN,
                  "%d cores of %s are used by no rank: launchers bind ranks to cores; start them "
                  "with mpirun --bind-to none, or srun --cpus-per-task=N",
                  idle, zs_comm_host(comm, 0));
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
