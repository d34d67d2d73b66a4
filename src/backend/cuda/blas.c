/* SPDX-License-Identifier: MIT */
/* cuBLASLt counts columns first, so that a row-major D = A B is its D' = B' A': our B comes first
 * there, and m and n change places. The bias runs along D's rows there, which are our columns. */
#include "backend/cuda/blas.h"
#include "backend/cuda/conv_kernels.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/memo.h"
#include "backend/cuda/plan_file.h"
#include "backend/cuda/tune.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 6, ALIGNED = 16 };

typedef struct key {
    zs_blas g;
    int64_t align; /* bytes that all pointers are multiples of */
} key;

typedef struct choice {
    bool found; /* false: our own kernel */
    cublasLtMatmulAlgo_t algo;
} choice;

/* Descriptors of one product, made for each call: that costs the program a microsecond, and nothing
 * when the run is replayed. */
typedef struct product {
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, d; /* in cuBLASLt's order; C has the layout of D */
} product;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static zs_plan_file file;
static zs_memo choices = {.key_bytes = sizeof(key), .value_bytes = sizeof(choice)};

bool zs_cuda_plain(void)
{
    const char *s = getenv("ZSEM_CUDA_PLAIN");
    return s && strcmp(s, "1") == 0;
}

static cudaDataType_t type_of(int64_t t)
{
    return t == ZS_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool set(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name, const void *value,
                size_t bytes)
{
    return cublasLtMatmulDescSetAttribute(d, name, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

static bool layout(cublasLtMatrixLayout_t *out, int64_t type, int64_t rows, int64_t cols,
                   int64_t ld, const zs_blas *g, int64_t step)
{
    int32_t batch = (int32_t)g->batch;
    *out = NULL;
    return cublasLtMatrixLayoutCreate(out, type_of(type), (uint64_t)rows, (uint64_t)cols, ld) ==
               CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                            sizeof batch) == CUBLAS_STATUS_SUCCESS &&
           cublasLtMatrixLayoutSetAttribute(*out, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &step, sizeof step) == CUBLAS_STATUS_SUCCESS;
}

static void product_free(product *p)
{
    if (p->d)
        (void)cublasLtMatrixLayoutDestroy(p->d);
    if (p->b)
        (void)cublasLtMatrixLayoutDestroy(p->b);
    if (p->a)
        (void)cublasLtMatrixLayoutDestroy(p->a);
    if (p->op)
        (void)cublasLtMatmulDescDestroy(p->op);
    *p = (product){0};
}

/* Stored as rows of ld elements, a matrix is its own transpose to cuBLASLt: an untransposed B[k,n]
 * is n x k there, as it is wanted, and one that is stored [n,k] has to be turned. */
static bool product_new(product *p, const zs_blas *g, const void *bias)
{
    const cublasOperation_t keep = CUBLAS_OP_N, turn = CUBLAS_OP_T;
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    const int32_t bias_type = (int32_t)type_of(g->out);
    *p = (product){0};
    bool ok =
        cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
        set(p->op, CUBLASLT_MATMUL_DESC_TRANSA, g->tb ? &turn : &keep, sizeof keep) &&
        set(p->op, CUBLASLT_MATMUL_DESC_TRANSB, g->ta ? &turn : &keep, sizeof keep);
    if (ok && g->bias)
        ok = set(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue) &&
             set(p->op, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &bias_type, sizeof bias_type) &&
             set(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    ok = ok && layout(&p->a, g->in, g->tb ? g->k : g->n, g->tb ? g->n : g->k, g->ldb, g, g->sb) &&
         layout(&p->b, g->in, g->ta ? g->m : g->k, g->ta ? g->k : g->m, g->lda, g, g->sa) &&
         layout(&p->d, g->out, g->n, g->m, g->ldc, g, g->sc);
    if (!ok)
        product_free(p);
    return ok;
}

/* Algorithms that give the same bits each time: sums over parts of k are either not split, or
 * added in f32 in a step of their own. */
static bool preference(cublasLtMatmulPreference_t *out, int64_t align)
{
    static const cublasLtMatmulPreferenceAttributes_t pointers[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t bytes = (uint32_t)align, sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const uint64_t room = ZS_BLAS_WS;
    *out = NULL;
    bool ok = cublasLtMatmulPreferenceCreate(out) == CUBLAS_STATUS_SUCCESS &&
              cublasLtMatmulPreferenceSetAttribute(*out, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                   &room, sizeof room) == CUBLAS_STATUS_SUCCESS &&
              cublasLtMatmulPreferenceSetAttribute(*out, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                                   &sums, sizeof sums) == CUBLAS_STATUS_SUCCESS;
    for (size_t i = 0; ok && i < sizeof pointers / sizeof pointers[0]; i++)
        ok = cublasLtMatmulPreferenceSetAttribute(*out, pointers[i], &bytes, sizeof bytes) ==
             CUBLAS_STATUS_SUCCESS;
    if (!ok && *out) {
        (void)cublasLtMatmulPreferenceDestroy(*out);
        *out = NULL;
    }
    return ok;
}

/* Leaves out those that come with a failure; returns how many are left. */
static int keep_good(cublasLtMatmulHeuristicResult_t *list, int n)
{
    int good = 0;
    for (int i = 0; i < n; i++)
        if (list[i].state == CUBLAS_STATUS_SUCCESS)
            list[good++] = list[i];
    return good;
}

/* How many algorithms were found, best guess first. */
static int candidates(cublasLtMatmulHeuristicResult_t out[CANDIDATES], const product *p,
                      int64_t align)
{
    cublasLtMatmulPreference_t pref;
    int n = 0;
    if (!preference(&pref, align))
        return 0;
    if (cublasLtMatmulAlgoGetHeuristic(zs_cuda_get()->blas, p->op, p->a, p->b, p->d, p->d, pref,
                                       CANDIDATES, out, &n) != CUBLAS_STATUS_SUCCESS)
        n = 0;
    (void)cublasLtMatmulPreferenceDestroy(pref);
    return keep_good(out, n);
}

static cublasStatus_t multiply(const product *p, const zs_blas *g, const zs_blas_args *a,
                               const cublasLtMatmulAlgo_t *algo)
{
    const float beta = g->beta ? 1.0f : 0.0f;
    return cublasLtMatmul(zs_cuda_get()->blas, p->op, &a->alpha, a->b, p->a, a->a, p->b, &beta,
                          g->beta ? a->c : a->d, p->d, a->d, p->d, algo, a->ws, ZS_BLAS_WS,
                          zs_cuda_get()->stream);
}

/* ---- timing ---- */

typedef struct trial {
    const product *p;
    const zs_blas *g;
    zs_blas_args args;
    const cublasLtMatmulHeuristicResult_t *list;
} trial;

static cudaError_t try_it(void *ctx, int candidate)
{
    const trial *t = ctx;
    cublasStatus_t s = multiply(t->p, t->g, &t->args, &t->list[candidate].algo);
    return s == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorUnknown;
}

/* Bytes from the first element to the last, of `batch` matrices of so many rows. */
static size_t extent(int64_t rows, int64_t ld, int64_t batch, int64_t step, int64_t type)
{
    return (size_t)((batch - 1) * step + rows * ld) * zs_dtype_size((zs_dtype)type);
}

/* Index of the fastest, or -1 when nothing can be timed. */
static int fastest(const cublasLtMatmulHeuristicResult_t *list, int n, const product *p,
                   const zs_blas *g)
{
    size_t a = extent(g->ta ? g->k : g->m, g->lda, g->batch, g->sa, g->in);
    size_t b = extent(g->tb ? g->n : g->k, g->ldb, g->batch, g->sb, g->in);
    size_t d = extent(g->m, g->ldc, g->batch, g->sc, g->out), v = (size_t)g->n * 4;
    zs_tune t;
    int first = -1;
    if (!zs_tune_open(&t, zs_tune_bytes(a) + zs_tune_bytes(b) + zs_tune_bytes(d) +
                              zs_tune_bytes(v) + zs_tune_bytes(ZS_BLAS_WS)))
        return -1;
    trial it = {.p = p, .g = g, .list = list};
    it.args = (zs_blas_args){.alpha = 1,
                             .a = zs_tune_take(&t, a),
                             .b = zs_tune_take(&t, b),
                             .d = zs_tune_take(&t, d),
                             .bias = zs_tune_take(&t, v),
                             .ws = zs_tune_take(&t, ZS_BLAS_WS)};
    it.args.c = it.args.d;
    if (!g->bias || set(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &it.args.bias, sizeof(void *)))
        first = zs_tune_fastest(&t, try_it, &it, n);
    zs_tune_close(&t);
    return first;
}

/* ---- choosing ---- */

static void key_text(char out[256], const zs_blas *g)
{
    const int64_t v[] = {g->m,   g->n,     g->k,  g->ta, g->tb, g->lda,  g->ldb,
                         g->ldc, g->batch, g->sa, g->sb, g->sc, g->bias, g->beta};
    size_t at = (size_t)snprintf(out, 256, "%s %s", zs_dtype_name((zs_dtype)g->in),
                                 zs_dtype_name((zs_dtype)g->out));
    for (size_t i = 0; i < sizeof v / sizeof v[0] && at < 256; i++)
        at += (size_t)snprintf(out + at, 256 - at, " %lld", (long long)v[i]);
}

/* The numbers of an algorithm, which hold for one version of the library. */
static void algo_text(char out[ZS_PLAN_TAG], const cublasLtMatmulAlgo_t *a)
{
    size_t at = 0;
    for (size_t i = 0; i < sizeof a->data / sizeof a->data[0]; i++)
        at +=
            (size_t)snprintf(out + at, ZS_PLAN_TAG - at, "%016llx", (unsigned long long)a->data[i]);
}

/* Index of what the disk remembers, or -1. Its numbers are only compared, never used. */
static int recall(const char *name, const cublasLtMatmulHeuristicResult_t *list, int n)
{
    char tag[ZS_PLAN_TAG], text[ZS_PLAN_TAG];
    if (!zs_plan_file_get(tag, &file, name))
        return -1;
    for (int i = 0; i < n; i++) {
        algo_text(text, &list[i].algo);
        if (strcmp(tag, text) == 0)
            return i;
    }
    return -1;
}

/* The fastest, if that can be remembered: a choice that nobody remembers would be another one the
 * next time, with other bits. */
static int pick(const cublasLtMatmulHeuristicResult_t *list, int n, const product *p,
                const zs_blas *g)
{
    char name[256], tag[ZS_PLAN_TAG];
    key_text(name, g);
    zs_plan_file_open(&file, "cublaslt", cublasLtGetVersion(), zs_cuda_get()->name);
    int known = recall(name, list, n);
    if (known >= 0)
        return known;
    int best = fastest(list, n, p, g);
    if (best < 0)
        return 0;
    algo_text(tag, &list[best].algo);
    return zs_plan_file_add(&file, name, tag) ? best : 0;
}

static void choose(choice *c, const key *k)
{
    /* only its alignment counts here; the first address of a page is as good as any */
    const void *bias = (const void *)(uintptr_t)4096;
    cublasLtMatmulHeuristicResult_t list[CANDIDATES];
    product p;
    if (zs_cuda_plain() || zs_cuda_enter(NULL) < 0 || !product_new(&p, &k->g, bias))
        return;
    int n = candidates(list, &p, k->align);
    if (n > 0) {
        c->found = true;
        c->algo = list[n > 1 && k->align == ALIGNED ? pick(list, n, &p, &k->g) : 0].algo;
    }
    product_free(&p);
}

/* The alignment that every matrix of the batch has, where the first has `align`. */
static int64_t alignment_of_all(const zs_blas *g, int64_t align)
{
    int64_t in = (int64_t)zs_dtype_size((zs_dtype)g->in);
    int64_t out = (int64_t)zs_dtype_size((zs_dtype)g->out);
    int64_t steps = g->batch > 1 ? g->sa * in | g->sb * in | g->sc * out : 0;
    while (steps & (align - 1))
        align /= 2;
    return align;
}

static choice chosen(const zs_blas *g, int64_t align)
{
    key k;
    bool fresh;
    memset(&k, 0, sizeof k);
    k.g = *g;
    k.align = alignment_of_all(g, align);
    (void)pthread_mutex_lock(&lock);
    choice *c = zs_memo_get(&choices, &k, &fresh);
    if (c && fresh)
        choose(c, &k);
    choice copy = c ? *c : (choice){0};
    (void)pthread_mutex_unlock(&lock);
    return copy;
}

void zs_blas_prepare(const zs_blas *g)
{
    (void)chosen(g, ALIGNED);
}

static void run_plain(const zs_blas *g, const zs_blas_args *a)
{
    zs_cuda_product s = {.m = g->m, .n = g->n, .k = g->k, .batch = g->batch, .ldc = g->ldc};
    bool typed = g->bias && g->out == ZS_BF16; /* our kernel takes biases in f32 */
    s.am = g->ta ? 1 : g->lda, s.ak = g->ta ? g->lda : 1;
    s.bk = g->tb ? 1 : g->ldb, s.bn = g->tb ? g->ldb : 1;
    s.sa = g->sa, s.sb = g->sb, s.sc = g->sc;
    s.alpha = a->alpha, s.beta = g->beta ? 1.0f : 0.0f;
    if (typed)
        zs_launch_cast(a->ws, ZS_F32, a->bias, ZS_BF16, g->n, zs_cuda_get()->stream);
    zs_launch_product(a->d, (zs_dtype)g->out, a->a, a->b, (zs_dtype)g->in, a->c,
                      typed ? a->ws : a->bias, &s, zs_cuda_get()->stream);
}

static int64_t alignment(const zs_blas_args *a)
{
    uintptr_t all = (uintptr_t)a->a | (uintptr_t)a->b | (uintptr_t)a->c | (uintptr_t)a->d;
    int64_t align = ALIGNED;
    while (all & (uintptr_t)(align - 1))
        align /= 2;
    return align;
}

void zs_blas_run(const zs_blas *g, const zs_blas_args *a)
{
    product p;
    choice c = chosen(g, alignment(a));
    if (!c.found) {
        run_plain(g, a);
        return;
    }
    if (!product_new(&p, g, a->bias)) {
        zs_cuda_refuse(ZS_E_INTERNAL, "cuBLASLt does not describe a product of %lld x %lld x %lld",
                       (long long)g->m, (long long)g->n, (long long)g->k);
        return;
    }
    cublasStatus_t s = multiply(&p, g, a, &c.algo);
    product_free(&p);
    if (s != CUBLAS_STATUS_SUCCESS) {
        zs_cuda_check((int)cudaGetLastError(), "a matrix product");
        zs_cuda_refuse(ZS_E_INTERNAL, "cuBLASLt failed on a product of %lld x %lld x %lld: %s",
                       (long long)g->m, (long long)g->n, (long long)g->k,
                       cublasLtGetStatusString(s));
    }
}
