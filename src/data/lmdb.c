/* SPDX-License-Identifier: MIT */
/* The file format: lmdb 0.9 mdb.c, MDB_meta, MDB_db, MDB_page and MDB_node, as they lie in memory
 * on 64-bit little-endian machines. */
#include "data/lmdb.h"

enum {
    /* a page: number, 2 unused bytes, flags, and bounds of free space or a count of pages */
    PAGE_FLAGS = 10,
    PAGE_LOWER = 12,
    PAGE_PAGES = 12,
    PAGE_HEAD = 16,
    IS_BRANCH = 1,
    IS_LEAF = 2,
    IS_OVERFLOW = 4,
    IS_META = 8,
    /* a meta page */
    META_MAGIC = 16,
    META_VERSION = 20,
    META_PAGE_SIZE = 40,
    META_FLAGS = 92,
    META_ROOT = 128,
    META_TXN = 144,
    META_END = 152,
    /* a node: low, high, flags, key size, key, value or the number of its first page */
    NODE_HEAD = 8,
    VALUE_IS_PAGE = 1,
    VALUE_IS_DB = 2,
    VALUE_IS_SET = 4,

    DUPLICATES = 4, /* a database flag */
    DEPTH_MAX = 32
};

#define MAGIC 0xBEEFC0DEu
#define NO_PAGE UINT64_MAX

typedef struct walk {
    const char *label;
    const uint8_t *p;
    size_t n, page_size;
    uint64_t pages, visited; /* in the file; in the walk: more than there are is a loop */
    zs_lmdb_fn fn;
    void *ctx;
} walk;

static uint32_t u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static uint64_t u64(const uint8_t *p)
{
    return u32(p) | (uint64_t)u32(p + 4) << 32;
}

static int fail_damaged(const walk *w, uint64_t page, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT, "%s: is damaged: LMDB page %llu is wrong; copy it again",
                   w->label, (unsigned long long)page);
}

static int fail_short(const walk *w, uint64_t page, zs_error *err)
{
    return zs_fail(err, ZS_E_FORMAT,
                   "%s: was cut short: page %llu of the LMDB database lies behind its end (%zu "
                   "bytes); copy it again",
                   w->label, (unsigned long long)page, w->n);
}

/* NULL when the file ends before it. */
static const uint8_t *page_at(const walk *w, uint64_t page)
{
    return page < w->pages ? w->p + page * w->page_size : NULL;
}

/* The value of a leaf node that lies on pages of its own. */
static int large_value(const walk *w, zs_span *value, uint64_t page, uint64_t size, zs_error *err)
{
    const uint8_t *p = page_at(w, page);
    if (!p)
        return fail_short(w, page, err);
    uint64_t count = u32(p + PAGE_PAGES);
    if (!(u16(p + PAGE_FLAGS) & IS_OVERFLOW) || size > count * w->page_size - PAGE_HEAD ||
        count == 0)
        return fail_damaged(w, page, err);
    if (count > w->pages - page)
        return fail_short(w, page + count - 1, err);
    *value = (zs_span){p + PAGE_HEAD, (size_t)size};
    return ZS_OK;
}

/* node: where it starts on `page`, `room` bytes before the page ends. */
static int visit_leaf_node(const walk *w, const uint8_t *node, size_t room, uint64_t page,
                           zs_error *err)
{
    uint64_t size = u16(node) | (uint64_t)u16(node + 2) << 16;
    uint32_t flags = u16(node + 4), key_size = u16(node + 6);
    bool large = flags & VALUE_IS_PAGE;
    room -= NODE_HEAD;
    if (key_size > room || (large ? 8 : size) > room - key_size)
        return fail_damaged(w, page, err);
    zs_lmdb_entry e = {{node + NODE_HEAD, key_size}, {node + NODE_HEAD + key_size, (size_t)size}};
    if (flags & (VALUE_IS_DB | VALUE_IS_SET))
        return ZS_OK;
    int status = large ? large_value(w, &e.value, u64(e.value.p), size, err) : ZS_OK;
    return status < 0 ? status : w->fn(w->ctx, &e, err);
}

static int visit_page(walk *w, uint64_t page, int depth, zs_error *err)
{
    const uint8_t *p = page_at(w, page);
    if (!p)
        return fail_short(w, page, err);
    uint32_t flags = u16(p + PAGE_FLAGS), lower = u16(p + PAGE_LOWER);
    bool branch = flags & IS_BRANCH;
    if (depth >= DEPTH_MAX || ++w->visited > w->pages || u64(p) != page ||
        !(flags & (IS_BRANCH | IS_LEAF)) || lower < PAGE_HEAD || lower > w->page_size)
        return fail_damaged(w, page, err);
    int status = ZS_OK;
    for (size_t i = 0; status == ZS_OK && i < (lower - PAGE_HEAD) / 2; i++) {
        size_t at = u16(p + PAGE_HEAD + 2 * i);
        if (at < lower || at > w->page_size - NODE_HEAD)
            return fail_damaged(w, page, err);
        const uint8_t *node = p + at;
        uint64_t child = u16(node) | (uint64_t)u16(node + 2) << 16 | (uint64_t)u16(node + 4) << 32;
        status = branch ? visit_page(w, child, depth + 1, err)
                        : visit_leaf_node(w, node, w->page_size - at, page, err);
    }
    return status;
}

static bool is_meta(const uint8_t *p)
{
    return u32(p + META_MAGIC) == MAGIC && (u16(p + PAGE_FLAGS) & IS_META);
}

/* The root of the newer meta page, NO_PAGE for an empty database. */
static int find_root(walk *w, uint64_t *root, zs_error *err)
{
    if (w->n < META_END || !is_meta(w->p))
        return zs_fail(err, ZS_E_FORMAT, "%s: is not an LMDB database (data.mdb)%s", w->label,
                       w->n < META_END ? ", it is too short" : "");
    w->page_size = u32(w->p + META_PAGE_SIZE);
    if (u32(w->p + META_VERSION) != 1)
        return zs_fail(err, ZS_E_UNSUPPORTED, "%s: LMDB format version %u is not read; 1 is",
                       w->label, u32(w->p + META_VERSION));
    if (w->page_size < 256 || w->page_size > 65536 || (w->page_size & (w->page_size - 1)))
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: LMDB pages of %zu bytes are not read; make the database on a 64-bit "
                       "machine",
                       w->label, w->page_size);
    w->pages = w->n / w->page_size;
    const uint8_t *meta = w->p, *other = page_at(w, 1);
    if (!other)
        return fail_short(w, 1, err);
    if (is_meta(other) && u64(other + META_TXN) > u64(meta + META_TXN))
        meta = other;
    if (u16(meta + META_FLAGS) & DUPLICATES)
        return zs_fail(err, ZS_E_UNSUPPORTED,
                       "%s: an LMDB database with duplicate keys is not read", w->label);
    *root = u64(meta + META_ROOT);
    return ZS_OK;
}

int zs_lmdb_each(const char *label, const void *p, size_t n, zs_lmdb_fn fn, void *ctx,
                 zs_error *err)
{
    walk w = {.label = label, .p = p, .n = n, .fn = fn, .ctx = ctx};
    uint64_t root = NO_PAGE;
    int status = find_root(&w, &root, err);
    if (status < 0 || root == NO_PAGE)
        return status;
    return visit_page(&w, root, 0, err);
}
