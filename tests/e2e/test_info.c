/* SPDX-License-Identifier: MIT */
/* zsem info: what it says of an encoder, in whatever company that is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "models/rep.h"
#include "tests/e2e/taskkit.h"
#include "tests/e2e/trainkit.h"
#include "tests/unit/must.h"

enum { DIM = 6 };

static json_t *info_of(const char *spec)
{
    return task_must("info", TASK_ARGS(spec), NULL);
}

static int64_t number(const json_t *j, const char *key)
{
    const json_t *v = json_object_get(json_object_get(j, "encoder"), key);
    assert_true(json_is_integer(v));
    return json_integer_value(v);
}

static const char *text(const json_t *j, const char *key)
{
    const char *s = json_string_value(json_object_get(json_object_get(j, "encoder"), key));
    assert_non_null(s);
    return s;
}

/* The fingerprint of ae.safetensors, as those have it that were made for it. */
static void read_fingerprint(char out[ZS_REP_FINGERPRINT])
{
    zs_model *m = tiny_open(scratch_path("ae.safetensors"));
    zs_error err = {0};
    must(zs_rep_fingerprint(out, m, ZS_BOX_ENCODER, &err), &err);
    zs_model_close(&m);
}

static void describes_a_semantic_encoder(void **state)
{
    (void)state;
    char print[ZS_REP_FINGERPRINT];
    read_fingerprint(print);
    zs_model_config g = tiny_adm(2 * TINY);
    zs_error err = {0};
    must(zs_model_config_condition(&g, DIM, 0, &err), &err);
    tiny_bundle("large.safetensors", &g, 4, NULL, ZS_F32);
    const char *const specs[] = {scratch_path("ae.safetensors"),
                                 tiny_joined("ae.safetensors:encoder", "large.safetensors")};
    for (int i = 0; i < 2; i++) {
        json_t *j = info_of(specs[i]);
        assert_string_equal(text(j, "arch"), "sem_encoder");
        assert_int_equal(number(j, "channels"), 1);
        assert_int_equal(number(j, "image_size"), TINY);
        assert_int_equal(number(j, "multiple_of"), 2);
        assert_int_equal(number(j, "z_dim"), DIM);
        assert_string_equal(text(j, "preprocessing"), "pixels from -1 to 1");
        assert_string_equal(text(j, "fingerprint"), print);
        json_decref(j);
    }
}

static void describes_a_transformer(void **state)
{
    (void)state;
    zs_model_config c = {.image_size = 20, .channels = 3, .fit = "crop"};
    c.vit = (zs_vit_config){.depth = 1,
                            .in_channels = 3,
                            .side = 8,
                            .patch = 2,
                            .width = 16,
                            .heads = 1,
                            .hidden = 8,
                            .eps = 1e-6,
                            .head = "none",
                            .standardise = true};
    tiny_bundle("vit.safetensors", &c, 4, NULL, ZS_F32);
    json_t *j = info_of(scratch_path("vit.safetensors"));
    assert_string_equal(text(j, "arch"), "vit");
    assert_int_equal(number(j, "image_size"), 8);
    assert_int_equal(number(j, "z_dim"), 16);
    assert_true(json_is_true(json_object_get(json_object_get(j, "encoder"), "any_size")));
    assert_non_null(strstr(text(j, "preprocessing"), "ImageNet"));
    json_decref(j);
}

/* Pictures so large that hours would go by. */
static void leaves_out_what_takes_long(void **state)
{
    (void)state;
    zs_model_config c = tiny_autoencoder(DIM);
    c.image_size = 1 << 13;
    tiny_bundle("huge.safetensors", &c, 3, NULL, ZS_F32);
    json_t *j = info_of(scratch_path("huge.safetensors"));
    assert_int_equal(number(j, "image_size"), c.image_size);
    assert_null(json_object_get(json_object_get(j, "encoder"), "fingerprint"));
    json_decref(j);
}

static void says_nothing_of_no_encoder(void **state)
{
    (void)state;
    json_t *j = info_of(scratch_path("ae.safetensors:generator"));
    assert_null(json_object_get(j, "encoder"));
    assert_non_null(json_object_get(j, "made_for"));
    json_decref(j);
}

static int set_up(void **state)
{
    const zs_model_config ae = tiny_autoencoder(DIM);
    if (scratch_make(state) != 0)
        return -1;
    tiny_bundle("ae.safetensors", &ae, 3, NULL, ZS_F32);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(describes_a_semantic_encoder), cmocka_unit_test(describes_a_transformer),
        cmocka_unit_test(leaves_out_what_takes_long), cmocka_unit_test(says_nothing_of_no_encoder)};
    return cmocka_run_group_tests(tests, set_up, scratch_remove);
}
