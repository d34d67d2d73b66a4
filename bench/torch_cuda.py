#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""zsem against PyTorch on one GPU, in one run; `make gpu-check` ends with it.

    python bench/torch_cuda.py --zsem build/cuda/zsem [--rows train-ffhq128-n32,...]

Training rows: PyTorch in bf16 autocast with channels_last, fused Adam and foreach average, eager
and by torch.compile in its mode max-autotune; images per second and the peak of device memory. Sampling
rows: one call of the network (a sampler is nothing else, T times), eager and compiled with CUDA
graphs. Both sides have the same weights, written by zsem; outputs of a sampling row must agree in
half precision before anything is timed. Prints a table, and appends it to --log.
"""
import argparse
import datetime
import json
import statistics
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent))
import torch_baseline as baseline  # noqa: E402
import torch_networks as networks  # noqa: E402

ROWS = ["train-ffhq64-n128", "train-ffhq128-n32", "train-ffhq256-n16", "eps-ffhq64-n8",
        "eps-ffhq128-n1", "eps-ffhq256-n1"]
NEAR = 0.05  # relative error of a network in half precision


class Zsem:
    def __init__(self, path, work):
        self.path, self.work = str(path), work

    def run(self, *args):
        cmd = [self.path, "bench", *args, "--device", "cuda", "--json", "--quiet"]
        r = subprocess.run(cmd, capture_output=True, text=True, check=False)
        if r.returncode:
            sys.exit(f"{' '.join(cmd)}: {r.stderr.strip()}")
        return json.loads(r.stdout) if r.stdout.strip() else None

    def save(self, row):
        self.run("--rows", row, "--save", str(self.work))

    def time(self, row, seconds):
        return self.run("--rows", row, "--seconds", str(seconds))["rows"][0]


def timed(fn, seconds=5.0, warm=5):
    """Median milliseconds of one call, by events around it."""
    for _ in range(warm):
        fn()
    torch.cuda.synchronize()
    times, total = [], 0.0
    while total < 1000 * seconds or len(times) < 5:
        a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        a.record()
        fn()
        b.record()
        b.synchronize()
        times.append(a.elapsed_time(b))
        total += times[-1]
    return statistics.median(times)


def fresh():
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    torch._dynamo.reset()


def peak_mib():
    return torch.cuda.max_memory_allocated() / 2**20


def model_of(row, work):
    model, config = baseline.load_bundle(work / f"{row.split('-')[1]}.model.safetensors")
    return model.cuda().to(memory_format=torch.channels_last), config


def training(row, work, compiled):
    model, config = model_of(row, work)
    for m in model.modules():
        if isinstance(m, torch.nn.Dropout):
            m.p = config["generator"]["dropout"]
    optimiser = baseline.Optimiser(model.train(), 1e-4, 0.0, 0.9999)
    n, side = int(row.rsplit("-n", 1)[1]), config["image_size"]
    x0 = torch.randn(n, 3, side, side, device="cuda").to(memory_format=torch.channels_last)
    abar = networks.alphas_cumprod(networks.linear_betas()).float().cuda()
    f = torch.compile(model, mode="max-autotune") if compiled else model

    def step():
        t = torch.randint(0, 1000, (n,), device="cuda")
        noise = torch.randn_like(x0)
        a = abar[t][:, None, None, None]
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = f(x0, a.sqrt() * x0 + (1 - a).sqrt() * noise, t)
        torch.nn.functional.mse_loss(out.float(), noise).backward()
        optimiser.step()
    return step


def sampling(row, work, compiled):
    model, _ = model_of(row, work)
    t = load_file(str(work / f"{row}.safetensors"))
    given = [t[k].cuda() for k in ("x", "t", "z")]
    given[0] = given[0].to(memory_format=torch.channels_last)
    net = model.unet.eval()
    f = torch.compile(net, mode="max-autotune") if compiled else net

    def call():
        with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
            return f(*given)
    e = baseline.error(call().float().cpu(), t["eps"])
    if e > NEAR:
        sys.exit(f"{row}: PyTorch and zsem differ by {e:.2g}")
    return call


def compare(zsem, row, seconds):
    make = training if row.startswith("train") else sampling
    zsem.save(row)
    ours = zsem.time(row, seconds)
    line = {"row": row, "zsem_ms": ours["ms"], "zsem_mib": ours.get("device_peak_mib")}
    for name, compiled in (("eager", False), ("compile", True)):
        fresh()
        try:
            line[f"{name}_ms"] = timed(make(row, zsem.work, compiled), seconds)
            line[f"{name}_mib"] = peak_mib()
        except torch.cuda.OutOfMemoryError:
            line[f"{name}_ms"] = None
    return line


def table(lines):
    head = ["row", "zsem ms", "eager ms", "compile ms", "x eager", "x compile"]
    out = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for r in lines:
        cells = [r["row"], f"{r['zsem_ms']:.2f}"]
        cells += [f"{r[k]:.2f}" if r[k] else "out of memory" for k in ("eager_ms", "compile_ms")]
        cells += [f"{r[k] / r['zsem_ms']:.2f}" if r[k] else "" for k in ("eager_ms", "compile_ms")]
        out.append("| " + " | ".join(cells) + " |")
    return "\n".join(out)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--zsem", required=True, type=Path)
    p.add_argument("--rows", default=",".join(ROWS))
    p.add_argument("--seconds", type=float, default=5.0)
    p.add_argument("--work", type=Path, default=Path("build/bench-cuda"))
    p.add_argument("--log", type=Path, help="file that the table is appended to")
    args = p.parse_args()
    if not torch.cuda.is_available():
        sys.exit("PyTorch sees no CUDA device: use a build of it with CUDA (BENCH_PYTHON)")
    args.work.mkdir(parents=True, exist_ok=True)
    zsem = Zsem(args.zsem, args.work)
    lines = [compare(zsem, row, args.seconds) for row in args.rows.split(",")]
    text = (f"\n{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, "
            f"{datetime.date.today()}\n\n{table(lines)}\n")
    print(text)
    (args.work / "results.json").write_text(json.dumps(lines, indent=1), encoding="utf-8")
    if args.log:
        with open(args.log, "a", encoding="utf-8") as f:
            f.write(text)


if __name__ == "__main__":
    main()
