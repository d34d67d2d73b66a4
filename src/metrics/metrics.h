/* SPDX-License-Identifier: MIT */
/* Face of the metrics layer. */
#ifndef ZS_METRICS_METRICS_H
#define ZS_METRICS_METRICS_H

#include "metrics/image_distance.h" /* zs_metric_mse, zs_metric_psnr, zs_metric_ssim */

#endif
