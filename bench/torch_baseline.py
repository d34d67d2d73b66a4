#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""zsem against PyTorch on one machine, in one run.

    make bench                                   installs PyTorch into build/bench-venv and runs this
    python bench/torch_baseline.py --zsem build/release/zsem --sections networks

For every row zsem first writes its weights, inputs and results (zsem bench --save); PyTorch loads
them, and the row ends the run unless both computed the same numbers. Only then are both timed, in
turn, A B A B. PyTorch runs as it likes it best: the fastest of eager and torch.compile with both
memory formats, fused Adam, foreach moving average, and a malloc that gives nothing back.

Writes a Markdown table and the same as JSON.
"""
import argparse
import contextlib
import copy
import datetime
import fcntl
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
# glibc keeps freed memory and never maps single tensors: page faults cost PyTorch up to 10x on
# single operations otherwise. Read at process start, so this program starts itself again with it.
KIND_MALLOC = {"MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_MAX_": "0",
               "MALLOC_TOP_PAD_": "268435456"}
EQUAL = 1e-3  # relative L2 error up to which both sides count as computing the same
ROW_SECTIONS = ["ops", "networks", "training", "prior"]  # of rows that zsem bench has too
SECTIONS = ROW_SECTIONS + ["process", "memory"]
EXTRA_SECTIONS = ["scaling", "batch", "busy"]
CONV = ["n1-c128-s64", "n8-c64-s64", "n8-c128-s32", "n8-c256-s16", "n8-c512-s8", "n1-c128-s256",
        "n8-c32-s32"]


# ---- measuring ----

class Clock:
    """Timed blocks. With a lock file they are taken one at a time and at real-time priority, for
    machines that have other work."""

    def __init__(self, lock):
        self.lock = lock

    @contextlib.contextmanager
    def alone(self, realtime=True):
        if not self.lock:
            yield
            return
        with open(self.lock, "a", encoding="ascii") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            if realtime:
                schedule(os.SCHED_FIFO, 10)
            try:
                yield
            finally:
                if realtime:
                    schedule(os.SCHED_OTHER, 0)


def schedule(policy, priority):
    for tid in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setscheduler(int(tid), policy, os.sched_param(priority))


def time_calls(fn, seconds, least=3, most=1000):
    """Milliseconds of each call."""
    times, start = [], time.perf_counter()
    while len(times) < most and (len(times) < least or time.perf_counter() - start < seconds):
        t = time.perf_counter()
        fn()
        times.append((time.perf_counter() - t) * 1e3)
    return times


class Zsem:
    """The program under test."""

    def __init__(self, path, work, threads):
        self.path, self.work, self.threads = str(path), work, threads

    def run(self, *args, threads=None):
        cmd = [self.path, *args, "--json", "--quiet", "--threads", str(threads or self.threads)]
        env = {k: v for k, v in os.environ.items() if k not in KIND_MALLOC}
        r = subprocess.run(cmd, capture_output=True, text=True, env=env, check=False)
        if r.returncode:
            sys.exit(f"{' '.join(cmd)}: {r.stderr.strip()}")
        return json.loads(r.stdout)

    def row(self, name, seconds, threads=None):
        out = self.run("bench", "--rows", name, "--seconds", str(seconds), threads=threads)
        return out["rows"][0]

    def save(self, name):
        self.run("bench", "--rows", name, "--save", str(self.work))


def error(have, want):
    have, want = have.detach().double().flatten(), want.double().flatten()
    return ((have - want).norm() / want.norm().clamp_min(1e-30)).item()


class Checks:
    """Relative errors of one row; the worst decides."""

    def __init__(self, row):
        self.row, self.worst = row, {}

    def add(self, what, have, want):
        e = error(have, want)
        self.worst[what] = max(e, self.worst.get(what, 0.0))

    def finish(self):
        text = ", ".join(f"{k} {v:.1e}" for k, v in self.worst.items())
        print(f"  {self.row}: relative error against zsem: {text}", flush=True)
        bad = {k: v for k, v in self.worst.items() if not v <= EQUAL}
        if bad:
            sys.exit(f"{self.row}: the two do not compute the same: {bad}")
        return max(self.worst.values())


# ---- PyTorch's side of each row: check(), then variants() -> {name: function to time} ----

def formats(tensor):
    """As it is, and channels last."""
    yield "nchw", tensor.contiguous()
    yield "nhwc", tensor.contiguous(memory_format=torch.channels_last)


class ConvRow:
    def __init__(self, name, tensors):
        self.kind, self.t = name.split("-")[1], tensors

    def backward(self, dy, x, w, mask):
        return torch.ops.aten.convolution_backward(dy, x, w, None, [1, 1], [1, 1], [1, 1], False,
                                                   [0, 0], 1, mask)

    def call(self, fmt):
        t = {k: v.contiguous(memory_format=fmt) if v.dim() == 4 else v for k, v in self.t.items()}
        if self.kind == "fwd":
            return lambda: torch.nn.functional.conv2d(t["x"], t["w"], t["b"], padding=1)
        if self.kind == "dx":
            x = torch.empty_like(t["dy"])
            return lambda: self.backward(t["dy"], x, t["w"], [True, False, False])[0]
        w = torch.empty_like(t["dw"])
        return lambda: self.backward(t["dy"], t["x"], w, [False, True, False])[1]

    def check(self, checks):
        want = {"fwd": "y", "dx": "dx", "dw": "dw"}[self.kind]
        checks.add(want, self.call(torch.contiguous_format)(), self.t[want])

    def variants(self, compiled):
        yield "eager nchw", self.call(torch.contiguous_format)
        yield "eager nhwc", self.call(torch.channels_last)
        if compiled and self.kind == "fwd":  # a backward of a single convolution compiles to itself
            t = {k: v.contiguous(memory_format=torch.channels_last) if v.dim() == 4 else v
                 for k, v in self.t.items()}
            f = torch.compile(lambda x, w, b: torch.nn.functional.conv2d(x, w, b, padding=1))
            yield "compile nhwc", lambda: f(t["x"], t["w"], t["b"])


class AdagnRow:
    inference = False

    def __init__(self, name, tensors):
        self.t = tensors

    @staticmethod
    def forward(x, gamma, beta, ss, cs):
        h = torch.nn.functional.group_norm(x, min(32, x.shape[1]), gamma, beta)
        scale, shift = ss[:, :, None, None].chunk(2, dim=1)
        h = (h * (1 + scale) + shift) * (1 + cs[:, :, None, None])
        return torch.nn.functional.silu(h)

    def call(self, fmt, fn):
        names = ["x", "gamma", "beta", "ss", "cs"]
        p = [self.t[k].contiguous(memory_format=fmt) if k == "x" else self.t[k] for k in names]
        p = [v.detach().clone().requires_grad_() for v in p]
        dy = self.t["dy"].contiguous(memory_format=fmt)

        def step():
            y = fn(*p)
            return (y, *torch.autograd.grad(y, p, dy))
        return step

    def check(self, checks):
        out = self.call(torch.contiguous_format, self.forward)()
        for name, have in zip(["y", "dx", "dgamma", "dbeta", "dss", "dcs"], out):
            checks.add(name, have, self.t[name])

    def variants(self, compiled):
        yield "eager nchw", self.call(torch.contiguous_format, self.forward)
        yield "eager nhwc", self.call(torch.channels_last, self.forward)
        if compiled:
            f = torch.compile(self.forward)
            yield "compile nchw", self.call(torch.contiguous_format, f)
            yield "compile nhwc", self.call(torch.channels_last, f)


def load_bundle(path):
    from safetensors import safe_open
    from safetensors.torch import load_file
    with safe_open(path, "pt") as f:
        config = json.loads(f.metadata()["zsem"])
    config["generator"].setdefault("z_dim", 0)
    with torch.device("meta"):
        if config["generator"]["arch"] == "adm":
            model = networks.Adm(config["generator"])
        else:
            model = networks.Autoencoder(config["generator"], config["encoder"])
    return model.load(load_file(path)).eval(), config


PRESET = {"eps-adm64-n8": "adm64-rep"}  # where it is not in the name of the row


class NetRow:
    """eps or encode: one network call."""

    def __init__(self, name, tensors):
        self.encoder = name.startswith("encode")
        model, _ = load_bundle(WORK / f"{PRESET.get(name, name.split('-')[1])}.model.safetensors")
        self.model = (model if isinstance(model, networks.Adm)
                      else model.encoder if self.encoder else model.unet)
        self.t = tensors

    def call(self, fmt, compiled=False):
        model = copy.deepcopy(self.model).to(memory_format=fmt)
        if compiled:
            model = torch.compile(model)
        x = self.t["x"].contiguous(memory_format=fmt)
        if self.encoder:
            return lambda: model(x)
        return lambda: model(x, self.t["t"], self.t["z"])

    def check(self, checks):
        want = "z" if self.encoder else "eps"
        checks.add(want, self.call(torch.contiguous_format)(), self.t[want])

    def variants(self, compiled):
        yield "eager nchw", self.call(torch.contiguous_format)
        yield "eager nhwc", self.call(torch.channels_last)
        if compiled:
            torch._inductor.config.freezing = True  # weights packed once, as constants
            yield "compile nhwc", self.call(torch.channels_last, compiled=True)


class VitRow:
    def __init__(self, name, tensors):
        weights = {k.removeprefix("param."): v for k, v in tensors.items()
                   if k.startswith("param.")}
        self.model, self.t = networks.VisionTransformer(weights, heads=12).eval(), tensors

    def call(self, fmt, compiled=False):
        model = copy.deepcopy(self.model).to(memory_format=fmt)
        if compiled:
            model = torch.compile(model)
        x = self.t["x"].contiguous(memory_format=fmt)
        return lambda: model(x)

    def check(self, checks):
        checks.add("features", self.call(torch.contiguous_format)(), self.t["features"])

    def variants(self, compiled):
        yield "eager nchw", self.call(torch.contiguous_format)
        yield "eager nhwc", self.call(torch.channels_last)
        if compiled:
            torch._inductor.config.freezing = True
            yield "compile nhwc", self.call(torch.channels_last, compiled=True)


class DitRow:
    HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}

    def __init__(self, name, tensors):
        from safetensors.torch import load_file
        preset = "-".join(name.split("-")[:2]) + "-rep"
        weights = {k.removeprefix("generator."): v
                   for k, v in load_file(WORK / f"{preset}.model.safetensors").items()}
        heads = self.HEADS[weights["pos_embed"].shape[2]]
        self.model, self.t = networks.Dit(weights, heads).eval(), tensors

    def call(self, fmt, compiled=False):
        model = copy.deepcopy(self.model).to(memory_format=fmt)
        if compiled:
            model = torch.compile(model)
        x, t, z = self.t["x"].contiguous(memory_format=fmt), self.t["t"], self.t["z"]
        return lambda: model(x, t, z)

    def check(self, checks):
        checks.add("eps", self.call(torch.contiguous_format)(), self.t["eps"])

    variants = VitRow.variants


class Optimiser:
    """Clipping, fused Adam or AdamW, and the moving average of the weights."""

    def __init__(self, model, lr, decay, ema):
        self.params = [p for p in model.parameters()]
        adam = torch.optim.AdamW if decay else torch.optim.Adam
        self.adam = adam(self.params, lr=lr, weight_decay=decay, fused=True)
        self.average = [p.detach().clone() for p in self.params]
        self.ema = ema

    def step(self):
        torch.nn.utils.clip_grad_norm_(self.params, 1.0, foreach=True)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1.0 - self.ema)


class StepRow:
    """A training step: draw, forward, backward, update."""
    inference = False

    def build(self, dropout):
        raise NotImplementedError

    def gradients(self, model, optimiser, i):
        loss = self.loss(model, self.t["x0"], self.t[f"t.{i}"], self.t[f"noise.{i}"])
        loss.backward()
        return loss

    def check(self, checks):
        model, optimiser = self.build(dropout=0.0)
        start = [p.detach().clone() for p in optimiser.params]
        losses = []
        for i in range(3):
            losses.append(self.gradients(model, optimiser, i).detach())
            if i == 0:
                self.check_gradients(model, checks)
            optimiser.step()
        checks.add("losses", torch.stack(losses), torch.cat([self.t[f"loss.{i}"] for i in range(3)]))
        shift = [sum(((a.detach() - b).double() ** 2).sum() for a, b in zip(now, start))
                 for now in (optimiser.params, optimiser.average)]
        # Adam takes whole steps along gradients that are rounding alone, so this is less exact
        e = error(torch.stack(shift), self.t["squared_shift"])
        print(f"  shift of weights and average after 3 steps agrees to {e:.1e}", flush=True)
        if e > 0.05:
            sys.exit("the optimisers differ")

    def check_gradients(self, model, checks):
        have, want = [], []
        for name, p in model.named_parameters():
            name = self.official(name)
            have.append(p.grad.flatten())
            want.append(self.t[f"grad.{name}"].flatten())
        checks.add("gradients", torch.cat(have), torch.cat(want))

    def variants(self, compiled):
        yield "eager nchw", self.stepper(torch.contiguous_format, False)
        if self.t["x0"].dim() == 4:
            yield "eager nhwc", self.stepper(torch.channels_last, False)
        if compiled:
            yield "compile nhwc" if self.t["x0"].dim() == 4 else "compile", self.stepper(
                torch.channels_last, True)

    def stepper(self, fmt, compiled):
        state = {}  # built at the first call, and gone with the variant
        x0 = self.t["x0"]
        if x0.dim() == 4:
            x0 = x0.contiguous(memory_format=fmt)

        def step():
            if not state:
                model, state["optimiser"] = self.build(self.dropout)
                if x0.dim() == 4:
                    model.to(memory_format=fmt)
                state["model"] = torch.compile(model) if compiled else model
            t = torch.randint(0, 1000, (x0.shape[0],))
            self.loss(state["model"], x0, t, torch.randn_like(x0)).backward()
            state["optimiser"].step()
        return step


class TrainRow(StepRow):
    lr, ema = 1e-4, 0.9999

    def __init__(self, name, tensors):
        self.t, self.preset = tensors, name.split("-")[1]
        _, config = load_bundle(self.bundle())
        self.dropout = config["generator"]["dropout"]
        if self.preset == "fashion32":
            self.lr, self.ema = 4e-4, 0.999
        self.abar = networks.alphas_cumprod(networks.linear_betas())

    def bundle(self):
        return WORK / f"{self.preset}.model.safetensors"

    @staticmethod
    def official(name):
        return name.removeprefix("unet.")

    def build(self, dropout):
        model, _ = load_bundle(self.bundle())
        for m in model.modules():
            if isinstance(m, torch.nn.Dropout):
                m.p = dropout
        return model.train(), Optimiser(model, self.lr, 0.0, self.ema)

    def loss(self, model, x0, t, noise):
        a = self.abar[t][:, None, None, None]
        x_t = a.sqrt().float() * x0 + (1 - a).sqrt().float() * noise
        return torch.nn.functional.mse_loss(model(x0, x_t, t), noise)


class PriorRow(StepRow):
    dropout = 0.0

    def __init__(self, name, tensors):
        self.t = tensors
        self.abar = networks.alphas_cumprod(networks.constant_betas(0.008))

    @staticmethod
    def official(name):
        return "latent_net." + name

    def build(self, dropout):
        w = {k.removeprefix("param."): v.clone() for k, v in self.t.items()
             if k.startswith("param.")}
        layers = 1 + max(int(k.split(".")[2]) for k in w if k.startswith("latent_net.layers."))
        hidden, z_dim = w["latent_net.layers.0.linear.weight"].shape
        model = networks.LatentMLP(z_dim, hidden, layers, w["latent_net.time_embed.0.weight"].shape[1])
        return model.load(w).train(), Optimiser(model, 1e-4, 0.01, 0.9999)

    def loss(self, model, z, t, noise):
        a = self.abar[t][:, None]
        z_t = a.sqrt().float() * z + (1 - a).sqrt().float() * noise
        return torch.nn.functional.l1_loss(model(z_t, t), noise)


class LitOptimiser(Optimiser):
    """AdamW without clipping; the average takes the weights before the step, and warms up."""

    def step(self):
        self.n = getattr(self, "n", 0) + 1
        keep = min(self.ema, (1 + self.n) / (10 + self.n))
        with torch.no_grad():
            torch._foreach_lerp_(self.average, [p.detach() for p in self.params], 1.0 - keep)
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)


class RdmRow(StepRow):
    dropout = 0.0

    def __init__(self, name, tensors):
        self.t = tensors
        self.abar = networks.alphas_cumprod(networks.sqrt_betas(0.0015, 0.0195))

    @staticmethod
    def official(name):
        return "model.diffusion_model." + name

    def build(self, dropout):
        w = {k.removeprefix("param."): v.clone() for k, v in self.t.items()
             if k.startswith("param.")}
        model = networks.RepresentationDiffusion(w)
        return model.train().requires_grad_(), LitOptimiser(model, 5.12e-4, 0.01, 0.9999)

    def loss(self, model, z, t, noise):
        a = self.abar[t][:, None]
        z_t = a.sqrt().float() * z + (1 - a).sqrt().float() * noise
        return torch.nn.functional.mse_loss(model(z_t, t), z)


SIDES = {"conv": ConvRow, "adagn": AdagnRow, "eps": NetRow, "encode": NetRow, "vit": VitRow, "dit": DitRow,
         "train": TrainRow,
         "prior": PriorRow, "rdm": RdmRow}


def open_row(name):
    from safetensors.torch import load_file
    return SIDES[name.split("-")[0]](name, load_file(WORK / f"{name}.safetensors"))


def mode(side):
    return torch.inference_mode() if getattr(side, "inference", True) else contextlib.nullcontext()


# ---- a row of the table ----

class Bench:
    def __init__(self, args):
        self.args = args
        self.zsem = Zsem(args.zsem, WORK, args.threads)
        self.clock = Clock(args.exclusive)
        self.results = []

    def variants(self, side):
        """Median of each way to run it, and the best one's function."""
        best, tried = None, {}
        with mode(side):
            for name, fn in side.variants("compile" in self.args.variants):
                try:
                    if name.startswith("compile"):
                        fn()  # takes minutes: not alone
                    with self.clock.alone():
                        fn()
                        tried[name] = statistics.median(time_calls(fn, self.args.seconds / 2, 2))
                except Exception as e:  # a variant that PyTorch cannot run is no reason to stop
                    tried[name] = None
                    print(f"  {name}: {type(e).__name__}: {str(e).splitlines()[0]}", flush=True)
                    continue
                if best is None or tried[name] < best[0]:
                    best = (tried[name], name, fn)
        return tried, best[1], best[2]

    def wait(self):
        """Others want the lock too."""
        if self.args.exclusive:
            time.sleep(0.2)

    def compare(self, name, target, section):
        """Equality, then A B A B."""
        print(f"{name}", flush=True)
        self.zsem.save(name)
        side, checks = open_row(name), Checks(name)
        with mode(side), self.clock.alone():
            side.check(checks)
        worst = checks.finish()
        tried, best, fn = self.variants(side)
        ours, theirs, row = [], [], None
        with mode(side):
            for _ in range(self.args.rounds):
                with self.clock.alone():
                    row = self.zsem.row(name, self.args.seconds)
                    ours += row["times_ms"]
                    fn()
                    theirs += time_calls(fn, self.args.seconds)
                self.wait()
        self.add(section, row["about"], name, statistics.median(ours), statistics.median(theirs),
                 target, best, tried=tried, error=worst, runs=[len(ours), len(theirs)],
                 gflops=scaled(row, "gflops", ours), per_s=scaled(row, "per_s", ours))
        torch._dynamo.reset()

    def add(self, section, about, name, ours, theirs, target, best, unit="ms", **more):
        ratio = ours / theirs if unit == "MiB" else theirs / ours
        self.results.append({"section": section, "about": about, "name": name, "zsem": ours,
                             "torch": theirs, "unit": unit, "ratio": ratio, "target": target,
                             "torch_variant": best, "date": now(), **more})
        print(f"  {about}: zsem {ours:.2f} {unit}, PyTorch {theirs:.2f} {unit} ({best}), "
              f"ratio {ratio:.2f}", flush=True)
        write_results(self.args, self.results)


def scaled(row, key, times):
    """A rate that zsem printed for its own median, for the median of all rounds."""
    return row[key] * row["ms"] / statistics.median(times) if key in row else None


def now():
    return datetime.datetime.now().strftime("%Y-%m-%d %H:%M")


def section_ops(b):
    for shape in CONV:
        for kind in ("fwd", "dx", "dw"):
            b.compare(f"conv-{kind}-{shape}", 2.3 if "-c32-" in shape else 3.0, "ops")
    for shape in ("n8-c128-s64", "n8-c256-s16"):
        b.compare(f"adagn-{shape}", 4.0, "ops")


def section_networks(b):
    for name in ("eps-ffhq64-n8", "eps-ffhq128-n1", "eps-ffhq256-n1", "encode-ffhq64-n8"):
        b.compare(name, 3.0, "networks")
    for name in ("vit-b16-n1", "vit-b16-n8", "dit-s2-n8"):
        b.compare(name, 1.3, "networks")
    b.compare("eps-adm64-n8", 2.8, "networks")


def section_training(b):
    for name in ("train-ffhq64-n8", "train-fashion32-n64"):
        b.compare(name, 2.8, "training")


def section_prior(b):
    b.compare("prior-ffhq64-n256", 1.3, "prior")
    b.compare("rdm-b-n512", 1.3, "prior")


# ---- whole processes ----

def write_png(path, rows, width):
    """8-bit RGB; rows of bytes."""
    import struct
    import zlib

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + r for r in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data)
                     + chunk(b"IEND", b""))


def read_png(path):
    """What write_png wrote, as [1,3,h,w] in [-1,1]."""
    import struct
    import zlib
    raw = path.read_bytes()
    width, height = struct.unpack(">II", raw[16:24])
    size = struct.unpack(">I", raw[33:37])[0]
    data = zlib.decompress(raw[41:41 + size])
    x = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(height, 1 + 3 * width)[:, 1:]
    return x.reshape(1, height, width, 3).permute(0, 3, 1, 2).float() / 127.5 - 1


def make_image(path, size=64):
    g = torch.Generator().manual_seed(1)
    x = torch.nn.functional.interpolate(torch.randn(1, 3, 5, 5, generator=g), size=(size, size),
                                        mode="bicubic")
    x = ((x.clamp(-2, 2) + 2) * 63.75).round().to(torch.uint8)[0].permute(1, 2, 0)
    write_png(path, [bytes(r.flatten().tolist()) for r in x], size)


def measure_process(cmd, env=None):
    """Seconds and peak MiB of a fresh process, and what it printed."""
    out = WORK / "process.out"
    with open(out, "wb") as f:
        start = time.perf_counter()
        p = subprocess.Popen(cmd, stdout=f, env=env)
        _, status, usage = os.wait4(p.pid, 0)
        seconds = time.perf_counter() - start
        p.returncode = os.waitstatus_to_exitcode(status)
    if p.returncode:
        sys.exit(f"{' '.join(map(str, cmd))}: exit status {p.returncode}")
    return seconds, usage.ru_maxrss / 1024, out.read_text(encoding="utf-8")


def child_command(*args):
    return [sys.executable, str(HERE / "torch_baseline.py"), "--work", str(WORK),
            "--threads", os.environ["OMP_NUM_THREADS"], "--child", *map(str, args)]


def plain_env():
    return {k: v for k, v in os.environ.items() if k not in KIND_MALLOC}


def section_process(b):
    """Load, encode, invert, decode; start-up of both programs included."""
    print("whole process", flush=True)
    b.zsem.save("eps-ffhq64-n1")
    bundle, image, out = WORK / "ffhq64.model.safetensors", WORK / "image.png", WORK / "reconstruct"
    make_image(image)
    ours_cmd = [b.zsem.path, "reconstruct", bundle, image, "--steps", "20", "--out", out, "--json",
                "--quiet", "--threads", str(b.args.threads)]
    best = None
    for fmt in ("nchw", "nhwc"):
        for name, env in (("malloc tuned", None), ("malloc as is", plain_env())):
            cmd = child_command("process", bundle, image, fmt)
            with b.clock.alone():
                s, _, text = measure_process(cmd, env)
            mse = json.loads(text)["mse"]
            if best is None or s < best[0]:
                best = (s, f"eager {fmt}, {name}", cmd, env)
    ours, theirs = [], []
    for _ in range(b.args.rounds):
        with b.clock.alone():
            s, _, text = measure_process(ours_cmd, plain_env())
            ours.append(s * 1e3)
            theirs.append(measure_process(best[2], best[3])[0] * 1e3)
    ours_mse = json.loads(text)["images"][0]["mse"]
    print(f"  mean squared error of the reconstruction: zsem {ours_mse:.6f}, PyTorch {mse:.6f}")
    if abs(ours_mse - mse) > 0.01 * mse:
        sys.exit("the two do not reconstruct the same image")
    b.add("process", "whole process: load, encode, invert T=20, decode T=20, one 64x64 image",
          "process-ffhq64", statistics.median(ours), statistics.median(theirs), 3.5, best[1])


# A process counts what its parent held when it was forked, so a small one is put in between.
LAUNCHER = """import resource, subprocess, sys
status = subprocess.run(sys.argv[2:]).returncode
with open(sys.argv[1], "w") as f:
    f.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)"""


def peak(b, cmd):
    """Peak MiB of a fresh process."""
    kib = WORK / "peak.kib"
    with b.clock.alone():
        measure_process([sys.executable, "-S", "-c", LAUNCHER, str(kib), *map(str, cmd)], plain_env())
    return int(kib.read_text(encoding="ascii")) / 1024


def section_memory(b):
    """Largest resident size of fresh processes; malloc as it is, since tuned it keeps more."""
    print("peak memory", flush=True)
    threads = ["--threads", str(b.args.threads)]

    def theirs(*args):
        return min((peak(b, child_command(*args, fmt)), f"eager {fmt}") for fmt in MEMORY_FORMAT)
    b.zsem.save("train-ffhq64-n8")
    ours = peak(b, [b.zsem.path, "bench", "--rows", "train-ffhq64-n8", "--runs", "3", "--quiet",
                    *threads])
    mib, best = theirs("train", "train-ffhq64-n8")
    b.add("memory", "peak memory of the training step ffhq64 N=8", "memory-train-ffhq64", ours, mib,
          0.6, best, unit="MiB")
    b.zsem.save("eps-ffhq256-n1")
    bundle, given = WORK / "ffhq256.model.safetensors", WORK / "sample-in.safetensors"
    make_noise(given, 256)
    ours = peak(b, [b.zsem.path, "apply", "decode", "--model", bundle, "--in", given, "--out",
                    WORK / "sample-out.safetensors", "--steps", "4", "--quiet", *threads])
    mib, best = theirs("sample", bundle, given)
    compare_samples()
    b.add("memory", "peak memory of sampling ffhq256, 4 steps", "memory-sample-ffhq256", ours, mib,
          0.6, best, unit="MiB")


def make_noise(path, size):
    from safetensors.torch import save_file
    g = torch.Generator().manual_seed(2)
    save_file({"x_T": torch.randn(1, 3, size, size, generator=g),
               "z_sem": torch.randn(1, 512, generator=g)}, path)


def compare_samples():
    from safetensors.torch import load_file
    checks = Checks("sampling ffhq256")
    checks.add("x0", load_file(WORK / "sample-torch.safetensors")["x0"],
               load_file(WORK / "sample-out.safetensors")["x0"])
    checks.finish()


MEMORY_FORMAT = {"nchw": "contiguous_format", "nhwc": "channels_last"}


def child_process(bundle, image, fmt):
    model, _ = load_bundle(bundle)
    model.to(memory_format=getattr(torch, MEMORY_FORMAT[fmt]))
    x0 = read_png(Path(image)).contiguous(memory_format=getattr(torch, MEMORY_FORMAT[fmt]))
    with torch.inference_mode():
        z = model.encoder(x0)
        ddim = networks.Ddim(20)
        x = ddim.decode(lambda x, t: model.unet(x, t, z), ddim.invert(
            lambda x, t: model.unet(x, t, z), x0))
    mse = float(((x.clamp(-1, 1) - x0) / 2).square().mean())
    print(json.dumps({"mse": mse}))


def child_train(name, fmt):
    step = open_row(name).stepper(getattr(torch, MEMORY_FORMAT[fmt]), False)
    for _ in range(4):
        step()


def child_sample(bundle, given, fmt):
    from safetensors.torch import load_file, save_file
    model, _ = load_bundle(bundle)
    model.to(memory_format=getattr(torch, MEMORY_FORMAT[fmt]))
    t = load_file(given)
    x = t["x_T"].contiguous(memory_format=getattr(torch, MEMORY_FORMAT[fmt]))
    with torch.inference_mode():
        x0 = networks.Ddim(4).decode(lambda x, s: model.unet(x, s, t["z_sem"]), x)
    save_file({"x0": x0.contiguous()}, WORK / "sample-torch.safetensors")


# ---- extra sections: zsem alone or both, no target but the text's ----

def section_scaling(b):
    """One thread against two."""
    for name in ("eps-ffhq64-n8", "eps-ffhq128-n1", "eps-ffhq256-n1", "encode-ffhq64-n8",
                 "train-ffhq64-n8", "train-fashion32-n64", "prior-ffhq64-n256"):
        one, two = [], []
        for _ in range(b.args.rounds):
            with b.clock.alone():
                row = b.zsem.row(name, b.args.seconds, threads=1)
                one += row["times_ms"]
                two += b.zsem.row(name, b.args.seconds, threads=2)["times_ms"]
        extra_row(b, "scaling", f"{row['about']}, 1 -> 2 threads", name,
                  {"1 thread, ms": statistics.median(one), "2 threads, ms": statistics.median(two),
                   "speed-up": statistics.median(one) / statistics.median(two)}, "1.85")


def section_batch(b):
    """Cost of one image in batches of 1 to 32."""
    for preset in ("fashion32", "ffhq64"):
        cost = {}
        for n in (1, 2, 4, 8, 16, 32):
            with b.clock.alone():
                cost[f"N={n}, ms"] = b.zsem.row(f"eps-{preset}-n{n}", b.args.seconds)["ms"] / n
        extra_row(b, "batch", f"UNet eps {preset}, per image", f"batch-{preset}", cost,
                  "flat or falling")


def section_busy(b):
    """More threads than cores, and a neighbour that never sleeps, as other programs run."""
    name = "eps-ffhq64-n8"
    b.zsem.save(name)
    side = open_row(name)
    with torch.inference_mode():
        fn = side.call(torch.channels_last)
        for label, threads, busy in (("alone", 2, False), ("4 threads on 2 cores", 4, False),
                                     ("8 threads on 2 cores", 8, False),
                                     ("one core busy", 2, True)):
            with b.clock.alone(realtime=False), neighbour(busy):
                ours = b.zsem.row(name, b.args.seconds, threads=threads)["ms"]
                torch.set_num_threads(threads)
                fn()
                theirs = statistics.median(time_calls(fn, b.args.seconds))
                torch.set_num_threads(b.args.threads)
            extra_row(b, "busy", f"UNet eps ffhq64 N=8, {label}", f"busy-{threads}-{busy}",
                      {"zsem, ms": ours, "PyTorch, ms": theirs, "ratio": theirs / ours}, "")


@contextlib.contextmanager
def neighbour(wanted):
    p = subprocess.Popen(["taskset", "-c", "0", sys.executable, "-c", "while True: pass"]) \
        if wanted else None
    try:
        yield
    finally:
        if p:
            p.kill()
            p.wait()


def extra_row(b, section, about, name, values, target):
    b.results.append({"section": section, "about": about, "name": f"{section}:{name}",
                      "values": values, "target": target, "date": now()})
    print(f"  {about}: " + ", ".join(f"{k} {v:.2f}" for k, v in values.items()), flush=True)
    write_results(b.args, b.results)


# ---- results ----

def machine():
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo", encoding="utf-8")
                if line.startswith("model name")), platform.processor())
    return {"cpu": cpu, "cores": len(os.sched_getaffinity(0)), "system": platform.platform(),
            "python": platform.python_version(), "torch": torch.__version__,
            "capability": torch.backends.cpu.get_cpu_capability()}


def zsem_version(path):
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"],
                            capture_output=True, text=True, check=False).stdout.strip()
    out = subprocess.run([path, "bench", "--rows", "conv-fwd-n8-c32-s32", "--runs", "1", "--json",
                          "--quiet"], capture_output=True, text=True, check=True).stdout
    m = json.loads(out)["machine"]
    return {"zsem": m["zsem"], "instructions": m["instructions"], "commit": commit}


ORDER = SECTIONS + EXTRA_SECTIONS


def merged(args, results):
    """Rows measured now, and with --merge those of an earlier run that were not."""
    rows = {}
    if args.merge and args.json.exists():
        rows = {r["name"]: r for r in json.loads(args.json.read_text(encoding="utf-8"))["rows"]}
    for r in results:
        rows[r["name"]] = r
    return sorted(rows.values(), key=lambda r: ORDER.index(r["section"]))


def write_results(args, results):
    rows = merged(args, results)
    doc = {"machine": INFO, "threads": args.threads, "rounds": args.rounds, "rows": rows}
    for path, text in ((args.json, json.dumps(doc, indent=1) + "\n"), (args.out, table(doc))):
        tmp = path.with_suffix(path.suffix + ".tmp")
        tmp.write_text(text, encoding="utf-8")
        tmp.replace(path)


def verdict(r):
    good = r["ratio"] <= r["target"] if r["unit"] == "MiB" else r["ratio"] >= r["target"]
    return ("<= " if r["unit"] == "MiB" else ">= ") + f"{r['target']:g}" + ("" if good else " **missed**")


def tried(r):
    return "; ".join(f"{k} {v:.1f}" if v else f"{k} failed" for k, v in r.get("tried", {}).items())


def table(doc):
    m = doc["machine"]
    lines = ["# zsem against PyTorch", "",
             f"{m['cpu']}, {m['cores']} cores, {m['system']}; zsem {m['zsem']} ({m['commit']}, "
             f"instructions {m['instructions']}); PyTorch {m['torch']} ({m['capability']}), Python "
             f"{m['python']}; {doc['threads']} threads each, f32.", "",
             "Both compute the same numbers (relative error below 1e-3, proved before each row), then "
             f"run in turn, {doc['rounds']} rounds; medians of single runs. PyTorch is the best of what "
             "was tried. The ratio is PyTorch's time / zsem's; for memory it is zsem's / PyTorch's.",
             "", "Made by `make bench`.", "",
             "| work | zsem | PyTorch | ratio | target | GFLOP/s | PyTorch variants, ms | error | date |",
             "|---|---|---|---|---|---|---|---|---|"]
    for r in doc["rows"]:
        if "values" in r:
            continue
        unit = r["unit"]
        gflops = f"{r['gflops']:.0f}" if r.get("gflops") else ""
        err = f"{r['error']:.0e}" if "error" in r else ""
        variants = tried(r) or r["torch_variant"]
        lines.append(f"| {r['about']} | {r['zsem']:.2f} {unit} | {r['torch']:.2f} {unit} | "
                     f"{r['ratio']:.2f} | {verdict(r)} | {gflops} | {variants} | {err} | {r['date']} |")
    extra = [r for r in doc["rows"] if "values" in r]
    if extra:
        lines += ["", "| run | figures | wanted | date |", "|---|---|---|---|"]
    for r in extra:
        figures = ", ".join(f"{k} {v:.2f}" for k, v in r["values"].items())
        lines.append(f"| {r['about']} | {figures} | {r['target']} | {r['date']} |")
    return "\n".join(lines) + "\n"


# ---- program ----

def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--zsem", type=Path, default=HERE.parent / "build/release/zsem")
    p.add_argument("--sections",
                   help=f"of {' '.join(ORDER)}; all for everything (default: the first six; with "
                   "--rows, the first four)")
    p.add_argument("--rows", default="", help="only rows with one of these words in their name, such "
                   "as eps-ffhq64 (zsem bench --list)")
    p.add_argument("--seconds", type=float, default=1.0, help="of each timed block")
    p.add_argument("--rounds", type=int, default=3, help="A B A B ...")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--variants", default="eager,compile")
    p.add_argument("--out", type=Path, default=HERE / "RESULTS.md")
    p.add_argument("--json", type=Path, default=HERE.parent / "build/bench.json")
    p.add_argument("--merge", action="store_true", help="keep earlier rows that are not taken again")
    p.add_argument("--work", type=Path, default=HERE.parent / "build/bench-work")
    p.add_argument("--exclusive", metavar="LOCK",
                   help="time at real-time priority, one user of this lock file at a time (root)")
    p.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    return p.parse_args()


def prepare_environment(args):
    wanted = {**KIND_MALLOC, "OMP_NUM_THREADS": str(args.threads),
              "TORCHINDUCTOR_CACHE_DIR": str(args.work.resolve() / "inductor")}
    if any(os.environ.get(k) != v for k, v in wanted.items()) and not args.child:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})


def main():
    global torch, networks, WORK, INFO  # PyTorch comes after the environment is set
    args = parse()
    prepare_environment(args)
    args.work.mkdir(parents=True, exist_ok=True)
    WORK = args.work.resolve()
    import torch
    import torch_networks as networks
    torch.set_num_threads(args.threads)
    if args.child:
        kind, *rest = args.child
        return {"process": child_process, "train": child_train, "sample": child_sample}[kind](*rest)
    import torch._inductor.config
    INFO = {**machine(), **zsem_version(args.zsem)}
    b = Bench(args)
    if args.rows:
        words, compare = args.rows.split(","), b.compare
        b.compare = lambda name, *a: compare(name, *a) if any(w in name for w in words) else None
    wanted = ROW_SECTIONS if args.rows else SECTIONS
    if args.sections:
        wanted = ORDER if args.sections == "all" else args.sections.split(",")
    for name in wanted:
        globals()[f"section_{name}"](b)
    print(f"{args.out}, {args.json}")


if __name__ == "__main__":
    main()
