/* SPDX-License-Identifier: MIT */
#include "models/alexnet.h"

static void build(zs_frozen_build *b, zs_shape s)
{
    static const struct {
        const char *name, *output;
        zs_window w;
        bool pool; /* before it */
    } layers[ZS_ALEXNET_LAYERS] = {{"features.0", "relu0", {11, 11, 4, 2, 2}, false},
                                   {"features.3", "relu1", {5, 5, 1, 2, 2}, true},
                                   {"features.6", "relu2", {3, 3, 1, 1, 1}, true},
                                   {"features.8", "relu3", {3, 3, 1, 1, 1}, false},
                                   {"features.10", "relu4", {3, 3, 1, 1, 1}, false}};
    zs_tid x = zs_graph_input(b->nn.g, "x", s);
    for (int i = 0; i < ZS_ALEXNET_LAYERS; i++) {
        if (layers[i].pool)
            x = zs_pool(b->nn.g, x, ZS_POOL_MAX, 3, 2, 0);
        x = zs_frozen_conv(b, layers[i].name, x, layers[i].w);
        zs_graph_output(b->nn.g, layers[i].output, x);
    }
}

int zs_alexnet_open(zs_frozen **out, const char *path, const char *backend, zs_error *err)
{
    static const zs_frozen_kind kind = {
        "an AlexNet of torchvision (alexnet-owt-7be5be79.pth)", 0.0f, {4, {1, 64, 64, 3}}, build};
    return zs_frozen_open(out, path, &kind, backend, err);
}
