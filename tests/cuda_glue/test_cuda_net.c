/* SPDX-License-Identifier: MIT */
/* Whole training runs by the CUDA backend's code on the processor: its kernels (host.h), what calls
 * the libraries with stand-ins for them (glue.h), its optimiser and its norms, in plans that put in
 * casts and leave parameters where a run has them. Memory is the program's, but nobody may know:
 * kernels run when somebody waits. */
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"
#include "tests/cuda_glue/glue.h"
#include "tests/cuda_host/host.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { DIM = 12, BATCH = 4, STEPS = 2, IMAGES = 4, NORM_BYTES = ZS_NORM_BYTES };

/* ---- a backend like src/backend/cuda/table.c, with a queue of host.h ---- */

static void flush(void)
{
    if (zs_host_run(ZS_HOST_FORWARD) < 0)
        fail_msg("a launch was not right");
    if (glue_failures() > 0)
        fail_msg("a library was asked for what it refuses");
    glue_free();
}

static const zs_kernel *kernel(zs_op op)
{
    static const zs_kernel *const table[ZS_OP_COUNT] = {
#define OP(NAME, name, inputs, outputs, gradient, slots) &zs_cuda_##name,
#include "tensor/ops.def"
#undef OP
    };
    return table[op];
}

static const zs_packer *packer(zs_op op)
{
    return op == ZS_OP_CONV2D ? &zs_cuda_conv2d_packer : NULL;
}

static void *take(size_t bytes)
{
    size_t n = (bytes + 255) / 256 * 256 + 256;
    void *p = aligned_alloc(256, n);
    if (p)
        memset(p, 0, n);
    return p;
}

static void drop(void *p, size_t bytes)
{
    (void)bytes;
    flush();
    free(p);
}

static int open_device(zs_error *err)
{
    (void)err;
    return ZS_OK;
}

static int copy(void *dst, const void *src, size_t bytes, zs_error *err)
{
    (void)err;
    flush();
    memcpy(dst, src, bytes);
    return ZS_OK;
}

static int zero(void *dst, size_t bytes, zs_error *err)
{
    (void)err;
    flush();
    memset(dst, 0, bytes);
    return ZS_OK;
}

static int wait(zs_error *err)
{
    (void)err;
    flush();
    return ZS_OK;
}

static int to_bf16(uint16_t *dst, const float *src, int64_t n, zs_error *err)
{
    (void)err;
    zs_launch_cast(dst, ZS_BF16, src, ZS_F32, n, NULL);
    return ZS_OK;
}

static int norm(double *out, const float *g, int64_t n, zs_error *err)
{
    static double partial[NORM_BYTES / sizeof(double)];
    (void)err;
    zs_launch_norm(out, g, n, partial, NULL);
    return ZS_OK;
}

static int adam(const zs_adam *a, zs_error *err)
{
    (void)err;
    zs_launch_adam(a, NULL);
    return ZS_OK;
}

static int record(zs_error *err)
{
    return zs_fail(err, ZS_E_UNSUPPORTED, "nothing is recorded here");
}

static const zs_remote remote = {.open = open_device,
                                 .alloc_host = take,
                                 .release_host = drop,
                                 .upload = copy,
                                 .download = copy,
                                 .copy = copy,
                                 .zero = zero,
                                 .to_bf16 = to_bf16,
                                 .sync = wait,
                                 .norm = norm,
                                 .adam = adam,
                                 .record = record};

static const zs_backend half = {.name = "cuda-host",
                                .kernel = kernel,
                                .alloc = take,
                                .release = drop,
                                .packer = packer,
                                .remote = &remote,
                                .bf16 = true};
static const zs_backend single = {.name = "cuda-host-f32",
                                  .kernel = kernel,
                                  .alloc = take,
                                  .release = drop,
                                  .packer = packer,
                                  .remote = &remote};

/* ---- runs ---- */

static void add_attention(zs_model_config *c)
{
    c->unet.attn_levels = c->sem_encoder.attn_levels = 1u << 1;
    c->unet.heads = c->sem_encoder.heads = 2;
}

static void train(const char *out, const char *backend, const zs_model_config *model)
{
    zs_train_config c = zs_train_defaults();
    c.model = *model;
    c.optim.lr = 1e-3;
    c.optim.clip = 0.3;
    c.optim.weight_decay = 0.01;
    c.batch = BATCH;
    c.micro_batch = BATCH / 2;
    c.dropout = 0.1;
    c.seed = 11;
    c.images = BATCH * STEPS;
    c.data = scratch_path("data");
    c.out = scratch_path("%s", out);
    c.log_steps = 1;
    c.preview_images = 0;
    c.backend = backend;
    tiny_train(&c, NULL, ZS_OK, NULL);
}

/* Loss and norm of the gradient of every step. */
static void logged(double v[2 * STEPS], const char *out)
{
    char line[1024];
    int n = 0;
    FILE *f = fopen(scratch_path("%s/log.jsonl", out), "r");
    assert_non_null(f);
    while (n < 2 * STEPS && fgets(line, sizeof line, f)) {
        json_t *j = json_loads(line, 0, NULL);
        if (json_object_get(j, "loss")) {
            v[n++] = json_number_value(json_object_get(j, "loss"));
            v[n++] = json_number_value(json_object_get(j, "grad_norm"));
        }
        json_decref(j);
    }
    assert_int_equal(fclose(f), 0);
    assert_int_equal(n, 2 * STEPS);
}

static double worst(const double *a, const double *b)
{
    double most = 0;
    for (int i = 0; i < 2 * STEPS; i++) {
        double off = fabs(a[i] - b[i]) / fabs(b[i]);
        most = off > most || isnan(off) ? off : most;
    }
    return most;
}

static void trains_alike(const char *name, const zs_model_config *model, glue_plans plans)
{
    double v[3][2 * STEPS];
    static const char *const backends[] = {"cpu-ref", "cuda-host-f32", "cuda-host"};
    glue_set(plans);
    for (int b = 0; b < 3; b++) {
        char out[64];
        (void)snprintf(out, sizeof out, "%s-%d-%s", name, (int)plans, backends[b]);
        train(out, backends[b], model);
        logged(v[b], out);
    }
    double one = worst(v[1], v[0]), two = worst(v[2], v[0]);
    print_message("%s: losses and norms of gradients within %.1e, in half precision %.1e\n", name,
                  one, two);
    assert_true(one < 1e-3 && two < 0.06);
}

static void an_autoencoder(void **state)
{
    zs_model_config c = tiny_autoencoder(DIM);
    (void)state;
    add_attention(&c);
    trains_alike("autoencoder", &c, GLUE_FUSED_PLANS);
}

static void without_plans(void **state)
{
    zs_model_config c = tiny_autoencoder(DIM);
    (void)state;
    add_attention(&c);
    trains_alike("autoencoder", &c, GLUE_NO_PLANS);
}

static int setup(void **state)
{
    if (!zs_backend_add(&half) || !zs_backend_add(&single) || scratch_make(state) != 0)
        return -1;
    tiny_halves("data", IMAGES, false);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_autoencoder),
        cmocka_unit_test(without_plans),
    };
    return cmocka_run_group_tests_name("cuda_net", tests, setup, scratch_remove);
}
