/* SPDX-License-Identifier: MIT */
#include "tests/golden/golden.h"
#include "tests/golden/golden_unpack.h"
#include "tests/unit/must.h"

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

void golden_need_file(const char *set, const char *file)
{
    if (golden_has_file(set, file))
        return;
    print_message("SKIPPED: no golden files for %s; set ZSEM_GOLDENS to the folder that has them\n",
                  set);
    skip();
}

void golden_need(const char *set)
{
    golden_need_file(set, "golden.safetensors");
}

zs_tensorfile *golden_open(const char *set, const char *file)
{
    char path[512];
    zs_error err = {0};
    zs_tensorfile *f = NULL;
    if (!golden_path(path, set, file))
        fail_msg("golden file %s/%s is in none of the known places", set, file);
    must(zs_tensorfile_open(&f, path, &err), &err);
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
    must(golden_unpack(u->path, packed, &err), &err);
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

int golden_teardown(void **state)
{
    (void)state;
    golden_cleanup();
    return 0;
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
    must(zs_tensorfile_read_f32(f, i, v, *n, &err), &err);
    return v;
}

int64_t *golden_i64(zs_tensorfile *f, const char *name, size_t *n)
{
    zs_error err = {0};
    size_t i = index_of(f, name);
    *n = (size_t)zs_tensorfile_info(f, i)->numel;
    int64_t *v = zs_alloc(*n, sizeof *v);
    assert_non_null(v);
    must(zs_tensorfile_read_i64(f, i, v, *n, &err), &err);
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

float *golden_any(zs_tensorfile *f, const char *name, size_t *n)
{
    zs_shape s;
    if (zs_tensorfile_info(f, index_of(f, name))->nd != 4)
        return golden_f32(f, name, n);
    float *v = golden_nhwc(f, name, &s);
    *n = (size_t)zs_shape_numel(&s);
    return v;
}

float *golden_steps(zs_tensorfile *f, const char *name, int64_t n, size_t *steps)
{
    size_t total;
    if (!name)
        return NULL;
    const int64_t *s = zs_tensorfile_info(f, index_of(f, name))->shape;
    assert_int_equal(zs_tensorfile_info(f, index_of(f, name))->nd, 5);
    assert_true(n <= s[1]);
    size_t image = (size_t)(s[2] * s[3] * s[4]), each = (size_t)n * image;
    float *nchw = golden_f32(f, name, &total);
    *steps = (size_t)s[0];
    float *nhwc = zs_alloc(*steps, each * sizeof *nhwc);
    assert_non_null(nhwc);
    for (size_t i = 0; i < *steps; i++)
        zs_nhwc_from_nchw(nhwc + i * each, nchw + i * (size_t)s[1] * image, n, s[3], s[4], s[2]);
    zs_free(nchw);
    return nhwc;
}

zs_schedule golden_schedule(const char *name, int64_t T, const char *spec)
{
    zs_schedule full, s;
    zs_error err = {0};
    must(zs_schedule_make(&full, name, T, &err), &err);
    if (!spec)
        return full;
    must(zs_schedule_respace(&s, &full, spec, &err), &err);
    zs_schedule_free(&full);
    return s;
}

/* ---- errors ---- */

const golden_backend golden_backends[GOLDEN_BACKENDS] = {{"cpu-ref", 1e-5}, {"cpu", 1e-4}};

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

double golden_norm(const float *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

void golden_within(const char *what, const char *with, double error, double tolerance)
{
    print_message("%-28s %-10s error %.1e\n", what, with, error);
    if (!(error <= tolerance))
        fail_msg("%s %s: error %g is above %g", what, with, error, tolerance);
}

void golden_near(const char *what, const char *with, const float *got, const float *want, size_t n,
                 double tolerance)
{
    golden_within(what, with, golden_max_error(got, want, n), tolerance);
}

void golden_agrees(zs_tensorfile *f, const char *name, const char *with, const float *got, size_t n,
                   double tolerance)
{
    size_t count;
    float *want = golden_any(f, name, &count);
    assert_int_equal(n, count);
    golden_near(name, with, got, want, n, tolerance);
    zs_free(want);
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

double golden_gradient_error(zs_tensorfile *f, const char *name, const float *got, size_t n,
                             double *norm)
{
    size_t k, index = index_of(f, name), count;
    float *want = golden_f32(f, name, &k);
    double error;
    if (k == n) {
        *norm = golden_norm(want, n);
        error = golden_norm_error(got, want, n);
    } else {
        float *norms = golden_f32(f, "norms", &count), *sample = zs_alloc(k, sizeof *sample);
        *norm = (double)norms[index];
        for (size_t i = 0; i < k; i++)
            sample[i] = got[i * n / k];
        error = golden_norm_error(sample, want, k) * golden_norm(want, k) /
                (*norm * sqrt((double)k / (double)n));
        error = fmax(error, fabs(golden_norm(got, n) / *norm - 1));
        zs_free(norms);
        zs_free(sample);
    }
    zs_free(want);
    return error;
}

/* The error of one gradient in the file's order of elements, after it has been held to its limit.
 */
static double gradient_error(zs_tensorfile *f, const zs_param *p, const float *got, double whole,
                             double tolerance, double none)
{
    double norm, e = golden_gradient_error(f, p->name, got, (size_t)p->numel, &norm);
    bool small = norm < none * whole;
    if (small)
        e = golden_norm(got, (size_t)p->numel) / whole;
    if (!(e <= (small ? none : tolerance)))
        fail_msg("gradient of %s: error %g is above %g", p->name, e, small ? none : tolerance);
    return e;
}

double golden_worst_gradient(zs_tensorfile *f, const zs_params *ps, const float *g,
                             double tolerance, double none, bool (*without)(const zs_param *p))
{
    double worst = 0, whole = golden_norm(g, (size_t)zs_params_numel(ps));
    size_t count = 0;
    for (size_t i = 0; i < zs_params_count(ps); i++) {
        const zs_param *p = zs_params_at(ps, i);
        float *got = zs_alloc((size_t)p->numel, sizeof *got);
        assert_non_null(got);
        zs_params_export(ps, i, g, got);
        if (without && without(p)) {
            assert_true(golden_norm(got, (size_t)p->numel) == 0);
            assert_true(zs_tensorfile_find(f, p->name) < 0);
        } else {
            worst = fmax(worst, gradient_error(f, p, got, whole, tolerance, none));
            count++;
        }
        zs_free(got);
    }
    assert_int_equal(count, golden_gradient_count(f));
    return worst;
}

/* ---- listings of the authors' tensors ---- */

const char *golden_shape_text(char text[96], const zs_param *p)
{
    size_t n = 0;
    text[0] = '\0';
    for (int i = 0; i < p->nd; i++)
        n += (size_t)snprintf(text + n, 96 - n, i ? "x%lld" : "%lld", (long long)p->shape[i]);
    return text;
}

bool golden_same_keys(const char *file, const zs_params *ps)
{
    char path[512], line[512], want[512], shape[96];
    size_t i = 0;
    if (!golden_path(path, "keys", file)) {
        print_message("SKIPPED: no keys/%s; set ZSEM_GOLDENS to the folder that has it\n", file);
        return false;
    }
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); i++) {
        if (i >= zs_params_count(ps))
            fail_msg("the network ends before %s", line);
        const zs_param *p = zs_params_at(ps, i);
        (void)snprintf(want, sizeof want, "%s\t%s\n", p->name, golden_shape_text(shape, p));
        assert_string_equal(want, line);
    }
    assert_int_equal(i, zs_params_count(ps));
    (void)fclose(f);
    return true;
}
