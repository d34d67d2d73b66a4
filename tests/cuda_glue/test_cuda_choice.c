/* SPDX-License-Identifier: MIT */
/* What one process remembers for the next: algorithms of products, plans of convolutions and of
 * attention, chosen by timing. Each case is a process of its own; cuBLASLt, cuDNN and the clock are
 * stand-ins that offer what the case says. */
#include "backend/cuda/blas.h"
#include "backend/cuda/conv_kernels.h"
#include "backend/cuda/conv_plan.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/sdpa.h"
#include "backend/cuda/tune.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { OFFERS = 6, PRODUCTS = 1000 };

/* What a process finds. */
typedef struct world {
    const char *device;
    size_t version;      /* of either library */
    int offered[OFFERS]; /* algorithms or engines, 0 at the end; best guess first */
    int broken;          /* one that is offered with a status that says it is of no use */
    int best;            /* the one that timing prefers; 0: nothing can be timed */
    bool fused;          /* of plans: the one that adds the bias */
    bool wrong;          /* of attention: plans give other numbers than products, */
    bool restless;       /* or others each time */
} world;

/* What it did. */
typedef struct outcome {
    int used, timed, runs;
    bool fused;
} outcome;

static world here;
static outcome *seen; /* shared with the processes */

/* ---- the device ---- */

const zs_cuda *zs_cuda_get(void)
{
    static zs_cuda device;
    (void)snprintf(device.name, sizeof device.name, "%s", here.device);
    return &device;
}

int zs_cuda_enter(zs_error *err)
{
    (void)err;
    return ZS_OK;
}

void zs_cuda_check(int status, const char *what)
{
    (void)what;
    if (status)
        abort();
}

void zs_cuda_refuse(int status, const char *fmt, ...)
{
    (void)status;
    (void)fmt;
    abort();
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

void zs_launch_cast(void *dst, zs_dtype to, const void *src, zs_dtype from, int64_t n, void *queue)
{
    (void)dst, (void)to, (void)src, (void)from, (void)n, (void)queue;
}

void zs_launch_bias_residual(void *y, const void *x, const float *bias, const void *r,
                             zs_dtype type, int64_t rows, int64_t cols, bool relu, void *queue)
{
    (void)y, (void)x, (void)bias, (void)r, (void)type, (void)rows, (void)cols, (void)relu;
    (void)queue;
}

void zs_launch_product(void *c, zs_dtype out, const void *a, const void *b, zs_dtype in,
                       const void *c0, const float *bias, const zs_cuda_product *s, void *queue)
{
    (void)c, (void)out, (void)a, (void)b, (void)in, (void)c0, (void)bias, (void)s, (void)queue;
    seen->used = 0;
    seen->runs++;
}

/* ---- the clock: runs every candidate and prefers the one of the case ---- */

static _Alignas(256) unsigned char memory[64 << 20];

size_t zs_tune_bytes(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

bool zs_tune_open(zs_tune *t, size_t bytes)
{
    *t = (zs_tune){.p = memory};
    return here.best != 0 && bytes < sizeof memory;
}

void zs_tune_close(zs_tune *t)
{
    *t = (zs_tune){0};
}

void *zs_tune_take(zs_tune *t, size_t bytes)
{
    t->used += zs_tune_bytes(bytes);
    return t->p + t->used - zs_tune_bytes(bytes);
}

int zs_tune_fastest(const zs_tune *t, zs_tune_fn fn, void *ctx, int n)
{
    int first = -1;
    (void)t;
    seen->timed++;
    for (int i = 0; i < n; i++)
        if (fn(ctx, i) == cudaSuccess && seen->used == here.best && seen->fused == here.fused)
            first = i;
    seen->runs = 0;
    return first;
}

/* ---- cuBLASLt ---- */

size_t cublasLtGetVersion(void)
{
    return here.version;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    (void)status;
    return "";
}

static void *something(void)
{
    static char one;
    return &one;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *d, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    (void)compute, (void)scale;
    *d = something();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d)
{
    (void)d;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void *value, size_t bytes)
{
    (void)d, (void)name, (void)value, (void)bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *l, cudaDataType type,
                                          uint64_t rows, uint64_t cols, int64_t ld)
{
    (void)type, (void)rows, (void)cols, (void)ld;
    *l = something();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t l)
{
    (void)l;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t l,
                                                cublasLtMatrixLayoutAttribute_t name,
                                                const void *value, size_t bytes)
{
    (void)l, (void)name, (void)value, (void)bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *p)
{
    *p = something();
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t p)
{
    (void)p;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t p,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void *value, size_t bytes)
{
    (void)p, (void)name, (void)value, (void)bytes;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t out[], int *n)
{
    (void)handle, (void)op, (void)a, (void)b, (void)c, (void)d, (void)preference;
    for (*n = 0; *n < wanted && *n < OFFERS && here.offered[*n]; ++*n) {
        memset(&out[*n], 0, sizeof out[*n]);
        out[*n].algo.data[0] = (uint64_t)here.offered[*n];
        out[*n].algo.data[7] = UINT64_MAX - 7;
        out[*n].state =
            here.offered[*n] == here.broken ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t as, const void *b,
                              cublasLtMatrixLayout_t bs, const void *beta, const void *c,
                              cublasLtMatrixLayout_t cs, void *d, cublasLtMatrixLayout_t ds,
                              const cublasLtMatmulAlgo_t *algo, void *ws, size_t bytes,
                              cudaStream_t stream)
{
    (void)handle, (void)op, (void)alpha, (void)a, (void)as, (void)b, (void)bs, (void)beta, (void)c;
    (void)cs, (void)d, (void)ds, (void)ws, (void)bytes, (void)stream;
    seen->used = (int)algo->data[0];
    seen->runs++;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- cuDNN: an engine's tag is its number ---- */

size_t cudnnGetVersion(void)
{
    return here.version;
}

int zs_dnn_plans(zs_dnn_plan *out, int max, const zs_cuda_conv *c, const zs_dnn_target *t,
                 size_t limit, const char *tag, zs_dnn_tally *tally)
{
    int n = 0;
    (void)t, (void)limit, (void)tally;
    for (int i = 0; i < OFFERS && n < max && here.offered[i]; i++) {
        zs_dnn_plan p = {.workspace = c->bias ? 2 : 1};
        p.desc = (cudnnBackendDescriptor_t)something();
        (void)snprintf(p.tag, sizeof p.tag, "%d:1=2", here.offered[i]);
        if (here.offered[i] != here.broken && (!tag || strcmp(tag, p.tag) == 0))
            out[n++] = p;
    }
    return n;
}

int zs_dnn_target_of(zs_dnn_target *out, cudnnHandle_t handle, zs_error *err)
{
    (void)out, (void)handle, (void)err;
    return ZS_E_FORMAT;
}

void zs_dnn_target_free(zs_dnn_target *t)
{
    (void)t;
}

void zs_dnn_plan_free(zs_dnn_plan *p)
{
    p->desc = NULL;
}

cudnnStatus_t zs_dnn_run(const zs_dnn_plan *p, cudnnHandle_t handle, void *x, void *w, void *y,
                         const void *b, void *ws)
{
    (void)handle, (void)x, (void)w, (void)y, (void)ws;
    seen->used = atoi(p->tag);
    seen->fused = b != NULL;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- attention: numbers of one kind by products, of another by plans that are wrong ---- */

static void fill(void *to, int64_t n, float value)
{
    for (int64_t i = 0; i < n; i++)
        ((uint16_t *)to)[i] = zs_f32_to_bf16(value);
}

static const zs_sdpa heads = {.n = 2, .t = 16, .heads = 2, .d = 8, .head = 8, .part = 16};
enum { Y = 2 * 16 * 2 * 8 };

static void products(const zs_call *c)
{
    fill(c->out[0].p, c->in[1].p ? 3 * Y : Y, 1.0f);
    seen->used = PRODUCTS;
}

cudnnBackendDescriptor_t zs_sdpa_graph(struct zs_dnn_graph *g, const void *sdpa,
                                       const zs_dnn_target *t)
{
    (void)g, (void)sdpa, (void)t;
    return NULL;
}

int zs_dnn_search(zs_dnn_plan *out, int max, const zs_dnn_problem *p, const zs_dnn_target *t,
                  size_t limit, const char *tag, zs_dnn_tally *tally)
{
    const zs_cuda_conv any = {.kind = 0};
    assert_true(p->compiled && p->graph == zs_sdpa_graph && t->handle == zs_cuda_get()->dnn);
    return zs_dnn_plans(out, max, &any, t, limit, tag, tally);
}

cudnnStatus_t zs_dnn_execute(const zs_dnn_plan *p, cudnnHandle_t handle, int n, const int64_t *ids,
                             const void *const *pointers, void *ws)
{
    static int times;
    (void)handle, (void)ws;
    seen->used = atoi(p->tag);
    for (int i = 0; i < n; i++) {
        union {
            const void *from;
            void *to;
        } same = {.from = pointers[i]};
        bool y = ids[i] == ZS_SDPA_Y && n == 6, dq = ids[i] == ZS_SDPA_DQ && n == 12;
        if (y || dq)
            fill(same.to, y ? Y : 3 * Y,
                 here.wrong ? 1.1f : 1.01f + (here.restless ? 0.01f * (float)(times++ % 3) : 0.0f));
    }
    return n == 6 || n == 12 ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)kind, (void)stream;
    memcpy(dst, src, bytes);
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

const char *cudnnGetErrorString(cudnnStatus_t s)
{
    (void)s;
    return "";
}

/* ---- one process ---- */

static const zs_blas square = {.in = ZS_BF16,
                               .out = ZS_BF16,
                               .m = 64,
                               .n = 32,
                               .k = 128,
                               .lda = 128,
                               .ldb = 32,
                               .ldc = 32,
                               .batch = 1};

static void multiply(const void *what)
{
    const zs_blas *g = what;
    const uintptr_t at = 4096;
    zs_blas_prepare(g);
    zs_blas_run(g, &(zs_blas_args){.alpha = 1,
                                   .a = (const void *)at,
                                   .b = (const void *)(2 * at),
                                   .d = (void *)(3 * at),
                                   .ws = (void *)(4 * at)});
}

static void multiply_unaligned(const void *what)
{
    const uintptr_t at = 4096;
    zs_blas_run(what, &(zs_blas_args){.alpha = 1,
                                      .a = (const void *)(at + 2),
                                      .b = (const void *)(2 * at),
                                      .d = (void *)(3 * at),
                                      .ws = (void *)(4 * at)});
}

static zs_cuda_conv image(void)
{
    zs_cuda_conv c;
    memset(&c, 0, sizeof c);
    c.type = ZS_BF16, c.bias = 1;
    c.n = 2, c.h = c.w = c.yh = c.yw = 8, c.c = c.o = 16, c.kh = c.kw = 3, c.stride = 1;
    c.top = c.left = c.bottom = c.right = 1;
    return c;
}

static void convolve(const void *what)
{
    const zs_conv_choice *c = zs_conv_choose(what);
    seen->used = c && c->plan.desc ? atoi(c->plan.tag) : 0;
    seen->fused = c && c->fused;
    seen->runs = 1;
}

static void attend(const void *what)
{
    const zs_sdpa *s = what;
    zs_call c = {.threads = 1};
    const zs_sdpa_choice *k = zs_sdpa_choose(s, &c, products, 1024);
    seen->used = k ? atoi((s->back ? k->backward : k->forward).tag) : PRODUCTS;
    seen->runs = 1;
    assert_true(!k || (k->backward.desc != NULL) == (s->back != 0));
    assert_true(zs_sdpa_choose(s, &c, NULL, 0) == k);
}

static outcome process(const world *w, void (*work)(const void *), const void *what)
{
    int how = 0;
    here = *w;
    *seen = (outcome){0};
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        work(what);
        _exit(0);
    }
    assert_true(waitpid(child, &how, 0) == child && WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_int_equal(seen->runs, 1);
    return *seen;
}

static void expect(const world *w, void (*work)(const void *), const void *what, int used,
                   int timed)
{
    outcome o = process(w, work, what);
    if (o.used != used || o.timed != timed)
        fail_msg("used %d, timed %d; expected %d, %d", o.used, o.timed, used, timed);
}

/* ---- the folder of choices ---- */

static char folder[] = "/tmp/zsem-choices-XXXXXX";

/* The path of the only file there; owned by the caller. */
static char *only_file(void)
{
    char *path = NULL;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') {
            assert_null(path);
            path = zs_str_format("%s/%s", folder, e->d_name);
        }
    assert_int_equal(closedir(d), 0);
    assert_non_null(path);
    return path;
}

static size_t load(const char *path, char *bytes, size_t most)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, most, f);
    assert_int_equal(fclose(f), 0);
    return n;
}

static void store(const char *path, const char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int forget(void **state)
{
    char *command = zs_str_format("rm -rf '%s'/*", folder);
    (void)state;
    int status = system(command);
    zs_free(command);
    return status;
}

/* ---- cases ---- */

static const world usual = {.device = "GPU A", .version = 130, .offered = {11, 12, 13}, .best = 13};

static void remembered_by_the_next(void **state)
{
    (void)state;
    world w = usual;
    expect(&w, multiply, &square, 13, 1);
    w.best = 12; /* not asked */
    expect(&w, multiply, &square, 13, 0);
    const int turned[OFFERS] = {13, 11, 12};
    memcpy(w.offered, turned, sizeof turned);
    expect(&w, multiply, &square, 13, 0);
    const int others[OFFERS] = {11, 12, 14};
    memcpy(w.offered, others, sizeof others);
    expect(&w, multiply, &square, 12, 1); /* it is gone */
    expect(&w, multiply, &square, 12, 0);
}

static void another_question_has_another_answer(void **state)
{
    (void)state;
    world w = usual;
    expect(&w, multiply, &square, 13, 1);
    w.best = 12;
    zs_blas g = square;
    int64_t *const parts[] = {&g.in,  &g.out, &g.m,     &g.n,  &g.k,  &g.ta, &g.tb,   &g.lda,
                              &g.ldb, &g.ldc, &g.batch, &g.sa, &g.sb, &g.sc, &g.bias, &g.beta};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        g = square;
        *parts[i] = parts[i] == &g.in || parts[i] == &g.out ? (int64_t)ZS_F32 : *parts[i] + 16;
        expect(&w, multiply, &g, 12, 1);
        expect(&w, multiply, &g, 12, 0);
    }
    expect(&w, multiply, &square, 13, 0);
    w.version++;
    expect(&w, multiply, &square, 12, 1);
    w.version--;
    w.device = "GPU B";
    expect(&w, multiply, &square, 12, 1);
    w.device = "GPU A";
    expect(&w, multiply, &square, 13, 0);
}

/* Whatever one damaged byte does: the choice that was made, or one made anew. */
static void damaged_files_are_not_believed(void **state)
{
    (void)state;
    static char bytes[4096];
    world w = usual;
    size_t anew = 0;
    expect(&w, multiply, &square, 13, 1);
    char *path = only_file();
    size_t n = load(path, bytes, sizeof bytes);
    assert_true(n > 100 && n < sizeof bytes);
    w.best = 11;
    for (size_t i = 0; i < n; i++) {
        static const char masks[] = {0x01, 0x02, 0x40};
        char kept = bytes[i];
        bytes[i] = i % 4 == 3 ? '\0' : (char)(bytes[i] ^ masks[i % 4]);
        store(path, bytes, n);
        bytes[i] = kept;
        outcome o = process(&w, multiply, &square);
        assert_true((o.used == 13 && o.timed == 0) || (o.used == 11 && o.timed == 1));
        anew += o.timed == 1;
        if (o.timed)
            expect(&w, multiply, &square, 11, 0); /* and remembered, behind the damage */
    }
    assert_true(anew >= n - 1); /* a NUL in place of the end of the line ends it too */
    for (size_t cut = 0; cut < n; cut++) {
        store(path, bytes, cut);
        expect(&w, multiply, &square, 11, 1);
        expect(&w, multiply, &square, 11, 0);
    }
    zs_free(path);
}

static void a_file_without_end_begins_again(void **state)
{
    (void)state;
    world w = usual;
    expect(&w, multiply, &square, 13, 1);
    char *path = only_file();
    assert_int_equal(truncate(path, (off_t)1 << 30), 0);
    w.best = 12;
    expect(&w, multiply, &square, 12, 1);
    expect(&w, multiply, &square, 12, 0);
    zs_free(path);
}

/* What the next process would not know is not chosen. */
static void without_memory_the_first_is_taken(void **state)
{
    (void)state;
    world w = usual;
    w.best = 0;
    expect(&w, multiply, &square, 11, 0);
    w.best = 13;
    assert_int_equal(setenv("ZSEM_CACHE", "/dev/null/nowhere", 1), 0);
    expect(&w, multiply, &square, 11, 1);
    assert_int_equal(setenv("ZSEM_CACHE", folder, 1), 0);
    expect(&w, multiply_unaligned, &square, 11, 0);
    w.broken = 11;
    expect(&w, multiply_unaligned, &square, 12, 0);
    expect(&w, multiply, &square, 13, 1);
    w.broken = 13;
    w.best = 12;
    expect(&w, multiply, &square, 12, 1);
    const int none[OFFERS] = {0};
    memcpy(w.offered, none, sizeof none);
    expect(&w, multiply, &square, 0, 0);
}

static void plans_are_remembered(void **state)
{
    (void)state;
    world w = usual;
    zs_cuda_conv c = image();
    w.fused = true;
    expect(&w, convolve, &c, 13, 1);
    assert_true(seen->fused);
    w.best = 12;
    expect(&w, convolve, &c, 13, 0);
    assert_true(seen->fused);
    w.broken = 13; /* gone, or denied */
    w.fused = false;
    expect(&w, convolve, &c, 12, 1);
    assert_false(seen->fused);
    expect(&w, convolve, &c, 12, 0);
    assert_false(seen->fused);
    w.broken = 0;
    w.best = 11;
    int64_t *const parts[] = {&c.kind,   &c.type, &c.bias, &c.n,      &c.h,    &c.w,
                              &c.c,      &c.o,    &c.yh,   &c.yw,     &c.kh,   &c.kw,
                              &c.stride, &c.top,  &c.left, &c.bottom, &c.right};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        c = image();
        *parts[i] = parts[i] == &c.type ? (int64_t)ZS_F32 : parts[i] == &c.bias ? 0 : *parts[i] + 1;
        expect(&w, convolve, &c, 11, 1);
    }
    c = image();
    expect(&w, convolve, &c, 12, 0);
    w.version++;
    expect(&w, convolve, &c, 11, 1);
}

static void attention_is_remembered(void **state)
{
    (void)state;
    for (int back = 0; back < 2; back++) {
        world w = usual;
        zs_sdpa s = heads;
        s.back = back;
        w.best = 12;
        expect(&w, attend, &s, 12, 1);
        w.best = 11;
        expect(&w, attend, &s, 12, 0);
        w.broken = 12;
        w.best = PRODUCTS;
        expect(&w, attend, &s, PRODUCTS, 1);
        w.best = 11;
        expect(&w, attend, &s, PRODUCTS, 0);
        int64_t *const parts[] = {&s.n, &s.t, &s.heads, &s.head, &s.part};
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            s = heads;
            s.back = back;
            ++*parts[i];
            w.best = PRODUCTS; /* results of other sizes are not compared here */
            expect(&w, attend, &s, PRODUCTS, 1);
        }
        assert_int_equal(forget(state), 0);
    }
}

/* Whatever is faster: only what gives the numbers of the products is taken. */
static void attention_that_disagrees_is_not_used(void **state)
{
    (void)state;
    for (int back = 0; back < 2; back++) {
        world w = usual;
        zs_sdpa s = heads;
        s.back = back;
        w.best = 11;
        w.wrong = true;
        expect(&w, attend, &s, PRODUCTS, 1);
        w.wrong = false;
        expect(&w, attend, &s, PRODUCTS, 0); /* until the file is deleted */
        assert_int_equal(forget(state), 0);
        w.restless = true;
        expect(&w, attend, &s, PRODUCTS, 1);
        w.restless = false;
        assert_int_equal(forget(state), 0);
        expect(&w, attend, &s, 11, 1);
        assert_int_equal(forget(state), 0);
        w.best = 0; /* nothing can be timed, nor compared */
        expect(&w, attend, &s, PRODUCTS, 0);
        w.best = 11;
        assert_int_equal(setenv("ZSEM_CACHE", "/dev/null/nowhere", 1), 0);
        expect(&w, attend, &s, PRODUCTS, 1);
        assert_int_equal(setenv("ZSEM_CACHE", folder, 1), 0);
        expect(&w, attend, &s, 11, 1);
        s.d = 12; /* no multiple of eight */
        expect(&w, attend, &s, PRODUCTS, 0);
        s.d = 256;
        expect(&w, attend, &s, PRODUCTS, 0);
        assert_int_equal(forget(state), 0);
    }
}

static int setup(void **state)
{
    (void)state;
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return seen != MAP_FAILED && mkdtemp(folder) && setenv("ZSEM_CACHE", folder, 1) == 0 ? 0 : -1;
}

static int teardown(void **state)
{
    int status = forget(state);
    return rmdir(folder) == 0 && munmap(seen, sizeof *seen) == 0 ? status : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(remembered_by_the_next, forget),
        cmocka_unit_test_teardown(another_question_has_another_answer, forget),
        cmocka_unit_test_teardown(damaged_files_are_not_believed, forget),
        cmocka_unit_test_teardown(a_file_without_end_begins_again, forget),
        cmocka_unit_test_teardown(without_memory_the_first_is_taken, forget),
        cmocka_unit_test_teardown(plans_are_remembered, forget),
        cmocka_unit_test_teardown(attention_is_remembered, forget),
        cmocka_unit_test_teardown(attention_that_disagrees_is_not_used, forget),
    };
    return cmocka_run_group_tests_name("cuda_choice", tests, setup, teardown);
}
