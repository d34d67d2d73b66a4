/* SPDX-License-Identifier: MIT */
/* The processes of a launcher, reached through a module that is loaded only where one is at work:
 * neither the library nor a program that runs alone depends on a message-passing library. */
#include "comm/internal.h"
#include "zsem/ranks.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

#define MODULE "zsem-mpi.so"

/* Where the build and cmake --install put modules. */
#ifndef ZSEM_LIBDIR
#define ZSEM_LIBDIR "lib"
#endif
#ifndef ZSEM_MODULEDIR
#define ZSEM_MODULEDIR "/usr/local/lib/zsem"
#endif

enum { SLURM = 3 };

/* How a launcher tells a process who it is, among all and on its machine. */
static const struct launcher {
    const char *size, *rank, *local, *name;
} launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "mpirun"},
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "mpirun"},
    {"PMI_SIZE", "PMI_RANK", "MPI_LOCALRANKID", "mpiexec"},
    [SLURM] = {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID", "srun"}};

static struct {
    const struct launcher *launcher; /* NULL: none */
    int claimed_rank, claimed_size;  /* as the launcher has it; size 0: nobody has looked */
    int claimed_local;               /* rank on this machine */
    bool joined;                     /* or tried to */
    bool stranded;                   /* no message was ever sent: others know nothing of this one */
    zs_comm *comm;
} world;

zs_comm *zs_comm_world(void)
{
    return world.comm;
}

/* ---- find ---- */

static int number_of(const char *name, int otherwise)
{
    int64_t v;
    const char *s = getenv(name);
    return s && zs_str_to_i64(s, &v) && v >= 0 && v <= ZS_COMM_RANKS_MAX ? (int)v : otherwise;
}

static void find_launcher(void)
{
    const char *alone = getenv("ZSEM_ALONE");
    if (world.claimed_size > 0)
        return;
    world.claimed_size = 1;
    if (alone && *alone) /* a launcher of processes that have nothing to do with each other */
        return;
    for (size_t i = 0; !world.launcher && i < sizeof launchers / sizeof launchers[0]; i++) {
        int n = number_of(launchers[i].size, 1);
        if (!getenv(launchers[i].size))
            continue;
        if (n < 2) /* one process, whatever has started its launcher */
            return;
        world.launcher = &launchers[i];
        world.claimed_size = n;
        world.claimed_rank = number_of(launchers[i].rank, 0);
        world.claimed_local = number_of(launchers[i].local, world.claimed_rank);
    }
}

/* The folder of the running program, without its last slash. */
static char *program_folder(void)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    char *slash = NULL;
    if (n > 0) {
        path[n] = '\0';
        slash = strrchr(path, '/');
    }
    if (!slash)
        return NULL;
    *slash = '\0';
    return zs_str_dup(path);
}

/* The module's file; NULL when there is none. */
static char *find_module(void)
{
    const char *chosen = getenv("ZSEM_MODULES");
    char *program = program_folder();
    char *paths[] = {
        chosen && *chosen ? zs_str_format("%s/" MODULE, chosen) : NULL,
        !chosen && program ? zs_str_format("%s/" MODULE, program) : NULL,
        !chosen && program ? zs_str_format("%s/../" ZSEM_LIBDIR "/zsem/" MODULE, program) : NULL,
        !chosen ? zs_str_dup(ZSEM_MODULEDIR "/" MODULE) : NULL};
    char *found = NULL;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (!found && paths[i] && access(paths[i], R_OK) == 0)
            found = paths[i];
        else
            zs_free(paths[i]);
    }
    zs_free(program);
    return found;
}

static int load(const zs_comm_driver **d, zs_error *err)
{
    char *path = find_module();
    if (!path)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s started %d processes, and this zsem has no " MODULE
                       ", so that each would do all of the work: install libopenmpi-dev and build "
                       "it again, the same on every machine, or start it without %s, or set "
                       "ZSEM_ALONE=1 if that is what you want",
                       world.launcher->name, world.claimed_size, world.launcher->name);
    /* global: Open MPI loads parts of itself that look for its names; never unloaded */
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    void *symbol = handle ? dlsym(handle, ZS_COMM_ENTRY) : NULL;
    zs_comm_entry entry = NULL;
    memcpy(&entry, &symbol, sizeof entry); /* C has no cast from objects to functions */
    *d = entry ? entry() : NULL;
    int status = ZS_OK;
    if (!*d)
        status = zs_fail(err, ZS_E_UNSUPPORTED,
                         "%s: cannot be loaded: %s; install the MPI library that it was built with "
                         "(libopenmpi3), or start zsem without %s",
                         path, dlerror(), world.launcher->name);
    else if ((*d)->abi != ZS_COMM_ABI)
        status =
            zs_fail(err, ZS_E_UNSUPPORTED,
                    "%s belongs to another version of zsem; install both from one build", path);
    zs_free(path);
    return status;
}

/* Every process is rank 0 of 1 when launcher and library do not know each other. */
static int check_size(const zs_comm_place *me, const zs_comm_driver *d, zs_error *err)
{
    if (me->size == world.claimed_size)
        return ZS_OK;
    return zs_fail(err, ZS_E_UNSUPPORTED,
                   "%s started %d processes, but %s finds %d: the launcher is that of another MPI; "
                   "use the one that zsem was built with, and under Slurm srun --mpi=pmix",
                   world.launcher->name, world.claimed_size, d->name, me->size);
}

/* Slurm says in the environment how its tasks find each other. Without a word of it Open MPI ends
 * the process with a page of its own. */
static int check_slurm(zs_error *err)
{
    char **at = environ;
    if (world.launcher != &launchers[SLURM])
        return ZS_OK;
    while (*at && !zs_str_starts(*at, "PMI"))
        at++;
    return *at ? ZS_OK
               : zs_fail(err, ZS_E_UNSUPPORTED,
                         "srun started %d processes and does not tell them how to reach each "
                         "other: use srun --mpi=pmix (srun --mpi=list says what there is), or "
                         "mpirun within the job",
                         world.claimed_size);
}

/* Words for one process on each machine, which names itself unless it is the first of all. */
static int strand(int status, const zs_error *why, zs_error *err)
{
    char host[ZS_COMM_HOST_MAX] = "";
    world.stranded = true;
    if (world.claimed_rank == 0)
        return zs_fail(err, status, "%s", why->message);
    (void)gethostname(host, sizeof host - 1);
    return zs_fail(err, status, "rank %d (%s): %s", world.claimed_rank, host, why->message);
}

int zs_ranks_join(zs_error *err)
{
    const zs_comm_driver *d = NULL;
    zs_comm_place me = {0};
    zs_error own = {0};
    char why[256] = "";
    find_launcher();
    if (!world.launcher || world.comm)
        return ZS_OK;
    if (world.joined)
        return zs_fail(err, ZS_E_INVALID, "there are no other processes");
    world.joined = true;
    int status = check_slurm(err);
    if (status < 0)
        return status;
    status = load(&d, &own);
    if (status < 0)
        return strand(status, &own, err);
    int code = d->open(&me);
    if (code < 0) {
        d->explain(code, why, sizeof why);
        return zs_fail(err, ZS_E_IO, "%s does not start: %s", d->name, why);
    }
    status = check_size(&me, d, err);
    if (status < 0) {
        d->close(NULL);
        return status;
    }
    return zs_comm_new(&world.comm, d, NULL, &me, err);
}

int zs_ranks_index(void)
{
    find_launcher();
    return world.comm ? zs_comm_rank(world.comm) : world.claimed_rank;
}

int zs_ranks_count(void)
{
    return world.comm ? zs_comm_size(world.comm) : 1;
}

/* ---- the end ---- */

/* Rank 0 may still have something to save, and ends everybody when it has. */
static const double PATIENCE_SECONDS = 120.0;

static void wait_for_the_end(void)
{
    const struct timespec t = {.tv_nsec = 100000000};
    for (double end = zs_clock_now() + PATIENCE_SECONDS; zs_clock_now() < end;)
        (void)nanosleep(&t, NULL);
}

int zs_ranks_speaks(void)
{
    const zs_comm *c = world.comm;
    if (c && c->broken && c->me.rank > 0) {
        if (!c->lost_first)
            wait_for_the_end();
        return 1;
    }
    return world.stranded ? world.claimed_local == 0 : zs_ranks_index() == 0;
}

void zs_ranks_leave(void)
{
    zs_comm *c = world.comm;
    if (!c)
        return;
    if (c->broken)
        c->d->stop(c->ctx, 2);
    else
        c->d->close(c->ctx);
    zs_comm_free(&world.comm);
}
