/* SPDX-License-Identifier: MIT */
/* Any bytes as a label file. */
#include "data/labeltable.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    zs_labeltable t;
    zs_error err = {0};
    int status = zs_labeltable_parse(&t, "fuzz", data, size, &err);
    if (status != err.status || (status < 0) != (t.text == NULL))
        abort();
    size_t sum = 0;
    for (size_t i = 0; i < t.cells; i++)
        sum += strlen(t.cell[i]);
    if (status == ZS_OK && (t.cells != t.attrs + t.rows * (1 + t.attrs) || sum > size))
        abort();
    zs_labeltable_free(&t);
    return 0;
}
