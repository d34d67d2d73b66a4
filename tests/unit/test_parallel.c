/* SPDX-License-Identifier: MIT */
#include "base/base.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 10007 };

typedef struct cover {
    atomic_int hits[N];
    int64_t n, grain;
    atomic_int bad; /* chunks of a wrong shape or on a wrong thread */
} cover;

static void mark(void *ctx, int64_t begin, int64_t end, int thread)
{
    cover *c = ctx;
    int64_t want = begin + c->grain < c->n ? begin + c->grain : c->n;
    if (begin % c->grain != 0 || end != want || thread < 0 || thread >= zs_threads_count())
        atomic_fetch_add(&c->bad, 1);
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&c->hits[i], 1);
}

static void cover_reset(cover *c, int64_t n, int64_t grain)
{
    memset(c, 0, sizeof *c);
    c->n = n;
    c->grain = grain;
}

static void cover_check(cover *c, int times)
{
    assert_int_equal(atomic_load(&c->bad), 0);
    for (int64_t i = 0; i < N; i++)
        assert_int_equal(atomic_load(&c->hits[i]), i < c->n ? times : 0);
}

static void test_each_element_once(void **state)
{
    (void)state;
    static const int64_t sizes[] = {0, 1, 2, 63, 64, 65, N};
    static const int64_t grains[] = {1, 7, 64, N, (int64_t)N * 1000};
    static cover c;
    for (int threads = 1; threads <= 5; threads++) {
        zs_threads_set(threads);
        assert_int_equal(zs_threads_count(), threads);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (size_t g = 0; g < sizeof grains / sizeof *grains; g++) {
                cover_reset(&c, sizes[s], grains[g]);
                zs_parallel_for(sizes[s], grains[g], mark, &c);
                cover_check(&c, 1);
            }
        }
    }
}

static void nest(void *ctx, int64_t begin, int64_t end, int thread)
{
    cover *c = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        zs_parallel_for(c->n, c->grain, mark, c);
}

static void test_nested(void **state)
{
    (void)state;
    static cover c;
    zs_threads_set(3);
    cover_reset(&c, 101, 10);
    zs_parallel_for(20, 1, nest, &c);
    cover_check(&c, 20);
}

static void *call_repeatedly(void *arg)
{
    cover *c = arg;
    for (int i = 0; i < 200; i++)
        zs_parallel_for(c->n, c->grain, mark, c);
    return NULL;
}

static void test_concurrent_callers(void **state)
{
    (void)state;
    enum { CALLERS = 4 };
    static cover c[CALLERS];
    pthread_t t[CALLERS];
    zs_threads_set(3);
    for (int i = 0; i < CALLERS; i++) {
        cover_reset(&c[i], 50 + i, 3);
        assert_int_equal(pthread_create(&t[i], NULL, call_repeatedly, &c[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(t[i], NULL);
        cover_check(&c[i], 200);
    }
}

static void *resize_repeatedly(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++)
        zs_threads_set(1 + i % 4);
    return NULL;
}

/* Elements may see the count change under them, so only coverage is checked. */
static void count_only(void *ctx, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    atomic_fetch_add((atomic_llong *)ctx, end - begin);
}

static void test_resizing_while_others_loop(void **state)
{
    (void)state;
    pthread_t t;
    atomic_llong total = 0;
    assert_int_equal(pthread_create(&t, NULL, resize_repeatedly, NULL), 0);
    for (int i = 0; i < 300; i++)
        zs_parallel_for(1000, 10, count_only, &total);
    pthread_join(t, NULL);
    assert_int_equal(atomic_load(&total), 300 * 1000);
}

typedef struct sums {
    const float *x;
    double part[64];
} sums;

static void partial_sum(void *ctx, int64_t begin, int64_t end, int thread)
{
    sums *s = ctx;
    (void)thread;
    double total = 0;
    for (int64_t i = begin; i < end; i++)
        total += (double)s->x[i];
    s->part[begin / 100] = total;
}

/* Plain writes of the chunks are visible to the caller, and the bits do not depend on the
 * number of threads. */
static void test_same_bits_for_any_thread_count(void **state)
{
    (void)state;
    enum { LEN = 6400 };
    float *x = zs_alloc(LEN, sizeof *x);
    zs_rng r = {.seed = 1, .purpose = ZS_RNG_TEST};
    zs_rng_normal(x, LEN, &r, 0);
    sums first = {.x = x}, again;
    zs_threads_set(1);
    zs_parallel_for(LEN, 100, partial_sum, &first);
    for (int threads = 2; threads <= 7; threads++) {
        again = (sums){.x = x};
        zs_threads_set(threads);
        zs_parallel_for(LEN, 100, partial_sum, &again);
        assert_memory_equal(first.part, again.part, sizeof first.part);
    }
    zs_free(x);
}

static void test_thread_limits(void **state)
{
    (void)state;
    zs_threads_set(0);
    assert_true(zs_threads_count() >= 1);
    zs_threads_set(-5);
    assert_true(zs_threads_count() >= 1);
    zs_threads_set(ZS_THREADS_MAX + 100);
    assert_true(zs_threads_count() <= ZS_THREADS_MAX);
    zs_threads_set(1);
    assert_int_equal(zs_threads_count(), 1);
}

/* Helpers that get no core are not waited for: with many times more threads than cores, small loops
 * take about as long as with one thread. Waiting for each helper took a hundred times as long. */
static void test_more_threads_than_cores(void **state)
{
    (void)state;
    enum { LOOPS = 3000 };
    double seconds[2];
    for (int many = 0; many < 2; many++) {
        atomic_llong total = 0;
        zs_threads_set(many ? ZS_THREADS_MAX : 1);
        double start = zs_clock_now();
        for (int i = 0; i < LOOPS; i++)
            zs_parallel_for(4000, 1000, count_only, &total);
        seconds[many] = zs_clock_now() - start;
        assert_int_equal(atomic_load(&total), LOOPS * 4000);
    }
    print_message("%d small loops: %.4f s alone, %.4f s with %d threads\n", (int)LOOPS, seconds[0],
                  seconds[1], (int)ZS_THREADS_MAX);
    assert_true(seconds[1] < 1.0 + 10.0 * seconds[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_element_once),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_concurrent_callers),
        cmocka_unit_test(test_resizing_while_others_loop),
        cmocka_unit_test(test_same_bits_for_any_thread_count),
        cmocka_unit_test(test_more_threads_than_cores),
        cmocka_unit_test(test_thread_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
