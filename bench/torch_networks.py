# SPDX-License-Identifier: MIT
"""The networks of a diffusion autoencoder in PyTorch, as one would write them there.

Parameter names are those of the files, so that load_state_dict takes what zsem writes. Sources:
Preechakul et al., Diffusion Autoencoders, 2022 (section 3 and appendix A); Dhariwal and Nichol,
Diffusion Models Beat GANs, 2021, for the blocks; docs/design.md.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn


def groupnorm(channels):
    return nn.GroupNorm(min(32, channels), channels)


def timestep_features(t, dim):
    half = dim // 2
    i = torch.arange(half, dtype=torch.float32, device=t.device)
    f = torch.exp(i * (-math.log(10000.0) / half))
    a = t.float()[:, None] * f[None]
    return torch.cat([a.cos(), a.sin()], dim=1)


class TimeEmbed(nn.Sequential):
    """t [N] -> [N, out]"""

    def __init__(self, dim, out):
        super().__init__(nn.Linear(dim, out), nn.SiLU(), nn.Linear(out, out))
        self.dim = dim

    def forward(self, t):
        return super().forward(timestep_features(t, self.dim))


class ResBlock(nn.Module):
    """Unconditional with embed None: then there is one convolution alone."""

    def __init__(self, channels, out, embed=None, z_dim=None, dropout=0.0, resample=None):
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(groupnorm(channels), nn.SiLU(),
                                       nn.Conv2d(channels, out, 3, padding=1))
        self.conditional = embed is not None
        if self.conditional:
            self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed, 2 * out))
            if z_dim:
                self.cond_emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(z_dim, out))
            self.out_layers = nn.Sequential(groupnorm(out), nn.SiLU(), nn.Dropout(dropout),
                                            nn.Conv2d(out, out, 3, padding=1))
        self.z_dim = z_dim
        self.skip_connection = (nn.Identity() if channels == out
                                else nn.Conv2d(channels, out, 1))

    def _resample(self, x):
        if self.resample == "up":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        if self.resample == "down":
            return F.avg_pool2d(x, 2)
        return x

    def forward(self, x, emb=None, z=None):
        norm, act, conv = self.in_layers
        h = conv(self._resample(act(norm(x))))
        x = self._resample(x)
        if self.conditional:
            scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
            h = self.out_layers[0](h) * (1 + scale) + shift
            if self.z_dim:
                h = h * (1 + self.cond_emb_layers(z)[:, :, None, None])
            h = self.out_layers[1:](h)
        return self.skip_connection(x) + h


class Attention(nn.Module):
    """Over all positions; channels ordered [head][q|k|v][dim]."""

    def __init__(self, channels, heads=1):
        super().__init__()
        self.heads = heads
        self.norm = groupnorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x).reshape(n, c, h * w))
        qkv = qkv.reshape(n, self.heads, 3, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(dim=2)
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(-1, -2).reshape(n, c, h * w)
        return x + self.proj_out(y).reshape(n, c, h, w)


class Block(nn.Sequential):
    """Layers of which the residual blocks take the conditions."""

    def forward(self, x, emb=None, z=None):
        for layer in self:
            x = layer(x, emb, z) if isinstance(layer, ResBlock) else layer(x)
        return x


def has_attention(c, level):
    return level in c["attention_levels"]


def attention(c, channels):
    """So many heads, or heads of so many channels."""
    return Attention(channels, channels // c["head_channels"] if "head_channels" in c else c["heads"])


def way_down(c, make):
    """Blocks of the way down, and the channels each leaves."""
    ch = c["channels"]
    blocks = [Block(nn.Conv2d(c["in_channels"], ch[0], 3, padding=1))]
    left = [ch[0]]
    for level, out in enumerate(ch):
        for _ in range(c["num_res_blocks"]):
            layers = [make(left[-1], out)]
            if has_attention(c, level):
                layers.append(attention(c, out))
            blocks.append(Block(*layers))
            left.append(out)
        if level + 1 < len(ch):
            blocks.append(Block(make(out, out, resample="down")))
            left.append(out)
    return blocks, left


class UNet(nn.Module):
    """eps(x_t, t, z_sem): every residual block is conditioned on t and on z_sem."""

    def __init__(self, c):
        super().__init__()
        ch, embed, z_dim = c["channels"], c["embed_channels"], c["z_dim"]

        def make(a, b, resample=None):
            return ResBlock(a, b, embed, z_dim, c["dropout"], resample)

        time_embed = TimeEmbed(c["model_channels"], embed)
        self.time_embed = nn.ModuleDict({"time_embed": time_embed}) if z_dim else time_embed
        blocks, skips = way_down(c, make)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = Block(make(ch[-1], ch[-1]), attention(c, ch[-1]), make(ch[-1], ch[-1]))
        up, now = [], ch[-1]
        for level in reversed(range(len(ch))):
            for i in range(c["num_res_blocks"] + 1):
                layers = [make(now + skips.pop(), ch[level])]
                now = ch[level]
                if has_attention(c, level):
                    layers.append(attention(c, now))
                if level > 0 and i == c["num_res_blocks"]:
                    layers.append(make(now, now, resample="up"))
                up.append(Block(*layers))
        self.output_blocks = nn.ModuleList(up)
        self.out = nn.Sequential(groupnorm(now), nn.SiLU(),
                                 nn.Conv2d(now, c["out_channels"], 3, padding=1))
        self.z_dim = z_dim

    def forward(self, x, t, z=None):
        emb = (self.time_embed["time_embed"] if self.z_dim else self.time_embed)(t)
        return self.trunk(x, emb, z)

    def trunk(self, x, emb, z=None):
        kept = []
        for block in self.input_blocks:
            x = block(x, emb, z)
            kept.append(x)
        x = self.middle_block(x, emb, z)
        for block in self.output_blocks:
            x = block(torch.cat([x, kept.pop()], dim=1), emb, z)
        return self.out(x)


class Adm(UNet):
    """eps and v of (x_t, t, representation): the representation is a term of the time embedding."""

    def __init__(self, c):
        embed = 4 * c["model_channels"]
        out = c["in_channels"] * (2 if c["learn_sigma"] else 1)
        super().__init__({**c, "z_dim": 0, "embed_channels": embed, "out_channels": out})
        self.rep_proj = nn.Linear(c["rep_dim"], embed)

    def load(self, tensors):
        self.load_state_dict({k.removeprefix("generator."): v for k, v in tensors.items()},
                             assign=True)
        return self

    def forward(self, x, t, rep):
        return self.trunk(x, self.time_embed(t) + self.rep_proj(rep))


class SemanticEncoder(nn.Module):
    """x0 -> z_sem [N, z_dim]"""

    def __init__(self, c):
        super().__init__()
        ch = c["channels"]
        blocks, _ = way_down(c, ResBlock)
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = Block(ResBlock(ch[-1], ch[-1]), Attention(ch[-1], c["heads"]),
                                  ResBlock(ch[-1], ch[-1]))
        self.out = nn.Sequential(groupnorm(ch[-1]), nn.SiLU(), nn.AdaptiveAvgPool2d(1),
                                 nn.Conv2d(ch[-1], c["z_dim"], 1), nn.Flatten())

    def forward(self, x):
        for block in self.input_blocks:
            x = block(x)
        return self.out(self.middle_block(x))


class Autoencoder(nn.Module):
    """Generator and encoder under the names of the official state_dict."""

    def __init__(self, unet, encoder):
        super().__init__()
        self.unet = UNet(unet)
        self.encoder = SemanticEncoder(encoder)

    def load(self, tensors):
        """From a bundle: generator.*, encoder.*; or from official names."""
        generator, encoder = {}, {}
        for name, value in tensors.items():
            if name.startswith("encoder."):
                encoder[name[len("encoder."):]] = value
            elif not name.startswith(("prior.", "stats.", "latent_net.")):
                generator[name.removeprefix("generator.")] = value
        self.unet.load_state_dict(generator, assign=True)
        self.encoder.load_state_dict(encoder, assign=True)
        return self

    def forward(self, x0, x_t, t):
        return self.unet(x_t, t, self.encoder(x0))


class LatentLayer(nn.Module):
    def __init__(self, width, out, emb):
        super().__init__()
        self.linear = nn.Linear(width, out)
        self.linear_emb = nn.Linear(emb, out)
        self.norm = nn.LayerNorm(out)

    def forward(self, h, emb):
        return F.silu(self.norm(self.linear(h) * (1 + self.linear_emb(emb))))


class LastLayer(nn.Module):
    def __init__(self, width, out):
        super().__init__()
        self.linear = nn.Linear(width, out)

    def forward(self, h, emb):
        return self.linear(h)


class LatentMLP(nn.Module):
    """eps(z_t, t): an MLP whose layers after the first see the input again."""

    def __init__(self, z_dim, hidden, layers, time_channels):
        super().__init__()
        self.time_embed = TimeEmbed(time_channels, z_dim)
        body = [LatentLayer(z_dim, hidden, z_dim)]
        body += [LatentLayer(hidden + z_dim, hidden, z_dim) for _ in range(layers - 2)]
        body.append(LastLayer(hidden + z_dim, z_dim))
        self.layers = nn.ModuleList(body)

    def load(self, tensors):
        own = {k.removeprefix("latent_net."): v for k, v in tensors.items()}
        self.load_state_dict(own, assign=True)
        return self

    def forward(self, z_t, t):
        emb = F.silu(self.time_embed(t))
        h = self.layers[0](z_t, emb)
        for layer in self.layers[1:]:
            h = layer(torch.cat([h, z_t], dim=1), emb)
        return h


class RdmBlock(nn.Module):
    """h + Linear(SiLU(LN(y))), y = Linear(SiLU(LN(h))) + Linear(SiLU(emb))."""

    def __init__(self, width, bottleneck, embed):
        super().__init__()
        self.in_layers = nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, bottleneck))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embed, bottleneck))
        self.out_layers = nn.Sequential(nn.LayerNorm(bottleneck), nn.SiLU(), nn.Identity(),
                                        nn.Linear(bottleneck, width))

    def forward(self, h, emb):
        return h + self.out_layers(self.in_layers(h) + self.emb_layers(emb))


class RepresentationDiffusion(nn.Module):
    """x0(z_t, t): a residual MLP over representations."""

    def __init__(self, tensors):
        super().__init__()
        name = "model.diffusion_model."
        own = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
        width, z_dim = own["input_proj.weight"].shape
        bottleneck, embed = own["res_blocks.0.emb_layers.1.weight"].shape
        blocks = 1 + max(int(k.split(".")[1]) for k in own if k.startswith("res_blocks."))
        self.time_embed = TimeEmbed(width, embed)
        self.input_proj = nn.Linear(z_dim, width)
        self.res_blocks = nn.ModuleList(RdmBlock(width, bottleneck, embed) for _ in range(blocks))
        self.out = nn.Sequential(nn.LayerNorm(width, eps=1e-6), nn.SiLU(), nn.Linear(width, z_dim))
        self.load_state_dict(own, assign=True)

    def forward(self, z_t, t):
        emb = self.time_embed(t)
        h = self.input_proj(z_t)
        for block in self.res_blocks:
            h = block(h, emb)
        return self.out(h)


def alphas_cumprod(betas):
    return torch.cumprod(1.0 - betas, dim=0)


def linear_betas(T=1000):
    return torch.linspace(1e-4 * 1000 / T, 0.02 * 1000 / T, T, dtype=torch.float64)


def constant_betas(beta, T=1000):
    return torch.full((T,), beta * 1000 / T, dtype=torch.float64)


def sqrt_betas(start, end, T=1000):
    return torch.linspace(start ** 0.5, end ** 0.5, T, dtype=torch.float64) ** 2


class Ddim:
    """Deterministic DDIM over `steps` of T timesteps, and its inversion (section 3.2, eq. 8)."""

    def __init__(self, steps, T=1000):
        stride = next(s for s in range(1, T + 1) if len(range(0, T, s)) == steps)
        self.t = list(range(0, T, stride))
        self.abar = alphas_cumprod(linear_betas(T))[self.t].tolist()

    def _parts(self, eps_fn, x, i):
        a = self.abar[i]
        eps = eps_fn(x, torch.full((x.shape[0],), self.t[i]))
        x0 = (x / math.sqrt(a) - math.sqrt(1 / a - 1) * eps).clamp(-1, 1)
        return x0, (x / math.sqrt(a) - x0) / math.sqrt(1 / a - 1)

    def _move(self, eps_fn, x, i, to):
        x0, eps = self._parts(eps_fn, x, i)
        return math.sqrt(to) * x0 + math.sqrt(1 - to) * eps

    def decode(self, eps_fn, x):
        for i in reversed(range(len(self.t))):
            x = self._move(eps_fn, x, i, self.abar[i - 1] if i else 1.0)
        return x

    def invert(self, eps_fn, x):
        for i in range(len(self.t)):
            x = self._move(eps_fn, x, i, self.abar[i + 1] if i + 1 < len(self.t) else 0.0)
        return x


class VitBlock(nn.Module):
    """norm1, attn.{qkv,proj}, norm2, mlp.{fc1,fc2}, as timm names them"""

    def __init__(self, width, hidden, heads):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width),
                                   "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x):
        n, t, c = x.shape
        qkv = self.attn["qkv"](self.norm1(x)).view(n, t, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, c)
        x = x + self.attn["proj"](h)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class VisionTransformer(nn.Module):
    """images [N,3,side,side] -> the class token after the last norm [N,width]; sizes are those of
    the weights"""

    def __init__(self, weights, heads):
        super().__init__()
        width, channels, patch, _ = weights["patch_embed.proj.weight"].shape
        hidden = weights["blocks.0.mlp.fc1.weight"].shape[0]
        depth = 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("blocks."))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros_like(weights["pos_embed"]))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, width, patch, patch)})
        self.blocks = nn.Sequential(*[VitBlock(width, hidden, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.load_state_dict(weights)

    def forward(self, x):
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.norm(self.blocks(x))[:, 0]


# ---- DiT of representation-conditioned generation ----

class DitBlock(nn.Module):
    def __init__(self, width, heads, mlp):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width),
                                   "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, mlp), "fc2": nn.Linear(mlp, width)})
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def attention(self, x):
        n, t, c = x.shape
        qkv = self.attn["qkv"](x).view(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv)
        return self.attn["proj"](y.transpose(1, 2).reshape(n, t, c))

    def forward(self, x, c):
        a = self.adaLN_modulation(c)[:, None].chunk(6, dim=2)
        x = x + a[2] * self.attention(self.norm(x) * (1 + a[1]) + a[0])
        h = F.gelu(self.mlp["fc1"](self.norm(x) * (1 + a[4]) + a[3]))
        return x + a[5] * self.mlp["fc2"](h)


class Dit(nn.Module):
    """weights: state_dict of the generator; sizes follow from it."""

    def __init__(self, weights, heads):
        super().__init__()
        proj = weights["x_embedder.proj.weight"]
        width, _, self.patch, _ = proj.shape
        depth = sum(k.endswith("attn.qkv.weight") for k in weights)
        mlp = weights["blocks.0.mlp.fc1.weight"].shape[0]
        self.pos_embed = nn.Parameter(weights["pos_embed"])
        self.x_embedder = nn.ModuleDict({"proj": nn.Conv2d(proj.shape[1], width, self.patch, self.patch)})
        self.t_embedder = nn.ModuleDict({"mlp": nn.Sequential(
            nn.Linear(weights["t_embedder.mlp.0.weight"].shape[1], width), nn.SiLU(),
            nn.Linear(width, width))})
        self.rep_embedder = nn.Linear(weights["rep_embedder.weight"].shape[1], width)
        self.blocks = nn.ModuleList([DitBlock(width, heads, mlp) for _ in range(depth)])
        out = weights["final_layer.linear.weight"].shape[0]
        self.final_layer = nn.ModuleDict({
            "linear": nn.Linear(width, out),
            "adaLN_modulation": nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))})
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.load_state_dict({k: v for k, v in weights.items()
                              if not k.startswith(("y_embedder.", "fake_latent"))})

    def forward(self, x, t, z):
        n, _, h, w = x.shape
        p, features = self.patch, self.t_embedder["mlp"][0].in_features
        x = self.x_embedder["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        c = self.t_embedder["mlp"](timestep_features(t, features)) + self.rep_embedder(z)
        for block in self.blocks:
            x = block(x, c)
        shift, scale = self.final_layer["adaLN_modulation"](c)[:, None].chunk(2, dim=2)
        x = self.final_layer["linear"](self.norm(x) * (1 + scale) + shift)
        x = x.view(n, h // p, w // p, p, p, -1)
        return x.permute(0, 5, 1, 3, 2, 4).reshape(n, -1, h, w)
