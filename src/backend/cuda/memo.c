/* SPDX-License-Identifier: MIT */
#include "backend/cuda/memo.h"
#include "base/base.h"

#include <string.h>

typedef struct zs_memo_entry {
    uint64_t hash;
    max_align_t bytes[]; /* key, then value */
} entry;

static size_t rounded(size_t n)
{
    return (n + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
}

static uint64_t hash_of(const void *key, size_t n)
{
    const unsigned char *p = key;
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 1099511628211u;
    return h;
}

/* The slot of the key, or the free one where it belongs; cap is a power of two. */
static entry **find(entry **slots, size_t cap, const void *key, size_t n, uint64_t hash)
{
    size_t i = (size_t)hash & (cap - 1);
    while (slots[i] && (slots[i]->hash != hash || memcmp(slots[i]->bytes, key, n) != 0))
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

/* At most half of the slots are taken. */
static bool grow(zs_memo *m)
{
    size_t cap = m->cap ? 2 * m->cap : 64;
    entry **slots = zs_calloc(cap, sizeof(entry *));
    if (!slots)
        return false;
    for (size_t i = 0; i < m->cap; i++)
        if (m->slots[i])
            *find(slots, cap, m->slots[i]->bytes, m->key_bytes, m->slots[i]->hash) = m->slots[i];
    zs_free(m->slots);
    m->slots = slots;
    m->cap = cap;
    return true;
}

void *zs_memo_get(zs_memo *m, const void *key, bool *fresh)
{
    uint64_t hash = hash_of(key, m->key_bytes);
    *fresh = false;
    if (2 * m->n >= m->cap && !grow(m))
        return NULL;
    entry **slot = find(m->slots, m->cap, key, m->key_bytes, hash);
    size_t at = rounded(m->key_bytes);
    if (!*slot) {
        entry *e = zs_calloc(1, sizeof *e + at + m->value_bytes);
        if (!e)
            return NULL;
        e->hash = hash;
        memcpy(e->bytes, key, m->key_bytes);
        *slot = e;
        m->n++;
        *fresh = true;
    }
    return (unsigned char *)(*slot)->bytes + at;
}
