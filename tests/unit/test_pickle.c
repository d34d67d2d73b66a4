/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/pickle.h"
#include "io/torchtree.h"
#include "tests/unit/tensor_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

static int no_storage(void *ctx, size_t *index, const zs_torchstorage *s, zs_error *err)
{
    (void)ctx;
    (void)index;
    (void)s;
    return zs_fail(err, ZS_E_FORMAT, "label: no storages here");
}

/* The pickle as JSON, or NULL with *err set. */
static json_t *convert(const uint8_t *p, size_t n, zs_error *err)
{
    char label[] = "label";
    zs_tensorfile f = {.path = label, .bytes = {p, n}};
    zs_pickle tree = {0};
    *err = (zs_error){0};
    int status = zs_pickle_parse(&tree, label, (zs_span){p, n}, err);
    if (status >= 0)
        status = zs_torch_walk(&f, &tree, no_storage, NULL, err);
    assert_int_equal(status, err->status);
    zs_pickle_free(&tree);
    zs_pickle_free(&tree); /* idempotent */
    if (status < 0)
        assert_null(f.meta);
    return f.meta;
}

static void expect(const uint8_t *p, size_t n, const char *want)
{
    zs_error err;
    json_error_t je;
    json_t *got = convert(p, n, &err);
    json_t *wanted = json_loads(want, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (!wanted)
        fail_msg("the expectation is not JSON: %s in %s", je.text, want);
    if (!got)
        fail_msg("%s", err.message);
    if (!json_equal(got, wanted)) {
        char *text = json_dumps(got, JSON_ENCODE_ANY);
        fail_msg("got %s, expected %s", text, want);
    }
    json_decref(got);
    json_decref(wanted);
}

/* What scripts/make-tensor-fixtures.py pickles with every protocol. */
static const char tree[] =
    "{\"none\": null, \"yes\": true, \"no\": false,"
    " \"ints\": [0, 1, 255, 256, 65535, 65536, -1, -2147483648, 2147483648, 9223372036854775807,"
    "  -9223372036854775808],"
    " \"big\": [9223372036854775807, -9223372036854775808, 9223372036854775807],"
    " \"floats\": [0.5, -1e300, \"Infinity\", \"-Infinity\", \"NaN\"],"
    " \"text\": [\"\", \"ascii\", \"Gr\\u00f6\\u00dfe \\ud83d\\ude00\","
    "  \"new\\nline \\\\ 'quote'\", \"a\\u0000b\"],"
    " \"tuple\": [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]],"
    " \"set\": [7], \"frozen\": [8],"
    " \"complex\": {\"__class__\": \"builtins.complex\", \"args\": [1.0, 2.0]},"
    " \"ordered\": {\"a\": 1, \"b\": 2},"
    " \"args\": {\"__class__\": \"argparse.Namespace\", \"lr\": 0.1, \"layers\": [1, 2]},"
    " \"enum\": {\"__class__\": \"palette.Colour\", \"args\": [3]}, \"path\": \"/tmp/x\","
    " \"class\": {\"__class__\": \"argparse.Namespace\"}, \"5\": \"int key\","
    " \"None\": \"none key\", \"(1, a)\": \"tuple key\", \"argparse.Namespace\": \"class key\","
    " \"cycle\": {\"name\": \"cycle\", \"self\": {\"__cycle__\": true}}";

static void test_every_protocol(void **state)
{
    (void)state;
    for (int protocol = 0; protocol <= 5; protocol++) {
        char name[32], want[sizeof tree + 80];
        size_t n = 0;
        snprintf(name, sizeof name, "tree%d.pkl", protocol);
        snprintf(want, sizeof want, "%s%s}", tree,
                 protocol > 2 ? ", \"bytes\": {\"__class__\": \"builtins.bytes\", \"size\": 2}"
                              : "");
        uint8_t *p = kit_load(&n, name);
        expect(p, n, want);
        zs_free(p);
    }
}

/* Opcodes that today's picklers do not write. */
static void test_rare_opcodes(void **state)
{
    (void)state;
    expect(BYTES("(I1\nL2L\nL-3\nI01\nI00\nF2.5\nNl."), "[1, 2, -3, true, false, 2.5, null]");
    expect(BYTES("(S'it\\'s \\x41\\n\\q'\nS\"\"\nVa\\u00e9\xE9\\U0001f600\nl."),
           "[\"it's A\\n\\\\q\", \"\", \"a\\u00e9\\u00e9\\ud83d\\ude00\"]");
    expect(BYTES("(U\1aT\2\0\0\0bcX\1\0\0\0d\x8C\1e\x8D\1\0\0\0\0\0\0\0fl."),
           "[\"a\", \"bc\", \"d\", \"e\", \"f\"]");
    expect(BYTES("(B\1\0\0\0aC\2ab\x8E\1\0\0\0\0\0\0\0f\x96\0\0\0\0\0\0\0\0\x98l."),
           "[{\"__class__\": \"builtins.bytes\", \"size\": 1},"
           " {\"__class__\": \"builtins.bytes\", \"size\": 2},"
           " {\"__class__\": \"builtins.bytes\", \"size\": 1},"
           " {\"__class__\": \"builtins.bytes\", \"size\": 0}]");
    expect(BYTES("(K\1K\2d."), "{\"1\": 2}");
    expect(BYTES("(lp0\nI1\nag0\n."), "[1]");
    expect(BYTES("]K\1aK\2K\3"
                 "00."),
           "[1]");
    expect(BYTES("](K\1K\2"
                 "1K\7a."),
           "[7]");
    expect(BYTES("](K\1"
                 "00K\7a."),
           "[7]"); /* POP of a mark */
    expect(BYTES("K\1"
                 "2\x86."),
           "[1, 1]");
    expect(BYTES("(K\1imod\nCls\n."), "{\"__class__\": \"mod.Cls\", \"args\": [1]}");
    expect(BYTES("(cmod\nCls\nK\1o."), "{\"__class__\": \"mod.Cls\", \"args\": [1]}");
    expect(BYTES("cm\nC\n)\x81}K\1K\2sb."), "{\"__class__\": \"m.C\", \"1\": 2}");
    expect(BYTES("cm\nC\n)\x81K\1b."), "{\"__class__\": \"m.C\", \"state\": 1}");
    expect(BYTES("cm\nC\n)R(K\1K\2e."), "{\"__class__\": \"m.C\", \"items\": [1, 2]}");
    expect(BYTES("cm\nC\n(K\1t}U\1aK\2s\x92."),
           "{\"__class__\": \"m.C\", \"args\": [1], \"a\": 2}");
    expect(BYTES("U\1mU\1C\x93."), "{\"__class__\": \"m.C\"}");
    expect(BYTES("(\x82\7\x83\7\7\x84\7\7\7\7l."),
           "[{\"__class__\": \"copyreg.\"}, {\"__class__\": \"copyreg.\"},"
           " {\"__class__\": \"copyreg.\"}]");
    expect(BYTES("\x8F(K\1K\2\x90."), "[1, 2]");
    expect(BYTES("(K\1\x91."), "[1]");
    expect(BYTES("\x8A\0."), "0");
    expect(BYTES("\x8A\x9\0\0\0\0\0\0\0\x80\0."), "9223372036854775807");
    expect(BYTES("\x8A\xA\1\0\0\0\0\0\0\0\0\0."), "1");
    expect(BYTES("\x8B\1\0\0\0\xFF."), "-1");
    expect(BYTES("L123456789012345678901234567890L\n."), "9223372036854775807");
    expect(BYTES("Pname\n."), "{\"__class__\": \"torch.storage\"}");
    expect(BYTES("}(K\1\x88K\2\x89u."), "{\"1\": true, \"2\": false}");
    expect(BYTES("\x80\4\x95\2\0\0\0\0\0\0\0K\1."), "1");
    expect(BYTES("U\2\xC3\x28."), "\"?(\""); /* not UTF-8 */
    expect(BYTES("}U\3a\0bK\1s."), "{\"a?b\": 1}");
    expect(BYTES("ccollections\nOrderedDict\n(](]U\1aaK\1aetR."), "{\"a\": 1}");
}

static void test_bad_pickles(void **state)
{
    (void)state;
    static const struct {
        const uint8_t *p;
        size_t n;
        int status;
        const char *says;
    } cases[] = {
        {BYTES(""), ZS_E_FORMAT, "without STOP"},
        {BYTES("N"), ZS_E_FORMAT, "without STOP"},
        {BYTES("."), ZS_E_FORMAT, "empty stack"},
        {BYTES("?"), ZS_E_FORMAT, "no pickle opcode"},
        {BYTES("(."), ZS_E_FORMAT, "empty stack"},
        {BYTES("N(."), ZS_E_FORMAT, "empty stack"},
        {BYTES("0"), ZS_E_FORMAT, "never opened"},
        {BYTES("t."), ZS_E_FORMAT, "never opened"},
        {BYTES("K\1\x86."), ZS_E_FORMAT, "tuple takes"},
        {BYTES("NNa."), ZS_E_FORMAT, "not a list"},
        {BYTES("NNNs."), ZS_E_FORMAT, "not a dictionary"},
        {BYTES("}(Nu."), ZS_E_FORMAT, "key without a value"},
        {BYTES("(Nd."), ZS_E_FORMAT, "key without a value"},
        {BYTES("cm\nC\nNR."), ZS_E_FORMAT, "not a tuple"},
        {BYTES("NN\x93."), ZS_E_FORMAT, "not text"},
        {BYTES("(o."), ZS_E_FORMAT, "no class"},
        {BYTES("h\0."), ZS_E_FORMAT, "not there"},
        {BYTES("g-1\n."), ZS_E_FORMAT, "not there"},
        {BYTES("Np-1\n."), ZS_E_FORMAT, "negative"},
        {BYTES("Nq\5h\4."), ZS_E_FORMAT, "too large"},
        {BYTES("Nr\xFF\xFF\xFF\xFF."), ZS_E_FORMAT, "too large"},
        {BYTES("Np99999999999999999999\n."), ZS_E_FORMAT, "not a number"},
        {BYTES("q\0."), ZS_E_FORMAT, "empty stack"},
        {BYTES("I1"), ZS_E_FORMAT, "middle of a line"},
        {BYTES("Ix\n."), ZS_E_FORMAT, "not a number"},
        {BYTES("I\n."), ZS_E_FORMAT, "not a number"},
        {BYTES("Fx\n."), ZS_E_FORMAT, "not a number"},
        {BYTES("F\n."), ZS_E_FORMAT, "not a number"},
        {BYTES("Sx\n."), ZS_E_FORMAT, "no quotes"},
        {BYTES("S'\n."), ZS_E_FORMAT, "no quotes"},
        {BYTES("V\\u12\n."), ZS_E_FORMAT, "escape"},
        {BYTES("V\\UFFFFFFFF\n."), ZS_E_FORMAT, "escape"},
        {BYTES("X\xFF\xFF\xFF\xFFx."), ZS_E_FORMAT, "middle of a value"},
        {BYTES("\x8D\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFFx."), ZS_E_FORMAT, "middle of a value"},
        {BYTES("\x8B\xFF\xFF\xFF\xFF."), ZS_E_FORMAT, "middle of a value"},
        {BYTES("\x95\xFF\0\0\0\0\0\0\0N."), ZS_E_FORMAT, "frame"},
        {BYTES("\x80\6N."), ZS_E_UNSUPPORTED, "protocol 6"},
        {BYTES("\x97."), ZS_E_UNSUPPORTED, "buffers outside"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        zs_error err;
        json_t *j = convert(cases[i].p, cases[i].n, &err);
        if (j || err.status != cases[i].status || !strstr(err.message, cases[i].says))
            fail_msg("case %zu: status %d: %s", i, err.status, err.message);
    }
}

static void test_cycles(void **state)
{
    (void)state;
    expect(BYTES("]q\0h\0a."), "[{\"__cycle__\": true}]");
    expect(BYTES("}q\0K\1h\0s."), "{\"1\": {\"__cycle__\": true}}");
    expect(BYTES("cm\nC\n)\x81q\0h\0b."),
           "{\"__class__\": \"m.C\", \"state\": {\"__cycle__\": true}}");
    expect(BYTES("]q\0(h\0h\0ta."), "[[{\"__cycle__\": true}, {\"__cycle__\": true}]]");
    /* shared but not cyclic: shown twice */
    expect(BYTES("](]q\0K\1ah\0e."), "[[1], [1]]");
}

static void test_deep(void **state)
{
    (void)state;
    enum { DEPTH = 100000 };
    uint8_t *p = malloc(2 * DEPTH);
    zs_error err;
    assert_non_null(p);
    memset(p, ']', DEPTH);
    memset(p + DEPTH, 'a', DEPTH - 1);
    p[2 * DEPTH - 1] = '.';
    assert_null(convert(p, 2 * DEPTH, &err));
    assert_non_null(strstr(err.message, "200 deep"));
    free(p);
}

/* Keyword arguments, keys and strings that are shared must not multiply. */
static void test_expansion(void **state)
{
    (void)state;
    enum { TEXT = 60000, REFERENCES = 20000 };
    size_t n = 0;
    uint8_t *p = malloc(TEXT + 4 * REFERENCES + 16);
    zs_error err;
    assert_non_null(p);
    memcpy(p, "](X\x60\xEA\0\0", 7); /* 60000 */
    memset(p + 7, 'x', TEXT);
    n = 7 + TEXT;
    memcpy(p + n, "q\0", 2);
    n += 2;
    for (int i = 0; i < REFERENCES; i++, n += 2)
        memcpy(p + n, "h\0", 2);
    memcpy(p + n, "e.", 2);
    assert_null(convert(p, n + 2, &err));
    assert_non_null(strstr(err.message, "over and over"));
    free(p);
}

static void test_truncated(void **state)
{
    (void)state;
    for (int protocol = 0; protocol <= 5; protocol++) {
        char name[32];
        size_t n = 0;
        zs_error err;
        snprintf(name, sizeof name, "tree%d.pkl", protocol);
        uint8_t *p = kit_load(&n, name);
        for (size_t k = 0; k < n; k++) {
            uint8_t *exact = malloc(k ? k : 1);
            assert_non_null(exact);
            memcpy(exact, p, k);
            assert_null(convert(exact, k, &err));
            free(exact);
        }
        zs_free(p);
    }
}

/* What follows STOP is not part of the pickle. */
static void test_used(void **state)
{
    (void)state;
    zs_pickle p;
    assert_int_equal(zs_pickle_parse(&p, "label", (zs_span){BYTES("K\1.rest")}, NULL), ZS_OK);
    assert_int_equal(p.used, 3);
    assert_int_equal(p.root->u.i, 1);
    zs_pickle_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_protocol), cmocka_unit_test(test_rare_opcodes),
        cmocka_unit_test(test_bad_pickles),    cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_deep),           cmocka_unit_test(test_expansion),
        cmocka_unit_test(test_truncated),      cmocka_unit_test(test_used),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
