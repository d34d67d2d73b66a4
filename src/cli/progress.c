/* SPDX-License-Identifier: MIT */
/* One line on standard error, redrawn in place on a terminal and every ten seconds elsewhere. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
    bool terminal, quiet, verbose, drawn, silent;
    char stage[64];
    double stage_start, first_done, last_draw;
} state;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void format_time(char *buf, size_t cap, double s)
{
    if (s >= 5940)
        snprintf(buf, cap, "%.1f h", s / 3600.0);
    else if (s >= 99)
        snprintf(buf, cap, "%.0f min", s / 60.0);
    else
        snprintf(buf, cap, "%.0f s", s);
}

static void draw(const zs_progress *p, double elapsed)
{
    char eta[32] = "";
    double done = p->done - state.first_done;
    if (p->total > 0 && done > 0 && p->done < p->total) {
        char left[24];
        format_time(left, sizeof left, elapsed * (p->total - p->done) / done);
        snprintf(eta, sizeof eta, ", %s left", left);
    }
    fprintf(stderr, "%s%s: ", state.terminal ? "\r\033[K" : "", p->stage);
    if (p->total > 0)
        fprintf(stderr, "%.0f/%.0f %s (%.0f%%)", p->done, p->total, p->unit,
                100.0 * p->done / p->total);
    else
        fprintf(stderr, "%.0f %s", p->done, p->unit);
    fprintf(stderr, "%s%s%s%s", p->note ? ", " : "", p->note ? p->note : "", eta,
            state.terminal ? "" : "\n");
    fflush(stderr);
    state.drawn = state.terminal;
}

/* Nothing is drawn in the first two seconds of a stage: short work stays silent. */
static int on_progress(void *ctx, const zs_progress *p)
{
    (void)ctx;
    double t = now();
    if (strncmp(state.stage, p->stage, sizeof state.stage - 1) != 0) {
        snprintf(state.stage, sizeof state.stage, "%s", p->stage);
        state.stage_start = t;
        state.first_done = p->done;
        state.last_draw = t + 1.5;
    }
    double interval = state.terminal ? 0.2 : 10.0;
    if (!state.quiet && !state.silent && t - state.stage_start > 2.0 &&
        t - state.last_draw >= interval) {
        draw(p, t - state.stage_start);
        state.last_draw = t;
    }
    return cli_signals_caught();
}

static void on_log(void *ctx, zs_log_level level, const char *message)
{
    (void)ctx;
    if (state.silent || (level == ZS_LOG_DEBUG && !state.verbose))
        return;
    if (state.quiet && level != ZS_LOG_WARN)
        return;
    cli_progress_end();
    fprintf(stderr, "%s%s\n", level == ZS_LOG_WARN ? "warning: " : "", message);
}

zs_ui cli_progress_start(const cli_options *opt)
{
    state.terminal = isatty(STDERR_FILENO) != 0;
    state.quiet = opt->quiet;
    state.verbose = opt->verbose;
    return (zs_ui){.log = on_log, .progress = on_progress};
}

void cli_progress_silence(void)
{
    state.silent = true;
}

void cli_progress_end(void)
{
    if (state.drawn)
        fputc('\n', stderr);
    state.drawn = false;
}
