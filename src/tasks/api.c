/* SPDX-License-Identifier: MIT */
/* zsem/model.h over the layers below. */
#include "zsem/model.h"

#include "tasks/pipeline.h"

int zs_load(zs_model **out, const char *spec, zs_error *err)
{
    return zs_model_open(out, spec, NULL, err);
}

void zs_unload(zs_model **m)
{
    zs_model_close(m);
}

zs_model_size zs_size(const zs_model *m)
{
    const zs_model_config *c = zs_model_configuration(m);
    return (zs_model_size){c->image_size, c->image_size, c->channels, zs_model_config_z_dim(c)};
}

static int image_batch(zs_shape *xs, const zs_model *m, int64_t n, zs_error *err)
{
    zs_model_size s = zs_size(m);
    if (s.height < 1)
        return zs_fail(err, ZS_E_INVALID, "the model's file does not say how large its images are");
    if (n < 1)
        return zs_fail(err, ZS_E_INVALID, "the number of images must be at least 1");
    *xs = zs_shape4(n, s.height, s.width, s.channels);
    return ZS_OK;
}

int zs_encode(zs_model *m, float *z, const float *x, int64_t n, zs_error *err)
{
    zs_shape xs;
    int status = image_batch(&xs, m, n, err);
    return status < 0 ? status : zs_model_encode(m, z, x, xs, err);
}

int zs_decode(zs_model *m, float *x, const float *z, int64_t n, int64_t steps, zs_error *err)
{
    zs_shape xs;
    int status = image_batch(&xs, m, n, err);
    return status < 0 ? status
                      : zs_pipeline_decode(&(zs_pipeline){m, steps, NULL, NULL}, x, xs, z, err);
}

int zs_invert(zs_model *m, float *x, const float *z, int64_t n, int64_t steps, zs_error *err)
{
    zs_shape xs;
    int status = image_batch(&xs, m, n, err);
    return status < 0 ? status
                      : zs_pipeline_invert(&(zs_pipeline){m, steps, NULL, NULL}, x, xs, z, err);
}

void zs_noise_images(const zs_model *m, float *x, int64_t n, uint64_t seed, uint64_t first)
{
    zs_shape xs;
    if (image_batch(&xs, m, n, NULL) == ZS_OK)
        zs_draw_xt(x, xs, seed, first);
}
