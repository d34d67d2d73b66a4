/* SPDX-License-Identifier: MIT */
/*
 * Models as plain functions. Images are float32 [n,h,w,c] (channel fastest) in [-1,1].
 *
 *     zs_model *m = NULL;
 *     if (zs_load(&m, "last.ckpt", &err) < 0) return 1;
 *     zs_model_size s = zs_size(m);
 *     float *z = malloc(n * s.z_dim * sizeof *z);      // z_sem
 *     if (zs_encode(m, z, x, n, &err) < 0 ||           // x: n images
 *         zs_invert(m, x, z, n, 100, &err) < 0 ||      // x becomes x_T
 *         zs_decode(m, x, z, n, 100, &err) < 0)        // and the images again
 *         fprintf(stderr, "%s\n", err.message);
 *     zs_unload(&m);
 */
#ifndef ZSEM_MODEL_H
#define ZSEM_MODEL_H

#include "zsem/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct zs_model zs_model;

typedef struct zs_model_size {
    int64_t height, width, channels; /* of one image; 0 when the file does not say */
    int64_t z_dim;                   /* floats of one code; 0 when there is no encoder */
} zs_model_size;

/* Opens a bundle or the authors' files joined with commas, on the default device. *out is NULL on
 * failure: ZS_E_IO, ZS_E_FORMAT, ZS_E_UNSUPPORTED, ZS_E_NOMEM. A model is used by one thread at a
 * time; different models may run at once. */
ZS_API ZS_NODISCARD int zs_load(zs_model **out, const char *spec, zs_error *err);
ZS_API void zs_unload(zs_model **m); /* idempotent */

ZS_API zs_model_size zs_size(const zs_model *m);

/* z [n,z_dim] = semantic codes of x [n,h,w,c]. ZS_E_INVALID when the model has no encoder. */
ZS_API ZS_NODISCARD int zs_encode(zs_model *m, float *z, const float *x, int64_t n, zs_error *err);

/* x_T [n,h,w,c] -> images, in place, by DDIM in `steps` network calls (Diffusion Autoencoders,
 * eq. 1). z [n,z_dim]; NULL for a DDPM. ZS_E_INVALID for steps that the schedule cannot make. */
ZS_API ZS_NODISCARD int zs_decode(zs_model *m, float *x, const float *z, int64_t n, int64_t steps,
                                  zs_error *err);

/* Images -> x_T, in place: the stochastic encoder (eq. 8). Same arguments and errors. */
ZS_API ZS_NODISCARD int zs_invert(zs_model *m, float *x, const float *z, int64_t n, int64_t steps,
                                  zs_error *err);

/* x [n,h,w,c] = standard normal x_T: image i depends on (seed, first + i) alone. */
ZS_API void zs_noise_images(const zs_model *m, float *x, int64_t n, uint64_t seed, uint64_t first);

#ifdef __cplusplus
}
#endif
#endif
