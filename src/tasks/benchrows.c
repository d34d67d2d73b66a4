/* SPDX-License-Identifier: MIT */
/* The list of workloads; a new one is a row here. */
#include "tasks/benchrow.h"

/* 3x3 convolutions, as many channels out as in: the shapes at which a UNet spends its time. */
#define CONV(N, C, S)                                                                             \
    {"conv-fwd-n" #N "-c" #C "-s" #S,                                                             \
     "3x3 convolution " #N "," #C "->" #C "," #S "x" #S " forward",                               \
     &zs_bench_conv_fwd,                                                                          \
     NULL,                                                                                        \
     N,                                                                                           \
     C,                                                                                           \
     S,                                                                                           \
     NULL,                                                                                        \
     false},                                                                                      \
        {"conv-dx-n" #N "-c" #C "-s" #S,                                                          \
         "3x3 convolution " #N "," #C "->" #C "," #S "x" #S " dX",                                \
         &zs_bench_conv_dx,                                                                       \
         NULL,                                                                                    \
         N,                                                                                       \
         C,                                                                                       \
         S,                                                                                       \
         NULL,                                                                                    \
         false},                                                                                  \
    {                                                                                             \
        "conv-dw-n" #N "-c" #C "-s" #S, "3x3 convolution " #N "," #C "->" #C "," #S "x" #S " dW", \
            &zs_bench_conv_dw, NULL, N, C, S, NULL, false                                         \
    }
#define ADAGN(N, C, S)                                                                            \
    {                                                                                             \
        "adagn-n" #N "-c" #C "-s" #S,                                                             \
            "GroupNorm+AdaGN+SiLU " #N "," #C "," #S "x" #S " forward+backward", &zs_bench_adagn, \
            NULL, N, C, S, NULL, false                                                            \
    }
#define NET(KIND, WORD, PRESET, N, EXTRA)                                                         \
    {                                                                                             \
#KIND "-" #PRESET "-n" #N, WORD " " #PRESET " N=" #N, &zs_bench_##KIND, #PRESET, N, 0, 0, \
            "images", EXTRA                                                                       \
    }

const zs_bench_row zs_bench_rows[] = {
    CONV(1, 128, 64),
    CONV(8, 64, 64),
    CONV(8, 128, 32),
    CONV(8, 256, 16),
    CONV(8, 512, 8),
    CONV(1, 128, 256),
    CONV(8, 32, 32),
    ADAGN(8, 128, 64),
    ADAGN(8, 256, 16),
    NET(eps, "UNet eps", ffhq64, 8, false),
    NET(eps, "UNet eps", ffhq128, 1, false),
    NET(eps, "UNet eps", ffhq256, 1, false),
    NET(encode, "semantic encoder", ffhq64, 8, false),
    {"vit-b16-n1", "ViT-B/16 features N=1", &zs_bench_vit, NULL, 1, 0, 0, "images", false},
    {"vit-b16-n8", "ViT-B/16 features N=8", &zs_bench_vit, NULL, 8, 0, 0, "images", false},
    {"eps-adm64-n8", "ADM eps adm64-rep N=8", &zs_bench_eps, "adm64-rep", 8, 0, 0, "images", false},
    {"dit-s2-n8", "DiT-S/2 eps N=8", &zs_bench_eps, "dit-s2-rep", 8, 0, 0, "images", false},
    {"dit-l2-n1", "DiT-L/2 eps N=1", &zs_bench_eps, "dit-l2-rep", 1, 0, 0, "images", true},
    NET(train, "training step", ffhq64, 8, false),
    NET(train, "training step", fashion32, 64, false),
    {"prior-ffhq64-n256", "latent MLP training step N=256", &zs_bench_prior, "ffhq64", 256, 0, 0,
     "codes", false},
    {"rdm-b-n512", "RDM training step N=512", &zs_bench_prior, "rdm-mocov3-b", 512, 0, 0, "codes",
     false},
    NET(eps, "UNet eps", ffhq64, 1, true),
    NET(eps, "UNet eps", ffhq64, 2, true),
    NET(eps, "UNet eps", ffhq64, 4, true),
    NET(eps, "UNet eps", ffhq64, 16, true),
    NET(eps, "UNet eps", ffhq64, 32, true),
    NET(eps, "UNet eps", fashion32, 1, true),
    NET(eps, "UNet eps", fashion32, 2, true),
    NET(eps, "UNet eps", fashion32, 4, true),
    NET(eps, "UNet eps", fashion32, 8, true),
    NET(eps, "UNet eps", fashion32, 16, true),
    NET(eps, "UNet eps", fashion32, 32, true),
    NET(train, "training step", ffhq64, 128, true), /* batches of accelerators */
    NET(train, "training step", ffhq128, 32, true),
    NET(train, "training step", ffhq256, 16, true),
    {NULL, NULL, NULL, NULL, 0, 0, 0, NULL, false},
};
