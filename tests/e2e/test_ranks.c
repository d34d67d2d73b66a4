/* SPDX-License-Identifier: MIT */
/* mpirun zsem: several ranks with a part of each batch learn what one rank learns with the whole
 * batch, and encode and sample what it does, bit for bit. */
#include "io/tensorfile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { STEPS = 50, SIDE = 16 };

/* ---- ranks ---- */

static bool have_mpi(void)
{
    char module[4096];
    (void)snprintf(module, sizeof module, "%s-mpi.so", ZSEM_PROGRAM);
    if (access(module, R_OK) == 0 && system("command -v mpirun >/dev/null 2>&1") == 0)
        return true;
    print_message(
        "SKIPPED: no mpirun or no MPI module; scripts/setup mpi installs what is missing\n");
    return false;
}

/* The program with these arguments on so many ranks; its status. */
static int run(int ranks, const char *arguments)
{
    char line[8192], mpirun[256] = "";
    if (ranks > 1) /* the ranks share what cores there are; Open MPI's own leaks are not ours */
        (void)snprintf(mpirun, sizeof mpirun,
                       "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
                       "ASAN_OPTIONS=detect_leaks=0 mpirun --oversubscribe --bind-to none -n %d ",
                       ranks);
    (void)snprintf(line, sizeof line, "%s%s %s >%s 2>&1 </dev/null", mpirun, ZSEM_PROGRAM,
                   arguments, scratch_path("said"));
    return system(line);
}

static void must_run(int ranks, const char *arguments)
{
    if (run(ranks, arguments) != 0) {
        char *line = zs_str_format("cat %s >&2", scratch_path("said"));
        (void)!system(line);
        zs_free(line);
        fail_msg("%d ranks: zsem %s", ranks, arguments);
    }
}

/* ---- comparing ---- */

static float *read_tensor(zs_tensorfile *f, size_t i)
{
    zs_error err = {0};
    size_t n = (size_t)zs_tensorfile_info(f, i)->numel;
    float *x = zs_alloc(n, sizeof *x);
    assert_non_null(x);
    must(zs_tensorfile_read_f32(f, i, x, n, &err), &err);
    return x;
}

/* |a - b| / |a| over all tensors of the runs' last checkpoints: weights, averages, moments. */
static double difference(const char *a, const char *b)
{
    double square = 0.0, sum = 0.0;
    zs_tensorfile *f = NULL, *g = NULL;
    zs_error err = {0};
    const char *file = "checkpoints/step-00000050.safetensors";
    must(zs_tensorfile_open(&f, scratch_path("%s/%s", a, file), &err), &err);
    must(zs_tensorfile_open(&g, scratch_path("%s/%s", b, file), &err), &err);
    assert_true(zs_tensorfile_count(f) > 8);
    for (size_t i = 0; i < zs_tensorfile_count(f); i++) {
        const zs_tensorinfo *t = zs_tensorfile_info(f, i);
        long k = zs_tensorfile_find(g, t->name);
        assert_true(k >= 0);
        float *x = read_tensor(f, i), *y = read_tensor(g, (size_t)k);
        for (int64_t j = 0; j < t->numel; j++) {
            square += ((double)x[j] - (double)y[j]) * ((double)x[j] - (double)y[j]);
            sum += (double)x[j] * (double)x[j];
        }
        zs_free(x);
        zs_free(y);
    }
    zs_tensorfile_close(&f);
    zs_tensorfile_close(&g);
    return sqrt(square / sum);
}

static void same_file(const char *a, const char *b)
{
    char *line = zs_str_format("cmp %s %s", scratch_path("%s", a), scratch_path("%s", b));
    int status = system(line);
    zs_free(line);
    if (status != 0)
        fail_msg("%s and %s differ", a, b);
}

/* Trains what the arguments say on one rank and on others, in micro-batches where that is asked
 * for, and compares. */
static void compare(const char *arguments, const char *name, const int *ranks, size_t n)
{
    char line[4096], out[64];
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(out, sizeof out, "%s-%d", name, ranks[i]);
        (void)snprintf(line, sizeof line,
                       "train %s --steps %d --batch 8 --seed 3 --out %s --sample-every 0 "
                       "--log-every 0 --bucket-mb 0.05 --quiet",
                       arguments, (int)STEPS, scratch_path("%s", out));
        must_run(ranks[i], line);
    }
    (void)snprintf(line, sizeof line, "%s-%d", name, ranks[0]);
    for (size_t i = 1; i < n; i++) {
        (void)snprintf(out, sizeof out, "%s-%d", name, ranks[i]);
        double d = difference(line, out);
        print_message("%s: %d ranks differ from %d by %.2g\n", name, ranks[i], ranks[0], d);
        assert_true(d < 1e-5);
        assert_true(d > 0.0 || ranks[i] == ranks[0]); /* else the same run was looked at twice */
    }
}

/* ---- tests ---- */

static const char small_model[] =
    "--preset fashion32 --set image_size=16 --set model_channels=8 --set channel_mult=1,2 "
    "--set enc_channel_mult=1,2,2 --set z_dim=8 --set embed_channels=16 --set attention=8 "
    "--set lr=1e-3";

/* The weights of the autoencoder have dropout, whose masks must be those of the whole batch. */
static void test_autoencoder(void **state)
{
    (void)state;
    char line[1024];
    const int ranks[] = {1, 2, 4};
    if (!have_mpi())
        return;
    (void)snprintf(line, sizeof line, "autoencoder %s --micro-batch 2 --data %s", small_model,
                   scratch_path("pictures"));
    compare(line, "autoencoder", ranks, 3);
}

/* A run that other numbers of ranks go on with is the run that one rank makes (test_autoencoder).
 * */
static void test_resumed_by_others(void **state)
{
    (void)state;
    char line[2048];
    static const struct {
        int ranks, steps;
    } sessions[] = {{2, 20}, {4, 35}, {1, STEPS}};
    if (!have_mpi())
        return;
    for (size_t i = 0; i < sizeof sessions / sizeof sessions[0]; i++) {
        (void)snprintf(line, sizeof line,
                       "train autoencoder %s --data %s --steps %d --batch 8 --seed 3 --out %s "
                       "--sample-every 0 --log-every 0 --bucket-mb 0.05 --quiet",
                       small_model, scratch_path("pictures"), sessions[i].steps,
                       scratch_path("mixed"));
        must_run(sessions[i].ranks, line);
    }
    double d = difference("autoencoder-1", "mixed");
    print_message("resumed: differs by %.2g\n", d);
    assert_true(d < 1e-5);
    assert_true(d > 0.0);
}

static void test_generator(void **state)
{
    (void)state;
    char line[1024];
    const int ranks[] = {1, 2};
    if (!have_mpi())
        return;
    (void)snprintf(line, sizeof line,
                   "generator --class-cond --preset fashion32-adm --set image_size=16 --set "
                   "generator.model_channels=32 --set generator.num_res_blocks=1 --set lr=1e-4 "
                   "--data %s",
                   scratch_path("pictures"));
    compare(line, "generator", ranks, 2);
}

/* Codes are encoded by both ranks, and kept as one rank would. */
static void test_prior(void **state)
{
    (void)state;
    char line[1024];
    const int ranks[] = {1, 2};
    if (!have_mpi())
        return;
    (void)snprintf(line, sizeof line,
                   "prior %s/share/fashion32.safetensors --set layers=3 --set hidden=32 --views 3 "
                   "--data %s",
                   ZSEM_SOURCE_DIR, scratch_path("pictures"));
    compare(line, "prior", ranks, 2);
    same_file("prior-1/codes.safetensors", "prior-2/codes.safetensors");
    assert_false(tiny_exists(scratch_path("prior-2/codes.safetensors.part-1-of-2")));
    assert_false(tiny_exists(scratch_path("prior-2/codes.safetensors.part-2-of-2")));
}

static void test_encode_and_sample(void **state)
{
    (void)state;
    char line[1024];
    static const char model[] = ZSEM_SOURCE_DIR "/share/fashion32.safetensors";
    if (!have_mpi())
        return;
    for (int ranks = 1; ranks <= 3; ranks += 2) {
        (void)snprintf(line, sizeof line, "encode %s %s --batch 4 --out %s", model,
                       scratch_path("pictures"), scratch_path("codes-%d.npy", ranks));
        must_run(ranks, line);
        (void)snprintf(line, sizeof line, "sample %s -n 7 --batch 2 --steps 2 --out %s", model,
                       scratch_path("sample-%d", ranks));
        must_run(ranks, line);
    }
    same_file("codes-1.npy", "codes-3.npy");
    same_file("sample-1/grid.png", "sample-3/grid.png");
    for (int i = 0; i < 7; i++) {
        char a[64], b[64];
        (void)snprintf(a, sizeof a, "sample-1/%06d.png", i);
        (void)snprintf(b, sizeof b, "sample-3/%06d.png", i);
        same_file(a, b);
    }
}

static int make_pictures(void **state)
{
    if (scratch_make(state) != 0)
        return -1;
    for (int i = 0; i < 22; i++) {
        uint8_t px[SIDE * SIDE];
        char name[64];
        for (int p = 0; p < SIDE * SIDE; p++)
            px[p] = (uint8_t)((i % 2 ? p % SIDE : p / SIDE) * 12 + 3 * i);
        (void)snprintf(name, sizeof name, "pictures/%s/%02d.png", i % 2 ? "across" : "down", i);
        tiny_picture(name, SIDE, px);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_autoencoder), cmocka_unit_test(test_resumed_by_others),
        cmocka_unit_test(test_generator), cmocka_unit_test(test_prior),
        cmocka_unit_test(test_encode_and_sample)};
    return cmocka_run_group_tests_name("ranks", tests, make_pictures, scratch_remove);
}
