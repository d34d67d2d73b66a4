/* SPDX-License-Identifier: MIT */
/* Linear probes on codes: what an attribute looks like in z_sem (Diffusion Autoencoders, 5.3).
 *
 * Everything here is in normalised codes, (z - mean)/std. Two sets of weights, as the authors keep
 * them: trained ones, whose rows are the directions of edits, and a moving average, which gives
 * probabilities. They need not come from one training (zs_probe_take_directions). */
#ifndef ZS_MODELS_PROBE_H
#define ZS_MODELS_PROBE_H

#include "io/io.h"

typedef struct zs_probe {
    int attrs;            /* >= 1 */
    int64_t dim;          /* of the codes */
    char **names;         /* [attrs] owned */
    float *w, *b;         /* [attrs,dim], [attrs]; b, avg_w and avg_b are parts of w's block */
    float *avg_w, *avg_b; /* their moving average */
} zs_probe;

/* A probe of zeroes whose names are copies. ZS_E_NOMEM. */
int zs_probe_new(zs_probe **out, const char *const *names, int attrs, int64_t dim, zs_error *err);
void zs_probe_free(zs_probe **p);

/* Index of the attribute of that name (exactly, or failing that, in any case). ZS_E_INVALID lists
 * those that there are. */
int zs_probe_find(const zs_probe *p, const char *name, zs_error *err);

/* Logits [attrs] of one normalised code, by the moving average. */
void zs_probe_logits(const zs_probe *p, float *logits, const float *z);

/* p(attribute | code): the logistic function of the logit. */
double zs_probe_probability(const zs_probe *p, int attr, const float *z);

/* Moves a normalised code: z + amount * sqrt(dim) * w/|w|, w the attribute's trained row
 * (manipulate.ipynb). */
void zs_probe_move(const zs_probe *p, int attr, double amount, float *z);

/* The moving average of `from`, a probe of the same attributes and codes, becomes p's directions of
 * edits. */
void zs_probe_take_directions(zs_probe *p, const zs_probe *from);

/* The probe of a Lightning checkpoint of a classifier ("classifier.weight", ...; names are those of
 * CelebA where there are 40). 1 when f holds none; ZS_E_FORMAT when it is damaged or its codes are
 * not of length dim. */
int zs_probe_read_official(zs_probe **out, zs_tensorfile *f, int64_t dim, zs_error *err);

/* The same of a bundle, whose metadata names the attributes. */
int zs_probe_read_bundle(zs_probe **out, zs_tensorfile *f, const json_t *meta, int64_t dim,
                         zs_error *err);

/* {"attributes": [...]} for the metadata of a bundle; new reference, NULL when out of memory. */
json_t *zs_probe_to_json(const zs_probe *p);

/* Tensor i of 4 as a bundle holds it. */
typedef struct zs_probe_tensor {
    const char *name;
    int nd;
    int64_t shape[2];
    float *data; /* numel floats, of the probe */
} zs_probe_tensor;
zs_probe_tensor zs_probe_tensor_at(const zs_probe *p, int i);

#endif
