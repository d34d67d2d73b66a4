#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes tests/unit/data/tensor and the tensor-file corpora under tests/fuzz/corpus.

Plain Python, no packages: checkpoints are pickled with stand-ins for torch's classes, which
gives the bytes that torch gives. Run from the repository root; the output does not change
from run to run.
"""
import argparse
import collections
import enum
import io
import os
import pathlib
import pickle
import shutil
import struct
import sys
import types
import zipfile

DATA = pathlib.Path("tests/unit/data/tensor")
CORPUS = pathlib.Path("tests/fuzz/corpus")


def fake_module(name):
    if "." in name:
        fake_module(name.rpartition(".")[0])
    if name not in sys.modules:
        sys.modules[name] = types.ModuleType(name)
    return sys.modules[name]


def fake(module, name):
    """A class that pickles as GLOBAL module name."""
    m = fake_module(module)
    if not hasattr(m, name):
        setattr(m, name, type(name, (), {"__module__": module, "__qualname__": name}))
    return getattr(m, name)


class Call:
    """Pickles as REDUCE: module.name(*args), then BUILD with state when there is one."""

    def __init__(self, module, name, *args, state=None, items=None, pairs=None):
        rest = [state, items and iter(items), pairs and iter(pairs)]
        while rest and not rest[-1]:
            rest.pop()
        self.made = (fake(module, name), args, *rest)

    def __reduce__(self):
        return self.made


class Storage:
    def __init__(self, key, kind, numel, data, location="cpu", view=None, module="torch"):
        self.key, self.kind, self.numel, self.data = key, kind, numel, data
        self.location, self.view, self.module = location, view, module


def persistent_id(legacy):
    def get(obj):
        if not isinstance(obj, Storage):
            return None
        pid = ("storage", fake(obj.module, obj.kind), obj.key, obj.location, obj.numel)
        return pid + (obj.view,) if legacy else pid
    return get


def dumps(obj, protocol=2, legacy=False):
    out = io.BytesIO()
    p = pickle.Pickler(out, protocol)
    p.persistent_id = persistent_id(legacy)
    p.dump(obj)
    return out.getvalue()


def tensor(storage, shape, stride, offset=0, fn="_rebuild_tensor_v2"):
    args = (storage, offset, shape, stride)
    if fn != "_rebuild_tensor":
        args += (False, collections.OrderedDict())
    return Call("torch._utils", fn, *args)


def floats(*v):
    return struct.pack("<%df" % len(v), *v)


def write_zip(path, entries, packed=False):
    with zipfile.ZipFile(path, "w") as z:
        for name, data in entries:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
            z.writestr(info, data)


def torch_zip(name, obj, storages, folder="archive/", packed=False, extra=(), protocol=2):
    entries = [(folder + "data.pkl", dumps(obj, protocol) if not isinstance(obj, bytes) else obj)]
    entries += [(folder + "data/" + s.key, s.data) for s in storages]
    entries += [(folder + "version", b"3\n")] + [(folder + n, d) for n, d in extra]
    write_zip(DATA / name, entries, packed)


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(name, obj, storages, little=True, protocol=2):
    sizes = {"short": 2, "int": 4, "long": 4}
    info = {"protocol_version": 1001, "little_endian": little, "type_sizes": sizes}
    out = dumps(MAGIC, protocol) + dumps(1001, protocol) + dumps(info, protocol)
    out += dumps(obj, protocol, legacy=True) + dumps([s.key for s in storages], protocol)
    for s in storages:
        out += struct.pack("<q", s.numel) + s.data
    (DATA / name).write_bytes(out)


class Colour(enum.Enum):
    RED = 3


def plain_tree(protocol):
    Colour.__module__, Colour.__qualname__ = "palette", "Colour"
    fake_module("palette").Colour = Colour
    cycle = {"name": "cycle"}
    cycle["self"] = cycle
    tree = {
        "none": None, "yes": True, "no": False,
        "ints": [0, 1, 255, 256, 65535, 65536, -1, -2**31, 2**31, 2**63 - 1, -2**63],
        "big": [2**63, -2**63 - 1, 10**40],
        "floats": [0.5, -1e300, float("inf"), float("-inf"), float("nan")],
        "text": ["", "ascii", "Gr\u00f6\u00dfe \U0001f600", "new\nline \\ 'quote'", "a\x00b"],
        "tuple": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
        "set": {7}, "frozen": frozenset([8]), "complex": 1 + 2j,
        "ordered": collections.OrderedDict([("a", 1), ("b", 2)]),
        "args": argparse.Namespace(lr=0.1, layers=[1, 2]),
        "enum": Colour.RED, "path": pathlib.PurePosixPath("/tmp/x"),
        "class": argparse.Namespace, 5: "int key", None: "none key", (1, "a"): "tuple key",
        argparse.Namespace: "class key", "cycle": cycle,
    }
    if protocol > 2:
        tree["bytes"] = b"\x00\xff"
    return tree


def numpy_values():
    dtype = Call("numpy", "dtype", "f8", False, True, state=(3, "<", None, None, None, -1, -1, 0))
    i8 = Call("numpy", "dtype", "i8", False, True, state=(3, "<", None, None, None, -1, -1, 0))
    array = Call("numpy.core.multiarray", "_reconstruct", fake("numpy", "ndarray"), (0,),
                 Call("_codecs", "encode", "b", "latin1"),
                 state=(1, (1,), dtype, False, Call("_codecs", "encode", "\0" * 8, "latin1")))
    latin = struct.pack("<d", -2.5).decode("latin1")
    return {"f64": Call("numpy.core.multiarray", "scalar", dtype,
                        Call("_codecs", "encode", latin, "latin1")),
            "i64": Call("numpy.core.multiarray", "scalar", i8,
                        Call("_codecs", "encode", "\x05" + "\0" * 7, "latin1")),
            "array": array}


def all_dtypes():
    """name -> (storage class, bytes of the values 1, 0, 3)"""
    v = (1, 0, 3)
    bf16 = b"".join(struct.pack("<f", x)[2:] for x in v)
    return {"f64": ("DoubleStorage", struct.pack("<3d", *v)),
            "f32": ("FloatStorage", struct.pack("<3f", *v)),
            "f16": ("HalfStorage", struct.pack("<3e", *v)),
            "bf16": ("BFloat16Storage", bf16),
            "i64": ("LongStorage", struct.pack("<3q", *v)),
            "i32": ("IntStorage", struct.pack("<3i", *v)),
            "i16": ("ShortStorage", struct.pack("<3h", *v)),
            "i8": ("CharStorage", struct.pack("<3b", *v)),
            "u8": ("ByteStorage", struct.pack("<3B", *v)),
            "bool": ("BoolStorage", struct.pack("<3B", 1, 0, 1))}


def checkpoint(views):
    """Every way a tensor can be stored; returns (object, storages)."""
    shared = Storage("0", "FloatStorage", 12, floats(*range(12)), "cuda:1")
    storages, dtypes = [shared], {}
    for i, (name, (kind, data)) in enumerate(all_dtypes().items()):
        storages.append(Storage(str(i + 1), kind, 3, data))
        dtypes[name] = tensor(storages[-1], (3,), (1,))
    empty = Storage("99", "FloatStorage", 0, b"")
    storages.append(empty)
    obj = collections.OrderedDict()
    obj["dtypes"] = dtypes
    obj["views"] = {
        "all": tensor(shared, (3, 4), (4, 1)),
        "transposed": tensor(shared, (4, 3), (1, 4)),
        "tail": tensor(shared, (2, 2), (4, 2), 5),
        "expanded": tensor(shared, (2, 3), (0, 1), 4),
        "scalar": tensor(shared, (), (), 7),
        "empty": tensor(empty, (0, 5), (5, 1)),
        "old": tensor(shared, (2,), (1,), 2, "_rebuild_tensor"),
        "ones": tensor(shared, (1, 12, 1), (99, 1, 77)),
    }
    obj["parameter"] = Call("torch._utils", "_rebuild_parameter", tensor(shared, (2,), (1,), 10),
                            True, collections.OrderedDict())
    obj["list"] = [tensor(shared, (1,), (1,), 1), "text", {"deep": tensor(shared, (1,), (1,), 2)}]
    obj["callbacks"] = {fake("lightning", "Checkpoint"): {"best": tensor(shared, (), (), 3)}}
    obj["device"] = Call("torch", "device", "cuda", 0)
    obj["size"] = Call("torch", "Size", (2, 3))
    obj["numpy"] = numpy_values()
    obj["args"] = argparse.Namespace(lr=1e-4, name="run")
    obj["step"] = 2**70
    if views:
        view = Storage("0", "FloatStorage", 12, shared.data, view=("77", 4, 4))
        obj["root_view"] = tensor(view, (2,), (1,), 1)
    else:
        untyped = Storage("u", "UntypedStorage", 8, floats(1.5, 2.5), module="torch.storage")
        storages.append(untyped)
        hooks = collections.OrderedDict()
        obj["v3"] = Call("torch._utils", "_rebuild_tensor_v3", untyped, 1, (1,), (1,), False,
                         hooks, fake("torch", "float32"))
        obj["subclass"] = Call("torch._tensor", "_rebuild_from_type_v2",
                               fake("torch._utils", "_rebuild_tensor_v2"), fake("my", "Tensor"),
                               (shared, 0, (1,), (1,), False, hooks), {})
    return obj, storages


class Evil:
    def __reduce__(self):
        return (os.system, ("touch owned",))


def hostile():
    """One small archive per way to lie."""
    def one(name, shape=(4,), stride=(1,), offset=0, numel=4, kind="FloatStorage", data=None,
            fn="_rebuild_tensor_v2", **more):
        s = Storage("0", kind, numel, floats(1, 2, 3, 4) if data is None else data)
        torch_zip(name, {"w": tensor(s, shape, stride, offset, fn)}, [s], **more)

    one("bad-offset.pt", offset=1)
    one("bad-offset-negative.pt", offset=-1)
    one("bad-offset-huge.pt", offset=2**62)
    one("bad-shape-huge.pt", shape=(2**40, 2**40), stride=(2**40, 1))
    one("bad-shape-overflow.pt", shape=(2**62, 2), stride=(0, 0))
    one("bad-shape-negative.pt", shape=(-4,))
    one("bad-shape-text.pt", shape=("4",))
    one("bad-stride.pt", shape=(2, 2), stride=(3, 1))
    one("bad-stride-negative.pt", stride=(-1,), offset=3)
    one("bad-stride-huge.pt", shape=(2, 2), stride=(2**62, 2**62))
    one("bad-strides-missing.pt", shape=(2, 2), stride=(1,))
    one("bad-expanded-huge.pt", shape=(2**33,), stride=(0,))
    one("bad-dims.pt", shape=(1,) * 9, stride=(1,) * 9)
    one("bad-numel.pt", numel=5)
    one("bad-numel-negative.pt", numel=-4)
    one("bad-numel-huge.pt", numel=2**62)
    one("bad-complex.pt", kind="ComplexFloatStorage")
    one("bad-sparse.pt", fn="_rebuild_sparse_tensor")
    one("bad-big-endian.pt", extra=[("byteorder", b"big")])
    one("bad-byteorder.pt", extra=[("byteorder", b"middle")])
    one("bad-script.pt", extra=[("constants.pkl", b"")])
    one("good-little-endian.pt", extra=[("byteorder", b"little")])
    one("good-bare.pt", folder="")
    one("bad-key.pt")
    (DATA / "bad-key.pt").write_bytes((DATA / "bad-key.pt").read_bytes().replace(
        b"archive/data/0", b"archive/data/1"))
    s = Storage("../../../etc/passwd", "FloatStorage", 4, floats(1, 2, 3, 4))
    torch_zip("good-path-key.pt", {"w": tensor(s, (4,), (1,))}, [s])
    s = Storage("/etc/passwd", "FloatStorage", 4, floats(1, 2, 3, 4))
    torch_zip("bad-path-key.pt", {"w": tensor(s, (4,), (1,))}, [])
    torch_zip("good-evil.pt", {"x": Evil(), "y": 1}, [])
    s = Storage("0", "FloatStorage", 4, floats(1, 2, 3, 4))
    torch_zip("bad-duplicate.pt", {"a.b": tensor(s, (4,), (1,)), "a": {"b": tensor(s, (1,), (1,))}},
              [s])
    torch_zip("good-lone.pt", tensor(s, (2, 2), (2, 1)), [s])
    # unpacked sizes that nothing asks for
    bomb = Storage("0", "FloatStorage", 4, bytes(4 << 20))
    torch_zip("bad-bomb-storage.pt", {"w": tensor(bomb, (4,), (1,))}, [bomb], packed=True)
    pkl = dumps({"x": 1})[:-1] + b"0N" * (2 << 20) + b"."
    torch_zip("bad-bomb-pickle.pt", pkl, [], packed=True)
    laugh = [1] * 10
    for _ in range(12):
        laugh = [laugh] * 10
    torch_zip("bad-laughs.pt", {"x": laugh}, [])
    text = "k" * 4000
    torch_zip("bad-long-name.pt", {text: {text + "2": tensor(s, (4,), (1,))}}, [s])
    torch_zip("bad-deep.pt", b"\x80\x02" + b"]" * 5000 + b"a" * 4999 + b".", [])
    write_zip(DATA / "bad-two-pickles.pt", [("a/data.pkl", dumps(1)), ("b/data.pkl", dumps(1))])
    write_zip(DATA / "bad-other.zip", [("readme.txt", b"hello")])
    whole = Storage("0", "FloatStorage", 4, floats(1, 2, 3, 4))
    legacy("bad-legacy-numel.pt", {"w": tensor(Storage("0", "FloatStorage", 3, b""), (3,), (1,))},
           [whole])
    legacy("bad-legacy-view.pt", {"w": tensor(
        Storage("0", "FloatStorage", 4, whole.data, view=("v", 2, 3)), (1,), (1,))}, [whole])
    legacy("bad-legacy-past-view.pt", {"w": tensor(
        Storage("0", "FloatStorage", 4, whole.data, view=("v", 1, 2)), (3,), (1,))}, [whole])
    legacy("bad-legacy-unused.pt", {"w": 1}, [whole])
    legacy("bad-legacy-big-endian.pt", {"w": tensor(whole, (4,), (1,))}, [whole], little=False)


def npy(descr, shape, data, fortran=False, version=1):
    text = "{'descr': %r, 'fortran_order': %r, 'shape': %r, }" % (descr, fortran, shape)
    size = "<H" if version == 1 else "<I"
    head = 8 + struct.calcsize(size)
    text += " " * (-(head + len(text) + 1) % 64) + "\n"
    return (b"\x93NUMPY" + bytes([version, 0]) + struct.pack(size, len(text)) +
            text.encode("latin1") + data)


def arrays():
    six = floats(0, 1, 2, 3, 4, 5)
    return [("c.npy", npy("<f4", (2, 3), six)), ("f.npy", npy("<f4", (2, 3), six, True)),
            ("scalar.npy", npy("<i8", (), struct.pack("<q", -7))),
            ("flags.npy", npy("|b1", (3,), b"\1\0\1", version=2)),
            ("empty.npy", npy("<f8", (0, 4), b"", version=3))]


def safetensors(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def seeds():
    for name in ["safetensors", "pickle", "torch", "npy"]:
        shutil.rmtree(CORPUS / name, ignore_errors=True)
        (CORPUS / name).mkdir(parents=True)
    for p in sorted(DATA.glob("*.p[tk]*")):
        if p.stat().st_size <= 8192:
            kind = "pickle" if p.suffix == ".pkl" else "torch"
            shutil.copyfile(p, CORPUS / kind / p.name)
    for name, data in arrays():
        (CORPUS / "npy" / name).write_bytes(data)
    for name in ["stored.npz", "packed.npz"]:
        shutil.copyfile(DATA / name, CORPUS / "npy" / name)
    st = CORPUS / "safetensors"
    one = b'{"w":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}'
    (st / "one").write_bytes(safetensors(one + b"}", bytes(8)))
    (st / "meta").write_bytes(safetensors(one + b',"__metadata__":{"a":"b"}}  ', bytes(8)))
    two = one + b',"v":{"dtype":"BF16","shape":[],"data_offsets":[8,10]}}'
    (st / "two").write_bytes(safetensors(two, bytes(10)))
    (st / "none").write_bytes(safetensors(b"{}"))
    for i, t in enumerate(["F64", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"]):
        h = b'{"x":{"dtype":"%s","shape":[0],"data_offsets":[0,0]}}' % t.encode()
        (st / ("dtype%d" % i)).write_bytes(safetensors(h))


def main():
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    for protocol in range(6):
        (DATA / ("tree%d.pkl" % protocol)).write_bytes(dumps(plain_tree(protocol), protocol))
    obj, storages = checkpoint(views=False)
    torch_zip("stored.pt", obj, storages, "any name/")
    torch_zip("packed.pt", obj, storages, packed=True)
    torch_zip("protocol5.pt", obj, storages, protocol=5)
    obj, storages = checkpoint(views=True)
    legacy("legacy.pt", obj, storages)
    legacy("legacy4.pt", obj, storages, protocol=4)
    hostile()
    write_zip(DATA / "stored.npz", arrays())
    write_zip(DATA / "packed.npz", arrays(), packed=True)
    seeds()


main()
