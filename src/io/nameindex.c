/* SPDX-License-Identifier: MIT */
#include "io/nameindex.h"

#include <string.h>

/* FNV-1a with a seeded start and a final mix (the finaliser of MurmurHash3). */
static uint64_t hash_of(const zs_nameindex *ix, const char *name, size_t n)
{
    uint64_t h = 0xCBF29CE484222325u ^ ix->seed;
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)name[i]) * 0x100000001B3u;
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCDu;
    return h ^ (h >> 33);
}

/* The slot that holds the name, or the empty one where it belongs. cap is a power of two and
 * at most half full, so that the walk ends. */
static zs_nameslot *slot_of(const zs_nameindex *ix, uint64_t h, const char *name, size_t n)
{
    size_t mask = ix->cap - 1, i = (size_t)h & mask;
    for (;; i = (i + 1) & mask) {
        zs_nameslot *s = &ix->slots[i];
        if (!s->name || (s->hash == h && s->n == n && memcmp(s->name, name, n) == 0))
            return s;
    }
}

bool zs_nameindex_get(const zs_nameindex *ix, size_t *value, const char *name, size_t n)
{
    if (ix->count == 0)
        return false;
    const zs_nameslot *s = slot_of(ix, hash_of(ix, name, n), name, n);
    if (s->name)
        *value = s->value;
    return s->name != NULL;
}

static bool grow(zs_nameindex *ix)
{
    size_t cap = ix->cap ? ix->cap * 2 : 16;
    zs_nameindex bigger = {.slots = zs_calloc(cap, sizeof(zs_nameslot)), .cap = cap};
    if (!bigger.slots)
        return false;
    for (size_t i = 0; i < ix->cap; i++) {
        const zs_nameslot *s = &ix->slots[i];
        if (s->name)
            *slot_of(&bigger, s->hash, s->name, s->n) = *s;
    }
    zs_free(ix->slots);
    ix->slots = bigger.slots;
    ix->cap = cap;
    return true;
}

bool zs_nameindex_add(zs_nameindex *ix, const char *name, size_t n, size_t value)
{
    if (!ix->slots)
        ix->seed = (uint64_t)(uintptr_t)ix * 0x9E3779B97F4A7C15u;
    if (ix->count >= ix->cap / 2 && !grow(ix))
        return false;
    uint64_t h = hash_of(ix, name, n);
    zs_nameslot *s = slot_of(ix, h, name, n);
    if (!s->name)
        ix->count++;
    *s = (zs_nameslot){name, n, value, h};
    return true;
}

void zs_nameindex_free(zs_nameindex *ix)
{
    zs_free(ix->slots);
    *ix = (zs_nameindex){0};
}
