/* SPDX-License-Identifier: MIT */
/* The unconditional baseline's UNet against the authors' code. */
#include "tests/golden/golden.h"
#include "tests/unit/must.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const char SET[] = "ddpm-tiny32";

static void predicts_noise(void **state)
{
    (void)state;
    golden_need(SET);
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    zs_shape xs;
    size_t nt;
    float *x = golden_nhwc(f, "x_T", &xs);
    int64_t *t = golden_i64(f, "t", &nt);
    size_t n = (size_t)zs_shape_numel(&xs);
    float *eps = zs_alloc(n, sizeof *eps);
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        zs_error err = {0};
        zs_model *m = NULL;
        must(zs_model_open(&m, golden_checkpoint(SET), &(zs_model_options){.backend = b->name},
                           &err),
             &err);
        must(zs_model_eps(m, eps, x, xs, t, NULL, &err), &err);
        golden_agrees(f, "eps_pred", b->name, eps, n, b->tolerance);
        zs_model_close(&m);
    }
    zs_free(x);
    zs_free(t);
    zs_free(eps);
    zs_tensorfile_close(&f);
}

/* The checkpoint has no hyper-parameters: everything but the image size follows from tensors. */
static void knows_what_it_is(void **state)
{
    static const char *const set[] = {"image_size=32", NULL};
    zs_error err = {0};
    zs_model *m = NULL;
    (void)state;
    golden_need(SET);
    if (zs_model_open(&m, golden_checkpoint(SET), &(zs_model_options){.set = set}, &err) < 0)
        fail_msg("%s", err.message);
    const zs_model_config *c = zs_model_configuration(m);
    assert_int_equal(c->unet.z_dim, 0);
    assert_int_equal(c->image_size, 32);
    assert_int_equal(c->unet.levels, 3);
    assert_int_equal(c->unet.num_res_blocks, 2);
    assert_int_equal(c->unet.attn_levels, 1u << 1);
    assert_false(zs_model_has(m, ZS_BOX_ENCODER) || zs_model_has(m, ZS_BOX_PRIOR));
    float z[64];
    must_refuse(zs_model_encode(m, z, z, zs_shape4(1, 8, 8, 3), &err), &err, ZS_E_INVALID,
                "has no encoder");
    zs_model_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(predicts_noise),
        cmocka_unit_test(knows_what_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, golden_teardown);
}
