/* SPDX-License-Identifier: MIT */
#include "metrics/linalg.h"

#include <cblas.h>
#include <pthread.h>

/* OpenBLAS holds LAPACK too; its package lacks the C header, so the one routine is declared here.
 * Fortran compilers pass the lengths of character arguments last. */
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w,
             double *work, const int *lwork, int *iwork, const int *liwork, int *info,
             size_t jobz_length, size_t uplo_length);

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Threads are ours: OpenBLAS must not start its own inside a chunk. */
static void single_threaded(void)
{
    openblas_set_num_threads(1);
}

void zs_linalg_nt(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c)
{
    pthread_once(&once, single_threaded);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)n, (int)k, 1.0, a, (int)k, b,
                (int)k, 0.0, c, (int)n);
}

void zs_linalg_nn(int64_t m, int64_t n, int64_t k, const double *a, const double *b, double *c)
{
    pthread_once(&once, single_threaded);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)n, (int)k, 1.0, a, (int)k,
                b, (int)n, 0.0, c, (int)n);
}

void zs_linalg_add_gram(int64_t n, int64_t dim, const double *x, double *c)
{
    pthread_once(&once, single_threaded);
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)dim, (int)n, 1.0, x, (int)dim, 1.0, c,
                (int)dim);
}

/* The row-major lower triangle is LAPACK's upper one; its columns are our rows. */
static int eigen(double *w, double *a, int n, bool vectors, double *work, int lwork, int *iwork,
                 int liwork)
{
    int info = 0;
    dsyevd_(vectors ? "V" : "N", "U", &n, a, &n, w, work, &lwork, iwork, &liwork, &info, 1, 1);
    return info;
}

int zs_linalg_eigen(double *w, double *a, int64_t n, bool vectors, zs_error *err)
{
    double want = 0.0;
    int iwant = 0;
    pthread_once(&once, single_threaded);
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
