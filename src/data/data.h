/* SPDX-License-Identifier: MIT */
/* Face of the data layer: images on disk -> host batches. No tensors, no models. */
#ifndef ZS_DATA_DATA_H
#define ZS_DATA_DATA_H

#include "data/grid.h"      /* zs_grid: image grids */
#include "data/labels.h"    /* zs_labels: attributes of images from CSV or CelebA text */
#include "data/loader.h"    /* zs_loader: shuffled, augmented, prefetched batches */
#include "data/sink.h"      /* zs_sink: packing images into folders, tar shards, LMDB */
#include "data/source.h"    /* zs_source: folder, tar, LMDB, IDX, ... behind one syntax */
#include "data/transform.h" /* resize, crop, flip, to and from [-1,1] floats */

#endif
