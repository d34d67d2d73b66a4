/* SPDX-License-Identifier: MIT */
/* Ranks as threads: what they compute together, who failed, who is missing. */
#include "comm/internal.h"
#include "io/outfile.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/must.h"
#include "tests/unit/scratch.h"

enum { RANKS_MAX = 7, SLOW = 3 };

/* ---- messages between threads ---- */

typedef struct letter {
    struct letter *next;
    int from, to, tag;
    size_t n;
    char bytes[];
} letter;

enum { WAITING_MAX = 1000 };

/* A receiver that waits; senders are done at once. */
typedef struct wait_for {
    int from, to, tag;
    void *p;
    size_t n;
    unsigned looks;
    bool used;
} wait_for;

static struct {
    pthread_mutex_t mutex;
    letter *first;
    wait_for waiting[WAITING_MAX];
    unsigned delay; /* a message is seen at the delay-th look for it */
    int stranger;   /* the rank that says that it is of another version */
    char refused[RANKS_MAX][768];
} post = {.mutex = PTHREAD_MUTEX_INITIALIZER, .stranger = -1};

typedef struct desk {
    int rank;
} desk;

static int post_send(void *ctx, int to, int tag, const void *p, size_t n, zs_comm_request *r)
{
    letter *l = malloc(sizeof *l + n), **at = &post.first;
    assert_non_null(l);
    *l = (letter){.from = ((desk *)ctx)->rank, .to = to, .tag = tag, .n = n};
    memcpy(l->bytes, p, n);
    if (l->from == post.stranger && n == sizeof(zs_comm_card))
        memcpy(l->bytes + offsetof(zs_comm_card, version), "0.0.1", sizeof "0.0.1");
    pthread_mutex_lock(&post.mutex);
    while (*at)
        at = &(*at)->next;
    *at = l;
    pthread_mutex_unlock(&post.mutex);
    r->bits = 0;
    return 0;
}

static int post_recv(void *ctx, int from, int tag, void *p, size_t n, zs_comm_request *r)
{
    wait_for *w = NULL;
    pthread_mutex_lock(&post.mutex);
    for (int i = 0; i < WAITING_MAX && !w; i++)
        w = post.waiting[i].used ? NULL : &post.waiting[i];
    assert_non_null(w);
    *w = (wait_for){from, ((desk *)ctx)->rank, tag, p, n, 0, true};
    pthread_mutex_unlock(&post.mutex);
    r->bits = (uintptr_t)w;
    return 0;
}

static int post_test(void *ctx, zs_comm_request *r)
{
    wait_for *w = (wait_for *)r->bits;
    int done = 0;
    (void)ctx;
    if (!w)
        return 1;
    if (w->looks++ < post.delay)
        return 0;
    pthread_mutex_lock(&post.mutex);
    for (letter **at = &post.first; *at && !done; at = done ? at : &(*at)->next) {
        letter *l = *at;
        if (l->from != w->from || l->to != w->to || l->tag != w->tag)
            continue;
        done = l->n == w->n ? 1 : -1;
        if (done == 1)
            memcpy(w->p, l->bytes, l->n);
        *at = l->next;
        free(l);
    }
    if (done) {
        w->used = false;
        r->bits = 0;
    }
    pthread_mutex_unlock(&post.mutex);
    return done;
}

static void post_explain(int code, char *text, size_t cap)
{
    (void)snprintf(text, cap, "a message of another length (%d)", code);
}

static const zs_comm_driver driver = {.abi = ZS_COMM_ABI,
                                      .name = "threads",
                                      .send = post_send,
                                      .recv = post_recv,
                                      .test = post_test,
                                      .explain = post_explain};

/* ---- ranks ---- */

typedef struct member {
    desk desk;
    int size;
    void (*work)(zs_comm *c, void *out);
    void *out;
    pthread_t thread;
} member;

static void *rank_main(void *arg)
{
    member *k = arg;
    zs_error err = {0};
    zs_comm *c = NULL;
    zs_comm_place me = {.rank = k->desk.rank, .size = k->size};
    (void)snprintf(me.host, sizeof me.host, "host%d", k->desk.rank / 2);
    if (zs_comm_new(&c, &driver, &k->desk, &me, &err) == ZS_OK)
        k->work(c, k->out);
    (void)snprintf(post.refused[me.rank], sizeof post.refused[0], "%s", err.message);
    zs_comm_free(&c);
    return NULL;
}

/* Runs work on each rank; results are out[rank] of `each` bytes. */
static void run(int size, void (*work)(zs_comm *, void *), void *out, size_t each)
{
    member k[RANKS_MAX];
    for (int i = 0; i < size; i++) {
        k[i] = (member){{i}, size, work, (char *)out + (size_t)i * each, 0};
        assert_int_equal(pthread_create(&k[i].thread, NULL, rank_main, &k[i]), 0);
    }
    for (int i = 0; i < size; i++)
        pthread_join(k[i].thread, NULL);
    memset(post.waiting, 0, sizeof post.waiting);
    while (post.first) {
        letter *l = post.first;
        post.first = l->next;
        free(l);
    }
}

/* ---- sums ---- */

enum { NUMBERS = 1003, SLOTS = 3 };

typedef struct sums {
    float x[SLOTS][NUMBERS];
    double small[2];
    int status;
} sums;

static float number(int rank, int slot, int i)
{
    zs_rng r = {.seed = 5, .purpose = ZS_RNG_NOISE, .index = (uint64_t)(rank * SLOTS + slot)};
    float v[NUMBERS];
    zs_rng_normal(v, NUMBERS, &r, 0);
    return v[i] * (i % 3 ? 1.0f : 1e4f);
}

static void sum_work(zs_comm *c, void *out)
{
    sums *s = out;
    zs_comm_sum *flying[SLOTS];
    zs_error err = {0};
    int n[SLOTS] = {NUMBERS, 2, 64}; /* 2: fewer numbers than ranks */
    for (int k = 0; k < SLOTS; k++) {
        for (int i = 0; i < n[k]; i++)
            s->x[k][i] = number(zs_comm_rank(c), k, i);
        assert_int_equal(zs_comm_sum_new(&flying[k], c, k, n[k], &err), ZS_OK);
    }
    for (int round = 0; round < 2 && s->status == ZS_OK; round++) {
        for (int k = 0; k < SLOTS && s->status == ZS_OK; k++)
            s->status = zs_comm_sum_start(flying[k], s->x[k], &err);
        for (int k = SLOTS; k-- > 0;) /* ranks may look at them in any order */
            (void)zs_comm_sum_poll(flying[(k + zs_comm_rank(c)) % SLOTS], &err);
        for (int k = 0; k < SLOTS && s->status == ZS_OK; k++)
            s->status = zs_comm_sum_wait(flying[k], &err);
    }
    s->small[0] = zs_comm_rank(c) + 0.25;
    s->small[1] = -1.0;
    if (s->status == ZS_OK)
        s->status = zs_comm_add(c, s->small, 2, &err);
    for (int k = 0; k < SLOTS; k++)
        zs_comm_sum_free(&flying[k]);
}

static void check_sums(int size)
{
    static sums out[RANKS_MAX];
    memset(out, 0, sizeof out);
    run(size, sum_work, out, sizeof out[0]);
    for (int r = 0; r < size; r++) {
        assert_int_equal(out[r].status, ZS_OK);
        assert_memory_equal(out[r].x, out[0].x, sizeof out[0].x);
        assert_true(out[r].small[1] == -(double)size);
        assert_true(out[r].small[0] == 0.25 * size + size * (size - 1) / 2.0);
    }
    for (int i = 0; i < NUMBERS; i++) {
        double sum = 0.0;
        for (int r = 0; r < size; r++)
            sum += (double)number(r, 0, i);
        float once = (float)sum;
        double twice = 0.0;
        for (int r = 0; r < size; r++)
            twice += (double)once;
        assert_true(out[0].x[0][i] == (size == 1 ? number(0, 0, i) : (float)twice));
    }
}

static void test_sums(void **state)
{
    (void)state;
    for (int size = 1; size <= 5; size++)
        for (post.delay = 0; post.delay < SLOW; post.delay++)
            check_sums(size);
    post.delay = 0;
}

/* ---- moving ---- */

enum { ROWS = 23, BLOCK = 4 };

typedef struct moved {
    unsigned char big[(1 << 24) + 5];
    int rows[ROWS][3];
    int status;
} moved;

static void move_work(zs_comm *c, void *out)
{
    moved *m = out;
    zs_error err = {0};
    if (zs_comm_rank(c) == 0)
        for (size_t i = 0; i < sizeof m->big; i++)
            m->big[i] = (unsigned char)(i * 7 % 251);
    m->status = zs_comm_broadcast(c, m->big, sizeof m->big, &err);
    zs_part mine = zs_comm_rows(c, ROWS, BLOCK);
    assert_true(mine.begin % BLOCK == 0 || mine.begin == ROWS);
    for (int64_t i = mine.begin; i < mine.end; i++)
        for (int k = 0; k < 3; k++)
            m->rows[i][k] = (int)(10 * i + k);
    m->status =
        zs_comm_collect(c, m->rows, ROWS, BLOCK, ROWS - 1, sizeof m->rows[0], m->status, &err);
}

static void test_moves(void **state)
{
    (void)state;
    for (int size = 1; size <= RANKS_MAX; size += 3) {
        moved *m = calloc(RANKS_MAX, sizeof *m);
        assert_non_null(m);
        run(size, move_work, m, sizeof *m);
        for (int r = 0; r < size; r++) {
            assert_int_equal(m[r].status, ZS_OK);
            assert_memory_equal(m[r].big, m[0].big, sizeof m->big);
        }
        assert_int_equal(m[0].big[1 << 24], (1 << 24) * 7 % 251);
        for (int i = 0; i < ROWS - 1; i++)
            for (int k = 0; k < 3; k++)
                assert_int_equal(m[0].rows[i][k], 10 * i + k);
        assert_int_equal(m[0].rows[ROWS - 1][2], size == 1 ? 10 * (ROWS - 1) + 2 : 0);
        free(m);
    }
}

static void test_parts(void **state)
{
    (void)state;
    for (int size = 1; size < 6; size++)
        for (int64_t n = 0; n < 20; n++) {
            int64_t at = 0;
            for (int r = 0; r < size; r++) {
                zs_part p = zs_comm_part_of(n, r, size);
                assert_int_equal(p.begin, at);
                assert_in_range(p.end - p.begin, n / size, n / size + 1);
                at = p.end;
            }
            assert_int_equal(at, n);
        }
}

/* ---- failures ---- */

typedef struct outcome {
    int status, later;
    char message[768];
    bool broken;
    int local_rank, local_size;
} outcome;

static void keep(outcome *o, int status, const zs_error *err)
{
    o->status = status;
    (void)snprintf(o->message, sizeof o->message, "%s", err->message);
}

static void fail_work(zs_comm *c, void *out)
{
    outcome *o = out;
    zs_error err = {0}, none = {0};
    int mine = ZS_OK;
    o->local_rank = zs_comm_local_rank(c);
    o->local_size = zs_comm_local_size(c);
    if (zs_comm_rank(c) == 0)
        mine = zs_fail(&err, ZS_E_CANCELLED, "stopped");
    if (zs_comm_rank(c) >= 2)
        mine = zs_fail(&err, ZS_E_FORMAT, "image %d is damaged", zs_comm_rank(c));
    keep(o, zs_comm_agree(c, mine, &err), &err);
    o->later = zs_comm_agree(c, ZS_OK, &none);
    assert_string_equal(none.message, err.message);
    assert_int_equal(zs_comm_broadcast(c, &mine, sizeof mine, &none), o->later);
    o->broken = zs_comm_is_broken(c);
}

static void test_failures_are_told(void **state)
{
    (void)state;
    outcome o[4];
    run(4, fail_work, o, sizeof o[0]);
    for (int r = 0; r < 4; r++) {
        assert_int_equal(o[r].status, ZS_E_FORMAT);
        assert_int_equal(o[r].later, ZS_E_FORMAT);
        assert_string_equal(o[r].message, "rank 2 (host1): image 2 is damaged");
        assert_false(o[r].broken);
        assert_int_equal(o[r].local_rank, r % 2);
        assert_int_equal(o[r].local_size, 2);
    }
}

static void cancel_work(zs_comm *c, void *out)
{
    zs_error err = {0};
    int mine = zs_comm_rank(c) == 1 ? zs_fail(&err, ZS_E_CANCELLED, "stopped at step 3") : ZS_OK;
    keep(out, zs_comm_agree(c, mine, &err), &err);
}

static void test_one_stops_all(void **state)
{
    (void)state;
    outcome o[3];
    run(3, cancel_work, o, sizeof o[0]);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(o[r].status, ZS_E_CANCELLED);
        assert_string_equal(o[r].message, "stopped at step 3");
    }
}

static void differ_work(zs_comm *c, void *out)
{
    zs_error err = {0};
    assert_int_equal(zs_comm_same(c, 7, "is odd", &err), ZS_OK);
    keep(out, zs_comm_same(c, zs_comm_rank(c) == 2, "has other data than rank 0", &err), &err);
}

static void test_differences_are_named(void **state)
{
    (void)state;
    outcome o[3];
    run(3, differ_work, o, sizeof o[0]);
    for (int r = 0; r < 3; r++) {
        assert_int_equal(o[r].status, ZS_E_INVALID);
        assert_string_equal(o[r].message, "rank 2 (host1) has other data than rank 0");
    }
}

/* Rank 1 never comes. The letters that it should have read stay in the post. */
static void missing_work(zs_comm *c, void *out)
{
    outcome *o = out;
    zs_error err = {0};
    zs_comm_set_timeout(c, 0.2);
    if (zs_comm_rank(c) == 1)
        return;
    keep(o, zs_comm_agree(c, ZS_OK, &err), &err);
    o->later = zs_comm_agree(c, ZS_OK, &err);
    o->broken = zs_comm_is_broken(c);
}

static void test_who_is_missing(void **state)
{
    (void)state;
    outcome o[3] = {{0}};
    run(3, missing_work, o, sizeof o[0]);
    for (int r = 0; r < 3; r += 2) {
        assert_int_equal(o[r].status, ZS_E_IO);
        assert_int_equal(o[r].later, ZS_E_IO);
        assert_true(o[r].broken);
        assert_non_null(strstr(o[r].message, "for rank 1 (host0): "));
        assert_non_null(strstr(o[r].message, "--comm-timeout"));
    }
}

static void note_work(zs_comm *c, void *out)
{
    (void)c;
    *(char *)out = 1;
}

static void test_versions_are_compared(void **state)
{
    (void)state;
    char out[3] = {0};
    post.stranger = 2;
    run(3, note_work, out, 1);
    post.stranger = -1;
    assert_true(!out[0] && !out[1]); /* the stranger itself sees nothing of the forgery */
    assert_non_null(strstr(post.refused[0], "rank 2 (host1) runs zsem 0.0.1 and rank 0 (host0) "));
    assert_non_null(strstr(post.refused[0], "install the same version"));
    assert_string_equal(post.refused[1], post.refused[0]);
}

/* ---- cores ---- */

/* CPUs 0 to 5; 0 and 4, 1 and 5 are a core each, and nobody says what 2 and 3 are. */
static void test_cores(void **state)
{
    static const char *const siblings[] = {"0,4\n", "1,5\n", NULL, "\n", "0,4\n", "1,5\n"};
    static const struct {
        unsigned cpus, cores;
    } cases[] = {{0x3F, 0x0F}, {0x11, 0x01}, {0x10, 0x01}, {0x30, 0x03}, {0x0C, 0x0C}, {0, 0}};
    zs_error err = {0};
    (void)state;
    for (int i = 0; i < 6; i++) {
        FILE *f = NULL;
        must(zs_mkdirs(scratch_path("cpu%d/topology", i), &err), &err);
        if (siblings[i])
            f = fopen(scratch_path("cpu%d/topology/thread_siblings_list", i), "w");
        if (f) {
            assert_true(fputs(siblings[i], f) >= 0);
            assert_int_equal(fclose(f), 0);
        }
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t cpus[ZS_COMM_CPUS / 8] = {(uint8_t)cases[i].cpus}, cores[ZS_COMM_CPUS / 8];
        zs_comm_cores(cores, cpus, scratch_dir());
        assert_int_equal(cores[0], cases[i].cores);
        assert_int_equal(cores[1], 0);
    }
}

static void test_alone(void **state)
{
    (void)state;
    zs_error err = {0};
    double x = 3.0;
    assert_int_equal(zs_comm_size(NULL), 1);
    assert_int_equal(zs_comm_rank(NULL), 0);
    assert_int_equal(zs_comm_agree(NULL, ZS_E_NOMEM, &err), ZS_E_NOMEM);
    assert_int_equal(zs_comm_add(NULL, &x, 1, &err), ZS_OK);
    assert_true(x == 3.0);
    assert_int_equal(zs_comm_same(NULL, 1, "is", &err), ZS_OK);
    assert_int_equal(zs_comm_broadcast(NULL, &x, sizeof x, &err), ZS_OK);
    assert_int_equal(zs_comm_collect(NULL, &x, 1, 1, 1, sizeof x, ZS_E_IO, &err), ZS_E_IO);
    assert_int_equal(zs_comm_rows(NULL, 9, 4).end, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_moves),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_failures_are_told),
        cmocka_unit_test(test_one_stops_all),
        cmocka_unit_test(test_differences_are_named),
        cmocka_unit_test(test_who_is_missing),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_versions_are_compared),
        cmocka_unit_test_setup_teardown(test_cores, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("comm", tests, NULL, NULL);
}
