/* SPDX-License-Identifier: MIT */
#ifndef ZS_IO_JSONTEXT_H
#define ZS_IO_JSONTEXT_H

#include <jansson.h>

/* A JSON string of any bytes, such as a file name: where they are not UTF-8, every byte above 127
 * becomes '?'. New reference, or NULL when out of memory. */
json_t *zs_json_text(const char *bytes);

#endif
