/* SPDX-License-Identifier: MIT */
/* A network under a sampler: the same samples and codes, one timestep after the other.
 *
 *     zs_session *s = NULL;
 *     status = zs_session_new(&s, m, ZS_BOX_GENERATOR, xs, z, schedule.t, schedule.n, err);
 *     status = zs_session_run(s, eps, x, t, err);   // as zs_model_eps, for each step
 *     zs_session_free(&s);
 *
 * What depends on the codes of a generator, or the classes of a prior, alone is computed when the
 * session is made, what depends on timesteps alone for many of them at once, and the weights are
 * brought into the kernels' form once. Results are those of zs_model_eps and zs_model_prior_eps up
 * to rounding (1e-6 relative), since products over other numbers of rows add in another order. */
#ifndef ZS_MODELS_SESSION_H
#define ZS_MODELS_SESSION_H

#include "models/model.h"

typedef struct zs_session zs_session;

/* A session of m's generator (x of shape xs = [n,h,w,channels]) or prior (x [n,z_dim]) under cond
 * (NULL: nothing), at the timesteps t[steps], in the order of use; t and cond are copied or used
 * up. The weights must not change before the session is freed; m may be used in between. Errors of
 * zs_model_eps; ZS_E_NOMEM. */
int zs_session_new(zs_session **out, zs_model *m, zs_box box, zs_shape xs, const zs_cond *cond,
                   const int64_t *t, int64_t steps, zs_error *err);

/* out = the network's prediction from x at timestep t, for all samples. A t that was not announced
 * costs time, nothing else; one outside the schedule is ZS_E_INVALID. */
int zs_session_run(zs_session *s, float *out, const float *x, int64_t t, zs_error *err);

void zs_session_free(zs_session **s);

#endif
