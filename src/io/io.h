/* SPDX-License-Identifier: MIT */
/* Face of the io layer: bytes on disk <-> plain structs. No tensors, no models. */
#ifndef ZS_IO_IO_H
#define ZS_IO_IO_H

#include "io/imagefile.h"   /* zs_image_read, zs_image_write_png */
#include "io/jsontext.h"    /* zs_json_text */
#include "io/mapfile.h"     /* zs_mapfile: read-only mmap */
#include "io/outfile.h"     /* zs_outfile: written whole or not at all */
#include "io/page.h"        /* zs_page: one self-contained HTML page */
#include "io/tensorfile.h"  /* zs_tensorfile: safetensors, torch, npy, npz */
#include "io/tensorwrite.h" /* zs_safetensors_write, zs_npy_write */

#endif
