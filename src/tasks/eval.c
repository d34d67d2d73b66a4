/* SPDX-License-Identifier: MIT */
/* zsem eval: the metrics by name. */
#include "tasks/eval.h"
#include "tasks/pipeline.h"

#include <string.h>

static const zs_eval_metric *const metrics[] = {
    &zs_eval_fid,    &zs_eval_is,    &zs_eval_kid,  &zs_eval_prc,
    &zs_eval_rep_fd, &zs_eval_lpips, &zs_eval_ssim, &zs_eval_psnr,
    &zs_eval_mse,    &zs_eval_auroc, NULL};

static const zs_option options[] = {
    {"features", ZS_OPTION_TEXT, "MODEL", NULL, 0, 0,
     "pytorch-fid's pt_inception-2015-12-05-6726825d.pth, or a zsem MODEL with an encoder"},
    {"stats", ZS_OPTION_TEXT, "FILE.npz", NULL, 0, 0,
     "fid, rep-fd: keep the statistics of the reference there and use them the next time"},
    {"resize", ZS_OPTION_TEXT, "HOW", NULL, 0, 0,
     "how images reach Inception: pytorch-fid (fid's own way) or tf (that of is, kid, prc)"},
    {"limit", ZS_OPTION_INT, "N", "0", 0, 9e15, "only the first N images of each set; 0 for all"},
    {"splits", ZS_OPTION_INT, "N", "10", 1, 1000, "is: parts whose scores are averaged"},
    {"subsets", ZS_OPTION_INT, "N", "100", 1, 1000000, "kid: how many random subsets"},
    {"subset-size", ZS_OPTION_INT, "N", "1000", 2, 1000000, "kid: samples of a subset"},
    {"neighbours", ZS_OPTION_INT, "K", "3", 1, ZS_NEIGHBOURS_MAX, "prc: balls reach to the K-th"},
    {"alexnet", ZS_OPTION_TEXT, "FILE", NULL, 0, 0,
     "lpips: torchvision's alexnet-owt-7be5be79.pth"},
    {"lin", ZS_OPTION_TEXT, "FILE", NULL, 0, 0, "lpips: weights/v0.1/alex.pth of its repository"},
    ZS_MODEL_OPTIONS,
    ZS_OPTIONS_END};

static const char *const examples[] = {
    "zsem eval fid samples/ photos/ --features pt_inception-2015-12-05-6726825d.pth --stats "
    "photos.npz",
    "zsem eval fid samples/ photos.npz --features pt_inception-2015-12-05-6726825d.pth",
    "zsem eval rep-fd generated.npy codes.safetensors",
    "zsem eval kid samples/ fashion-mnist:test --features share/fashion32.safetensors --limit 2000",
    "zsem eval ssim reconstructions/ originals/ --json",
    "zsem eval auroc scores.npy labels.npy",
    NULL};

static const zs_eval_metric *find(const char *name)
{
    for (size_t i = 0; metrics[i]; i++)
        if (strcmp(metrics[i]->name, name) == 0)
            return metrics[i];
    return NULL;
}

static int unknown(zs_task_env *env, const char *name)
{
    zs_strbuf names = {0};
    for (size_t i = 0; metrics[i]; i++)
        zs_strbuf_addf(&names, " %s", metrics[i]->name);
    int status = zs_fail(env->err, ZS_E_INVALID, "there is no metric '%s'; the metrics are%s", name,
                         names.s ? names.s : "");
    zs_strbuf_free(&names);
    return status;
}

static int check(const zs_eval_metric *m, zs_task_env *env)
{
    size_t sets = zs_arg_count(env) - 1;
    if (sets < m->min || sets > m->max)
        return zs_fail(env->err, ZS_E_INVALID, "%s takes %s, not %zu", m->name,
                       m->max == 1   ? "one set"
                       : m->min == 1 ? "a set and a reference"
                                     : "two sets",
                       sets);
    return zs_opt_only(env, m->name, m->options);
}

static int run(zs_task_env *env)
{
    const zs_eval_metric *m = find(zs_arg(env, 0));
    int status = m ? check(m, env) : unknown(env, zs_arg(env, 0));
    return status < 0 ? status : m->run(env);
}

const zs_task zs_task_eval = {
    {"eval", "METRIC A [B] [options]",
     "measure images, codes and scores: FID, KID, SSIM, AUROC, ...",
     "fid      Frechet Inception distance of A from the reference B\n"
     "is       Inception score of A\n"
     "kid      kernel Inception distance of A from B\n"
     "prc      improved precision and recall of A against B\n"
     "rep-fd   Frechet distance of the codes A from the codes B\n"
     "lpips, ssim, psnr, mse   image i of A against image i of B\n"
     "auroc    SCORES LABELS: area under the ROC curve and average precision\n"
     "A and B are data sets (folders, anything that --data takes), statistics with mu and sigma\n"
     "(.npz of pytorch-fid, of ADM, of --stats), or features and codes (.npy, .safetensors).\n"
     "docs/metrics.md says which numbers can be compared with which.",
     2, 3, options, examples},
    run};
