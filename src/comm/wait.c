/* SPDX-License-Identifier: MIT */
/* Messages, and waiting for them. */
#include "comm/internal.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* A wait looks again and again for so long, and then sleeps in between, first for a little and then
 * for longer: ranks may share cores with each other and with their own threads. */
static const double SPIN_SECONDS = 200e-6;
enum { NAP_FIRST = 20000, NAP_LAST = 1000000 }; /* nanoseconds */

/* Of ranks that wait for the same one the first gives up first, and speaks for all. */
static const double STAGGER_SECONDS = 0.5;

int zs_comm_repeat(const zs_comm *c, zs_error *err)
{
    return c->verdict.status ? zs_fail(err, c->verdict.status, "%s", c->verdict.message) : ZS_OK;
}

int zs_comm_break(zs_comm *c, zs_error *err, const char *fmt, ...)
{
    char text[sizeof err->message];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->broken = true;
    (void)zs_fail(&c->verdict, ZS_E_IO, "%s", text);
    return zs_comm_repeat(c, err);
}

int zs_comm_refuse(zs_comm *c, zs_error *err, const char *fmt, ...)
{
    char text[sizeof err->message];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)zs_fail(&c->verdict, ZS_E_INVALID, "%s", text);
    return zs_comm_repeat(c, err);
}

static int failed(zs_comm *c, int code, int peer, zs_error *err)
{
    char why[256] = "";
    c->lost_first = c->lost_first || peer == 0;
    c->d->explain(code, why, sizeof why);
    return zs_comm_break(c, err,
                         "rank %d (%s) cannot reach rank %d (%s): %s; see whether that machine and "
                         "its network are up, and run the same command again",
                         c->me.rank, zs_comm_host(c, c->me.rank), peer, zs_comm_host(c, peer), why);
}

int zs_comm_send(zs_comm *c, zs_flight *f, int to, int tag, const void *p, size_t n, zs_error *err)
{
    *f = (zs_flight){.peer = to};
    int code = c->d->send(c->ctx, to, tag, p, n, &f->r);
    return code < 0 ? failed(c, code, to, err) : ZS_OK;
}

int zs_comm_recv(zs_comm *c, zs_flight *f, int from, int tag, void *p, size_t n, zs_error *err)
{
    *f = (zs_flight){.peer = from, .receives = true};
    int code = c->d->recv(c->ctx, from, tag, p, n, &f->r);
    return code < 0 ? failed(c, code, from, err) : ZS_OK;
}

int zs_comm_test(zs_comm *c, zs_flight *f, size_t n, zs_error *err)
{
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        int code = f[i].done ? 1 : c->d->test(c->ctx, &f[i].r);
        if (code < 0)
            return failed(c, code, f[i].peer, err);
        f[i].done = code > 0;
        all = all && f[i].done;
    }
    return all;
}

/* Who has not sent; or, when everybody has, who does not take. */
static void list_missing(zs_comm *c, zs_strbuf *names, const zs_flight *f, size_t n)
{
    bool receives = false;
    for (size_t i = 0; i < n; i++)
        receives = receives || (!f[i].done && f[i].receives);
    int last = -1, named = 0;
    for (size_t i = 0; i < n; i++) {
        if (f[i].done || f[i].receives != receives || f[i].peer == last || named == 8)
            continue;
        last = f[i].peer;
        c->lost_first = c->lost_first || last == 0;
        zs_strbuf_addf(names, "%s%d", named++ ? ", " : "", last);
        if (c->cards)
            zs_strbuf_addf(names, " (%s)", zs_comm_host(c, last));
    }
}

static int give_up(zs_comm *c, const zs_flight *f, size_t n, double seconds, zs_error *err)
{
    zs_strbuf names = {0};
    const char *what =
        c->cards ? "see whether that process and its machine still run, and start the same command "
                   "again; --comm-timeout says how long to wait"
                 : "it runs and cannot be reached, as behind a firewall, or by a network that not "
                   "all machines are on; name one that they are on, as in mpirun --mca "
                   "btl_tcp_if_include 10.0.0.0/24";
    list_missing(c, &names, f, n);
    int status = zs_comm_break(c, err, "rank %d (%s) has waited %.0f s for rank %s: %s", c->me.rank,
                               zs_comm_host(c, c->me.rank), seconds, names.s ? names.s : "?", what);
    zs_strbuf_free(&names);
    return status;
}

static void nap(long *ns)
{
    const struct timespec t = {.tv_nsec = *ns};
    (void)nanosleep(&t, NULL);
    *ns = *ns * 2 < NAP_LAST ? *ns * 2 : NAP_LAST;
}

int zs_comm_wait(zs_comm *c, zs_flight *f, size_t n, double timeout, zs_error *err)
{
    int status = zs_comm_test(c, f, n, err);
    double start = status == 0 ? zs_clock_now() : 0.0;
    double most = timeout > 0.0 ? timeout + STAGGER_SECONDS * c->me.rank : 0.0;
    long ns = NAP_FIRST;
    while (status == 0) {
        double waited = zs_clock_now() - start;
        if (most > 0.0 && waited > most)
            return give_up(c, f, n, waited, err);
        if (waited < SPIN_SECONDS)
            (void)sched_yield();
        else
            nap(&ns);
        status = zs_comm_test(c, f, n, err);
    }
    return status < 0 ? status : ZS_OK;
}
