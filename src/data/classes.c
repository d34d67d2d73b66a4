/* SPDX-License-Identifier: MIT */
#include "data/classes.h"

#include <stdlib.h>
#include <string.h>

enum { CLASSES_MAX = 1 << 24 };

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Numbers by value; "01" and "1" are different texts, so bytes break the tie. */
static int compare_numbers(const void *a, const void *b)
{
    int64_t x = 0, y = 0;
    zs_str_to_i64(*(const char *const *)a, &x);
    zs_str_to_i64(*(const char *const *)b, &y);
    return x != y ? (x > y) - (x < y) : compare_texts(a, b);
}

static bool all_numbers(const char *const *text, int64_t n)
{
    int64_t v;
    for (int64_t i = 0; i < n; i++)
        if (!zs_str_to_i64(text[i], &v))
            return false;
    return true;
}

typedef int (*compare_fn)(const void *, const void *);

/* sorted[0..n) loses its repetitions; returns how many are left. */
static int64_t unique(const char **sorted, int64_t n)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (kept == 0 || strcmp(sorted[kept - 1], sorted[i]) != 0)
            sorted[kept++] = sorted[i];
    return kept;
}

static int copy_names(char ***names, int *count, const char *const *sorted, int64_t n,
                      zs_error *err)
{
    if (n > CLASSES_MAX)
        return zs_fail(err, ZS_E_UNSUPPORTED, "%lld different classes are too many; at most %d",
                       (long long)n, CLASSES_MAX);
    *names = zs_calloc((size_t)n, sizeof **names);
    *count = *names ? (int)n : 0;
    bool ok = *names != NULL;
    for (int64_t i = 0; ok && i < n; i++)
        ok = ((*names)[i] = zs_str_dup(sorted[i])) != NULL;
    if (ok)
        return ZS_OK;
    zs_classes_free(*names, *count);
    *names = NULL;
    *count = 0;
    return zs_fail_nomem(err, (unsigned long long)n * sizeof **names, "class names");
}

static void set_labels(int *label, const char *const *text, int64_t n, char *const *names,
                       int count, compare_fn compare)
{
    for (int64_t i = 0; i < n; i++) {
        char *const *at =
            text[i] ? bsearch(&text[i], names, (size_t)count, sizeof *names, compare) : NULL;
        label[i] = at ? (int)(at - names) : -1;
    }
}

int zs_classes_make(char ***names, int *count, int *label, const char *const *text, int64_t n,
                    zs_error *err)
{
    *names = NULL;
    *count = 0;
    const char **sorted = zs_alloc((size_t)n, sizeof *sorted);
    if (!sorted)
        return zs_fail_nomem(err, (unsigned long long)n * sizeof *sorted, "class names");
    int64_t have = 0;
    for (int64_t i = 0; i < n; i++) {
        label[i] = -1;
        if (text[i])
            sorted[have++] = text[i];
    }
    int status = ZS_OK;
    if (have > 0) {
        compare_fn compare = all_numbers(sorted, have) ? compare_numbers : compare_texts;
        qsort(sorted, (size_t)have, sizeof *sorted, compare);
        status = copy_names(names, count, sorted, unique(sorted, have), err);
        if (status == ZS_OK)
            set_labels(label, text, n, *names, *count, compare);
    }
    zs_free(sorted);
    return status;
}

void zs_classes_free(char **names, int count)
{
    for (int k = 0; names && k < count; k++)
        zs_free(names[k]);
    zs_free(names);
}
