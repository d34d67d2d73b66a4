/* SPDX-License-Identifier: MIT */
/* Face of the metrics layer. */
#ifndef ZS_METRICS_METRICS_H
#define ZS_METRICS_METRICS_H

#include "metrics/gaussian.h"        /* zs_moments_add, zs_frechet_distance: FID, rep-FD */
#include "metrics/image_distance.h"  /* zs_metric_mse, zs_metric_psnr, zs_metric_ssim */
#include "metrics/inception_score.h" /* zs_inception_score */
#include "metrics/kernel_distance.h" /* zs_kernel_distance: KID */
#include "metrics/lpips.h"           /* zs_lpips_distance */
#include "metrics/neighbours.h"      /* zs_neighbour_radii: precision and recall */
#include "metrics/numpy_random.h"    /* zs_numpy_permutation */
#include "metrics/perceptual.h"      /* zs_lpips_layer */
#include "metrics/plot.h"            /* zs_plot_svg: lines as SVG */
#include "metrics/ranking.h"         /* zs_ranking_measure: AUROC, average precision */

#endif
