/* SPDX-License-Identifier: MIT */
/* zsem bench: how fast this machine runs the operations and networks. */
#include "backend/cpu/isa.h"
#include "tasks/benchrow.h"
#include "tasks/devices.h"
#include "tasks/output.h"
#include "tasks/pipeline.h"
#include "zsem/version.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { MOST_RUNS = 1000, PROFILE_LINES = 24 };

typedef struct bench {
    zs_task_env *env;
    zs_bench_setting setting;
    zs_bench_profile *profile; /* or NULL */
    double seconds;            /* to measure each row for */
    int64_t least, most;       /* runs */
    size_t n_rows, done;
    bool recorded; /* the runs of the last row were replays */
    json_t *list;
} bench;

/* ---- which rows ---- */

/* The k-th word of a list with commas, or NULL; `n` is its length. */
static const char *word_at(const char *list, size_t k, size_t *n)
{
    for (; *list; list += *list == ',') {
        *n = strcspn(list, ",");
        if (*n && k-- == 0)
            return list;
        list += *n;
    }
    return NULL;
}

static bool exact_row(const char *word, size_t n)
{
    for (const zs_bench_row *r = zs_bench_rows; r->name; r++)
        if (strlen(r->name) == n && memcmp(r->name, word, n) == 0)
            return true;
    return false;
}

static bool contains(const char *name, const char *word, size_t n)
{
    for (size_t at = 0; at + n <= strlen(name); at++)
        if (memcmp(name + at, word, n) == 0)
            return true;
    return false;
}

static bool matches(const zs_bench_row *r, const char *word, size_t n)
{
    if (exact_row(word, n))
        return strlen(r->name) == n && memcmp(r->name, word, n) == 0;
    return !r->extra && contains(r->name, word, n);
}

static const char *wanted_words(const zs_task_env *env)
{
    const char *profile = zs_opt_text(env, "profile");
    return profile ? profile : zs_opt_text(env, "rows");
}

static bool wanted(const zs_task_env *env, const zs_bench_row *r)
{
    size_t n = 0;
    const char *words = wanted_words(env), *w;
    if (!words)
        return !r->extra;
    for (size_t k = 0; (w = word_at(words, k, &n)); k++)
        if (matches(r, w, n))
            return true;
    return false;
}

static int list_rows(zs_task_env *env)
{
    json_t *names = json_array();
    for (const zs_bench_row *r = zs_bench_rows; r->name; r++) {
        json_array_append_new(names, json_string(r->name));
        zs_strbuf_addf(env->text, "%-22s %s%s\n", r->name, r->about,
                       r->extra ? " (only when named)" : "");
    }
    zs_result_set(env, "names", names);
    return ZS_OK;
}

static int count_rows(bench *b)
{
    for (const zs_bench_row *r = zs_bench_rows; r->name; r++)
        b->n_rows += wanted(b->env, r);
    if (b->n_rows == 0)
        return zs_fail(b->env->err, ZS_E_INVALID,
                       "bench: there is no row called %s; zsem bench --list shows them",
                       wanted_words(b->env));
    return ZS_OK;
}

/* ---- memory ---- */

/* Linux counts the peak afresh after this; elsewhere it is that of the whole process. */
static void reset_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) {
        fputs("5", f);
        fclose(f);
    }
}

static double peak_mib(void)
{
    char line[256];
    long kib = 0;
    struct rusage u;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (f)
        fclose(f);
    if (kib == 0 && getrusage(RUSAGE_SELF, &u) == 0)
        kib = u.ru_maxrss;
    return (double)kib / 1024;
}

/* ---- measuring ---- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int show_progress(const bench *b, const char *name)
{
    const zs_progress p = {.stage = "bench",
                           .done = (double)b->done,
                           .total = (double)b->n_rows,
                           .unit = "rows",
                           .note = name};
    return zs_ui_progress(b->env->ui, &p, b->env->err);
}

/* Seconds of each run into t[MOST_RUNS], after those that are not counted: the first, and where
 * runs are recorded also the second, which is the recording. */
static int measure(bench *b, const zs_bench_row *r, void *state, double *t, int64_t *n)
{
    int status = r->kind->run(state, b->env->err);
    if (status == ZS_OK && b->setting.backend->remote)
        status = r->kind->run(state, b->env->err);
    uint64_t replays = zs_exec_replays();
    double start = zs_clock_now();
    if (b->profile)
        zs_bench_profile_clear(b->profile);
    for (*n = 0; status == ZS_OK && *n < b->most; ++*n) {
        double before = zs_clock_now();
        if (*n >= b->least && before - start >= b->seconds)
            break;
        status = r->kind->run(state, b->env->err);
        t[*n] = zs_clock_now() - before;
        if (status == ZS_OK)
            status = show_progress(b, r->name);
    }
    b->recorded = zs_exec_replays() > replays;
    return status;
}

static void report(bench *b, const zs_bench_row *r, double flops, double *t, int64_t n)
{
    zs_strbuf *text = b->env->text;
    double peak = peak_mib();
    json_t *times = json_array();
    for (int64_t i = 0; i < n; i++)
        json_array_append_new(times, json_real(t[i] * 1e3));
    qsort(t, (size_t)n, sizeof *t, by_value);
    double median = 0.5 * (t[n / 2] + t[(n - 1) / 2]);
    json_t *j =
        json_pack("{s:s, s:s, s:f, s:f, s:f, s:o}", "name", r->name, "about", r->about, "ms",
                  median * 1e3, "fastest_ms", t[0] * 1e3, "peak_mib", peak, "times_ms", times);
    zs_strbuf_addf(text, "%-54s %10.3f ms", r->about, median * 1e3);
    if (flops > 0) {
        json_object_set_new(j, "gflops", json_real(flops / median * 1e-9));
        zs_strbuf_addf(text, " %8.1f GFLOP/s", flops / median * 1e-9);
    }
    if (r->unit) {
        json_object_set_new(j, "per_s", json_real((double)r->n / median));
        zs_strbuf_addf(text, " %8.2f %s/s", (double)r->n / median, r->unit);
        zs_strbuf_addf(text, " %7.0f MiB", peak);
    }
    if (b->setting.backend->remote && !b->profile) { /* which looks at every node */
        json_object_set_new(j, "recorded", json_boolean(b->recorded));
        zs_strbuf_addf(text, "%s", b->recorded ? "" : " (not recorded)");
    }
    zs_strbuf_addf(text, "\n");
    if (b->profile)
        json_object_set_new(j, "profile",
                            zs_bench_profile_report(b->profile, text, n, median, PROFILE_LINES));
    json_array_append_new(b->list, j);
}

static int measure_and_report(bench *b, const zs_bench_row *r, void *state)
{
    int64_t n = 0;
    double *t = zs_alloc(MOST_RUNS, sizeof *t);
    int status = t ? measure(b, r, state, t, &n)
                   : zs_fail_nomem(b->env->err, MOST_RUNS * sizeof *t, "the times of a row");
    if (status == ZS_OK)
        report(b, r, r->kind->flops(state), t, n);
    zs_free(t);
    return status;
}

static int run_row(bench *b, const zs_bench_row *r)
{
    const char *dir = zs_opt_text(b->env, "save");
    void *state = NULL;
    reset_peak();
    int status = show_progress(b, r->name);
    if (status == ZS_OK)
        status = r->kind->open(&state, r, &b->setting, b->env->err);
    if (status == ZS_OK && dir)
        status = r->kind->save(state, dir, b->env->err);
    else if (status == ZS_OK)
        status = measure_and_report(b, r, state);
    r->kind->close(&state);
    b->done++;
    return status;
}

static void describe_machine(bench *b)
{
    zs_device cpu;
    zs_devices_cpu(&cpu);
    const char *isa = zs_isa_name(zs_isa_get());
    zs_result_set(b->env, "machine",
                  json_pack("{s:o, s:s, s:s, s:i, s:s}", "cpu", zs_json_text(cpu.name),
                            "instructions", isa, "device", b->setting.backend->name, "threads",
                            zs_threads_count(), "zsem", zs_version()));
    zs_strbuf_addf(b->env->text, "zsem %s, %s, instructions x86-64-%s, %d threads\n", zs_version(),
                   cpu.name, isa, zs_threads_count());
}

static int prepare(bench *b)
{
    zs_task_env *env = b->env;
    bool quick = zs_opt_flag(env, "quick"), given = zs_opt_given(env, "runs");
    const char *dir = zs_opt_text(env, "save");
    b->seconds = given ? 0 : quick ? 0.3 : zs_opt_real(env, "seconds");
    b->least = given ? zs_opt_int(env, "runs") : quick ? 2 : 5;
    b->most = given ? b->least : MOST_RUNS;
    b->setting.seed = (uint64_t)zs_opt_int(env, "seed");
    b->setting.dropout = !dir;
    int status = zs_backend_open(&b->setting.backend, zs_opt_text(env, "device"), env->err);
    if (status == ZS_OK)
        status = count_rows(b);
    if (status == ZS_OK && dir)
        status = zs_output_folder(dir, env->err);
    if (status == ZS_OK && zs_opt_text(env, "profile"))
        status = zs_bench_profile_new(&b->profile, env->err);
    if (b->profile) {
        b->setting.hook = zs_bench_profile_node;
        b->setting.hook_ctx = b->profile;
    }
    return status;
}

static int run(zs_task_env *env)
{
    bench b = {.env = env, .list = json_array()};
    if (zs_opt_flag(env, "list")) {
        json_decref(b.list);
        return list_rows(env);
    }
    int status = b.list ? prepare(&b) : zs_fail_nomem(env->err, 64, "the result");
    if (status == ZS_OK)
        describe_machine(&b);
    for (const zs_bench_row *r = zs_bench_rows; status == ZS_OK && r->name; r++)
        if (wanted(env, r))
            status = run_row(&b, r);
    zs_result_set(env, "rows", b.list);
    zs_bench_profile_free(&b.profile);
    return status;
}

static const zs_option options[] = {
    {"rows", ZS_OPTION_TEXT, "WORD,...", NULL, 0, 0,
     "only rows of that name or with a word in it; see --list"},
    {"quick", ZS_OPTION_FLAG, NULL, NULL, 0, 0, "0.3 seconds a row: a first impression"},
    {"seconds", ZS_OPTION_REAL, "S", "1", 0, 3600, "to measure each row for"},
    {"runs", ZS_OPTION_INT, "N", NULL, 1, MOST_RUNS, "exactly so many runs of each row instead"},
    {"profile", ZS_OPTION_TEXT, "WORD,...", NULL, 0, 0,
     "these rows with the time of every operation"},
    {"save", ZS_OPTION_TEXT, "DIR", NULL, 0, 0,
     "time nothing; write weights, inputs and results of the rows, to compare with"},
    {"list", ZS_OPTION_FLAG, NULL, NULL, 0, 0, "only name the rows"},
    ZS_OPTIONS_END};

static const char *const examples[] = {"zsem bench --quick", "zsem bench --rows eps,train --json",
                                       "zsem bench --profile train-ffhq64-n8", NULL};

const zs_task zs_task_bench = {
    {"bench", "[--rows WORD,...] [options]",
     "how fast this machine runs the operations, networks and training steps",
     "Networks are those of the presets, with random weights. Times are medians; GFLOP/s count\n"
     "multiplications and additions as direct algorithms need them; MiB are the peak of the row.",
     0, 0, options, examples},
    run};
