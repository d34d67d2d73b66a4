/* SPDX-License-Identifier: MIT */
/* Face of the base layer. */
#ifndef ZS_BASE_BASE_H
#define ZS_BASE_BASE_H

#include "base/clock.h"    /* zs_clock_now */
#include "base/dtype.h"    /* zs_dtype, f16/bf16 conversion */
#include "base/mem.h"      /* zs_alloc, zs_free, zs_mul_size */
#include "base/parallel.h" /* zs_parallel_for, zs_threads_set */
#include "base/rng.h"      /* zs_philox, zs_rng_normal, zs_rng_uniform */
#include "base/share.h"    /* zs_share_find */
#include "base/status.h"   /* zs_fail */
#include "base/str.h"      /* zs_strbuf, zs_str_dup */
#include "base/ui.h"       /* zs_ui: log and progress callbacks */

#endif
