/* SPDX-License-Identifier: MIT */
#include "tests/golden/golden.h"
#include "tests/golden/golden_unpack.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Place i, or NULL past the last: the full set, then the committed selection, which has files of
 * its own. A full set beside the repository does not fill up what $ZSEM_GOLDENS lacks: files of one
 * set belong together. */
static const char *place(int i)
{
    const char *env = getenv("ZSEM_GOLDENS");
    const char *const places[] = {env && *env ? env : ZSEM_SOURCE_DIR "/../shared/goldens",
                                  ZSEM_SOURCE_DIR "/tests/golden/data", NULL};
    return places[i];
}

bool golden_path(char path[512], const char *set, const char *file)
{
    for (int i = 0; place(i); i++) {
        (void)snprintf(path, 512, "%s/%s/%s", place(i), set, file);
        if (access(path, R_OK) == 0)
            return true;
    }
    return false;
}

bool golden_has_file(const char *set, const char *file)
{
    char path[512];
    return golden_path(path, set, file);
}

bool golden_have(const char *set)
{
    return golden_has_file(set, "golden.safetensors");
}

void golden_need(const char *set)
{
    if (golden_have(set))
        return;
    print_message("SKIPPED: no golden files for %s; set ZSEM_GOLDENS to the folder that has them\n",
                  set);
    skip();
}

zs_tensorfile *golden_open(const char *set, const char *file)
{
    char path[512];
    zs_error err = {0};
    zs_tensorfile *f = NULL;
    if (!golden_path(path, set, file))
        fail_msg("golden file %s/%s is in none of the known places", set, file);
    if (zs_tensorfile_open(&f, path, &err) < 0)
        fail_msg("%s", err.message);
    return f;
}

/* ---- checkpoints ---- */

enum { SETS = 8 };
static struct unpacked {
    char set[64], path[160];
} unpacked[SETS];
static size_t n_unpacked;

static const char *unpacked_path(const char *set, const char *packed)
{
    zs_error err = {0};
    for (size_t i = 0; i < n_unpacked; i++)
        if (strcmp(unpacked[i].set, set) == 0)
            return unpacked[i].path;
    assert_true(n_unpacked < SETS);
    struct unpacked *u = &unpacked[n_unpacked++];
    (void)snprintf(u->set, sizeof u->set, "%s", set);
    (void)snprintf(u->path, sizeof u->path, "/tmp/zsem-golden-%ld-%s.safetensors", (long)getpid(),
                   set);
    if (golden_unpack(u->path, packed, &err) < 0)
        fail_msg("%s", err.message);
    return u->path;
}

const char *golden_checkpoint(const char *set)
{
    static char path[512];
    for (int i = 0; place(i); i++) {
        (void)snprintf(path, sizeof path, "%s/%s/last.ckpt", place(i), set);
        if (access(path, R_OK) == 0)
            return path;
        (void)snprintf(path, sizeof path, "%s/%s/packed.safetensors", place(i), set);
        if (access(path, R_OK) == 0)
            return unpacked_path(set, path);
    }
    fail_msg("no checkpoint for %s", set);
    return NULL;
}

double golden_slack(const char *set)
{
    return zs_str_ends(golden_checkpoint(set), "last.ckpt") ? 1 : 5;
}

void golden_cleanup(void)
{
    for (size_t i = 0; i < n_unpacked; i++)
        (void)remove(unpacked[i].path);
    n_unpacked = 0;
}

/* ---- arrays ---- */

static size_t index_of(zs_tensorfile *f, const char *name)
{
    long i = zs_tensorfile_find(f, name);
    if (i < 0)
        fail_msg("%s has no %s", zs_tensorfile_path(f), name);
    return (size_t)i;
}

float *golden_f32(zs_tensorfile *f, const char *name, size_t *n)
{
    zs_error err = {0};
    size_t i = index_of(f, name);
    *n = (size_t)zs_tensorfile_info(f, i)->numel;
    float *v = zs_alloc(*n, sizeof *v);
    assert_non_null(v);
    if (zs_tensorfile_read_f32(f, i, v, *n, &err) < 0)
        fail_msg("%s", err.message);
    return v;
}

int64_t *golden_i64(zs_tensorfile *f, const char *name, size_t *n)
{
    zs_error err = {0};
    size_t i = index_of(f, name);
    *n = (size_t)zs_tensorfile_info(f, i)->numel;
    int64_t *v = zs_alloc(*n, sizeof *v);
    assert_non_null(v);
    if (zs_tensorfile_read_i64(f, i, v, *n, &err) < 0)
        fail_msg("%s", err.message);
    return v;
}

float *golden_nhwc(zs_tensorfile *f, const char *name, zs_shape *s)
{
    const zs_tensorinfo *t = zs_tensorfile_info(f, index_of(f, name));
    size_t n;
    float *nchw = golden_f32(f, name, &n), *v = zs_alloc(n, sizeof *v);
    assert_non_null(v);
    assert_int_equal(t->nd, 4);
    *s = zs_shape4(t->shape[0], t->shape[2], t->shape[3], t->shape[1]);
    zs_nhwc_from_nchw(v, nchw, s->d[0], s->d[1], s->d[2], s->d[3]);
    zs_free(nchw);
    return v;
}

double golden_max_error(const float *a, const float *b, size_t n)
{
    double worst = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= worst))
            worst = d;
        if (!(fabs((double)b[i]) <= largest))
            largest = fabs((double)b[i]);
    }
    return worst / largest;
}

double golden_norm_error(const float *a, const float *b, size_t n)
{
    double d2 = 0, b2 = 0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        d2 += d * d;
        b2 += (double)b[i] * (double)b[i];
    }
    return b2 > 0 ? sqrt(d2 / b2) : sqrt(d2);
}

/* ---- gradients ---- */

zs_tensorfile *golden_gradients(const char *set)
{
    bool full = golden_has_file(set, "grads.safetensors");
    return golden_open(set, full ? "grads.safetensors" : "grads-sampled.safetensors");
}

size_t golden_gradient_count(const zs_tensorfile *f)
{
    return zs_tensorfile_count(f) - (zs_tensorfile_find(f, "norms") >= 0);
}

static double norm_of(const float *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

double golden_gradient_error(zs_tensorfile *f, const char *name, const float *got, size_t n,
                             double *norm)
{
    size_t k, index = index_of(f, name), count;
    float *want = golden_f32(f, name, &k);
    double error;
    if (k == n) {
        *norm = norm_of(want, n);
        error = golden_norm_error(got, want, n);
    } else {
        float *norms = golden_f32(f, "norms", &count), *sample = zs_alloc(k, sizeof *sample);
        *norm = (double)norms[index];
        for (size_t i = 0; i < k; i++)
            sample[i] = got[i * n / k];
        error = golden_norm_error(sample, want, k) * norm_of(want, k) /
                (*norm * sqrt((double)k / (double)n));
        error = fmax(error, fabs(norm_of(got, n) / *norm - 1));
        zs_free(norms);
        zs_free(sample);
    }
    zs_free(want);
    return error;
}
