/* SPDX-License-Identifier: MIT */
/* Images -> an autoencoder or a DDPM. */
#include "train/imageset.h"
#include "train/preview.h"

static int preview(zs_subject *s, const zs_train_config *c, const zs_rundir *d,
                   const zs_train_state *state, zs_error *err)
{
    const zs_imageset *im = s->self;
    char *path = zs_rundir_step_file(d, "samples", state->step, ".png");
    int status =
        path ? zs_preview_write(path, &c->model, state->b.ema, state->backend, im->source, err)
             : zs_fail_nomem(err, 256, "a file name");
    if (status == ZS_OK)
        status = zs_rundir_log_picture(d, state->step, path, err);
    zs_free(path);
    return status;
}

const zs_subject_kind zs_subject_images = {.unit = "images",
                                           .open = zs_imageset_open,
                                           .layout = zs_model_layout,
                                           .start = zs_imageset_start,
                                           .next = zs_imageset_next,
                                           .name = zs_imageset_name,
                                           .preview = preview,
                                           .bundle = zs_imageset_bundle,
                                           .close = zs_imageset_close};
