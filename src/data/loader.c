/* SPDX-License-Identifier: MIT */
#include "data/loader.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/* Rounds of the Feistel network; enough that even two- and three-image sets come in every
 * order about equally often. */
enum { ROUNDS = 8, PREFETCH_MAX = 4096 };

/* The counters of zs_rng are 42 bits wide. */
#define SAMPLES_MAX ((int64_t)1 << 42)

/* A batch being filled. Samples are handed out one by one, so several threads work on the batch
 * that is wanted next. */
typedef struct slot {
    float *x;
    int64_t *index;
    int done;         /* samples decoded, well or not */
    int64_t error_at; /* sample counter of `error` */
    zs_error error;   /* of the earliest sample that failed */
} slot;

struct zs_loader {
    const zs_source *source;
    zs_loader_config c;
    slot *slots; /* ring: batch b lives in slot b % slot_count */
    int slot_count;
    pthread_t *threads;
    int thread_count;
    pthread_mutex_t mutex; /* guards everything below and the slots' done and error */
    pthread_cond_t room, ready;
    bool quit;
    int64_t issued;    /* samples handed to threads since start */
    int64_t delivered; /* batches given out; the last one is still the caller's */
};

static uint64_t round_function(uint64_t seed, uint64_t half, uint64_t epoch, int round)
{
    uint32_t w[4];
    zs_rng r = {seed, ZS_RNG_SHUFFLE, half, epoch};
    zs_rng_block(&r, (uint32_t)round, w);
    return (uint64_t)w[1] << 32 | w[0];
}

/* A bijection of [0, 2^(2*bits)). */
static uint64_t feistel(uint64_t v, int bits, uint64_t seed, uint64_t epoch)
{
    uint64_t mask = ((uint64_t)1 << bits) - 1, left = v >> bits, right = v & mask;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t next = left ^ (round_function(seed, right, epoch, i) & mask);
        left = right;
        right = next;
    }
    return left << bits | right;
}

/* Walking the cycle until it comes back below `count` restricts the bijection to
 * [0, count); the domain is less than four times as large, so few steps are needed. */
int64_t zs_loader_sample_index(uint64_t seed, int64_t count, int64_t k)
{
    if (count <= 1)
        return 0;
    int bits = 1;
    while ((uint64_t)1 << (2 * bits) < (uint64_t)count)
        bits++;
    uint64_t v = (uint64_t)(k % count), epoch = (uint64_t)(k / count);
    do
        v = feistel(v, bits, seed, epoch);
    while (v >= (uint64_t)count);
    return (int64_t)v;
}

static bool flipped(const zs_loader *l, int64_t k)
{
    float u;
    zs_rng r = {l->c.seed, ZS_RNG_AUGMENT, (uint64_t)k, 0};
    zs_rng_uniform(&u, 1, &r, 0);
    return (double)u < l->c.flip;
}

static int load_sample(const zs_loader *l, int64_t k, float *x, int64_t *index, zs_error *err)
{
    zs_image raw = {0}, fit = {0};
    *index = zs_loader_sample_index(l->c.seed, zs_source_count(l->source), k);
    int status = zs_source_read(l->source, *index, l->c.channels, &raw, err);
    if (status == ZS_OK)
        status = zs_image_fit(&fit, &raw, l->c.size, l->c.fit, err);
    if (status == ZS_OK) {
        if (flipped(l, k))
            zs_image_flip(&fit);
        zs_image_to_float(x, &fit);
    }
    zs_image_free(&raw);
    zs_image_free(&fit);
    return status;
}

/* Waits until a sample may be loaded; false at shutdown. Mutex held. */
static bool take_sample(zs_loader *l, int64_t *sample)
{
    /* The batch given out last occupies its slot until the next call. */
    for (;;) {
        int64_t released = l->delivered > 0 ? l->delivered - 1 : 0;
        if (l->quit)
            return false;
        if (l->issued / l->c.batch < released + l->slot_count)
            break;
        pthread_cond_wait(&l->room, &l->mutex);
    }
    *sample = l->issued++;
    return true;
}

static slot *slot_of(const zs_loader *l, int64_t batch)
{
    return &l->slots[batch % l->slot_count];
}

static int64_t first_of(const zs_loader *l, int64_t batch)
{
    return l->c.start + batch * (l->c.stride ? l->c.stride : l->c.batch);
}

static void *loader_main(void *arg)
{
    zs_loader *l = arg;
    int64_t sample;
    pthread_mutex_lock(&l->mutex);
    while (take_sample(l, &sample)) {
        pthread_mutex_unlock(&l->mutex);
        slot *s = slot_of(l, sample / l->c.batch);
        size_t i = (size_t)(sample % l->c.batch);
        size_t pixels = (size_t)l->c.size * (size_t)l->c.size * (size_t)l->c.channels;
        zs_error err = {0};
        int64_t k = first_of(l, sample / l->c.batch) + (int64_t)i;
        int status = load_sample(l, k, s->x + i * pixels, &s->index[i], &err);
        pthread_mutex_lock(&l->mutex);
        if (status < 0 && (s->error.status == ZS_OK || k < s->error_at)) {
            s->error = err;
            s->error_at = k;
        }
        if (++s->done == l->c.batch)
            pthread_cond_signal(&l->ready);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

static int check_config(const zs_loader_config *c, zs_error *err)
{
    if (c->batch < 1 || c->size < 1 || c->threads < 1 || c->prefetch < 1)
        return zs_fail(
            err, ZS_E_INVALID,
            "a loader needs batch, size, threads and prefetch of at least 1 (not %d, %d, "
            "%d, %d)",
            c->batch, c->size, c->threads, c->prefetch);
    if (c->threads > ZS_THREADS_MAX || c->prefetch > PREFETCH_MAX)
        return zs_fail(err, ZS_E_INVALID,
                       "a loader runs at most %d threads and keeps at most %d batches (not %d, %d)",
                       ZS_THREADS_MAX, PREFETCH_MAX, c->threads, c->prefetch);
    if (c->channels != 1 && c->channels != 3)
        return zs_fail(err, ZS_E_INVALID, "images are loaded as 1 or 3 channels, not %d",
                       c->channels);
    if (!(c->flip >= 0.0 && c->flip <= 1.0))
        return zs_fail(err, ZS_E_INVALID, "the flip probability must be from 0 to 1, not %g",
                       c->flip);
    if (c->stride && c->stride < c->batch)
        return zs_fail(err, ZS_E_INVALID, "batches of %d samples every %lld overlap", c->batch,
                       (long long)c->stride);
    if (c->start < 0 || c->start >= SAMPLES_MAX)
        return zs_fail(err, ZS_E_INVALID, "the first sample must be from 0 to 2^42, not %lld",
                       (long long)c->start);
    return ZS_OK;
}

static int alloc_slots(zs_loader *l, zs_error *err)
{
    size_t batch = (size_t)l->c.batch, size = (size_t)l->c.size, n = 0;
    bool ok = zs_mul_size(size, size, &n) && zs_mul_size(n, (size_t)l->c.channels, &n) &&
              zs_mul_size(n, batch, &n);
    l->slots = ok ? zs_calloc((size_t)l->slot_count, sizeof *l->slots) : NULL;
    ok = l->slots != NULL;
    for (int i = 0; ok && i < l->slot_count; i++) {
        l->slots[i].x = zs_alloc(n, sizeof(float));
        l->slots[i].index = zs_alloc(batch, sizeof(int64_t));
        ok = l->slots[i].x && l->slots[i].index;
    }
    return ok ? ZS_OK : zs_fail_nomem(err, (size_t)l->slot_count * n * sizeof(float), "batches");
}

/* Fewer threads than asked for are fine; none is not. */
static int start_threads(zs_loader *l, zs_error *err)
{
    l->threads = zs_alloc((size_t)l->c.threads, sizeof *l->threads);
    if (!l->threads)
        return zs_fail_nomem(err, (size_t)l->c.threads * sizeof *l->threads, "loader threads");
    int e = 0;
    while (l->thread_count < l->c.threads && e == 0) {
        e = pthread_create(&l->threads[l->thread_count], NULL, loader_main, l);
        if (e == 0)
            l->thread_count++;
    }
    if (l->thread_count > 0)
        return ZS_OK;
    return zs_fail(err, e == EAGAIN ? ZS_E_NOMEM : ZS_E_IO,
                   "no thread that loads images could be started: %s; it needs 8 MiB of memory for "
                   "its stack and one more process (ulimit -v, -s and -u)",
                   strerror(e));
}

int zs_loader_open(zs_loader **out, const zs_source *s, const zs_loader_config *c, zs_error *err)
{
    *out = NULL;
    int status = check_config(c, err);
    if (status < 0)
        return status;
    zs_loader *l = zs_calloc(1, sizeof *l);
    if (!l)
        return zs_fail_nomem(err, sizeof *l, "a loader");
    l->source = s;
    l->c = *c;
    l->slot_count = c->prefetch + 1;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->room, NULL);
    pthread_cond_init(&l->ready, NULL);
    if ((status = alloc_slots(l, err)) < 0 || (status = start_threads(l, err)) < 0)
        zs_loader_close(&l);
    *out = l;
    return status;
}

/* Frees the slot of the batch that the caller held. Mutex held. */
static void release_last(zs_loader *l)
{
    if (l->delivered > 0)
        slot_of(l, l->delivered - 1)->done = 0;
    l->delivered++;
    pthread_cond_broadcast(&l->room);
}

int zs_loader_next(zs_loader *l, zs_batch *b, zs_error *err)
{
    *b = (zs_batch){0};
    pthread_mutex_lock(&l->mutex);
    slot *s = slot_of(l, l->delivered);
    while (s->done < l->c.batch)
        pthread_cond_wait(&l->ready, &l->mutex);
    int status = s->error.status;
    if (status == ZS_OK) {
        *b = (zs_batch){s->x, s->index, first_of(l, l->delivered)};
        release_last(l);
    }
    pthread_mutex_unlock(&l->mutex);
    /* A failed batch stays where it is: every later call reports it again. */
    return status == ZS_OK ? ZS_OK : zs_fail(err, status, "%s", s->error.message);
}

static void stop_threads(zs_loader *l)
{
    pthread_mutex_lock(&l->mutex);
    l->quit = true;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->mutex);
    for (int i = 0; i < l->thread_count; i++)
        pthread_join(l->threads[i], NULL);
}

void zs_loader_close(zs_loader **loader)
{
    zs_loader *l = *loader;
    if (!l)
        return;
    stop_threads(l);
    for (int i = 0; l->slots && i < l->slot_count; i++) {
        zs_free(l->slots[i].x);
        zs_free(l->slots[i].index);
    }
    zs_free(l->slots);
    zs_free(l->threads);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->room);
    pthread_cond_destroy(&l->ready);
    zs_free(l);
    *loader = NULL;
}
