/* SPDX-License-Identifier: MIT */
/* Any bytes as a PyTorch file: zip, legacy, or whatever they look like. */
#include "tests/fuzz/read_all.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_open_and_read(data, size);
    return 0;
}
