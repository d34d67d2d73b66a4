/* SPDX-License-Identifier: MIT */
/* Times the large cases of the operation table:
 *     bench_ops [WORD]...        only cases whose name contains a word
 * GFLOP/s where the operation is a product, and GB/s with each tensor counted once. */
#include "backend/cpu/isa.h"
#include "tests/ops/cases.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUNS = 15 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of a run, each of them at least 2 ms long. */
static double median_seconds(const zs_kernel *k, const zs_call *call)
{
    double t[RUNS];
    k->run(call);
    double start = zs_clock_now();
    k->run(call);
    int repeat = (int)(0.002 / (zs_clock_now() - start + 1e-9)) + 1;
    for (int i = 0; i < RUNS; i++) {
        start = zs_clock_now();
        for (int j = 0; j < repeat; j++)
            k->run(call);
        t[i] = (zs_clock_now() - start) / repeat;
    }
    qsort(t, RUNS, sizeof t[0], by_value);
    return t[RUNS / 2];
}

static int time_case(const op_case *c, const zs_backend *b)
{
    op_data d;
    zs_call call;
    if (!op_data_new(&d, c) || !op_prepare(&d, b, &call)) {
        fprintf(stderr, "%s: out of memory\n", c->name);
        return 1;
    }
    double s = median_seconds(b->kernel(c->op), &call);
    printf("%-56s %9.3f ms %8.1f GFLOP/s %7.1f GB/s %8.2f MiB scratch\n", c->name, s * 1e3,
           op_flops(c) / s * 1e-9, op_bytes(c) / s * 1e-9, (double)d.ws_bytes / 1048576.0);
    op_data_free(&d);
    return 0;
}

static bool wanted(const op_case *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strstr(c->name, argv[i]))
            return true;
    return argc < 2;
}

/* The clock of a processor that was idle takes a while to rise. */
static void warm_up(const op_case *c, const zs_backend *b)
{
    op_data d;
    zs_call call;
    double start = zs_clock_now();
    if (op_data_new(&d, c) && op_prepare(&d, b, &call))
        while (zs_clock_now() - start < 0.5)
            b->kernel(c->op)->run(&call);
    op_data_free(&d);
}

int main(int argc, char **argv)
{
    size_t n;
    const op_case *cases = op_cases(&n);
    const char *name = getenv("ZSEM_BENCH_BACKEND");
    const zs_backend *b = zs_backend_find(name);
    if (!b) {
        fprintf(stderr, "ZSEM_BENCH_BACKEND=%s: no such backend\n", name);
        return 2;
    }
    printf("backend %s, %s, %d threads\n", b->name, zs_isa_name(zs_isa_get()), zs_threads_count());
    size_t first = 0;
    while (first + 1 < n && !cases[first].bench)
        first++;
    warm_up(&cases[first], b);
    for (size_t i = 0; i < n; i++)
        if (cases[i].bench && wanted(&cases[i], argc, argv) && time_case(&cases[i], b))
            return 1;
    return 0;
}
