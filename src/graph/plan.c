/* SPDX-License-Identifier: MIT */
/* Live intervals -> byte offsets in one arena. */
#include "graph/internal.h"

#include <stdlib.h>

static bool alive_together(const zs_placement *a, const zs_placement *b)
{
    return a->first <= b->last && b->first <= a->last;
}

static bool bytes_meet(const zs_placement *a, const zs_placement *b)
{
    return a->bytes && b->bytes && a->offset < b->offset + b->bytes &&
           b->offset < a->offset + a->bytes;
}

int zs_plan_verify(const zs_placement *p, size_t n, zs_error *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            if (alive_together(&p[i], &p[j]) && bytes_meet(&p[i], &p[j]))
                return zs_fail(err, ZS_E_INTERNAL,
                               "memory plan: tensors %zu and %zu are alive together and overlap", i,
                               j);
    return ZS_OK;
}

static int by_size_descending(const void *a, const void *b)
{
    const zs_placement *x = *(const zs_placement *const *)a, *y = *(const zs_placement *const *)b;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x < y ? -1 : x > y; /* ties by index: the plan is the same everywhere */
}

/* Lowest offset at which `p` fits among the tensors in `placed` (sorted by offset) that are alive
 * with it. */
static size_t lowest_gap(const zs_placement *p, zs_placement *const *placed, size_t n, size_t align)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const zs_placement *q = placed[i];
        if (!alive_together(p, q))
            continue;
        if (q->offset >= at && q->offset - at >= p->bytes)
            break;
        if (q->offset + q->bytes > at)
            at = (q->offset + q->bytes + align - 1) / align * align;
    }
    return at;
}

static void insert_by_offset(zs_placement **placed, size_t n, zs_placement *p)
{
    while (n > 0 && placed[n - 1]->offset > p->offset) {
        placed[n] = placed[n - 1];
        n--;
    }
    placed[n] = p;
}

int zs_plan_offsets(zs_placement *p, size_t n, size_t align, size_t *arena, zs_error *err)
{
    zs_placement **order = zs_alloc(n, sizeof(zs_placement *));
    zs_placement **placed = zs_alloc(n, sizeof(zs_placement *));
    size_t end = 0;
    int status = ZS_OK;
    if (!order || !placed) {
        status = zs_fail_nomem(err, n * sizeof *order, "the memory plan");
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        order[i] = &p[i];
    qsort(order, n, sizeof *order, by_size_descending);
    for (size_t i = 0; i < n; i++) {
        size_t stop = 0;
        order[i]->offset = lowest_gap(order[i], placed, i, align);
        if (!zs_add_size(order[i]->offset, order[i]->bytes, &stop) || stop > SIZE_MAX / 2) {
            status =
                zs_fail(err, ZS_E_NOMEM, "the activations need more bytes than an address holds");
            goto done;
        }
        insert_by_offset(placed, i, order[i]);
        end = stop > end ? stop : end;
    }
    *arena = end;
done:
    zs_free(order);
    zs_free(placed);
    return status;
}
