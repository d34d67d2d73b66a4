/* SPDX-License-Identifier: MIT */
/* First stages: encoder and decoder against the authors' code (the VQ-f8, without its
 * quantisation, is made of the same blocks as the KL-f8), full-size files by name, and both
 * families of names. */
#include "io/tensorwrite.h"
#include "models/first_stage.h"
#include "tests/golden/netkit.h"
#include "tests/unit/must.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char SET[] = "rcg-vqf8";

/* A first stage with its weights. */
typedef struct stage {
    zs_vae_config c;
    zs_vae_file at;
    zs_params *ps;
    float *weights;
} stage;

/* One of its two networks. */
typedef struct wanted {
    const zs_vae_config *c;
    bool decoder;
    zs_shape x;
} wanted;

static void build(zs_nn *nn, const void *ctx)
{
    const wanted *w = ctx;
    zs_tid in = zs_graph_input(nn->g, "x", w->x);
    zs_graph_output(nn->g, "out",
                    w->decoder ? zs_vae_decoder_build(nn, w->c, in)
                               : zs_vae_encoder_build(nn, w->c, in));
}

/* Names all parameters: the smallest image there is, and its latents. */
static void lay_out(stage *s)
{
    zs_error err = {0};
    int64_t size = (int64_t)1 << (s->c.levels - 1);
    zs_shape x = zs_shape4(1, size, size, s->c.channels);
    zs_shape z = zs_shape4(1, 1, 1, s->c.latent_channels);
    must(zs_params_new(&s->ps, &err), &err);
    net_layout(s->ps, build, &(wanted){&s->c, false, x});
    net_layout(s->ps, build, &(wanted){&s->c, true, z});
    zs_params_seal(s->ps);
}

static void read_weights(stage *s, zs_tensorfile *f)
{
    zs_error err = {0};
    char name[200];
    s->weights = zs_calloc((size_t)zs_params_numel(s->ps), sizeof *s->weights);
    assert_non_null(s->weights);
    for (size_t i = 0; i < zs_params_count(s->ps); i++) {
        assert_true(
            zs_vae_file_name(name, sizeof name, &s->at, s->c.levels, zs_params_at(s->ps, i)->name));
        must(zs_params_read(s->ps, i, s->weights, f, name, &err), &err);
    }
}

static void stage_open(stage *s, const char *path)
{
    zs_error err = {0};
    zs_tensorfile *f = NULL;
    *s = (stage){0};
    must(zs_tensorfile_open(&f, path, &err), &err);
    assert_int_equal(zs_vae_find(&s->at, f), ZS_OK);
    must(zs_vae_infer(&s->c, f, &s->at, &err), &err);
    lay_out(s);
    read_weights(s, f);
    zs_tensorfile_close(&f);
}

static void stage_close(stage *s)
{
    zs_params_free(&s->ps);
    zs_free(s->weights);
}

/* ---- against the authors' code ---- */

static void knows_what_it_is(void **state)
{
    (void)state;
    golden_need(SET);
    static const int64_t ch[] = {32, 32, 64, 64};
    stage s;
    stage_open(&s, golden_checkpoint(SET));
    assert_string_equal(s.at.prefix, "state_dict.");
    assert_int_equal(s.at.names, ZS_VAE_LDM);
    assert_int_equal(s.c.levels, 4);
    assert_memory_equal(s.c.ch, ch, sizeof ch);
    assert_int_equal(s.c.num_res_blocks, 1);
    assert_int_equal(s.c.attn_levels, 1u << 3);
    assert_int_equal(s.c.channels, 3);
    assert_int_equal(s.c.z_channels, 4);
    assert_int_equal(s.c.latent_channels, 4);
    assert_false(s.c.gaussian);
    assert_true(s.c.scale == 1);
    stage_close(&s);
}

static void check(stage *s, zs_tensorfile *f, bool decoder, const char *in, const char *out)
{
    zs_shape xs;
    float *x = golden_nhwc(f, in, &xs);
    const wanted w = {&s->c, decoder, xs};
    for (int i = 0; i < GOLDEN_BACKENDS; i++) {
        const golden_backend *b = &golden_backends[i];
        zs_exec *e = net_plan(s->ps, &(net_recipe){build, &w, .backend = b->name});
        zs_shape ys = zs_exec_shape(e, "out");
        net_feed(e, "x", x);
        net_run(e, s->weights, NULL);
        golden_agrees(f, out, b->name, zs_exec_output(e, "out"), (size_t)zs_shape_numel(&ys),
                      b->tolerance);
        zs_exec_free(&e);
    }
    zs_free(x);
}

static void encodes_and_decodes(void **state)
{
    (void)state;
    golden_need(SET);
    stage s;
    zs_tensorfile *f = golden_open(SET, "golden.safetensors");
    stage_open(&s, golden_checkpoint(SET));
    check(&s, f, false, "image", "encode");
    check(&s, f, true, "encode", "decode_noquant");
    check(&s, f, true, "quantized", "decode");
    stage_close(&s);
    zs_tensorfile_close(&f);
}

/* Means alone, or moved along by the noise; what no exponential can hold is cut off. */
static void draws_latents(void **state)
{
    (void)state;
    zs_vae_config c = {.latent_channels = 2, .gaussian = true, .scale = 0.5};
    const float encoded[] = {1, -2, 0, 2, 3, 4, -100, 100}, noise[] = {1, 3, 2, 0};
    const float mean[] = {0.5f, -1, 1.5f, 2};
    float z[4];
    zs_vae_latents(z, &c, encoded, NULL, 2);
    assert_memory_equal(z, mean, sizeof z);
    zs_vae_latents(z, &c, encoded, noise, 2);
    assert_true(fabsf(z[0] - 1.0f) < 1e-6f);
    assert_true(fabsf(z[1] - (-1 + 1.5f * expf(1))) < 1e-6f);
    assert_true(fabsf(z[2] - (1.5f + expf(-15))) < 1e-6f);
    assert_true(z[3] == 2);
    c.gaussian = false;
    zs_vae_latents(z, &c, encoded, noise, 2);
    assert_true(z[0] == 0.5f && z[1] == -1 && z[2] == 0 && z[3] == 1);
}

/* ---- full size ---- */

static const zs_vae_config kl_f8 = {.levels = 4,
                                    .channels = 3,
                                    .latent_channels = 4,
                                    .z_channels = 4,
                                    .ch = {128, 256, 512, 512},
                                    .num_res_blocks = 2,
                                    .gaussian = true,
                                    .scale = 0.18215};

static bool has_shape(const zs_param *p, const char *want)
{
    char text[96];
    return strcmp(golden_shape_text(text, p), want) == 0;
}

/* Every tensor of the VQ-f8 of latent diffusion but the code book and the losses. */
static void has_the_official_tensors(void **state)
{
    (void)state;
    char path[512], line[256], name[128], shape[64];
    if (!golden_path(path, "keys", "ldm_vq_f8_first_stage.tsv")) {
        print_message("SKIPPED: no keys/ldm_vq_f8_first_stage.tsv\n");
        skip();
    }
    stage s = {.c = kl_f8};
    size_t count = 0;
    s.c.ch[2] = 256;
    s.c.attn_levels = 1u << 3;
    s.c.gaussian = false;
    lay_out(&s);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        assert_int_equal(sscanf(line, "%127s %63s", name, shape), 2);
        if (strncmp(name, "quantize.", 9) == 0 || strncmp(name, "loss.", 5) == 0)
            continue;
        long i = zs_params_find(s.ps, name);
        if (i < 0 || !has_shape(zs_params_at(s.ps, (size_t)i), shape))
            fail_msg("%s %s is not in the first stage", name, shape);
        count++;
    }
    (void)fclose(f);
    assert_int_equal(count, zs_params_count(s.ps));
    stage_close(&s);
}

/* Names of the published sd-vae-ft-ema and sd-vae-ft-mse, and of Stable Diffusion's checkpoints:
 * 248 tensors of 83,653,863 numbers in all. */
static void names_stable_diffusion(void **state)
{
    (void)state;
    static const struct {
        const char *ldm, *shape, *diffusers, *old;
    } known[] = {
        {"encoder.conv_in.weight", "128x3x3x3", "encoder.conv_in.weight", NULL},
        {"encoder.down.1.block.0.nin_shortcut.weight", "256x128x1x1",
         "encoder.down_blocks.1.resnets.0.conv_shortcut.weight", NULL},
        {"encoder.down.2.downsample.conv.bias", "512",
         "encoder.down_blocks.2.downsamplers.0.conv.bias", NULL},
        {"encoder.down.3.block.1.norm2.weight", "512",
         "encoder.down_blocks.3.resnets.1.norm2.weight", NULL},
        {"encoder.mid.block_1.conv1.weight", "512x512x3x3",
         "encoder.mid_block.resnets.0.conv1.weight", NULL},
        {"encoder.mid.attn_1.norm.bias", "512", "encoder.mid_block.attentions.0.group_norm.bias",
         NULL},
        {"encoder.mid.attn_1.q.weight", "512x512x1x1", "encoder.mid_block.attentions.0.to_q.weight",
         "encoder.mid_block.attentions.0.query.weight"},
        {"encoder.mid.attn_1.k.weight", "512x512x1x1", "encoder.mid_block.attentions.0.to_k.weight",
         "encoder.mid_block.attentions.0.key.weight"},
        {"encoder.mid.attn_1.v.bias", "512", "encoder.mid_block.attentions.0.to_v.bias",
         "encoder.mid_block.attentions.0.value.bias"},
        {"encoder.mid.attn_1.proj_out.weight", "512x512x1x1",
         "encoder.mid_block.attentions.0.to_out.0.weight",
         "encoder.mid_block.attentions.0.proj_attn.weight"},
        {"encoder.norm_out.weight", "512", "encoder.conv_norm_out.weight", NULL},
        {"encoder.conv_out.weight", "8x512x3x3", "encoder.conv_out.weight", NULL},
        {"quant_conv.weight", "8x8x1x1", "quant_conv.weight", NULL},
        {"post_quant_conv.weight", "4x4x1x1", "post_quant_conv.weight", NULL},
        {"decoder.conv_in.weight", "512x4x3x3", "decoder.conv_in.weight", NULL},
        {"decoder.mid.block_2.norm1.bias", "512", "decoder.mid_block.resnets.1.norm1.bias", NULL},
        {"decoder.up.3.block.2.conv2.weight", "512x512x3x3",
         "decoder.up_blocks.0.resnets.2.conv2.weight", NULL},
        {"decoder.up.1.upsample.conv.weight", "256x256x3x3",
         "decoder.up_blocks.2.upsamplers.0.conv.weight", NULL},
        {"decoder.up.0.block.0.nin_shortcut.weight", "128x256x1x1",
         "decoder.up_blocks.3.resnets.0.conv_shortcut.weight", NULL},
        {"decoder.norm_out.bias", "128", "decoder.conv_norm_out.bias", NULL},
        {"decoder.conv_out.weight", "3x128x3x3", "decoder.conv_out.weight", NULL},
    };
    char name[200];
    stage s = {.c = kl_f8};
    zs_vae_file at[3] = {
        {"first_stage_model.", ZS_VAE_LDM}, {"", ZS_VAE_DIFFUSERS}, {"", ZS_VAE_DIFFUSERS_OLD}};
    lay_out(&s);
    assert_int_equal(zs_params_count(s.ps), 248);
    assert_int_equal(zs_params_weights(s.ps), 83653863);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        long p = zs_params_find(s.ps, known[i].ldm);
        assert_true(p >= 0 && has_shape(zs_params_at(s.ps, (size_t)p), known[i].shape));
        assert_true(zs_vae_file_name(name, sizeof name, &at[0], 4, known[i].ldm));
        assert_string_equal(name + strlen("first_stage_model."), known[i].ldm);
        assert_true(zs_vae_file_name(name, sizeof name, &at[1], 4, known[i].ldm));
        assert_string_equal(name, known[i].diffusers);
        assert_true(zs_vae_file_name(name, sizeof name, &at[2], 4, known[i].ldm));
        assert_string_equal(name, known[i].old ? known[i].old : known[i].diffusers);
    }
    stage_close(&s);
}

/* ---- the same weights under every name ---- */

/* A gaussian first stage of three levels, attention at the last: names as in `at`, weights of
 * attentions as matrices where a test wants them so. Damage: the file lacks its last tensor. */
static void write_stage(const stage *s, const zs_vae_file *at, bool matrices, size_t less,
                        const char *path)
{
    zs_error err = {0};
    size_t n = zs_params_count(s->ps);
    zs_tensorout *t = zs_calloc(n, sizeof *t);
    char(*names)[200] = zs_alloc(n, sizeof *names);
    assert_true(t && names);
    for (size_t i = 0; i < n; i++) {
        const zs_param *p = zs_params_at(s->ps, i);
        float *v = zs_alloc((size_t)p->numel, sizeof *v);
        assert_non_null(v);
        zs_params_export(s->ps, i, s->weights, v);
        assert_true(zs_vae_file_name(names[i], sizeof names[i], at, s->c.levels, p->name));
        t[i] = (zs_tensorout){.name = names[i], .dtype = ZS_F32, .nd = p->nd, .data = v};
        if (matrices && strstr(p->name, "attn") && p->nd == 4)
            t[i].nd = 2;
        memcpy(t[i].shape, p->shape, sizeof p->shape);
    }
    must(zs_safetensors_write(path, t, n - less, NULL, &err), &err);
    for (size_t i = 0; i < n; i++)
        zs_free((void *)(uintptr_t)t[i].data);
    zs_free(t);
    zs_free(names);
}

static stage random_stage(void)
{
    stage s = {.c = {.levels = 3,
                     .channels = 1,
                     .latent_channels = 3,
                     .z_channels = 2,
                     .ch = {8, 16, 32},
                     .num_res_blocks = 2,
                     .attn_levels = 1u << 2,
                     .gaussian = true,
                     .scale = 0.18215}};
    lay_out(&s);
    s.weights = zs_alloc((size_t)zs_params_numel(s.ps), sizeof *s.weights);
    assert_non_null(s.weights);
    zs_params_init(s.ps, s.weights, 5);
    return s;
}

static void reads_every_name(void **state)
{
    (void)state;
    static const zs_vae_file at[] = {{"", ZS_VAE_LDM},
                                     {"first_stage_model.", ZS_VAE_LDM},
                                     {"state_dict.first_stage_model.", ZS_VAE_LDM},
                                     {"", ZS_VAE_DIFFUSERS},
                                     {"", ZS_VAE_DIFFUSERS_OLD}};
    char path[] = "/tmp/zsem-first-stage-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    stage s = random_stage();
    for (size_t i = 0; i < 2 * sizeof at / sizeof at[0]; i++) {
        stage other;
        write_stage(&s, &at[i / 2], i & 1, 0, path);
        stage_open(&other, path);
        assert_string_equal(other.at.prefix, at[i / 2].prefix);
        assert_int_equal(other.at.names, at[i / 2].names);
        assert_memory_equal(&other.c, &s.c, sizeof s.c);
        assert_int_equal(zs_params_numel(other.ps), zs_params_numel(s.ps));
        assert_memory_equal(other.weights, s.weights,
                            (size_t)zs_params_numel(s.ps) * sizeof *s.weights);
        stage_close(&other);
    }
    stage_close(&s);
    (void)unlink(path);
}

static void refuses_half_a_stage(void **state)
{
    (void)state;
    char path[] = "/tmp/zsem-first-stage-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    stage s = random_stage();
    zs_error err = {0};
    zs_tensorfile *f = NULL;
    zs_vae_file at = {.names = ZS_VAE_DIFFUSERS};
    zs_vae_config c;
    /* the decoder's tensors come last, and post_quant_conv before them */
    size_t decoder = zs_params_count(s.ps) - (size_t)zs_params_find(s.ps, "decoder.conv_in.weight");
    write_stage(&s, &at, true, decoder - 2, path); /* conv_in alone */
    assert_int_equal(zs_tensorfile_open(&f, path, &err), ZS_OK);
    assert_int_equal(zs_vae_find(&at, f), ZS_OK);
    assert_int_equal(zs_vae_infer(&c, f, &at, &err),
                     ZS_OK); /* the rest is missed when it is read */
    zs_tensorfile_close(&f);
    write_stage(&s, &at, true, decoder, path);
    assert_int_equal(zs_tensorfile_open(&f, path, &err), ZS_OK);
    assert_int_equal(zs_vae_find(&at, f), 1);
    must_refuse(zs_vae_infer(&c, f, &at, &err), &err, ZS_E_FORMAT, "do not form a first stage");
    zs_tensorfile_close(&f);
    stage_close(&s);
    (void)unlink(path);
}

/* Images of another number of channels, or that cannot be halved so often. */
static void refuses_other_images(void **state)
{
    (void)state;
    static const struct {
        zs_shape x;
        bool decoder;
        const char *why;
    } cases[] = {
        {{4, {1, 8, 8, 3}}, false, "takes images of 1 channels, not 3"},
        {{4, {1, 8, 6, 1}}, false, "halves images 2 times: 6x8 is not a multiple of 4"},
        {{4, {1, 2, 2, 4}}, true, "takes latents of 3 channels, not 4"},
    };
    stage s = random_stage();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        zs_error err = {0};
        zs_exec *e = NULL;
        zs_graph *g = NULL;
        assert_int_equal(zs_graph_new(&g, &err), ZS_OK);
        zs_nn nn = {.g = g, .ps = s.ps};
        zs_tid x = zs_graph_input(g, "x", cases[i].x);
        (void)(cases[i].decoder ? zs_vae_decoder_build(&nn, &s.c, x)
                                : zs_vae_encoder_build(&nn, &s.c, x));
        must_refuse(zs_exec_new(&e, &g, &(zs_exec_config){0}, &err), &err, ZS_E_INVALID,
                    cases[i].why);
    }
    stage_close(&s);
}

/* Latents of 3 channels for a generator of 4, and a guidance that nothing was left out for. */
static void refuses_what_does_not_fit(void **state)
{
    (void)state;
    golden_need("rcg-dit");
    char path[] = "/tmp/zsem-first-stage-XXXXXX", dit[512], spec[600];
    static const char *const heads[] = {"generator.heads=4", NULL};
    const zs_model_options o = {.set = heads};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    stage s = random_stage();
    zs_error err = {0};
    zs_model *m = NULL;
    float z[64];
    write_stage(&s, &(zs_vae_file){.names = ZS_VAE_DIFFUSERS}, true, 0, path);
    assert_true(golden_path(dit, "rcg-dit", "checkpoint-last.pth"));
    (void)snprintf(spec, sizeof spec, "%s,%s", dit, path);
    must_refuse(zs_model_open(&m, spec, &o, &err), &err, ZS_E_INVALID,
                "the first stage makes latents of 3 channels, but the "
                "generator takes 4");
    assert_int_equal(zs_model_open(&m, path, NULL, &err), ZS_OK);
    must_refuse(zs_model_absent_z(m, z, &err), &err, ZS_E_INVALID, "has no guidance");
    must_refuse(zs_model_to_latents(m, z, z, zs_shape4(1, 2, 2, 1), NULL, &err), &err, ZS_E_INVALID,
                "multiples of 4");
    zs_model_close(&m);
    err = (zs_error){0};
    assert_int_equal(zs_model_open(&m, dit, &o, &err), ZS_OK);
    must_refuse(zs_model_from_latents(m, z, z, zs_shape4(1, 1, 1, 4), &err), &err, ZS_E_INVALID,
                "has no first stage");
    zs_model_close(&m);
    stage_close(&s);
    (void)unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_it_is),
        cmocka_unit_test(encodes_and_decodes),
        cmocka_unit_test(draws_latents),
        cmocka_unit_test(has_the_official_tensors),
        cmocka_unit_test(names_stable_diffusion),
        cmocka_unit_test(reads_every_name),
        cmocka_unit_test(refuses_half_a_stage),
        cmocka_unit_test(refuses_other_images),
        cmocka_unit_test(refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, golden_teardown);
}
