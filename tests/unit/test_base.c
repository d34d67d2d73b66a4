/* SPDX-License-Identifier: MIT */
/* Strings, checked allocation, error sentences and dtype conversion. */
#include "base/base.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* ---- memory ---- */

static void test_sizes(void **state)
{
    (void)state;
    size_t n = 7;
    assert_true(zs_mul_size(3, 5, &n));
    assert_int_equal(n, 15);
    assert_true(zs_mul_size(SIZE_MAX, 1, &n));
    assert_true(n == SIZE_MAX);
    n = 7;
    assert_false(zs_mul_size(SIZE_MAX / 2 + 1, 2, &n));
    assert_false(zs_add_size(SIZE_MAX, 1, &n));
    assert_int_equal(n, 7);
    assert_true(zs_mul_size(5, 0, &n));
    assert_int_equal(n, 0);
    assert_true(zs_add_size(SIZE_MAX - 1, 1, &n));
    assert_true(n == SIZE_MAX);
}

static void test_alloc(void **state)
{
    (void)state;
    assert_null(zs_alloc(SIZE_MAX / 2 + 1, 2));
    assert_null(zs_alloc(SIZE_MAX, 1));
    assert_null(zs_calloc(SIZE_MAX - 64, 1));
    void *a = zs_alloc(0, 16), *b = zs_alloc(0, 16);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
    zs_free(a);
    zs_free(b);
    zs_free(NULL);
    for (size_t n = 1; n < 300; n += 37) {
        unsigned char *p = zs_calloc(n, 3);
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < 3 * n; i++)
            assert_int_equal(p[i], 0);
        zs_free(p);
    }
}

static void test_realloc_keeps_content(void **state)
{
    (void)state;
    int *p = zs_realloc(NULL, 0, 4, sizeof *p);
    for (int i = 0; i < 4; i++)
        p[i] = 10 + i;
    assert_null(zs_realloc(p, 4, SIZE_MAX / 2, sizeof *p));
    p = zs_realloc(p, 4, 1000, sizeof *p);
    p = zs_realloc(p, 1000, 3, sizeof *p);
    for (int i = 0; i < 3; i++)
        assert_int_equal(p[i], 10 + i);
    zs_free(p);
}

static void test_grow(void **state)
{
    (void)state;
    int *items = NULL;
    size_t cap = 0;
    for (size_t n = 0; n < 1000; n++) {
        void *grown = items;
        assert_true(zs_grow(&grown, &cap, n, sizeof *items));
        items = grown;
        assert_true(cap > n);
        items[n] = (int)n;
    }
    for (size_t n = 0; n < 1000; n++)
        assert_int_equal(items[n], n);
    zs_free(items);
}

static void test_fail_hook(void **state)
{
    (void)state;
    zs_alloc_fail_at(0);
    void *p = NULL;
    zs_alloc_fail_at(2);
    p = zs_alloc(1, 1);
    assert_non_null(p);
    assert_null(zs_alloc(1, 1));
    assert_null(zs_calloc(1, 1));
    assert_null(zs_realloc(p, 1, 2, 1));
    assert_null(zs_str_dup("x"));
    assert_int_equal(zs_alloc_fail_at(0), 5);
    assert_int_equal(zs_alloc_fail_at(0), 0);
    void *q = zs_alloc(1, 1);
    assert_non_null(q);
    zs_free(q);
    zs_free(p);
}

/* ---- strings ---- */

static void test_strbuf(void **state)
{
    (void)state;
    zs_strbuf b = {0};
    for (int i = 0; i < 500; i++)
        zs_strbuf_addf(&b, "%d,", i);
    zs_strbuf_append(&b, "a\0b", 3);
    assert_false(b.failed);
    assert_int_equal(b.s[b.n], '\0');
    assert_memory_equal(b.s, "0,1,2,", 6);
    assert_memory_equal(b.s + b.n - 7, "499,a\0b", 7);
    zs_strbuf_free(&b);
    assert_null(b.s);
    zs_strbuf_free(&b);
}

static void test_strbuf_failure_is_sticky(void **state)
{
    (void)state;
    zs_strbuf b = {0};
    zs_strbuf_append(&b, "kept", 4);
    zs_alloc_fail_at(1);
    zs_strbuf_addf(&b, "%0100d", 1);
    zs_alloc_fail_at(0);
    assert_true(b.failed);
    zs_strbuf_append(&b, "dropped", 7);
    assert_true(b.failed);
    assert_string_equal(b.s, "kept");
    zs_strbuf_free(&b);
}

static void test_text_helpers(void **state)
{
    (void)state;
    char *s = zs_str_format("%s-%d", "a", 7), *d = zs_str_dup(s);
    assert_string_equal(s, "a-7");
    assert_string_equal(d, s);
    assert_null(zs_str_dup(NULL));
    zs_free(s);
    zs_free(d);
    assert_true(zs_str_starts("image.png", "image"));
    assert_true(zs_str_starts("x", ""));
    assert_false(zs_str_starts("im", "image"));
    assert_true(zs_str_ends("image.png", ".png"));
    assert_false(zs_str_ends("png", ".png"));
}

static void test_parse_integer(void **state)
{
    (void)state;
    int64_t v = 0;
    assert_true(zs_str_to_i64("-9223372036854775808", &v));
    assert_true(v == INT64_MIN);
    assert_true(zs_str_to_i64("+42", &v));
    assert_int_equal(v, 42);
    static const char *const bad[] = {
        "", "-", "9223372036854775808", " 1", "1 ", "1x", "0x10", "1.0", "1-2", "\n1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(zs_str_to_i64(bad[i], &v));
    assert_int_equal(v, 42);
}

static void test_parse_number(void **state)
{
    (void)state;
    double v = 0;
    assert_true(zs_str_to_f64("1e-4", &v));
    assert_true(v == 1e-4);
    assert_true(zs_str_to_f64("-.5", &v));
    assert_true(v == -0.5);
    static const char *const bad[] = {"",    ".",    "inf", "nan",  "1e999",
                                      "0x1", " 1.5", "1,5", "1.5f", "e5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(zs_str_to_f64(bad[i], &v));
    assert_true(v == -0.5);
}

/* ---- errors ---- */

static void test_first_error_wins(void **state)
{
    (void)state;
    zs_error err = {0};
    assert_int_equal(zs_fail(&err, ZS_E_FORMAT, "%s: %d", "a.ckpt", 7), ZS_E_FORMAT);
    assert_int_equal(zs_fail(&err, ZS_E_IO, "later"), ZS_E_IO);
    assert_int_equal(err.status, ZS_E_FORMAT);
    assert_string_equal(err.message, "a.ckpt: 7");
    assert_int_equal(zs_fail(NULL, ZS_E_IO, "nobody listens"), ZS_E_IO);
    zs_error oom = {0};
    assert_int_equal(zs_fail_nomem(&oom, 123456789ull, "the arena"), ZS_E_NOMEM);
    assert_non_null(strstr(oom.message, "123456789"));
    assert_non_null(strstr(oom.message, "the arena"));
    zs_error remedy = {0};
    zs_fail_nomem(&remedy, 8, "codes; lower --batch");
    assert_string_equal(remedy.message, "out of memory: 8 bytes for codes could not be allocated; "
                                        "lower --batch");
}

static void test_error_text_is_clean(void **state)
{
    (void)state;
    static const struct {
        const char *in, *out;
    } cases[] = {
        {"a\nb\x1b[31m\x7f", "a?b?[31m?"},
        {"caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"},
        {"csi \xC2\x9B", "csi ??"},          /* a C1 control */
        {"\xC0\xAF|\xE0\x80\xAF", "??|???"}, /* overlong */
        {"\xED\xA0\x80", "???"},             /* a surrogate */
        {"\xF4\x90\x80\x80", "????"},        /* beyond U+10FFFF */
        {"\xE2\x82", "??"},                  /* cut */
        {"\xFF\xFE x\x80", "?? x?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zs_error err = {0};
        zs_fail(&err, ZS_E_IO, "%s", cases[i].in);
        assert_string_equal(err.message, cases[i].out);
    }
}

static void test_error_is_cut_between_characters(void **state)
{
    (void)state;
    char text[2000];
    for (size_t shift = 0; shift < 4; shift++) {
        zs_error err = {0};
        memset(text, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 4);
        zs_fail(&err, ZS_E_IO, "%s", text);
        size_t n = strlen(err.message);
        assert_true(n >= sizeof err.message - 4);
        assert_int_equal((n - shift) % 3, 0);
        assert_memory_equal(err.message, text, n);
        assert_null(strchr(err.message, '?'));
    }
}

static void test_status_names(void **state)
{
    (void)state;
    for (int s = ZS_E_INTERNAL; s <= ZS_OK; s++)
        assert_string_not_equal(zs_status_name(s), zs_status_name(1));
    assert_string_equal(zs_status_name(-1000), zs_status_name(1));
}

/* ---- callbacks ---- */

static int stop_at_three(void *ctx, const zs_progress *p)
{
    ++*(int *)ctx;
    return p->done >= 3;
}

static void keep_message(void *ctx, zs_log_level level, const char *message)
{
    (void)level;
    *(char *)ctx = message[0];
}

static void test_ui(void **state)
{
    (void)state;
    int calls = 0;
    zs_ui ui = {.ctx = &calls, .progress = stop_at_three};
    zs_error err = {0};
    zs_progress p = {.stage = "encode", .unit = "images", .done = 2, .total = 9};
    assert_int_equal(zs_ui_progress(&ui, &p, &err), ZS_OK);
    p.done = 3;
    assert_int_equal(zs_ui_progress(&ui, &p, &err), ZS_E_CANCELLED);
    assert_string_equal(err.message, "encode stopped on request after 3 images");
    assert_int_equal(calls, 2);
    assert_int_equal(zs_ui_progress(NULL, &p, NULL), ZS_OK);
    zs_ui_log(NULL, ZS_LOG_INFO, "silence");
    char first = 0;
    ui = (zs_ui){.ctx = &first, .log = keep_message};
    zs_ui_log(&ui, ZS_LOG_INFO, "%s", "hello");
    assert_int_equal(first, 'h');
}

/* ---- dtypes ---- */

/* The value of a binary float with `frac` mantissa bits and bias `bias`, from the definition. */
static double decode(uint32_t h, int frac, int bias, int top)
{
    uint32_t m = h & ((1u << frac) - 1u);
    int e = (int)(h >> frac & ((1u << top) - 1u));
    double v = e == 0 ? ldexp(m, 1 - bias - frac) : ldexp(m + ldexp(1, frac), e - bias - frac);
    return h & 0x8000u ? -v : v;
}

static void test_f16_all_values(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000u; h++) {
        float f = zs_f16_to_f32((uint16_t)h);
        bool special = (h & 0x7C00u) == 0x7C00u, nan = special && (h & 0x3FFu);
        assert_int_equal(isnan(f) != 0, nan);
        if (!special)
            assert_true((double)f == decode(h, 10, 15, 5) && !signbit(f) == !(h & 0x8000u));
        else if (!nan)
            assert_true(isinf(f) && !signbit(f) == !(h & 0x8000u));
        uint16_t back = zs_f32_to_f16(f);
        if (nan)
            assert_true((back & 0x7C00u) == 0x7C00u && (back & 0x3FFu) != 0);
        else
            assert_int_equal(back, h);
    }
}

static void test_bf16_all_values(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000u; h++) {
        float f = zs_bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(f), h << 16);
        uint16_t back = zs_f32_to_bf16(f);
        if (isnan(f))
            assert_true((back & 0x7F80u) == 0x7F80u && (back & 0x7Fu) != 0);
        else
            assert_int_equal(back, h);
    }
}

/* Between every two neighbours: the middle goes to the even one, anything off it to the near. */
static void check_rounding(uint16_t (*narrow)(float), float (*widen)(uint16_t), uint32_t last)
{
    for (uint32_t h = 0; h < last; h++) {
        float lo = widen((uint16_t)h), hi = widen((uint16_t)(h + 1));
        float mid = (float)(((double)lo + (double)hi) / 2);
        uint32_t even = h & 1u ? h + 1 : h;
        assert_int_equal(narrow(mid), even);
        assert_int_equal(narrow(-mid), even | 0x8000u);
        assert_int_equal(narrow(nextafterf(mid, 0.0f)), h);
        assert_int_equal(narrow(nextafterf(mid, INFINITY)), h + 1);
    }
}

static void test_rounding(void **state)
{
    (void)state;
    check_rounding(zs_f32_to_f16, zs_f16_to_f32, 0x7BFFu);
    check_rounding(zs_f32_to_bf16, zs_bf16_to_f32, 0x7F7Fu);
    /* at the top: half of the last step and above is infinity */
    assert_int_equal(zs_f32_to_f16(65519.996f), 0x7BFF);
    assert_int_equal(zs_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(zs_f32_to_f16(-1e30f), 0xFC00);
    assert_int_equal(zs_f32_to_bf16(float_of(0x7F7F7FFFu)), 0x7F7F);
    assert_int_equal(zs_f32_to_bf16(float_of(0x7F7F8000u)), 0x7F80);
    /* NaNs whose payload sits in the dropped bits stay NaN */
    assert_true(isnan(zs_bf16_to_f32(zs_f32_to_bf16(float_of(0x7F800001u)))));
    assert_true(isnan(zs_f16_to_f32(zs_f32_to_f16(float_of(0x7F800001u)))));
}

static void test_dtype_table(void **state)
{
    (void)state;
    static const size_t size[ZS_DTYPE_COUNT] = {4, 8, 2, 2, 8, 4, 2, 1, 1, 1};
    for (int t = 0; t < ZS_DTYPE_COUNT; t++) {
        assert_int_equal(zs_dtype_size((zs_dtype)t), size[t]);
        for (int u = 0; u < t; u++)
            assert_string_not_equal(zs_dtype_name((zs_dtype)t), zs_dtype_name((zs_dtype)u));
    }
}

/* Small integers survive every type in both directions, from and to unaligned memory. */
static void test_conversion_round_trip(void **state)
{
    (void)state;
    static const float values[6] = {0, 1, 2, 100, 7, 127};
    for (int t = 0; t < ZS_DTYPE_COUNT; t++) {
        _Alignas(8) unsigned char typed[6 * 8];
        unsigned char shifted[6 * 8 + 1];
        size_t bytes = 6 * zs_dtype_size((zs_dtype)t);
        zs_dtype_from_f32(typed, (zs_dtype)t, values, 6);
        memcpy(shifted + 1, typed, bytes);
        float back[6];
        int64_t whole[6];
        zs_dtype_to_f32(back, shifted + 1, (zs_dtype)t, 6);
        zs_dtype_to_i64(whole, shifted + 1, (zs_dtype)t, 6);
        for (int i = 0; i < 6; i++) {
            float want = t == ZS_BOOL ? (float)(values[i] != 0.0f) : values[i];
            assert_true(back[i] == want);
            assert_int_equal(whole[i], (int64_t)want);
        }
    }
}

static void test_integers_saturate(void **state)
{
    (void)state;
    static const float in[6] = {-1e30f, 1e30f, NAN, -1.9f, 1.9f, -INFINITY};
    int64_t i64[6];
    int32_t i32[6];
    int16_t i16[6];
    int8_t i8[6];
    uint8_t u8[6];
    zs_dtype_from_f32(i64, ZS_I64, in, 6);
    zs_dtype_from_f32(i32, ZS_I32, in, 6);
    zs_dtype_from_f32(i16, ZS_I16, in, 6);
    zs_dtype_from_f32(i8, ZS_I8, in, 6);
    zs_dtype_from_f32(u8, ZS_U8, in, 6);
    assert_true(i64[0] == INT64_MIN && i64[1] == INT64_MAX && i64[5] == INT64_MIN);
    assert_true(i32[0] == INT32_MIN && i32[1] == INT32_MAX && i32[5] == INT32_MIN);
    assert_true(i16[0] == INT16_MIN && i16[1] == INT16_MAX && i16[3] == -1 && i16[4] == 1);
    assert_true(i8[0] == INT8_MIN && i8[1] == INT8_MAX && i8[2] == 0 && i8[3] == -1);
    assert_true(u8[0] == 0 && u8[1] == UINT8_MAX && u8[2] == 0 && u8[3] == 0 && u8[4] == 1);
    static const double wide[4] = {-1e300, 1e300, (double)NAN, -3.7};
    zs_dtype_to_i64(i64, wide, ZS_F64, 4);
    assert_true(i64[0] == INT64_MIN && i64[1] == INT64_MAX && i64[2] == 0 && i64[3] == -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_alloc),
        cmocka_unit_test(test_realloc_keeps_content),
        cmocka_unit_test(test_grow),
        cmocka_unit_test(test_fail_hook),
        cmocka_unit_test(test_strbuf),
        cmocka_unit_test(test_strbuf_failure_is_sticky),
        cmocka_unit_test(test_text_helpers),
        cmocka_unit_test(test_parse_integer),
        cmocka_unit_test(test_parse_number),
        cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_error_text_is_clean),
        cmocka_unit_test(test_error_is_cut_between_characters),
        cmocka_unit_test(test_status_names),
        cmocka_unit_test(test_ui),
        cmocka_unit_test(test_f16_all_values),
        cmocka_unit_test(test_bf16_all_values),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_dtype_table),
        cmocka_unit_test(test_conversion_round_trip),
        cmocka_unit_test(test_integers_saturate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
