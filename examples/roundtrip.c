/* SPDX-License-Identifier: MIT */
/* Encodes noise-filled "images" with a model and decodes them back: the library in one screen.
 * Run: roundtrip share/fashion32.safetensors */
#include "zsem/zsem.h"

#include <stdio.h>
#include <stdlib.h>

static int roundtrip(zs_model *m, float *x, float *z, zs_error *err)
{
    int status = zs_encode(m, z, x, 1, err);
    if (status == ZS_OK)
        status = zs_invert(m, x, z, 1, 10, err);
    if (status == ZS_OK)
        status = zs_decode(m, x, z, 1, 10, err);
    return status;
}

int main(int argc, char **argv)
{
    zs_error err = {0};
    zs_model *m = NULL;
    if (zs_load(&m, argc > 1 ? argv[1] : "share/fashion32.safetensors", &err) < 0) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    zs_model_size s = zs_size(m);
    size_t n = (size_t)(s.height * s.width * s.channels);
    float *x = malloc(n * sizeof *x), *z = malloc((size_t)s.z_dim * sizeof *z);
    int status = ZS_E_NOMEM;
    if (x && z) {
        zs_noise_images(m, x, 1, 7, 0);
        status = roundtrip(m, x, z, &err);
    }
    if (status == ZS_OK)
        printf("%lldx%lld image, code of %lld floats, first pixel %.3f\n", (long long)s.width,
               (long long)s.height, (long long)s.z_dim, (double)x[0]);
    else
        fprintf(stderr, "%s\n", err.message);
    free(x);
    free(z);
    zs_unload(&m);
    return status == ZS_OK ? 0 : 2;
}
