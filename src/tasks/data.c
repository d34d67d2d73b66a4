/* SPDX-License-Identifier: MIT */
/* zsem data: what a data set holds, and packing it into another form. */
#include "tasks/datatask.h"

#include <string.h>

static int run(zs_task_env *env)
{
    const char *verb = zs_arg(env, 0), *spec = zs_arg(env, 1);
    bool pack = strcmp(verb, "pack") == 0;
    if (!pack && strcmp(verb, "info") != 0)
        return zs_fail(env->err, ZS_E_INVALID, "data: '%s' is not one of info, pack", verb);
    if (pack != (zs_arg_count(env) == 3))
        return zs_fail(env->err, ZS_E_INVALID, "data: usage: zsem data %s",
                       pack ? "pack SRC OUT [options]" : "info SRC [options]");
    zs_source *s = NULL;
    int status = pack
                     ? zs_opt_only(env, "data pack", " to size fit channels shard rename skip-bad ")
                     : zs_opt_only(env, "data info", " images out ");
    if (status == ZS_OK)
        status = zs_source_open(&s, spec, env->err);
    if (status == ZS_OK)
        status = pack ? zs_data_pack(env, s, zs_arg(env, 2)) : zs_data_info(env, s);
    zs_source_close(&s);
    return status;
}

static const zs_option options[] = {
    {"images", ZS_OPTION_INT, "N", "0", 0, 2e12, "info: decode only N images, spread; 0: all"},
    {"out", ZS_OPTION_TEXT, "FILE", NULL, 0, 0, "info: write a PNG grid of the first images"},
    {"to", ZS_OPTION_TEXT, "KIND", NULL, 0, 0,
     "pack: folder, tar or lmdb; else OUT's ending decides (.tar, .lmdb)"},
    {"size", ZS_OPTION_INT, "N", NULL, 1, 16384,
     "pack: resize and crop to N x N, as models see images; PNG"},
    {"fit", ZS_OPTION_TEXT, "HOW", "crop", 0, 0,
     "pack: crop, or pad: smaller images are centred on black instead of enlarged"},
    {"channels", ZS_OPTION_INT, "C", "0", 0, 3, "pack: 1 grey, 3 colour, 0 as stored"},
    {"shard", ZS_OPTION_INT, "N", "0", 0, 1e9,
     "pack: a folder of tar shards with N images each; 0: one archive"},
    {"rename", ZS_OPTION_FLAG, NULL, NULL, 0, 0, "pack: number the images instead of naming them"},
    {"skip-bad", ZS_OPTION_FLAG, NULL, NULL, 0, 0,
     "pack: leave unreadable images out, with a warning, instead of stopping"},
    {NULL, ZS_OPTION_FLAG, NULL, NULL, 0, 0, NULL}};

static const char *const examples[] = {"zsem data info photos/ --out first.png",
                                       "zsem data pack photos/ photos64.lmdb --size 64",
                                       "zsem data pack ffhq.lmdb shards/ --to tar --shard 1000",
                                       "zsem data pack \"shards/*.tar:val=0.05\" held-out/", NULL};

const zs_task zs_task_data = {
    {"data", "info SRC | pack SRC OUT [options]",
     "say what a data set holds, or convert it: folder, tar shards, LMDB",
     "SRC, here and for --data: a folder or image, PATTERN.tar (webdataset shards), PATH.lmdb,\n"
     "fashion-mnist[:test], cifar10:PATH[:test], cifar100:PATH, idx:IMAGES[,LABELS]; with\n"
     ":val=0.05 or :train=0.95 behind it, that share of the images, by a hash of their names.\n"
     "Images are packed as they are stored unless --size or --channels changes them. OUT appears\n"
     "whole when all is written: after Ctrl-C or an error nothing of it remains.",
     2, 3, options, examples},
    run};
