/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif
#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <unistd.h>

/* Waiting spins this often before it sleeps: long enough to bridge the gap between two kernels
 * (some 20 us), short enough not to take a busy neighbour's core. */
enum { SPINS = 4000 };

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
    int workers;            /* running helper threads: threads wanted minus the caller */
    int wanted;             /* 0 until first use */
    atomic_int count;       /* workers + 1, readable without a lock; 0 until first use */
    atomic_uint generation; /* bumped for each loop and for shutdown */
    atomic_int busy;        /* helpers that have not finished the current generation */
    atomic_bool quit;
    job job;
} pool = {.loop = PTHREAD_MUTEX_INITIALIZER,
          .mutex = PTHREAD_MUTEX_INITIALIZER,
          .work = PTHREAD_COND_INITIALIZER,
          .done = PTHREAD_COND_INITIALIZER};

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
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

static void wait_for_work(unsigned seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&pool.generation) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&pool.mutex);
    while (atomic_load(&pool.generation) == seen)
        pthread_cond_wait(&pool.work, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
}

static void finish_generation(void)
{
    if (atomic_fetch_sub(&pool.busy, 1) != 1)
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
        seen = atomic_load(&pool.generation);
        if (atomic_load(&pool.quit))
            return NULL;
        run_chunks(&pool.job, thread);
        finish_generation();
    }
}

static void announce(void)
{
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.generation, 1);
    pthread_cond_broadcast(&pool.work);
    pthread_mutex_unlock(&pool.mutex);
}

static void stop_workers(void)
{
    atomic_store(&pool.quit, true);
    announce();
    for (int i = 0; i < pool.workers; i++)
        pthread_join(pool.threads[i], NULL);
    atomic_store(&pool.quit, false);
    atomic_store(&pool.generation, 0);
    pool.workers = 0;
}

static int default_threads(void)
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
        if (pthread_create(&pool.threads[pool.workers], NULL, worker_main, arg) != 0)
            return;
        pool.workers++;
    }
}

static void set_threads_locked(int n)
{
    if (n <= 0)
        n = default_threads();
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

static void wait_until_done(void)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load(&pool.busy) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&pool.mutex);
    while (atomic_load(&pool.busy) != 0)
        pthread_cond_wait(&pool.done, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
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
    if (pool.workers == 0) {
        run_serial(n, grain, fn, ctx);
    } else {
        pool.job.fn = fn;
        pool.job.ctx = ctx;
        pool.job.n = n;
        pool.job.grain = grain;
        atomic_store(&pool.job.next, 0);
        atomic_store(&pool.busy, pool.workers);
        announce();
        run_chunks(&pool.job, 0);
        wait_until_done();
    }
    pthread_mutex_unlock(&pool.loop);
}
