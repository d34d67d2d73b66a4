#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the 24 images of share/images: the first test images of Fashion-MNIST, at most two of
a class and three of the four that look least alike. Needs the package dataset-fashion-mnist;
only needed to change the selection, never to build or test.

    python3 scripts/make-sample-images.py
"""

import gzip
import os
import struct
import zlib

SOURCE = "/usr/share/datasets/fashion-mnist/t10k-"
OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../share/images")
NAMES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag",
         "ankle-boot"]
THREE = ("trouser", "sandal", "bag", "ankle-boot")


def idx(name, head):
    with gzip.open(SOURCE + name) as f:
        return f.read()[head:]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(px):
    rows = b"".join(b"\0" + px[28 * y:28 * y + 28] for y in range(28))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b""))


def main():
    pixels, labels = idx("images-idx3-ubyte.gz", 16), idx("labels-idx1-ubyte.gz", 8)
    taken = dict.fromkeys(NAMES, 0)
    for i, label in enumerate(labels):
        name = NAMES[label]
        if taken[name] < (3 if name in THREE else 2):
            taken[name] += 1
            with open(os.path.join(OUT, "%04d-%s.png" % (i, name)), "wb") as f:
                f.write(png(pixels[784 * i:784 * i + 784]))


main()
