/* SPDX-License-Identifier: MIT */
/* Functions of encoders. */
#include "tasks/apply.h"

int zs_apply_encode(zs_apply *a)
{
    zs_apply_tensor x = {0};
    int64_t dim = zs_model_config_z_dim(zs_model_configuration(a->m));
    int status = zs_apply_images(a, &x, "x0");
    float *z = status < 0 ? NULL : zs_alloc((size_t)(x.s.d[0] * dim), sizeof *z);
    if (status == ZS_OK && !z)
        status = zs_fail_nomem(a->env->err, (unsigned long long)(x.s.d[0] * dim) * 4, "z_sem");
    if (status == ZS_OK)
        status = zs_model_encode(a->m, z, x.p, x.s, a->env->err);
    if (status == ZS_OK) {
        status = zs_apply_put(a, "z_sem", 2, (int64_t[]){x.s.d[0], dim}, z);
        z = NULL;
    }
    zs_free(z);
    zs_free(x.p);
    return status;
}
