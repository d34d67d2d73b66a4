/* SPDX-License-Identifier: MIT */
/* Training of linear probes on codes, and how good they are on codes that they have not seen. */
#ifndef ZS_TRAIN_PROBEFIT_H
#define ZS_TRAIN_PROBEFIT_H

#include "data/labels.h"
#include "models/probe.h"
#include "train/codes.h"
#include "train/optim.h"

typedef struct zs_probe_fit {
    zs_optim_config optim; /* its ema is that of the moving average, which starts at 0 and is
                              corrected for that as Adam's moments are */
    int64_t batch, samples;
    uint64_t seed;
    int64_t shots;   /* 0: every labelled code. Else that many positives and as many negatives of
                        each attribute, and every attribute on its own */
    bool unlabelled; /* the negatives are all other codes, whatever their label: the two kinds come
                        from loaders of their own, half a batch each (positive-unlabelled) */
} zs_probe_fit;

/* Adam 1e-3, 300,000 samples in batches of 32 as the authors' classifiers, average 0.999. Theirs of
 * 0.9999 reaches over more steps than there are, and leaves probabilities near 1/2. */
zs_probe_fit zs_probe_fit_defaults(void);

/* Which images are held out for measuring: a stable tenth, by a hash of the image's name. */
bool zs_held_out(const zs_source *data, int64_t i);

/* Trains p, whose attributes are those of l, on the normalised codes of the images with
 * use[image]. Binary cross entropy over the labels that are known. Constant attributes are an
 * error: leave them out before. ZS_E_INVALID names an attribute with too few examples;
 * ZS_E_CANCELLED, ZS_E_NOMEM. */
int zs_probe_train(zs_probe *p, const zs_codes *codes, const zs_labels *l, const bool *use,
                   const zs_probe_fit *c, const zs_ui *ui, zs_error *err);

/* Logits of attribute `attr` for the images of view 0: score [codes->n]. */
void zs_probe_scores(const zs_probe *p, int attr, const zs_codes *codes, float *score);

#endif
