/* SPDX-License-Identifier: MIT */
/* Functions of probes. */
#include "tasks/apply.h"
#include "tasks/attributes.h"

int zs_apply_probe(zs_apply *a)
{
    const zs_probe *p = zs_model_probe(a->m);
    zs_apply_tensor z = {0};
    int status = zs_apply_codes(a, &z, "z_sem");
    float *logits =
        status < 0 ? NULL : zs_alloc((size_t)z.s.d[0], (size_t)p->attrs * sizeof *logits);
    if (status == ZS_OK && !logits)
        status = zs_fail_nomem(a->env->err, (unsigned long long)z.s.d[0] * 4, "logits");
    if (status == ZS_OK)
        status = zs_normalise_codes(a->m, z.p, z.s.d[0], a->env->err);
    for (int64_t i = 0; status == ZS_OK && i < z.s.d[0]; i++)
        zs_probe_logits(p, logits + i * p->attrs, z.p + i * p->dim);
    if (status == ZS_OK) {
        status = zs_apply_put(a, "logits", 2, (int64_t[]){z.s.d[0], p->attrs}, logits);
        logits = NULL;
    }
    zs_free(logits);
    zs_free(z.p);
    return status;
}

int zs_apply_edit(zs_apply *a)
{
    zs_apply_tensor z = {0};
    zs_attr_list attrs;
    int status = zs_attributes(&attrs, a->env, a->m, 1.0);
    if (status == ZS_OK)
        status = zs_apply_codes(a, &z, "z_sem");
    if (status == ZS_OK)
        status = zs_attributes_move(&attrs, a->m, z.p, z.s.d[0], 1.0, a->env->err);
    if (status == ZS_OK)
        status = zs_apply_put_codes(a, "z_sem", &z);
    zs_free(z.p);
    return status;
}
