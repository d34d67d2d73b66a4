/* SPDX-License-Identifier: MIT */
/* The levels of UNets and encoders from the names and shapes of their blocks. */
#include "models/infer.h"

static bool block_at(const zs_infer *x, const char *net, int i)
{
    return zs_infer_tensor(x, "%sinput_blocks.%d.0.in_layers.2.weight", net, i) != NULL;
}

static int64_t block_out(const zs_infer *x, const char *net, int i)
{
    return zs_infer_dim(zs_infer_tensor(x, "%sinput_blocks.%d.0.in_layers.2.weight", net, i), 0);
}

static bool block_attends(const zs_infer *x, const char *net, int i)
{
    return zs_infer_tensor(x, "%sinput_blocks.%d.1.qkv.weight", net, i) != NULL;
}

int zs_infer_count_blocks(const zs_infer *x, const char *net)
{
    int n = 1; /* block 0 is the first convolution */
    while (n <= ZS_MAX_LEVELS * (ZS_MAX_RES_BLOCKS + 1) && block_at(x, net, n))
        n++;
    return n;
}

/* Do the blocks fit `levels` levels of r blocks, each but the last followed by a down-sampling
 * block, which keeps its channels and has no attention? */
static bool pattern_fits(const zs_infer *x, const char *net, int levels, int r)
{
    for (int level = 0; level < levels; level++) {
        int first = 1 + level * (r + 1);
        for (int i = 0; i < r; i++)
            if (block_out(x, net, first + i) != block_out(x, net, first) ||
                block_attends(x, net, first + i) != block_attends(x, net, first))
                return false;
        int down = first + r;
        if (level < levels - 1 &&
            (block_out(x, net, down) != block_out(x, net, first) || block_attends(x, net, down)))
            return false;
    }
    return true;
}

int zs_infer_res_blocks(const zs_infer *x, const char *net, int n, int64_t stated)
{
    int found = 0, count = 0;
    for (int levels = 1; levels <= ZS_MAX_LEVELS; levels++) {
        int r = n / levels - 1;
        if (n % levels || r < 1 || r > ZS_MAX_RES_BLOCKS || (stated && r != stated) ||
            !pattern_fits(x, net, levels, r))
            continue;
        found = r;
        count++;
    }
    return count > 1 ? -1 : found;
}

void zs_infer_read_levels(const zs_infer *x, const char *net, int n, int r, int *levels,
                          int64_t *ch, uint32_t *attn)
{
    *levels = n / (r + 1);
    *attn = 0;
    for (int i = 0; i < *levels; i++) {
        ch[i] = block_out(x, net, 1 + i * (r + 1));
        if (block_attends(x, net, 1 + i * (r + 1)))
            *attn |= 1u << i;
    }
}

static bool output_block(const zs_infer *x, int i)
{
    return zs_infer_tensor(x, "output_blocks.%d.0.in_layers.2.weight", i) != NULL;
}

/* The last block of every level but the top one ends with an up-sampling residual block. */
static bool goes_up(const zs_infer *x, int i)
{
    return zs_infer_tensor(x, "output_blocks.%d.1.in_layers.2.weight", i) ||
           zs_infer_tensor(x, "output_blocks.%d.2.in_layers.2.weight", i);
}

int zs_infer_unet_levels(zs_unet_config *u, const zs_infer *x, zs_error *err)
{
    int down = zs_infer_count_blocks(x, ""), up = 0, levels = 1;
    for (; up <= ZS_MAX_LEVELS * (ZS_MAX_RES_BLOCKS + 1) && output_block(x, up); up++)
        levels += goes_up(x, up);
    if (levels > ZS_MAX_LEVELS || up == 0 || up % levels || up / levels < 2 ||
        up / levels - 1 > ZS_MAX_RES_BLOCKS)
        return zs_infer_damaged(x, "its output blocks are not whole levels", err);
    u->num_res_blocks = up / levels - 1;
    if (down != up || !pattern_fits(x, "", levels, u->num_res_blocks))
        return zs_infer_damaged(x, "its input blocks do not mirror its output blocks", err);
    zs_infer_read_levels(x, "", down, u->num_res_blocks, &u->levels, u->ch, &u->attn_levels);
    return ZS_OK;
}
