/* SPDX-License-Identifier: MIT */
#include "metrics/linalg.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Fortran compilers pass the lengths of character arguments last. */
typedef void gemm_fn(const char *ta, const char *tb, const int *m, const int *n, const int *k,
                     const double *alpha, const double *a, const int *lda, const double *b,
                     const int *ldb, const double *beta, double *c, const int *ldc, size_t, size_t);
typedef void syrk_fn(const char *uplo, const char *trans, const int *n, const int *k,
                     const double *alpha, const double *a, const int *lda, const double *beta,
                     double *c, const int *ldc, size_t, size_t);
typedef void eigen_fn(const char *jobz, const char *uplo, const int *n, double *a, const int *lda,
                      double *w, double *work, const int *lwork, int *iwork, const int *liwork,
                      int *info, size_t, size_t);

/* The library is loaded when it is first needed. Linked to the program, OpenBLAS would start its
 * threads before main in every command; where their 128 MiB each cannot be had, they look for
 * memory for ever, and the program cannot end. */
static const char *const libraries[] = {"libopenblas.so.0", "liblapack.so.3"};

/* What OpenBLAS takes at the first product in a thread, and does not do without. */
static const size_t THREAD_BYTES = (size_t)130 << 20;

static struct {
    pthread_mutex_t mutex;
    void *handle;
    gemm_fn *gemm;
    syrk_fn *syrk;
    eigen_fn *eigen;
} lib = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* C has no cast from dlsym's pointer to a function's. */
static bool find(void *fn, void *handle, const char *name)
{
    void *p = dlsym(handle, name);
    memcpy(fn, &p, sizeof p);
    return p != NULL;
}

static bool load(const char *name)
{
    void *h = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!h)
        return false;
    if (find(&lib.gemm, h, "dgemm_") && find(&lib.syrk, h, "dsyrk_") &&
        find(&lib.eigen, h, "dsyevd_")) {
        lib.handle = h;
        return true;
    }
    dlclose(h);
    return false;
}

static int open_locked(zs_error *err)
{
    size_t threads = (size_t)zs_threads_count();
    void *room = zs_alloc(threads, THREAD_BYTES);
    if (!room)
        return zs_fail_nomem(err, threads * THREAD_BYTES,
                             "products of matrices; fewer --threads lower this");
    zs_free(room);
    /* Threads are ours: OpenBLAS must not start its own inside a chunk. */
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++)
        if (load(libraries[i]))
            return ZS_OK;
    return zs_fail(err, ZS_E_UNSUPPORTED,
                   "%s: cannot be loaded, and distances between sets of images need it; install "
                   "OpenBLAS (libopenblas0) or LAPACK (liblapack3)",
                   libraries[0]);
}

int zs_linalg_open(zs_error *err)
{
    pthread_mutex_lock(&lib.mutex);
    int status = lib.handle ? ZS_OK : open_locked(err);
    pthread_mutex_unlock(&lib.mutex);
    return status;
}

/* Fortran's matrices are ours transposed, so that a product is asked for in reverse order. */
static void product(const char *tb, int64_t m, int64_t n, int64_t k, const double *a,
                    const double *b, double *c)
{
    int rows = (int)m, cols = (int)n, depth = (int)k, ldb = *tb == 'T' ? depth : cols;
    double one = 1.0, zero = 0.0;
    lib.gemm(tb, "N", &cols, &rows, &depth, &one, b, &ldb, a, &depth, &zero, c, &cols, 1, 1);
}

void zs_linalg_nt(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c)
{
    product("T", m, n, k, a, b, c);
}

void zs_linalg_nn(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c)
{
    product("N", m, n, k, a, b, c);
}

void zs_linalg_add_gram(int64_t n, int64_t dim, const double *x, double *c)
{
    int rows = (int)n, cols = (int)dim;
    double one = 1.0;
    lib.syrk("U", "N", &cols, &rows, &one, x, &cols, &one, c, &cols, 1, 1);
}

/* The row-major lower triangle is LAPACK's upper one; its columns are our rows. */
static int eigen(double *w, double *a, int n, bool vectors, double *work, int lwork, int *iwork,
                 int liwork)
{
    int info = 0;
    lib.eigen(vectors ? "V" : "N", "U", &n, a, &n, w, work, &lwork, iwork, &liwork, &info, 1, 1);
    return info;
}

int zs_linalg_eigen(double *w, double *a, int64_t n, bool vectors, zs_error *err)
{
    double want = 0.0;
    int iwant = 0;
    if (n > 32768)
        return zs_fail(err, ZS_E_UNSUPPORTED, "matrices of %lld rows are too large for eigenvalues",
                       (long long)n);
    int info = eigen(w, a, (int)n, vectors, &want, -1, &iwant, -1);
    double *work = zs_alloc((size_t)want + 1, sizeof *work);
    int *iwork = zs_alloc((size_t)iwant + 1, sizeof *iwork);
    int status = ZS_OK;
    if (!work || !iwork)
        status = zs_fail_nomem(err, (size_t)want * sizeof *work, "eigenvalues");
    else if (info == 0)
        info = eigen(w, a, (int)n, vectors, work, (int)want, iwork, iwant);
    zs_free(work);
    zs_free(iwork);
    if (status == ZS_OK && info != 0)
        status = zs_fail(err, ZS_E_NUMERIC,
                         "the eigenvalues of a covariance of %lld features do not converge; the "
                         "features must be finite numbers",
                         (long long)n);
    return status;
}
