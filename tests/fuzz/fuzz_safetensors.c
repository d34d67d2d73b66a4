/* SPDX-License-Identifier: MIT */
/* Any bytes as a safetensors file. */
#include "tests/fuzz/read_all.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_open_and_read(data, size);
    return 0;
}
