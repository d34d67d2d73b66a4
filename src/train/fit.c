/* SPDX-License-Identifier: MIT */
/* A training graph that fits into the memory of a device. */
#include "train/fit.h"

/* Fewer samples at a time leave a device idle; rather compute twice. */
enum { HANDFUL = 16 };

/* The next smaller number of samples at a time that divides the batch; 0: there is none. */
static int64_t smaller(int64_t batch, int64_t micro)
{
    int64_t m = micro / 2;
    while (m > 0 && batch % m != 0)
        m--;
    return m;
}

/* Whether *c became something that needs less memory. */
static bool lower(zs_gradient_config *c)
{
    bool again = c->exec_flags & ZS_EXEC_RECOMPUTE;
    int64_t m = smaller(c->batch, c->micro), least = again ? 1 : HANDFUL;
    if (m >= least) {
        c->micro = m;
        return true;
    }
    if (again)
        return false;
    c->exec_flags |= ZS_EXEC_RECOMPUTE;
    c->micro = c->batch;
    return true;
}

int zs_gradient_fit(zs_gradient **out, zs_gradient_config *c, zs_error *err)
{
    if (!c->backend->remote || c->micro != 0 || c->batch < 1)
        return zs_gradient_new(out, c, err);
    c->micro = c->batch;
    for (;;) {
        zs_error why = {0};
        int status = zs_gradient_new(out, c, &why);
        if (status == ZS_OK)
            return ZS_OK;
        if (status != ZS_E_NOMEM || !lower(c))
            return zs_fail(err, status, "%s", why.message);
    }
}
