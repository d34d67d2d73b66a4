#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the image files in tests/fuzz/corpus/image and the tables in tests/unit/image_cases.h.

The tables hold what PIL makes of the files and of resizing, as CRC-32 of the pixels. Needs
Pillow below 13 (last run: 12.0.0) and NumPy, and only to change the fixtures, never to build or
test. Pillow 13 may resize columns before rows, which moves single pixels by one; every version
that the authors' models were trained with resizes rows first, and so does zsem.

    python3 -m venv /tmp/v && /tmp/v/bin/pip install pillow==12.0.0 numpy
    /tmp/v/bin/python scripts/make-image-fixtures.py
"""

import io
import os
import struct
import zlib

import numpy as np
from PIL import Image

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
CORPUS = os.path.join(ROOT, "tests/fuzz/corpus/image")
HEADER = os.path.join(ROOT, "tests/unit/image_cases.h")


def noise(n, seed):
    """The test pattern of tests/unit/test_transform.c: a linear congruential generator."""
    out, state = np.empty(n, np.uint8), seed
    for i in range(n):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out[i] = state >> 24
    return out


def picture(w, h, c):
    """Smooth colours with some noise, so that codecs and palettes have something to do."""
    y, x = np.mgrid[0:h, 0:w]
    a = np.stack([x * 255 // max(w - 1, 1), y * 255 // max(h - 1, 1), (x * y * 7) % 256], -1)
    a = np.clip(a + noise(w * h * 3, 5).reshape(h, w, 3) // 16, 0, 255).astype(np.uint8)
    return a if c == 3 else a[..., 0]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(w, h, depth, color, rows, extra=b"", interlace=0):
    """A PNG of kinds that PIL does not write. rows: h rows of packed bytes."""
    head = struct.pack(">IIBBBBB", w, h, depth, color, 0, 0, interlace)
    body = zlib.compress(b"".join(b"\0" + r for r in rows), 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", body)
            + chunk(b"IEND", b""))


def adam7(a):
    """Interlaced PNG of an RGB array."""
    h, w, _ = a.shape
    rows = []
    for x0, y0, dx, dy in [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                           (1, 0, 2, 2), (0, 1, 1, 2)]:
        part = a[y0::dy, x0::dx]
        rows += [r.tobytes() for r in part if part.shape[1]]
    return png(w, h, 8, 2, rows, interlace=1)


def packed(a, depth):
    """Rows of values below 2^depth packed into bytes, first pixel in the high bits."""
    out = []
    for row in a:
        bits = "".join(format(v, "0%db" % depth) for v in row)
        bits += "0" * (-len(bits) % 8)
        out.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return out


def saved(image, fmt, **options):
    b = io.BytesIO()
    image.save(b, fmt, **options)
    return b.getvalue()


def files():
    rgb, grey = Image.fromarray(picture(13, 9, 3)), Image.fromarray(picture(13, 9, 1))
    alpha = Image.fromarray(noise(13 * 9, 3).reshape(9, 13))
    rgba, la = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    cmyk = Image.fromarray(noise(13 * 9 * 4, 9).reshape(9, 13, 4), "CMYK")
    pal = rgb.quantize(11)
    wide = (noise(13 * 9 * 2, 4).view(">u2").reshape(9, 13))
    wide3 = (noise(13 * 9 * 6, 6).view(">u2").reshape(9, 39))
    v = noise(13 * 9, 8).reshape(9, 13)
    yield "grey.png", saved(grey, "PNG")
    yield "rgb.png", saved(rgb, "PNG")
    yield "one-pixel.png", saved(Image.new("RGB", (1, 1), (7, 200, 90)), "PNG")
    yield "grey-alpha.png", saved(la, "PNG")
    yield "rgba.png", saved(rgba, "PNG")
    yield "palette.png", saved(pal, "PNG")
    yield "palette-trns.png", saved(pal, "PNG", transparency=bytes(range(0, 220, 20)))
    yield "grey-1bit.png", png(13, 9, 1, 0, packed(v >> 7, 1))
    yield "grey-2bit.png", png(13, 9, 2, 0, packed(v >> 6, 2))
    yield "grey-4bit.png", png(13, 9, 4, 0, packed(v >> 4, 4))
    yield "grey-trns.png", png(13, 9, 8, 0, [r.tobytes() for r in v],
                               chunk(b"tRNS", struct.pack(">H", 7)))
    yield "grey-16bit.png", png(13, 9, 16, 0, [r.tobytes() for r in wide])
    yield "rgb-16bit.png", png(13, 9, 16, 2, [r.tobytes() for r in wide3])
    yield "interlaced.png", adam7(np.asarray(rgb))
    yield "gamma-text.png", png(13, 9, 8, 0, [r.tobytes() for r in v],
                                chunk(b"gAMA", struct.pack(">I", 100000))
                                + chunk(b"tEXt", b"Comment\0hello"))
    big = Image.fromarray(picture(40, 35, 3))
    yield "rgb.jpg", saved(big, "JPEG", quality=80)
    yield "rgb-444.jpg", saved(big, "JPEG", quality=95, subsampling=0)
    yield "progressive.jpg", saved(big, "JPEG", quality=80, progressive=True)
    yield "grey.jpg", saved(grey, "JPEG", quality=80)
    yield "cmyk.jpg", saved(cmyk, "JPEG", quality=90)
    yield "one-pixel.jpg", saved(Image.new("RGB", (1, 1), (7, 200, 90)), "JPEG")
    yield "lossy.webp", saved(big, "WEBP", quality=60)
    yield "exif.webp", saved(rgb, "WEBP", quality=60, exif=b"Exif\0\0MM\0*" + bytes(20))
    yield "lossless.webp", saved(rgb, "WEBP", lossless=True)
    yield "alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "alpha-lossy.webp", saved(rgba, "WEBP", quality=70)


def crc(image):
    return zlib.crc32(np.asarray(image).tobytes())


def high_bytes(data):
    """What a 16-bit file is to become; PIL's own answer for grey varies with its version."""
    im = Image.open(io.BytesIO(data))
    return Image.fromarray((np.asarray(im).astype(np.uint32) >> 8).astype(np.uint8))


def file_rows():
    os.makedirs(CORPUS, exist_ok=True)
    for name, data in files():
        with open(os.path.join(CORPUS, name), "wb") as f:
            f.write(data)
        im = Image.open(io.BytesIO(data))
        im.load()
        if im.mode.startswith("I"):
            im = high_bytes(data)
        native = 1 if im.mode in ("1", "L", "LA") else 3
        yield '    {"%s", %d, %d, %d, 0x%08xu, 0x%08xu},' % (
            name, im.width, im.height, native, crc(im.convert("RGB")), crc(im.convert("L")))


def pattern(w, h, c, seed):
    a = noise(w * h * c, seed)
    return Image.fromarray(a.reshape(h, w) if c == 1 else a.reshape(h, w, 3))


def resize_rows():
    sizes = [(28, 28, 32, 32), (32, 32, 28, 28), (178, 218, 64, 78), (100, 75, 33, 25),
             (7, 5, 7, 5), (7, 5, 8, 5), (7, 5, 7, 9), (1, 1, 5, 4), (1, 17, 3, 6), (17, 1, 6, 3),
             (1, 64, 1, 7), (64, 1, 7, 1), (3, 3, 1, 1), (255, 3, 1, 1), (2, 2, 61, 59),
             (640, 3, 11, 2), (33, 129, 32, 128), (5, 4, 640, 3), (97, 101, 96, 102)]
    for i, (w, h, ow, oh) in enumerate(sizes):
        for c in (1, 3):
            out = pattern(w, h, c, i + 1).resize((ow, oh), Image.BILINEAR)
            yield "    {%d, %d, %d, %d, %d, %d, 0x%08xu}," % (w, h, c, i + 1, ow, oh, crc(out))


def resize_crop(im, size):
    """torchvision Resize(size) and CenterCrop(size) on a PIL image."""
    w, h = im.size
    short, long = (w, h) if w <= h else (h, w)
    new = int(size * long / short)
    im = im.resize((size, new) if w <= h else (new, size), Image.BILINEAR)
    top, left = int(round((im.height - size) / 2.0)), int(round((im.width - size) / 2.0))
    return im.crop((left, top, left + size, top + size))


def crop_rows():
    sizes = [(40, 40, 16), (40, 30, 16), (30, 40, 16), (41, 17, 8), (17, 43, 8), (16, 21, 16),
             (16, 23, 16), (23, 16, 16), (16, 16, 16), (3, 2, 20), (1, 1, 4), (1, 50, 3),
             (218, 178, 64), (9, 200, 11), (16, 19, 16)]
    for i, (w, h, size) in enumerate(sizes):
        for c in (1, 3):
            out = resize_crop(pattern(w, h, c, i + 1), size)
            yield "    {%d, %d, %d, %d, %d, %d, 0x%08xu}," % (w, h, c, i + 1, size, size, crc(out))


def main():
    fields = "    int w, h, c, seed, out_w, out_h;\n    unsigned long crc;\n"
    with open(HEADER, "w") as f:
        f.write("/* SPDX-License-Identifier: MIT */\n"
                "/* Made by scripts/make-image-fixtures.py: CRC-32 of the pixels PIL gives. */\n"
                "/* clang-format off */\n"
                "static const struct file_case {\n    const char *name;\n    int w, h, c;\n"
                "    unsigned long rgb, grey;\n} file_cases[] = {\n")
        f.write("\n".join(file_rows()) + "\n};\n\n")
        f.write("static const struct resize_case {\n" + fields + "} resize_cases[] = {\n")
        f.write("\n".join(resize_rows()) + "\n};\n\n")
        f.write("static const struct resize_case crop_cases[] = {\n")
        f.write("\n".join(crop_rows()) + "\n};\n/* clang-format on */\n")


main()
