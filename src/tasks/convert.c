/* SPDX-License-Identifier: MIT */
/* zsem convert: any MODEL -> one bundle. */
#include "tasks/pipeline.h"

#include <string.h>
#include <sys/stat.h>

static int parse_dtype(zs_dtype *out, zs_task_env *env)
{
    static const struct {
        const char *name;
        zs_dtype dtype;
    } table[] = {{"f32", ZS_F32}, {"f16", ZS_F16}, {"bf16", ZS_BF16}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (strcmp(zs_opt_text(env, "dtype"), table[i].name) == 0) {
            *out = table[i].dtype;
            return ZS_OK;
        }
    return zs_fail(env->err, ZS_E_INVALID, "convert: --dtype must be f32, f16 or bf16, not '%s'",
                   zs_opt_text(env, "dtype"));
}

static int run(zs_task_env *env)
{
    zs_model *m = NULL;
    zs_dtype dtype = ZS_F32;
    const char *out = zs_arg(env, 1);
    struct stat st;
    int status = parse_dtype(&dtype, env);
    if (status == ZS_OK && !zs_str_ends(out, ".safetensors"))
        status = zs_fail(env->err, ZS_E_INVALID,
                         "%s: the name of a bundle must end in .safetensors", out);
    if (status == ZS_OK)
        status = zs_pipeline_open(&m, env, zs_arg(env, 0), ZS_BOX_COUNT, false);
    if (status == ZS_OK)
        status = zs_model_save(m, out, dtype, env->err);
    if (status == ZS_OK) {
        double mib = stat(out, &st) == 0 ? (double)st.st_size / 1048576.0 : 0.0;
        zs_result_set(env, "out", zs_json_text(out));
        zs_result_set(env, "mib", json_real(mib));
        zs_strbuf_addf(env->text, "%s: %.1f MiB\n", out, mib);
    }
    zs_model_close(&m);
    return status;
}

static const zs_option options[] = {
    {"dtype", ZS_OPTION_TEXT, "TYPE", "f32", 0, 0, "f32, f16 or bf16; f16 halves the file"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {"zsem convert last.ckpt,latent.pkl ffhq256.safetensors",
                                       "zsem convert runs/mine small.safetensors --dtype f16",
                                       NULL};

const zs_task zs_task_convert = {
    {"convert", "MODEL OUT.safetensors [--dtype TYPE] [options]",
     "write any model as one bundle: EMA weights, statistics, configuration", NULL, 2, 2, options,
     examples},
    run};
