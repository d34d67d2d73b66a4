/* SPDX-License-Identifier: MIT */
/* The format is described in lmdb.c. Leaves and large values are written as they come, each leaf's
 * first key is remembered, and the branches are built above them at the end. */
#include "data/lmdbwrite.h"

#include <string.h>

enum {
    PAGE = 4096,
    HEAD = 16,
    NODE_HEAD = 8,
    KEY_MAX = 511,
    NODE_MAX = ((PAGE - HEAD) / 2 & -2) - 2, /* two nodes must fit on a page */
    IS_BRANCH = 1,
    IS_LEAF = 2,
    IS_OVERFLOW = 4,
    IS_META = 8,
    VALUE_IS_PAGE = 1,
    INTEGER_KEYS = 8
};

#define MAGIC 0xBEEFC0DEu
#define NO_PAGE UINT64_MAX

/* A page that a branch points to. */
typedef struct child {
    char *key; /* its first; owned */
    uint64_t page;
} child;

struct zs_lmdbwrite {
    zs_outfile file;
    uint64_t pages; /* written, the two meta pages included */
    uint64_t branches, leaves, overflows, entries;
    uint8_t leaf[PAGE];
    size_t lower, upper; /* of the leaf's free space */
    child *children;     /* of the level above what is written */
    size_t count, cap;
    char last[KEY_MAX + 1];
};

static void put(uint8_t *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static void begin_page(uint8_t *p, uint64_t number, int flags)
{
    memset(p, 0, PAGE);
    put(p, number, 8);
    put(p + 10, (uint64_t)flags, 2);
}

/* Failures of the file show when it is committed. */
static void write_page(zs_lmdbwrite *w, const uint8_t *p)
{
    fwrite(p, PAGE, 1, w->file.f);
    w->pages++;
}

int zs_lmdbwrite_open(zs_lmdbwrite **out, const char *path, zs_error *err)
{
    zs_lmdbwrite *w = *out = zs_calloc(1, sizeof *w);
    if (!w)
        return zs_fail_nomem(err, sizeof *w, "an LMDB database");
    int status = zs_outfile_open(&w->file, path, err);
    if (status < 0) {
        zs_lmdbwrite_abort(out);
        return status;
    }
    w->lower = HEAD;
    w->upper = PAGE;
    begin_page(w->leaf, 0, 0);
    write_page(w, w->leaf); /* the meta pages, for now */
    write_page(w, w->leaf);
    return ZS_OK;
}

/* ---- nodes ---- */

/* Room for a node of `size` bytes on the page; where it starts, or NULL. */
static uint8_t *add_node(uint8_t *page, size_t *lower, size_t *upper, size_t size)
{
    size_t even = (size + 1) & ~(size_t)1;
    if (*upper - *lower < even + 2)
        return NULL;
    *upper -= even;
    put(page + *lower, *upper, 2);
    *lower += 2;
    return page + *upper;
}

static void fill_node(uint8_t *node, uint64_t low, uint64_t high, int flags, const char *key)
{
    size_t n = strlen(key);
    put(node, low, 2);
    put(node + 2, high, 2);
    put(node + 4, (uint64_t)flags, 2);
    put(node + 6, n, 2);
    memcpy(node + NODE_HEAD, key, n);
}

static int add_child(zs_lmdbwrite *w, const char *key, uint64_t page, zs_error *err)
{
    void *items = w->children;
    char *copy = zs_str_dup(key);
    bool ok = copy && zs_grow(&items, &w->cap, w->count, sizeof *w->children);
    w->children = items;
    if (!ok) {
        zs_free(copy);
        return zs_fail_nomem(err, w->cap * 2 * sizeof *w->children, "an LMDB index");
    }
    w->children[w->count++] = (child){copy, page};
    return ZS_OK;
}

static void end_page(uint8_t *p, uint64_t number, int flags, size_t lower, size_t upper)
{
    put(p, number, 8);
    put(p + 10, (uint64_t)flags, 2);
    put(p + 12, lower, 2);
    put(p + 14, upper, 2);
}

/* Writes the leaf, if it holds anything. */
static void flush_leaf(zs_lmdbwrite *w)
{
    if (w->lower == HEAD)
        return;
    w->children[w->count - 1].page = w->pages;
    end_page(w->leaf, w->pages, IS_LEAF, w->lower, w->upper);
    write_page(w, w->leaf);
    w->leaves++;
    begin_page(w->leaf, 0, 0);
    w->lower = HEAD;
    w->upper = PAGE;
}

/* Writes a value on pages of its own, the first of which is w->pages. */
static void write_value(zs_lmdbwrite *w, const void *p, size_t n)
{
    static const uint8_t zeros[PAGE] = {0};
    uint8_t head[HEAD] = {0};
    uint64_t count = (HEAD + n + PAGE - 1) / PAGE;
    put(head, w->pages, 8);
    put(head + 10, IS_OVERFLOW, 2);
    put(head + 12, count, 4);
    fwrite(head, sizeof head, 1, w->file.f);
    fwrite(p, 1, n, w->file.f);
    fwrite(zeros, 1, (size_t)(count * PAGE - HEAD - n), w->file.f);
    w->pages += count;
    w->overflows += count;
}

int zs_lmdbwrite_put(zs_lmdbwrite *w, const char *key, const void *p, size_t n, zs_error *err)
{
    size_t key_n = strlen(key), inside = NODE_HEAD + key_n + n;
    bool large = inside > NODE_MAX;
    if (key_n < 1 || key_n > KEY_MAX || n > UINT32_MAX - PAGE || strcmp(key, w->last) <= 0)
        return zs_fail(err, ZS_E_INTERNAL, "%s: LMDB key \"%s\" cannot be added", w->file.path,
                       key);
    size_t size = large ? NODE_HEAD + key_n + 8 : inside;
    uint64_t value_page = w->pages;
    if (large)
        write_value(w, p, n);
    uint8_t *node = add_node(w->leaf, &w->lower, &w->upper, size);
    if (!node) {
        flush_leaf(w);
        node = add_node(w->leaf, &w->lower, &w->upper, size);
    }
    if (w->lower == HEAD + 2) { /* the first on its leaf */
        int status = add_child(w, key, NO_PAGE, err);
        if (status < 0)
            return status;
    }
    fill_node(node, n & 0xFFFF, n >> 16, large ? VALUE_IS_PAGE : 0, key);
    if (large)
        put(node + NODE_HEAD + key_n, value_page, 8);
    else
        memcpy(node + NODE_HEAD + key_n, p, n);
    memcpy(w->last, key, key_n + 1);
    w->entries++;
    return ZS_OK;
}

/* ---- branches ---- */

/* How many of the children from `first` on fit on one branch page. */
static size_t branch_capacity(const zs_lmdbwrite *w, size_t first)
{
    size_t used = HEAD, i = first;
    for (; i < w->count; i++) {
        size_t key = i == first ? 0 : strlen(w->children[i].key);
        used += ((NODE_HEAD + key + 1) & ~(size_t)1) + 2;
        if (used > PAGE)
            break;
    }
    return i - first;
}

static void write_branch(zs_lmdbwrite *w, size_t first, size_t n)
{
    uint8_t page[PAGE];
    size_t lower = HEAD, upper = PAGE;
    begin_page(page, 0, 0);
    for (size_t i = first; i < first + n; i++) {
        const char *key = i == first ? "" : w->children[i].key; /* nothing is below the first */
        uint64_t at = w->children[i].page;
        uint8_t *node = add_node(page, &lower, &upper, NODE_HEAD + strlen(key));
        fill_node(node, at & 0xFFFF, at >> 16 & 0xFFFF, (int)(at >> 32 & 0xFFFF), key);
    }
    end_page(page, w->pages, IS_BRANCH, lower, upper);
    write_page(w, page);
    w->branches++;
}

/* Puts one level of branches above the children, which the branches then replace. */
static void write_level(zs_lmdbwrite *w)
{
    size_t made = 0;
    for (size_t at = 0; at < w->count;) {
        size_t n = branch_capacity(w, at);
        if (w->count - at == n + 1) /* a branch has at least two children */
            n--;
        uint64_t page = w->pages;
        write_branch(w, at, n);
        char *key = w->children[at].key;
        for (size_t i = at + 1; i < at + n; i++) {
            zs_free(w->children[i].key);
            w->children[i].key = NULL;
        }
        w->children[at].key = NULL;
        w->children[made++] = (child){key, page};
        at += n;
    }
    w->count = made;
}

/* ---- the end ---- */

static void write_meta(zs_lmdbwrite *w, uint64_t number, uint64_t root, int depth)
{
    uint8_t p[PAGE];
    begin_page(p, number, IS_META);
    put(p + 16, MAGIC, 4);
    put(p + 20, 1, 4);               /* format version */
    put(p + 32, w->pages * PAGE, 8); /* size of the map */
    put(p + 40, PAGE, 4);            /* the database of free pages, which is empty */
    put(p + 44, INTEGER_KEYS, 2);
    put(p + 80, NO_PAGE, 8);
    put(p + 94, (uint64_t)depth, 2); /* the main database */
    put(p + 96, w->branches, 8);
    put(p + 104, w->leaves, 8);
    put(p + 112, w->overflows, 8);
    put(p + 120, w->entries, 8);
    put(p + 128, root, 8);
    put(p + 136, w->pages - 1, 8); /* last page */
    put(p + 144, number, 8);       /* transaction: the second meta page is the newer */
    fseek(w->file.f, (long)(number * PAGE), SEEK_SET);
    fwrite(p, PAGE, 1, w->file.f);
}

int zs_lmdbwrite_commit(zs_lmdbwrite **wp, zs_error *err)
{
    zs_lmdbwrite *w = *wp;
    flush_leaf(w);
    int depth = w->count > 0;
    for (; w->count > 1; depth++)
        write_level(w);
    uint64_t root = w->count > 0 ? w->children[0].page : NO_PAGE;
    write_meta(w, 0, root, depth);
    write_meta(w, 1, root, depth);
    int status = zs_outfile_commit(&w->file, err);
    zs_lmdbwrite_abort(wp);
    return status;
}

void zs_lmdbwrite_abort(zs_lmdbwrite **w)
{
    if (!*w)
        return;
    zs_outfile_abort(&(*w)->file);
    for (size_t i = 0; i < (*w)->count; i++)
        zs_free((*w)->children[i].key);
    zs_free((*w)->children);
    zs_free(*w);
    *w = NULL;
}
