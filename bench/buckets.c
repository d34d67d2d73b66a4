/* SPDX-License-Identifier: MIT */
/* bench_buckets [PRESET...]: how the gradients of a preset's autoencoder are cut into buckets, and
 * how much of the work is still to come when each may be sent. For docs/distributed.md. */
#include "models/models.h"
#include "train/reduce.h"

#include <inttypes.h>
#include <stdio.h>

enum { BUCKET_BYTES = 25000000, BUCKETS_MAX = 256 };

typedef struct counts {
    double flops;             /* so far */
    double sent[BUCKETS_MAX]; /* when each bucket was final */
} counts;

static void on_node(void *ctx, size_t node, zs_op op, const zs_call *c, double seconds)
{
    (void)node;
    (void)seconds;
    ((counts *)ctx)->flops += zs_call_flops(op, c);
}

static void on_ready(void *ctx, size_t range)
{
    counts *k = ctx;
    if (range < BUCKETS_MAX)
        k->sent[range] = k->flops;
}

/* One run of batch 1 in the plain memory of the program. */
static int count(counts *k, const zs_model_config *m, zs_params *ps, const zs_grad_range *r,
                 size_t n, zs_error *err)
{
    size_t floats = (size_t)zs_params_numel(ps);
    float *w = zs_calloc(2 * floats, sizeof *w);
    zs_graph *g = NULL;
    zs_exec *e = NULL;
    const zs_exec_config ec = {.hook = on_node, .hook_ctx = k};
    const zs_ready_config rc = {.ranges = r, .n = n, .ready = on_ready, .ctx = k};
    const zs_step step = {.grad_scale = 1.0f};
    int status = w ? zs_train_graph_build(&g, ps, m, zs_model_config_states(m, 1), 0.0, false, err)
                   : zs_fail_nomem(err, floats * 8, "weights");
    if (status == ZS_OK)
        status = zs_exec_new(&e, &g, &ec, err);
    if (status == ZS_OK)
        status = zs_exec_watch(e, &rc, err);
    if (status == ZS_OK)
        zs_params_init(ps, w, 1);
    if (status == ZS_OK)
        status = zs_exec_run(e, w, w + floats, &step, err);
    zs_exec_free(&e);
    zs_free(w);
    return status;
}

static void print(const char *name, const counts *k, int64_t numel, const zs_grad_range *r,
                  size_t n)
{
    double largest = 0.0;
    for (size_t i = 0; i < n; i++) {
        double mb = 4e-6 * (double)(r[i].end - r[i].begin);
        largest = mb > largest ? mb : largest;
    }
    printf("%s: %.1f M parameters, %.1f MB a step, %zu buckets, the largest %.1f MB, %.0f GFLOP an "
           "image\n",
           name, 1e-6 * (double)numel, 4e-6 * (double)numel, n, largest, 1e-9 * k->flops);
    for (size_t i = 0; i < n && i < BUCKETS_MAX; i++)
        printf("  bucket %2zu  %6.1f MB  final with %5.1f %% of the work to come\n", i,
               4e-6 * (double)(r[i].end - r[i].begin), 100.0 * (1.0 - k->sent[i] / k->flops));
}

static int show(const char *name, zs_error *err)
{
    zs_preset p;
    zs_params *ps = NULL;
    zs_grad_range *ranges = NULL;
    size_t n = 0;
    counts k = {0};
    int status = zs_preset_find(&p, name, err);
    if (status < 0)
        return status;
    zs_model_config_clear(&p.autoencoder, ZS_BOX_PRIOR);
    status = zs_model_layout(&ps, &p.autoencoder, err);
    if (status == ZS_OK)
        status = zs_reduce_cut(&ranges, &n, ps, BUCKET_BYTES, err);
    if (status == ZS_OK)
        status = count(&k, &p.autoencoder, ps, ranges, n, err);
    if (status == ZS_OK)
        print(name, &k, zs_params_numel(ps), ranges, n);
    zs_free(ranges);
    zs_params_free(&ps);
    return status;
}

int main(int argc, char **argv)
{
    zs_error err = {0};
    int status = ZS_OK;
    for (int i = 1; i < argc && status == ZS_OK; i++)
        status = show(argv[i], &err);
    if (argc < 2)
        status = show("fashion32", &err);
    if (status < 0)
        fprintf(stderr, "%s\n", err.message);
    return status < 0;
}
