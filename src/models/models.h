/* SPDX-License-Identifier: MIT */
/* Face of the models layer. */
#ifndef ZS_MODELS_MODELS_H
#define ZS_MODELS_MODELS_H

#include "models/adm.h"         /* zs_adm_build */
#include "models/alexnet.h"     /* zs_alexnet_open: LPIPS */
#include "models/config.h"      /* zs_model_config */
#include "models/inception.h"   /* zs_inception_open: FID */
#include "models/latent_mlp.h"  /* zs_latent_mlp_build */
#include "models/model.h"       /* zs_model_open, zs_model_encode, zs_model_eps, zs_bundle_write */
#include "models/presets.h"     /* zs_preset_find */
#include "models/prior.h"       /* zs_prior_graph_build */
#include "models/rep.h"         /* zs_rep_fingerprint */
#include "models/sem_encoder.h" /* zs_sem_encoder_build */
#include "models/session.h"     /* zs_session_new: networks under a sampler */
#include "models/unet.h"        /* zs_unet_build */

#endif
