/* SPDX-License-Identifier: MIT */
/* Data sets in tar shards, LMDB databases and CIFAR batches; parts; packing between them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "data/data.h"
#include "data/lmdb.h"
#include "data/shards.h"
#include "data/tarfile.h"
#include "tests/unit/must.h"
#include "tests/unit/scratch.h"
#include "tests/unit/source_kit.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static char start[512];

static int enter_dir(void **state)
{
    if (!getcwd(start, sizeof start) || scratch_make(state) != 0)
        return -1;
    return chdir(scratch_dir());
}

static int leave_dir(void **state)
{
    return chdir(start) == 0 ? scratch_remove(state) : -1;
}

/* A w x 1 grey PNG whose first pixel is `value`. */
static void make_png(uint8_t **bytes, size_t *n, int w, int value)
{
    uint8_t px[64] = {(uint8_t)value};
    const zs_image im = {w, 1, 1, px};
    assert_int_equal(zs_image_encode_png(bytes, n, &im, NULL), ZS_OK);
}

static void tar_png(zs_strbuf *b, const char *name, int value)
{
    uint8_t *png;
    size_t n;
    make_png(&png, &n, 2, value);
    zs_tar_add(b, name, png, n);
    zs_free(png);
}

static const char *name_of(const zs_source *s, int64_t i)
{
    static char buf[64];
    return zs_source_name(s, i, buf, sizeof buf);
}

/* ---- tar ---- */

static void tar_samples_have_classes_and_long_names(void **state)
{
    (void)state;
    char long_name[300] = "deep/";
    zs_strbuf b = {0};
    memset(long_name + 5, 'n', 200);
    strcpy(long_name + 205, ".png");
    tar_png(&b, "./000000.png", 10);
    zs_tar_add(&b, "000000.cls", "7\n", 2);
    zs_tar_add(&b, "000001.json", "{\"class\":\"cat\",\"label\":7}", 25);
    tar_png(&b, "000001.png", 11);
    zs_tar_add(&b, "notes.txt", "x", 1);
    zs_tar_add(&b, "._000002.png", "junk", 4); /* what macOS leaves */
    tar_png(&b, long_name, 12);
    zs_tar_end(&b);
    assert_false(b.failed);
    kit_put("a.tar", b.s, b.n);
    zs_source *s = kit_source("a.tar");
    assert_int_equal(zs_source_count(s), 3);
    assert_string_equal(name_of(s, 0), "000000.png");
    assert_string_equal(name_of(s, 2), long_name);
    assert_int_equal(kit_first_byte(s, 1), 11);
    assert_int_equal(kit_first_byte(s, 2), 12);
    assert_int_equal(zs_source_class_count(s), 2);
    assert_string_equal(zs_source_class_name(s, 0), "7");
    assert_int_equal(zs_source_label(s, 0), 0);
    assert_int_equal(zs_source_label(s, 1), 1);
    assert_int_equal(zs_source_label(s, 2), -1);
    zs_source_close(&s);
    zs_strbuf_free(&b);
}

static void put_shard(const char *file, const char *name, int value)
{
    zs_strbuf b = {0};
    tar_png(&b, name, value);
    zs_tar_end(&b);
    kit_put(file, b.s, b.n);
    zs_strbuf_free(&b);
}

static void shards_are_named_by_braces_and_wildcards(void **state)
{
    (void)state;
    put_shard("s-08.tar", "x/a.png", 1);
    put_shard("s-09.tar", "y/b.png", 2);
    put_shard("s-10.tar", "y/a.png", 3);
    zs_source *s = kit_source("s-{08..10}.tar"), *g = kit_source("s-*.tar");
    assert_int_equal(zs_source_count(s), 3);
    assert_string_equal(name_of(s, 2), "y/a.png");
    assert_int_equal(zs_source_class_count(s), 2);
    assert_int_equal(zs_source_label(s, 2), 1);
    assert_true(zs_source_fingerprint(s) == zs_source_fingerprint(g));
    zs_source_close(&s);
    zs_source_close(&g);
    s = kit_source("s-{10,08}.tar");
    assert_int_equal(kit_first_byte(s, 0), 3);
    zs_source_close(&s);
    put_shard("t-1.tar", "a.png", 1);
    put_shard("t-2.tar", "a.png", 2);
    s = kit_source("t-?.tar"); /* names that shards share get the shard's in front */
    assert_string_equal(name_of(s, 1), "t-2.tar/a.png");
    zs_source_close(&s);
    kit_source_refused("s-{10..08}.tar", ZS_E_INVALID, "braces must be");
    kit_source_refused("s-{a..b}.tar", ZS_E_INVALID, "braces must be");
    kit_source_refused("s-{08.tar", ZS_E_INVALID, "never closed");
    kit_source_refused("q-*.tar", ZS_E_IO, "matches no file");
    kit_source_refused("s-{08..11}.tar", ZS_E_IO, "s-11.tar");
    kit_source_refused("s-{0..9999999}.tar", ZS_E_INVALID, "more than");
}

static void a_tar_cut_anywhere_is_refused(void **state)
{
    (void)state;
    zs_strbuf b = {0};
    tar_png(&b, "a.png", 1);
    tar_png(&b, "b.png", 2);
    size_t members = b.n;
    zs_tar_end(&b);
    for (size_t n = 0; n < members + 512; n += 64) {
        kit_put("cut.tar", b.s, n);
        kit_source_refused("cut.tar", ZS_E_FORMAT, "was cut short");
    }
    b.s[600]++; /* data may be anything, a header may not */
    b.s[3]++;
    kit_put("cut.tar", b.s, b.n);
    kit_source_refused("cut.tar", ZS_E_FORMAT, "is not a tar archive");
    zs_strbuf_free(&b);
    zs_strbuf twice = {0};
    tar_png(&twice, "a.png", 1);
    tar_png(&twice, "a.png", 2);
    zs_tar_end(&twice);
    kit_put("twice.tar", twice.s, twice.n);
    kit_source_refused("twice.tar", ZS_E_FORMAT, "two images called \"a.png\"");
    zs_strbuf_free(&twice);
    zs_strbuf none = {0};
    zs_tar_add(&none, "a.txt", "x", 1);
    zs_tar_end(&none);
    kit_put("none.tar", none.s, none.n);
    kit_source_refused("none.tar", ZS_E_INVALID, "holds no images");
    zs_strbuf_free(&none);
}

static void bad_classes_in_tar_are_named(void **state)
{
    (void)state;
    static const char *const bad[][3] = {{"a.cls", " ", "names no class"},
                                         {"a.json", "{", "is not JSON"},
                                         {"a.json", "{\"class\":[1]}", "names no class"}};
    for (size_t k = 0; k < 3; k++) {
        zs_strbuf b = {0};
        tar_png(&b, "a.png", 1);
        zs_tar_add(&b, bad[k][0], bad[k][1], strlen(bad[k][1]));
        zs_tar_end(&b);
        kit_put("bad.tar", b.s, b.n);
        kit_source_refused("bad.tar", ZS_E_FORMAT, bad[k][2]);
        zs_strbuf_free(&b);
    }
}

/* ---- packing, and LMDB ---- */

static void pack(const zs_source *s, const char *kind, const char *out, int64_t shard)
{
    zs_sink *k = NULL;
    zs_error err = {0};
    const zs_sink_config c = {.shard = shard, .size = 1, .count = zs_source_count(s), .set = s};
    int status = zs_sink_open(&k, kind, out, &c, &err);
    for (int64_t i = 0; status == ZS_OK && i < zs_source_count(s); i++) {
        char buf[64];
        zs_sink_item item = {.name = zs_source_name(s, i, buf, sizeof buf),
                             .label = zs_source_label(s, i)};
        uint8_t *bytes;
        status = zs_source_encoded(s, i, &bytes, &item.n, &err);
        item.bytes = bytes;
        if (status == ZS_OK)
            status = zs_sink_add(k, &item, &err);
        zs_free(bytes);
    }
    if (status == ZS_OK)
        status = zs_sink_commit(&k, &err);
    if (status < 0)
        fail_msg("%s: %s", out, err.message);
}

/* `count` images in three classes, one of them with a name that is no folder's. */
static zs_source *make_set(int count)
{
    static const char *const kinds[] = {"cat", "dog", "a/b"};
    zs_strbuf b = {0};
    for (int i = 0; i < count; i++) {
        char name[64], json[64];
        snprintf(name, sizeof name, "%06d.png", i);
        tar_png(&b, name, i);
        snprintf(name, sizeof name, "%06d.json", i);
        snprintf(json, sizeof json, "{\"class\":\"%s\"}", kinds[i % 3]);
        zs_tar_add(&b, name, json, strlen(json));
    }
    zs_tar_end(&b);
    kit_put("set.tar", b.s, b.n);
    zs_strbuf_free(&b);
    return kit_source("set.tar");
}

static void same_images(const zs_source *a, const char *spec)
{
    zs_source *b = kit_source(spec);
    bool found[256] = {false};
    assert_int_equal(zs_source_count(a), zs_source_count(b));
    assert_int_equal(zs_source_class_count(a), zs_source_class_count(b));
    for (int64_t i = 0; i < zs_source_count(b); i++) {
        int v = kit_first_byte(b, i), k = zs_source_label(b, i);
        const char *want = zs_source_class_name(a, zs_source_label(a, v));
        assert_false(found[v]); /* image v of the set has the value v */
        found[v] = true;
        if (strcmp(want, "a/b") == 0 && strcmp(zs_source_class_name(b, k), "a-b") == 0)
            continue; /* went through a folder */
        assert_string_equal(zs_source_class_name(b, k), want);
    }
    zs_source_close(&b);
}

static void sets_survive_every_form(void **state)
{
    (void)state;
    zs_source *s = make_set(200);
    pack(s, "lmdb", "p.lmdb", 0);
    same_images(s, "p.lmdb");
    same_images(s, "lmdb:p.lmdb/data.mdb,1");
    zs_source *db = kit_source("p.lmdb");
    assert_string_equal(name_of(db, 17), "000017.png");
    pack(db, "folder", "f", 0);
    zs_source_close(&db);
    same_images(s, "f");
    zs_source *f = kit_source("f");
    assert_string_equal(name_of(f, 0), "a-b/000002.png");
    pack(f, "tar", "shards", 64);
    zs_source_close(&f);
    same_images(s, "shards/*.tar");
    same_images(s, "shards/shard-{000000..000003}.tar");
    kit_source_refused("shards", ZS_E_INVALID, "shards/*.tar");
    pack(s, "tar", "q.tar", 0);
    same_images(s, "q.tar");
    zs_source_close(&s);
}

static int count_entry(void *ctx, const zs_lmdb_entry *e, zs_error *err)
{
    (void)err;
    *(int64_t *)ctx += e->key.n > 0;
    return ZS_OK;
}

static void large_databases_have_branches_over_branches(void **state)
{
    (void)state;
    enum { MANY = 60000 };
    zs_sink *k = NULL;
    zs_error err = {0};
    uint8_t *png;
    size_t n;
    make_png(&png, &n, 1, 5);
    const zs_sink_config c = {.size = 64, .count = MANY};
    assert_int_equal(zs_sink_open(&k, "lmdb", "big.lmdb", &c, &err), ZS_OK);
    for (int i = 0; i < MANY; i++) {
        char name[32];
        snprintf(name, sizeof name, "#%d", i);
        const zs_sink_item item = {name, -1, png, n};
        assert_int_equal(zs_sink_add(k, &item, &err), ZS_OK);
    }
    assert_int_equal(zs_sink_commit(&k, &err), ZS_OK);
    zs_free(png);
    zs_mapfile m;
    int64_t entries = 0;
    assert_int_equal(zs_mapfile_open(&m, "big.lmdb/data.mdb", NULL), ZS_OK);
    assert_int_equal(zs_lmdb_each("big", m.p, m.n, count_entry, &entries, &err), ZS_OK);
    assert_int_equal(entries, MANY + 2);
    /* any cut is noticed, because the pages that point to the rest come last */
    for (size_t cut = 0; cut < m.n; cut += m.n / 50) {
        zs_error short_err = {0};
        assert_int_equal(zs_lmdb_each("big", m.p, cut, count_entry, &entries, &short_err),
                         ZS_E_FORMAT);
    }
    zs_mapfile_close(&m);
}

static void a_damaged_database_never_leads_outside(void **state)
{
    (void)state;
    zs_source *s = make_set(20);
    pack(s, "lmdb", "d.lmdb", 0);
    zs_source_close(&s);
    zs_mapfile m;
    assert_int_equal(zs_mapfile_open(&m, "d.lmdb/data.mdb", NULL), ZS_OK);
    uint8_t *copy = zs_alloc(m.n, 1); /* its exact size, so that sanitizers see what is read */
    for (size_t at = 0; at < m.n; at += 3) {
        int64_t entries = 0;
        zs_error err = {0};
        memcpy(copy, m.p, m.n);
        copy[at] ^= 0xFF;
        int status = zs_lmdb_each("d", copy, m.n, count_entry, &entries, &err);
        assert_int_equal(status, err.status);
    }
    zs_free(copy);
    zs_mapfile_close(&m);
    kit_put("no.mdb", "short", 5);
    kit_source_refused("no.mdb", ZS_E_FORMAT, "is not an LMDB database");
    kit_source_refused("lmdb:d.lmdb,77", ZS_E_INVALID, "name another size");
    kit_source_refused("lmdb:nowhere", ZS_E_IO, "nowhere");
}

static void nothing_remains_of_an_abandoned_output(void **state)
{
    (void)state;
    static const char *const outs[][2] = {{"folder", "x"}, {"tar", "x.tar"}, {"lmdb", "x.lmdb"}};
    uint8_t *png;
    size_t n;
    make_png(&png, &n, 1, 5);
    for (size_t k = 0; k < 3; k++) {
        zs_sink *sink = NULL;
        zs_error err = {0};
        const zs_sink_config c = {.size = 1, .count = 2};
        const zs_sink_item a = {"dir/a.png", -1, png, n}, b = {"dir/a.jpg", -1, png, n};
        assert_int_equal(zs_sink_open(&sink, outs[k][0], outs[k][1], &c, &err), ZS_OK);
        assert_int_equal(zs_sink_add(sink, &a, &err), ZS_OK);
        must_refuse(zs_sink_add(sink, &b, &err), &err, ZS_E_INVALID,
                    "dir/a.png and dir/a.jpg would both be written as");
        zs_sink_abort(&sink);
        zs_sink_abort(&sink);
        assert_int_not_equal(access(outs[k][1], F_OK), 0);
    }
    assert_int_not_equal(system("ls -A | grep -q ."), 0);
    kit_put("x", "", 0);
    zs_sink *sink = NULL;
    zs_error err = {0};
    const zs_sink_config c = {.size = 1};
    must_refuse(zs_sink_open(&sink, "folder", "x", &c, &err), &err, ZS_E_INVALID, "exists already");
    assert_null(sink);
    zs_free(png);
}

static void hostile_names_stay_inside_the_folder(void **state)
{
    (void)state;
    uint8_t *png;
    size_t n;
    make_png(&png, &n, 1, 5);
    zs_sink *sink = NULL;
    zs_error err = {0};
    const zs_sink_config c = {.size = 1, .count = 3};
    static const char *const names[] = {"../../evil.png", "/etc/evil.png", ".hidden.png"};
    assert_int_equal(zs_sink_open(&sink, "folder", "safe", &c, &err), ZS_OK);
    for (size_t k = 0; k < 3; k++) {
        const zs_sink_item item = {names[k], -1, png, n};
        assert_int_equal(zs_sink_add(sink, &item, &err), ZS_OK);
    }
    assert_int_equal(zs_sink_commit(&sink, &err), ZS_OK);
    zs_source *s = kit_source("safe"); /* which reads no hidden files */
    assert_int_equal(zs_source_count(s), 3);
    zs_source_close(&s);
    zs_free(png);
}

/* ---- CIFAR ---- */

enum { RECORD = 1 + 3072 };

static void make_batch(uint8_t *p, int n, int first)
{
    memset(p, 0, (size_t)n * RECORD);
    for (int i = 0; i < n; i++) {
        p[i * RECORD] = (uint8_t)((first + i) % 10);
        p[i * RECORD + 1] = (uint8_t)(first + i); /* red */
        p[i * RECORD + 1 + 1024] = 2;             /* green */
    }
}

static void cifar_is_read_from_folders_and_archives(void **state)
{
    (void)state;
    uint8_t batch[2 * RECORD];
    zs_strbuf tar = {0};
    assert_int_equal(zs_mkdirs("cifar-10-batches-bin", NULL), ZS_OK);
    for (int b = 1; b <= 6; b++) {
        char name[64];
        make_batch(batch, 2, 2 * b);
        snprintf(name, sizeof name,
                 b < 6 ? "cifar-10-batches-bin/data_batch_%d.bin"
                       : "cifar-10-batches-bin/test_batch.bin",
                 b);
        kit_put(name, batch, sizeof batch);
        zs_tar_add(&tar, name, batch, sizeof batch);
    }
    kit_put("cifar-10-batches-bin/batches.meta.txt", "airplane\nautomobile\n\n", 21);
    zs_tar_end(&tar);
    gzFile gz = gzopen("c.tar.gz", "wb");
    gzwrite(gz, tar.s, (unsigned)tar.n);
    gzclose(gz);
    zs_strbuf_free(&tar);
    static const char *const specs[] = {"cifar10:.", "cifar10:cifar-10-batches-bin:train",
                                        "cifar10:c.tar.gz"};
    for (size_t k = 0; k < 3; k++) {
        zs_source *s = kit_source(specs[k]);
        zs_image im;
        assert_int_equal(zs_source_count(s), 10);
        assert_int_equal(zs_source_class_count(s), 10);
        assert_string_equal(zs_source_class_name(s, 1), k < 2 ? "automobile" : "1");
        assert_int_equal(zs_source_label(s, 8), 0);
        assert_int_equal(zs_source_read(s, 8, 0, &im, NULL), ZS_OK);
        assert_int_equal(im.c, 3);
        assert_int_equal(im.px[0], 10);
        assert_int_equal(im.px[1], 2);
        assert_int_equal(im.px[3], 0);
        zs_image_free(&im);
        zs_source_close(&s);
    }
    zs_source *t = kit_source("cifar10:c.tar.gz:test");
    assert_int_equal(zs_source_count(t), 2);
    zs_source_close(&t);
    kit_source_refused("cifar100:.", ZS_E_IO, "has no file train.bin");
    kit_source_refused("cifar10:nowhere", ZS_E_IO, "there is no \"nowhere\"");
    kit_put("cifar-10-batches-bin/data_batch_2.bin", batch, RECORD + 7);
    kit_source_refused("cifar10:.", ZS_E_FORMAT, "no whole number of images");
    batch[0] = 10;
    kit_put("cifar-10-batches-bin/data_batch_2.bin", batch, sizeof batch);
    kit_source_refused("cifar10:.", ZS_E_FORMAT, "label 10 of image 0 is above 9");
    assert_int_equal(truncate("c.tar.gz", 100), 0);
    kit_source_refused("cifar10:c.tar.gz", ZS_E_FORMAT, "cut short");
}

/* ---- parts ---- */

static void parts_complement_each_other_and_follow_names(void **state)
{
    (void)state;
    zs_source *s = make_set(200);
    pack(s, "lmdb", "p.lmdb", 0);
    zs_source_close(&s);
    zs_source *train = kit_source("set.tar:train=0.8"), *val = kit_source("set.tar:val=0.2");
    zs_source *same = kit_source("p.lmdb:val=0.2");
    bool seen[200] = {false};
    int64_t n = zs_source_count(val);
    assert_int_equal(zs_source_count(train) + n, 200);
    assert_true(n > 20 && n < 60);
    for (int64_t i = 0; i < zs_source_count(train); i++)
        seen[kit_first_byte(train, i)] = true;
    for (int64_t i = 0; i < n; i++) {
        assert_false(seen[kit_first_byte(val, i)]);
        assert_int_equal(kit_first_byte(val, i), kit_first_byte(same, i)); /* names went along */
    }
    assert_int_equal(zs_source_class_count(val), 3);
    assert_true(zs_source_fingerprint(val) != zs_source_fingerprint(train));
    zs_source_close(&train);
    zs_source_close(&val);
    zs_source_close(&same);
    val = kit_source("set.tar:val");
    assert_true(zs_source_count(val) < n);
    zs_source_close(&val);
    kit_source_refused("set.tar:test", ZS_E_INVALID, "no test part of its own");
    kit_source_refused("set.tar:val=1.5", ZS_E_INVALID, "above 0 and below 1");
    kit_source_refused("set.tar:val=x", ZS_E_INVALID, "above 0 and below 1");
    kit_source_refused("set.tar:val=0.0000001", ZS_E_INVALID, "take a larger share");
    kit_source_refused("fashion-mnist:val", ZS_E_INVALID, "fashion-mnist:train:val=0.05");
}

static void out_of_memory_is_reported(void **state)
{
    (void)state;
    zs_source *s = make_set(6);
    pack(s, "lmdb", "p.lmdb", 0);
    zs_source_close(&s);
    static const char *const specs[] = {"set.tar", "p.lmdb", "set.tar:train=0.9"};
    for (size_t k = 0; k < 3; k++) {
        int status = ZS_E_NOMEM;
        for (long n = 1; status < 0; n++) {
            zs_error err = {0};
            zs_alloc_fail_at(n);
            status = zs_source_open(&s, specs[k], &err);
            zs_alloc_fail_at(0);
            assert_int_equal(err.status, status);
            assert_true(n < 2000);
            assert_true(status == ZS_OK || status == ZS_E_NOMEM);
        }
        zs_source_close(&s);
    }
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, enter_dir, leave_dir)
    const struct CMUnitTest tests[] = {
        CASE(tar_samples_have_classes_and_long_names),
        CASE(shards_are_named_by_braces_and_wildcards),
        CASE(a_tar_cut_anywhere_is_refused),
        CASE(bad_classes_in_tar_are_named),
        CASE(sets_survive_every_form),
        CASE(large_databases_have_branches_over_branches),
        CASE(a_damaged_database_never_leads_outside),
        CASE(nothing_remains_of_an_abandoned_output),
        CASE(hostile_names_stay_inside_the_folder),
        CASE(cifar_is_read_from_folders_and_archives),
        CASE(parts_complement_each_other_and_follow_names),
        CASE(out_of_memory_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
