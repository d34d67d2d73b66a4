/* SPDX-License-Identifier: MIT */
/* Whether cuDNN has kernels for the attention of transformers and of U-Nets with many heads, on a
 * GPU that is not here. Its engines compile such a kernel and then ask the driver to load it; where
 * there is none, the toolkit's stub stands in for it, which refuses to load what was compiled. */
#include "backend/cuda/sdpa.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const size_t room = (size_t)512 << 20;

static void target_of(zs_dnn_target *t)
{
    static char json[4096];
    zs_error err = {0};
    FILE *f = fopen(ZSEM_SOURCE_DIR "/tests/cuda/h100.json", "r");
    assert_non_null(f);
    json[fread(json, 1, sizeof json - 1, f)] = '\0';
    (void)fclose(f);
    if (zs_dnn_target_new(t, json, &err) < 0)
        fail_msg("%s", err.message);
}

static bool have_driver(void)
{
    return dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL) != NULL ||
           dlopen(ZSEM_CUDA_STUBS "/libcuda.so", RTLD_NOW | RTLD_GLOBAL) != NULL;
}

/* How many plans there are, or would be with a driver. */
static int plans_of(const zs_sdpa *s, const zs_dnn_target *t, zs_dnn_tally *tally)
{
    zs_dnn_plan list[2];
    zs_dnn_problem p = {.graph = zs_sdpa_graph, .what = s, .compiled = true};
    int n = zs_dnn_search(list, 2, &p, t, room, NULL, tally);
    for (int i = 0; i < n; i++)
        zs_dnn_plan_free(&list[i]);
    return n + tally->unloaded;
}

static zs_sdpa attention(int64_t t, int64_t heads, int64_t d, bool by_head, bool back)
{
    return (zs_sdpa){.back = back,
                     .n = 4,
                     .t = t,
                     .heads = heads,
                     .d = d,
                     .head = by_head ? 3 * d : d,
                     .part = by_head ? d : heads * d};
}

static const struct {
    const char *what;
    int64_t t, heads, d;
    bool by_head;
} shapes[] = {{"DiT-XL/2 at 256 pixels", 256, 16, 72, false},
              {"ViT-B/16 at 224 pixels", 197, 12, 64, false},
              {"ADM at 16x16", 256, 8, 64, true}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static void kernels_for_attention(void **state)
{
    zs_dnn_target t;
    (void)state;
    target_of(&t);
    for (size_t i = 0; i < 2 * (size_t)SHAPES; i++) {
        zs_dnn_tally tally = {0};
        zs_sdpa s = attention(shapes[i / 2].t, shapes[i / 2].heads, shapes[i / 2].d,
                              shapes[i / 2].by_head, i % 2);
        int n = plans_of(&s, &t, &tally);
        print_message("%s%s: offered %d, refused %d, unusable %d, of these compiled %d\n",
                      shapes[i / 2].what, i % 2 ? ", gradient" : "", tally.offered, tally.refused,
                      tally.unusable, tally.unloaded);
        assert_true(n > 0);
    }
    zs_dnn_target_free(&t);
}

/* On a device: whichever is faster, both give the same numbers. */
static void agrees_on_a_device(void **state)
{
    static float present;
    const zs_backend *b = zs_backend_find("cuda");
    char dir[] = "/tmp/zsem-attention-XXXXXX";
    int all = 0, used = 0, disagreed = 0;
    (void)state;
    if (b->remote->open(NULL) != ZS_OK)
        skip();
    assert_true(mkdtemp(dir) && setenv("ZSEM_CACHE", dir, 1) == 0);
    for (size_t i = 0; i < 2 * (size_t)SHAPES; i++) {
        int64_t ch = shapes[i / 2].heads * shapes[i / 2].d, t = shapes[i / 2].t;
        const zs_attr a = {.heads = (int)shapes[i / 2].heads,
                           .kind = shapes[i / 2].by_head ? ZS_QKV_BY_HEAD : ZS_QKV_BY_PART};
        zs_view qkv = {&present, {.nd = 3, .d = {8, t, 3 * ch}}, ZS_BF16}, y = qkv;
        zs_call c = {.a = &a, .threads = 1, .in = {qkv}, .queue = b->queue};
        y.s.d[2] = ch;
        c.in[1] = i % 2 ? y : c.in[1];
        c.out[0] = i % 2 ? qkv : y;
        (void)b->kernel(i % 2 ? ZS_OP_ATTENTION_BWD : ZS_OP_ATTENTION)->workspace(&c);
    }
    zs_sdpa_counts(&all, &used, &disagreed);
    print_message("%d attentions, %d by cuDNN; %d gave other numbers\n", all, used, disagreed);
    assert_int_equal(b->remote->sync(NULL), ZS_OK);
    assert_int_equal(disagreed, 0);
    assert_true(all >= 2 * SHAPES);
}

/* Compiled kernels are left out where the problem does not ask for them, as convolutions do. */
static void not_unasked(void **state)
{
    zs_dnn_target t;
    zs_dnn_plan list[2];
    zs_dnn_tally tally = {0};
    zs_sdpa s = attention(256, 4, 64, false, false);
    zs_dnn_problem p = {.graph = zs_sdpa_graph, .what = &s};
    (void)state;
    target_of(&t);
    assert_int_equal(zs_dnn_search(list, 2, &p, &t, room, NULL, &tally), 0);
    assert_true(tally.offered > 0 && tally.refused == tally.offered);
    zs_dnn_target_free(&t);
}

static void nothing_for_odd_heads(void **state)
{
    zs_dnn_target t;
    zs_dnn_tally tally = {0};
    zs_sdpa s = attention(256, 4, 60, false, false);
    (void)state;
    target_of(&t);
    assert_int_equal(plans_of(&s, &t, &tally), 0);
    zs_dnn_target_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_for_attention),
        cmocka_unit_test(not_unasked),
        cmocka_unit_test(nothing_for_odd_heads),
        cmocka_unit_test(agrees_on_a_device),
    };
    if (!have_driver()) {
        printf("SKIPPED: no driver and no stub of one; kernels for attention are NOT tested\n");
        return 0;
    }
    return cmocka_run_group_tests_name("cuda_attention", tests, NULL, NULL);
}
