/* SPDX-License-Identifier: MIT */
/* The full-size official models: every parameter's name, shape and place in the order, against
 * listings of the authors' state_dicts. */
#include "models/models.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void shape_text(char buf[128], const zs_param *p)
{
    int n = 0;
    buf[0] = 0;
    for (int i = 0; i < p->nd; i++)
        n += snprintf(buf + n, 128 - (size_t)n, "%s%" PRId64, i ? "x" : "", p->shape[i]);
}

static void compare(const zs_model_config *c, const char *file)
{
    char path[512], line[512], want[512], shape[128];
    zs_params *ps = NULL;
    zs_error err = {0};
    size_t i = 0;
    if (zs_model_layout(&ps, c, &err) < 0)
        fail_msg("%s: %s", file, err.message);
    (void)snprintf(path, sizeof path, "%s/tests/golden/data/keys/%s.tsv", ZSEM_SOURCE_DIR, file);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); i++) {
        if (i >= zs_params_count(ps))
            fail_msg("%s: the model ends before %s", file, line);
        const zs_param *p = zs_params_at(ps, i);
        shape_text(shape, p);
        (void)snprintf(want, sizeof want, "%s\t%s\n", p->name, shape);
        assert_string_equal(want, line);
    }
    assert_int_equal(i, zs_params_count(ps));
    assert_true(i > 300);
    (void)fclose(f);
    zs_params_free(&ps);
}

static zs_preset preset(const char *name)
{
    zs_preset p;
    zs_error err = {0};
    assert_int_equal(zs_preset_find(&p, name, &err), ZS_OK);
    return p;
}

static void autoencoder(const char *name, const char *file)
{
    zs_preset p = preset(name);
    p.autoencoder.latent_mlp = p.prior.latent_mlp;
    compare(&p.autoencoder, file);
}

static void official_autoencoders(void **state)
{
    (void)state;
    autoencoder("ffhq64", "diffae_64");
    autoencoder("celeba64", "diffae_64");
    autoencoder("ffhq128", "diffae_128");
    autoencoder("horse128", "diffae_128_latent20");
    autoencoder("bedroom128", "diffae_128_latent20");
    autoencoder("ffhq256", "diffae_256");
}

static void official_baselines(void **state)
{
    (void)state;
    zs_preset p = preset("ffhq64");
    compare(&p.ddpm, "ddpm_64");
    p = preset("ffhq128");
    compare(&p.ddpm, "ddpm_128");
}

static void every_preset_is_valid(void **state)
{
    zs_error err = {0};
    (void)state;
    for (size_t i = 0; zs_preset_name(i); i++) {
        zs_preset p = preset(zs_preset_name(i));
        const zs_model_config *c[] = {&p.autoencoder, &p.ddpm, &p.generator, &p.prior};
        int found = 0;
        for (int k = 0; k < 4; k++) {
            if (!zs_model_config_arch(c[k], k < 3 ? ZS_BOX_GENERATOR : ZS_BOX_PRIOR, NULL))
                continue;
            assert_int_equal(zs_model_config_validate(c[k], &err), ZS_OK);
            found++;
        }
        assert_true(found > 0);
        if (!p.autoencoder.unet.levels)
            continue;
        p.autoencoder.latent_mlp = p.prior.latent_mlp;
        assert_int_equal(zs_model_config_validate(&p.autoencoder, &err), ZS_OK);
    }
    zs_preset p;
    assert_int_equal(zs_preset_find(&p, "ffhq1024", &err), ZS_E_INVALID);
    assert_non_null(strstr(err.message, "fashion32, emoji64, ffhq64"));
}

/* Counted on the authors' networks: 27.2 + 2.1 GFLOP for a 64x64 image, 166 for a 128x128 one,
 * generator and encoder together. */
static void arithmetic_of_official_models(void **state)
{
    static const struct {
        const char *preset;
        int64_t side;
        double least, most; /* GFLOP */
    } rows[] = {{"ffhq64", 64, 28, 31},
                {"ffhq128", 128, 160, 172},
                {"fashion32", 32, 0.1, 1},
                {"emoji64", 64, 1, 4}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zs_flops f;
        zs_error err = {0};
        zs_preset p = preset(rows[i].preset);
        int64_t side = rows[i].side;
        assert_int_equal(zs_model_flops(&f, &p.autoencoder, side, side, &err), ZS_OK);
        double generator = f.box[ZS_BOX_GENERATOR] / 1e9, encoder = f.box[ZS_BOX_ENCODER] / 1e9;
        print_message("%s: generator %.3f, encoder %.3f GFLOP\n", rows[i].preset, generator,
                      encoder);
        assert_true(generator + encoder > rows[i].least && generator + encoder < rows[i].most);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(official_autoencoders),
        cmocka_unit_test(official_baselines),
        cmocka_unit_test(every_preset_is_valid),
        cmocka_unit_test(arithmetic_of_official_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
