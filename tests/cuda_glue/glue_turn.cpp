/* SPDX-License-Identifier: MIT */
#include "backend/cuda/launch.cuh"
#include "tests/cuda_glue/glue.h"

template <class T> struct unturn {
    T *w;
    const T *f;
    int64_t taps, c, o;

    __device__ void operator()(int64_t i) const
    {
        int64_t k = i % o, ch = i / o % c, tap = i / o / c;
        w[i] = f[(k * taps + tap) * c + ch];
    }
};

template <class T> struct turn {
    T *f;
    const T *w;
    int64_t taps, c, o;

    __device__ void operator()(int64_t i) const
    {
        int64_t ch = i % c, tap = i / c % taps, k = i / c / taps;
        f[i] = w[(tap * c + ch) * o + k];
    }
};

template <template <class> class F>
static void launch(void *to, const void *from, size_t size, int64_t taps, int64_t c, int64_t o)
{
    if (size == 2)
        flat<1>("stand-in", nullptr, taps * c * o,
                F<uint16_t>{static_cast<uint16_t *>(to), static_cast<const uint16_t *>(from), taps,
                            c, o});
    else
        flat<1>("stand-in", nullptr, taps * c * o,
                F<float>{static_cast<float *>(to), static_cast<const float *>(from), taps, c, o});
}

void glue_unturn(void *w, const void *f, size_t size, int64_t taps, int64_t c, int64_t o)
{
    launch<unturn>(w, f, size, taps, c, o);
}

void glue_turn(void *f, const void *w, size_t size, int64_t taps, int64_t c, int64_t o)
{
    launch<turn>(f, w, size, taps, c, o);
}
