/* SPDX-License-Identifier: MIT */
/* Model configurations: ranges with their messages, overrides, metadata. */
#include "models/models.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/must.h"

static zs_model_config fashion(void)
{
    zs_preset p;
    zs_error err = {0};
    assert_int_equal(zs_preset_find(&p, "fashion32", &err), ZS_OK);
    p.autoencoder.latent_mlp = p.prior.latent_mlp;
    return p.autoencoder;
}

static void set(zs_model_config *c, const char *key_value)
{
    zs_error err = {0};
    if (zs_model_config_set(c, key_value, &err) != ZS_OK)
        fail_msg("%s: %s", key_value, err.message);
}

static void overrides(void **state)
{
    zs_model_config c = fashion();
    zs_error err = {0};
    (void)state;
    set(&c, "image_size=64");
    set(&c, "channels=3");
    set(&c, "fit=crop");
    set(&c, "channel_mult=1,2,3");
    set(&c, "enc_channel_mult=1,2,4,8");
    set(&c, "model_channels=64");
    set(&c, "attention=32,16");
    set(&c, "num_res_blocks=3");
    set(&c, "enc_num_res_blocks=2");
    set(&c, "heads=4");
    set(&c, "embed_channels=256");
    set(&c, "z_dim=96");
    set(&c, "dropout=0.25");
    set(&c, "T=500");
    set(&c, "beta_schedule=cosine");
    set(&c, "latent_beta_schedule=const0.01");
    assert_int_equal(zs_model_config_validate(&c, &err), ZS_OK);
    assert_int_equal(c.unet.levels, 3);
    assert_int_equal(c.unet.ch[2], 192);
    assert_int_equal(c.sem_encoder.ch[3], 512);
    assert_int_equal(c.unet.attn_levels, 6);
    assert_int_equal(c.sem_encoder.in_channels, 3);
    assert_int_equal(c.sem_encoder.z_dim, 96);
    assert_int_equal(c.latent_mlp.z_dim, 96);
    assert_int_equal(c.sem_encoder.heads, 4);
    set(&c, "attention=none");
    assert_int_equal(c.unet.attn_levels, 0);
    assert_int_equal(zs_model_config_set(&c, "lr=1e-4", &err), 1);
    assert_int_equal(err.status, ZS_OK);
}

static void refused_overrides(void **state)
{
    static const char *const bad[] = {
        "image_size",
        "image_size=",
        "image_size=12a",
        "channel_mult=1,,",
        "channel_mult=0",
        "dropout=much",
        "attention=",
        "channel_mult=1,2,3,4,5,6,7,8,9",
        "T=1e3",
        "model_channels=0",
        "beta_schedule=a-name-that-is-far-too-long-for-anybody-to-keep-or-to-read"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        zs_model_config c = fashion();
        zs_error err = {0};
        if (zs_model_config_set(&c, bad[i], &err) != ZS_E_INVALID)
            fail_msg("%s was accepted", bad[i]);
        assert_true(strlen(err.message) > 10);
    }
}

/* Each row breaks one field; the message names it. */
static void refused_configurations(void **state)
{
    static const struct {
        const char *set, *says;
    } rows[] = {{"image_size=33", "image_size is 33"},
                {"channels=2", "channels is 2"},
                {"fit=stretch", "fit is \"stretch\""},
                {"num_res_blocks=0", "generator.num_res_blocks is 0, outside 1..16"},
                {"enc_num_res_blocks=17", "encoder.num_res_blocks is 17, outside 1..16"},
                {"heads=3", "attention heads do not divide"},
                {"embed_channels=0", "generator.embed_channels is 0"},
                {"z_dim=-1", "generator.z_dim is -1"},
                {"dropout=1", "generator.dropout is 1"},
                {"T=0", "diffusion.T is 0"},
                {"model_channels=33", "generator.model_channels is 33; it must be even"},
                {"beta_schedule=sqrt", "beta schedule \"sqrt\" is unknown"},
                {"latent_beta_schedule=const2", "\"const2\" is unknown"}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        zs_model_config c = fashion();
        zs_error err = {0};
        set(&c, rows[i].set);
        assert_int_equal(zs_model_config_validate(&c, &err), ZS_E_INVALID);
        if (!strstr(err.message, rows[i].says))
            fail_msg("%s: \"%s\"", rows[i].set, err.message);
    }
}

/* In range, but 32 groups cannot split them: found while the network is laid out. */
static void channels_that_groups_do_not_divide(void **state)
{
    zs_model_config c = fashion();
    zs_error err = {0};
    zs_params *ps = NULL;
    (void)state;
    c.unet.ch[1] = 40;
    must_refuse(zs_model_layout(&ps, &c, &err), &err, ZS_E_INVALID, "normalises 40 channels");
    assert_null(ps);
}

static void metadata_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; zs_preset_name(i); i++) {
        zs_preset p;
        zs_error err = {0};
        zs_model_config back;
        assert_int_equal(zs_preset_find(&p, zs_preset_name(i), &err), ZS_OK);
        zs_model_config *c[] = {&p.autoencoder, &p.ddpm, &p.generator};
        if (p.prior.latent_mlp.layers)
            p.autoencoder.latent_mlp = p.prior.latent_mlp;
        for (int k = 0; k < 3; k++) {
            if (!zs_model_config_arch(c[k], ZS_BOX_GENERATOR, NULL))
                continue;
            json_t *j = zs_model_config_to_json(c[k]), *again;
            assert_non_null(j);
            must(zs_model_config_from_json(&back, j, "here", &err), &err);
            again = zs_model_config_to_json(&back);
            assert_true(json_equal(j, again));
            json_decref(j);
            json_decref(again);
        }
    }
}

/* A box less is another model. */
static bool is_box(const char *key)
{
    for (int b = 0; b < ZS_BOX_COUNT; b++)
        if (strcmp(key, zs_box_name((zs_box)b)) == 0)
            return true;
    return false;
}

/* Every other member of the metadata is needed, and none may be a list instead. */
static void damaged_metadata(void **state)
{
    zs_model_config c = fashion(), back;
    json_t *whole = zs_model_config_to_json(&c), *value;
    const char *key;
    (void)state;
    assert_non_null(whole);
    json_object_foreach(whole, key, value)
    {
        for (int k = 0; k < 2; k++) {
            zs_error err = {0};
            json_t *j = json_deep_copy(whole);
            if (k == 0)
                json_object_del(j, key);
            else
                json_object_set_new(j, key, json_array());
            int status = zs_model_config_from_json(&back, j, "FILE", &err);
            if (status == ZS_OK && !(k == 0 && is_box(key)))
                fail_msg("accepted without %s", key);
            assert_true(status == ZS_OK || strncmp(err.message, "FILE", 4) == 0);
            json_decref(j);
        }
    }
    json_decref(whole);
}

/* What a generator does not have is refused, not ignored. */
static void keys_of_other_generators(void **state)
{
    zs_model_config adm = {.image_size = 16, .channels = 1, .adm = {.levels = 2}}, dit = {0};
    zs_error err = {0};
    (void)state;
    dit.dit.depth = 2;
    assert_int_equal(zs_model_config_set(&adm, "dropout=0.5", &err), ZS_OK);
    must_refuse(zs_model_config_set(&adm, "heads=2", &err), &err, ZS_E_INVALID,
                "a generator adm has no such key");
    assert_int_equal(zs_model_config_set(&dit, "dropout=0.5", NULL), ZS_E_INVALID);
    assert_true(dit.unet.dropout <= 0.0 && adm.unet.heads == 0);
}

/* A generator of latents that loses its first stage waits for one, and its images are latents. */
static void boxes_go(void **state)
{
    zs_model_config c = {
        .image_size = 64, .channels = 3, .fit = "crop", .diffusion = zs_process_adm};
    zs_error err = {0};
    (void)state;
    c.adm = (zs_adm_config){.levels = 2,
                            .in_channels = 4,
                            .model_channels = 8,
                            .ch = {8, 16},
                            .num_res_blocks = 1,
                            .head_channels = 8,
                            .learn_sigma = true};
    c.vae = (zs_vae_config){.levels = 4,
                            .channels = 3,
                            .latent_channels = 4,
                            .z_channels = 4,
                            .ch = {8, 8, 8, 8},
                            .num_res_blocks = 1,
                            .scale = 1.0};
    c.sem_encoder = (zs_sem_encoder_config){
        .in_channels = 3, .levels = 2, .ch = {8, 16}, .num_res_blocks = 1, .heads = 1, .z_dim = 6};
    assert_int_equal(zs_model_config_condition(&c, 6, 0, &err), ZS_OK);
    must(zs_model_config_validate(&c, &err), &err);
    zs_model_config_clear(&c, ZS_BOX_FIRST_STAGE);
    assert_int_equal(c.image_size, 8);
    assert_int_equal(c.channels, 4);
    assert_int_equal(zs_model_config_encoder_size(&c), 64); /* it sees no latents */
    must(zs_model_config_validate(&c, &err), &err);
    zs_model_config_clear(&c, ZS_BOX_GENERATOR);
    assert_int_equal(c.image_size, 64);
    assert_int_equal(c.channels, 3);
    must(zs_model_config_validate(&c, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overrides),
        cmocka_unit_test(refused_overrides),
        cmocka_unit_test(refused_configurations),
        cmocka_unit_test(channels_that_groups_do_not_divide),
        cmocka_unit_test(metadata_round_trip),
        cmocka_unit_test(damaged_metadata),
        cmocka_unit_test(boxes_go),
        cmocka_unit_test(keys_of_other_generators),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
