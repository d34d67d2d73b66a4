#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Packs the golden checkpoints and gradients for tests/golden/data, which has to stay small.

    scripts/pack-goldens.py GOLDENS tests/golden/data

Averaged weights become 20-bit fixed point with a scale per tensor, which moves outputs by a few
1e-6. Raw weights are stored as 13-bit differences from those, which moves gradients by about 1e-4.
Gradients of more than 512 numbers keep 128 of them, evenly spread, and their norm.
tests/golden/golden.c unpacks. Needs nothing but Python.

A packed file holds, for every averaged tensor, an empty one of its shape with a trailing 0 (names
and shapes, no bytes). The numbers are two's complement codes: "ema_high" has the upper 8 bits of
each, plus 128, deflated; "ema_low" the other bits as a stream, low bits first, each tensor from a
fresh byte on; "ema_scales" a scale per tensor. "model_high" and so on hold the differences, with
scale 0 and no codes where there is no raw tensor; "exact.NAME" overrides what they give.
"""
import array
import json
import math
import os
import pickle
import shutil
import struct
import sys
import zipfile
import zlib

SAMPLES = 128
EMA_BITS, RAW_BITS = 20, 13
# Raw weights whose change by training is recorded: kept as they are.
EXACT = ("out.2.weight", "encoder.out.3.weight")
SAMPLED_ABOVE = 512


class Tensor:
    """A contiguous f32 tensor of a torch zip archive."""

    def __init__(self, shape, values):
        self.shape, self.values = list(shape), values


def read_checkpoint(path):
    """The state_dict of a torch zip file as {name: Tensor}."""
    with zipfile.ZipFile(path) as z:
        root = z.namelist()[0].split("/")[0]

        class Reader(pickle.Unpickler):
            def find_class(self, module, name):
                if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                    return rebuild
                if (module, name) == ("collections", "OrderedDict"):
                    return dict
                return type(name, (), {"__setstate__": lambda self, state: None})

            def persistent_load(self, pid):
                a = array.array("f")
                a.frombytes(z.read(f"{root}/data/{pid[2]}"))
                return a

        def rebuild(storage, offset, shape, stride, *rest):
            n, step = 1, 1
            for size, s in zip(reversed(shape), reversed(stride)):
                assert size == 1 or s == step, "a tensor is not contiguous"
                step *= size
                n *= size
            return Tensor(shape, storage[offset:offset + n])

        with z.open(f"{root}/data.pkl") as f:
            return Reader(f).load()["state_dict"]


def read_safetensors(path):
    with open(path, "rb") as f:
        head = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    out = {}
    for name, t in head.items():
        if name != "__metadata__":
            a = array.array("f")
            a.frombytes(data[t["data_offsets"][0]:t["data_offsets"][1]])
            out[name] = Tensor(t["shape"], a)
    return out


def write_safetensors(path, tensors):
    """tensors: (name, dtype, shape, bytes)"""
    head, at = {}, 0
    for name, dtype, shape, data in tensors:
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors:
            f.write(t[3])


def f32(values):
    return array.array("f", values).tobytes()


def scale_for(values, limit):
    """The f32 scale that brings the largest value to `limit`."""
    largest = max(map(abs, values)) or 1.0
    scale = array.array("f", [largest / limit])[0]
    return scale if largest / scale <= limit else array.array("f", [scale * (1 + 2**-22)])[0]


def encode(values, bits):
    """Scale, upper bytes, stream of lower bits, and the values that will be read back."""
    limit = (1 << (bits - 1)) - 1
    scale = scale_for(values, limit)
    codes = [round(v / scale) for v in values]
    assert max(map(abs, codes)) <= limit
    high = bytes((c >> (bits - 8)) + 128 for c in codes)
    return scale, high, bit_stream(codes, bits - 8), f32_values(c * scale for c in codes)


def f32_values(values):
    return array.array("f", values)


def bit_stream(codes, bits):
    out, word, held = bytearray(), 0, 0
    for c in codes:
        word |= (c & ((1 << bits) - 1)) << held
        held += bits
        while held >= 8:
            out.append(word & 0xFF)
            word >>= 8
            held -= 8
    if held:
        out.append(word)
    return bytes(out)


class Stream:
    """The codes of many tensors."""

    def __init__(self, name, bits):
        self.name, self.bits = name, bits
        self.scales, self.high, self.low = [], bytearray(), bytearray()

    def add(self, values):
        scale, high, low, near = encode(values, self.bits)
        self.scales.append(scale)
        self.high += high
        self.low += low
        return near

    def tensors(self):
        high = zlib.compress(bytes(self.high), 9)
        return [(self.name + "_scales", "F32", [len(self.scales)], f32(self.scales)),
                (self.name + "_high", "U8", [len(high)], high),
                (self.name + "_low", "U8", [len(self.low)], bytes(self.low))]


def pack_checkpoint(source, target):
    state = read_checkpoint(source)
    out, ema, model = [], Stream("ema", EMA_BITS), Stream("model", RAW_BITS)
    for name, t in state.items():
        if not name.startswith("ema_model."):
            continue
        base = name[len("ema_model."):]
        out.append((name, "U8", t.shape + [0], b""))
        near = ema.add(t.values)
        if has_gradients(source) and not base.startswith("latent_net."):
            model.add([a - b for a, b in zip(state["model." + base].values, near)])
            if base in EXACT:
                raw = state["model." + base]
                out.append(("exact." + base, "F32", raw.shape, raw.values.tobytes()))
        else:
            model.scales.append(0.0)
    out += ema.tensors() + (model.tensors() if model.low else [])
    for name in ("conds_mean", "conds_std"):
        if name in state:
            out.append((name, "F32", state[name].shape, state[name].values.tobytes()))
    if "x_T" in state:
        out.append(("x_T_shape", "F32", [4], f32(state["x_T"].shape)))
    write_safetensors(target, out)


def has_gradients(checkpoint):
    return os.path.exists(os.path.join(os.path.dirname(checkpoint), "grads.safetensors"))


def pack_gradients(source, target):
    out, norms = [], []
    tensors = read_safetensors(source)
    for name, t in tensors.items():
        n = len(t.values)
        norms.append(math.sqrt(sum(v * v for v in t.values)))
        if n > SAMPLED_ABOVE:
            kept = [t.values[i * n // SAMPLES] for i in range(SAMPLES)]
            out.append((name, "F32", [SAMPLES], f32(kept)))
        else:
            out.append((name, "F32", t.shape, t.values.tobytes()))
    write_safetensors(target, out + [("norms", "F32", [len(norms)], f32(norms))])


def main():
    goldens, target = sys.argv[1:]
    for name in ("diffae-tiny32", "ddpm-tiny32"):
        here, there = os.path.join(goldens, name), os.path.join(target, name)
        os.makedirs(there, exist_ok=True)
        checkpoint = os.path.join(here, "last.ckpt")
        pack_checkpoint(checkpoint, os.path.join(there, "packed.safetensors"))
        for file in ("golden.safetensors", "latent.pkl", "config.json", "cls.ckpt",
                     "manipulate.safetensors"):
            if os.path.exists(os.path.join(here, file)):
                shutil.copyfile(os.path.join(here, file), os.path.join(there, file))
        if has_gradients(checkpoint):
            pack_gradients(os.path.join(here, "grads.safetensors"),
                           os.path.join(there, "grads-sampled.safetensors"))


main()
