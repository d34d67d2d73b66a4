/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "base/parallel.h"
#include "base/clock.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

/* Waiting spins for so long before it sleeps: enough to bridge the gap between two kernels, too
 * little to take a busy neighbour's core. It does not spin when more threads are awake than there
 * are cores, since whoever spins may have the core of the thread that it waits for. */
static const double SPIN_SECONDS = 50e-6;

/* The gate of the current loop: active helpers in the low half, then whether it is closed, then the
 * number of the loop. Helpers enter through it while it is open; the caller closes it when no chunk
 * is left and waits for those inside. A helper that never got a core is not waited for. */
#define GATE_ACTIVE 0x7FFFFFFFu
#define GATE_CLOSED 0x80000000u

typedef struct job {
    zs_range_fn fn;
    void *ctx;
    int64_t n, grain;
    atomic_llong next; /* first element nobody has taken */
} job;

static struct {
    pthread_mutex_t loop;  /* held by whoever owns the pool: one loop at a time */
    pthread_mutex_t mutex; /* guards sleeping and waking */
    pthread_cond_t work, done;
    pthread_t threads[ZS_THREADS_MAX];
    int workers;      /* running helper threads: threads wanted minus the caller */
    int wanted;       /* 0 until first use */
    atomic_int count; /* workers + 1, readable without a lock; 0 until first use */
    atomic_int cores; /* that we may run on */
    atomic_int awake; /* helpers that are not asleep */
    atomic_ullong gate;
    atomic_bool quit;
    job job; /* written while the gate is closed and nobody is inside */
} pool = {.loop = PTHREAD_MUTEX_INITIALIZER,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static void relax(void)
{
    for (int i = 0; i < 16; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
}

static unsigned loop_of(unsigned long long gate)
{
    return (unsigned)(gate >> 32);
}

static void run_chunks(job *j, int thread)
{
    for (;;) {
        int64_t begin = atomic_fetch_add(&j->next, j->grain);
        if (begin >= j->n)
            return;
        int64_t end = j->n - begin < j->grain ? j->n : begin + j->grain;
        j->fn(j->ctx, begin, end, thread);
    }
}

/* ---- helpers ---- */

static double spin_until(void)
{
    return atomic_load(&pool.awake) < atomic_load(&pool.cores) ? zs_clock_now() + SPIN_SECONDS
                                                               : 0.0;
}

static bool nothing_new(unsigned seen)
{
    return loop_of(atomic_load(&pool.gate)) == seen && !atomic_load(&pool.quit);
}

static void wait_for_work(unsigned seen)
{
    double stop = spin_until();
    while (nothing_new(seen)) {
        if (stop > 0.0 && zs_clock_now() < stop) {
            relax();
            continue;
        }
        pthread_mutex_lock(&pool.mutex);
        atomic_fetch_sub(&pool.awake, 1); /* before looking again: see wake */
        while (nothing_new(seen))
            pthread_cond_wait(&pool.work, &pool.mutex);
        atomic_fetch_add(&pool.awake, 1);
        pthread_mutex_unlock(&pool.mutex);
    }
}

static bool enter(unsigned loop)
{
    unsigned long long g = atomic_load(&pool.gate);
    while (loop_of(g) == loop && !(g & GATE_CLOSED))
        if (atomic_compare_exchange_weak(&pool.gate, &g, g + 1))
            return true;
    return false;
}

static void leave(void)
{
    unsigned long long g = atomic_fetch_sub(&pool.gate, 1) - 1;
    if (!(g & GATE_CLOSED) || (g & GATE_ACTIVE))
        return;
    pthread_mutex_lock(&pool.mutex);
    pthread_cond_signal(&pool.done);
    pthread_mutex_unlock(&pool.mutex);
}

static void *worker_main(void *arg)
{
    int thread = (int)(intptr_t)arg;
    unsigned seen = 0;
    for (;;) {
        wait_for_work(seen);
        if (atomic_load(&pool.quit))
            return NULL;
        seen = loop_of(atomic_load(&pool.gate));
        if (enter(seen)) {
            run_chunks(&pool.job, thread);
            leave();
        }
    }
}

/* ---- the caller ---- */

/* Wakes helpers until there is one for every chunk but the caller's, or for every core but its own.
 * Those that are about to sleep either count as asleep or will see the new gate. */
static void wake(int64_t chunks)
{
    int64_t useful = pool.workers, cores = atomic_load(&pool.cores);
    useful = chunks - 1 < useful ? chunks - 1 : useful;
    useful = cores - 1 < useful && cores > 1 ? cores - 1 : useful;
    int64_t n = useful - atomic_load(&pool.awake);
    if (n <= 0)
        return;
    pthread_mutex_lock(&pool.mutex);
    for (; n > 0; n--)
        pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
}

static bool helpers_inside(void)
{
    return (atomic_load(&pool.gate) & GATE_ACTIVE) != 0;
}

static void wait_for_helpers(void)
{
    double stop = spin_until();
    while (helpers_inside()) {
        if (stop > 0.0 && zs_clock_now() < stop) {
            relax();
            continue;
        }
        pthread_mutex_lock(&pool.mutex);
        while (helpers_inside())
            pthread_cond_wait(&pool.done, &pool.mutex);
        pthread_mutex_unlock(&pool.mutex);
    }
}

/* Caller holds pool.loop; the gate is closed and nobody is inside, or no helper was ever there. */
static void run_parallel(int64_t n, int64_t grain, zs_range_fn fn, void *ctx)
{
    unsigned long long loop = loop_of(atomic_load(&pool.gate));
    pool.job.fn = fn;
    pool.job.ctx = ctx;
    pool.job.n = n;
    pool.job.grain = grain;
    atomic_store(&pool.job.next, 0);
    loop = (loop + 1) & 0xFFFFFFFFu;
    if (loop == 0)
        loop = 1; /* 0 is what a new helper has seen */
    atomic_store(&pool.gate, loop << 32);
    wake((n - 1) / grain + 1);
    run_chunks(&pool.job, 0);
    atomic_fetch_or(&pool.gate, GATE_CLOSED);
    wait_for_helpers();
}

/* ---- the number of threads ---- */

static void stop_workers(void)
{
    atomic_store(&pool.quit, true);
    pthread_mutex_lock(&pool.mutex);
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
    for (int i = 0; i < pool.workers; i++)
        pthread_join(pool.threads[i], NULL);
    atomic_store(&pool.quit, false);
    atomic_store(&pool.gate, GATE_CLOSED);
    atomic_store(&pool.awake, 0);
    pool.workers = 0;
}

static int cores(void)
{
#ifdef CPU_COUNT
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
#endif
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

/* Caller holds pool.loop. */
static void start_workers(void)
{
    while (pool.workers < pool.wanted - 1) {
        void *arg = (void *)(intptr_t)(pool.workers + 1);
        atomic_fetch_add(&pool.awake, 1);
        if (pthread_create(&pool.threads[pool.workers], NULL, worker_main, arg) != 0) {
            atomic_fetch_sub(&pool.awake, 1);
            return;
        }
        pool.workers++;
    }
}

static void set_threads_locked(int n)
{
    atomic_store(&pool.cores, cores());
    if (n <= 0)
        n = atomic_load(&pool.cores);
    if (n > ZS_THREADS_MAX)
        n = ZS_THREADS_MAX;
    if (n == pool.wanted)
        return;
    stop_workers();
    pool.wanted = n;
    start_workers();
    atomic_store(&pool.count, pool.workers + 1);
}

void zs_threads_set(int n)
{
    pthread_mutex_lock(&pool.loop);
    set_threads_locked(n);
    pthread_mutex_unlock(&pool.loop);
}

int zs_threads_count(void)
{
    /* the lock is for first use only: a chunk may ask while its own loop holds it */
    if (atomic_load(&pool.count) == 0) {
        pthread_mutex_lock(&pool.loop);
        if (pool.wanted == 0)
            set_threads_locked(0);
        pthread_mutex_unlock(&pool.loop);
    }
    return atomic_load(&pool.count);
}

static void run_serial(int64_t n, int64_t grain, zs_range_fn fn, void *ctx)
{
    for (int64_t begin = 0; begin < n; begin += grain)
        fn(ctx, begin, n - begin < grain ? n : begin + grain, 0);
}

void zs_parallel_for(int64_t n, int64_t grain, zs_range_fn fn, void *ctx)
{
    if (n <= grain || pthread_mutex_trylock(&pool.loop) != 0) {
        run_serial(n, grain, fn, ctx);
        return;
    }
    if (pool.wanted == 0)
        set_threads_locked(0);
    if (pool.workers == 0)
        run_serial(n, grain, fn, ctx);
    else
        run_parallel(n, grain, fn, ctx);
    pthread_mutex_unlock(&pool.loop);
}
