/* SPDX-License-Identifier: MIT */
/* Inputs that once broke a reader of tensor files, as the fuzzer found them, made small. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/pickle.h"
#include "tests/unit/tensor_kit.h"

#include <string.h>

/* An empty dictionary as the first value: its items were copied from an empty stack that had no
 * memory yet, an offset to a null pointer. */
static void test_empty_container_on_empty_stack(void **state)
{
    (void)state;
    static const uint8_t dict[] = "(d.", frozen[] = "(\x91.", object[] = "(im\nC\n.";
    const zs_span inputs[] = {{dict, 3}, {frozen, 3}, {object, 7}};
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        zs_pickle p;
        zs_error err = {0};
        assert_int_equal(zs_pickle_parse(&p, "label", inputs[i], &err), ZS_OK);
        zs_pickle_free(&p);
    }
}

/* The same through the magic number of legacy files, where safetensors was expected. */
static void test_empty_container_in_legacy_file(void **state)
{
    (void)state;
    static const uint8_t file[] = "((\x91\x8A\x0Al\xFC\x9C"
                                  "F\xF9 j\xA8P\x19\x8Aj\xA8\xA1\xA1";
    zs_error err;
    assert_int_equal(kit_try(file, sizeof file - 1, &err), ZS_E_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_container_on_empty_stack),
        cmocka_unit_test(test_empty_container_in_legacy_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
