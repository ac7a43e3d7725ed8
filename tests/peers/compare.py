#!/usr/bin/env python3
"""Time qgraph and its peers in turn on one pinned core (or more) and print the table that stands in the README.

usage: compare.py DIR [--models resnet50,mobilenetv2,…] [--batch N] [--threads N] [--rounds N] [--float | --chart] [--no-amx]

DIR was made by ../shared/peers/setup.sh: a Python environment with ONNX Runtime and OpenVINO, float models NAME.onnx and their int8
forms NAME.int8.onnx. Every round runs each engine once, one after the other; a cell is the median over rounds of the medians, and
the ratio is that of the medians. --chart leaves the peers out and shows what fusing and quantizing bring: qgraph's own unfused, fused and
int8 networks. `cargo build --release` first."""
import argparse
import ctypes
import datetime
import json
import os
import pathlib
import platform
import statistics
import struct
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
QGRAPH = ROOT / "target/release/qgraph"
TIMER = ROOT / "../shared/peers/time_peer.py"
ENGINES = ["qgraph", "ort", "openvino"]


def hide_amx():
    """Denies this process, and what it starts, the use of AMX, as if the CPU had none: Linux grants it on request
    (arch_prctl ARCH_REQ_XCOMP_PERM), and a seccomp filter refuses the request. Engines then choose what they have for AVX-512 VNNI."""
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    arch_prctl, request, allow, refuse = 158, 0x1023, 0x7FFF0000, 0x00050001
    load, equal, give = 0x20, 0x15, 0x06
    program = [
        (load, 0, 0, 0),  # number of the system call
        (equal, 0, 3, arch_prctl),
        (load, 0, 0, 16),  # its first argument
        (equal, 0, 1, request),
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    head = struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, filter_mode, head, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def call(args, cores):
    pinned = ["taskset", "-c", ",".join(map(str, range(cores)))] + [str(a) for a in args]
    return json.loads(subprocess.run(pinned, check=True, capture_output=True, text=True).stdout)


def images_per_s(engine, folder, model, mode, args):
    """Median images per second of one engine, and qgraph's share of the peak."""
    size = ["--batch", args.batch, "--threads", args.threads, "--iters", args.iters]
    if engine == "qgraph":
        file = folder / (f"{model}.qgraph" if mode == "int8" else f"{model}.onnx")
        shape = [] if mode == "int8" else ["--shape", "data=1x3x224x224"]
        row = call([QGRAPH, "bench", file, "--modes", mode, "--json", *shape, *size], args.threads)[0]
        return row["images_per_s_median"], row["percent_of_peak"]
    file = folder / (f"{model}.int8.onnx" if mode == "int8" else f"{model}.onnx")
    row = call([folder / "venv/bin/python", TIMER, engine, file, *size], args.threads)
    return row["images_per_s_median"], None


def chart(folder, models, args):
    """Rows of a table: unfused float, fused float, int8, images per second and as multiples of the first."""
    print("| network | naive | fused | int8 | naive : fused : int8 | int8 / fused |\n|---|---|---|---|---|---|")
    for model in models:
        options = ["--shape", "data=1x3x224x224", "--modes", "naive,fused,int8", "--json"]
        size = ["--batch", args.batch, "--threads", args.threads, "--iters", args.iters]
        rounds = []
        for _ in range(args.rounds):
            rows = call([QGRAPH, "bench", folder / f"{model}.onnx", *options, *size], args.threads)
            rounds.append([row["images_per_s_median"] for row in rows])
        naive, fused, int8 = (statistics.median(r) for r in zip(*rounds))
        multiples = f"1 : {fused / naive:.2f} : {int8 / naive:.2f}"
        print(f"| {model} | {naive:.1f} | {fused:.1f} | {int8:.1f} | {multiples} | {int8 / fused:.2f} |")


def quantized(folder, model):
    """The int8 network of a model of the folder: made if it is not there."""
    file = folder / f"{model}.qgraph"
    if not file.exists():
        options = ["--shape", "data=1x3x224x224", "--calib", "random", "--samples", "4", "-o", file]
        subprocess.run([QGRAPH, "quantize", folder / f"{model}.onnx", *options], check=True, capture_output=True)
    return file


def versions(folder):
    code = "import onnxruntime, openvino; print(onnxruntime.__version__, openvino.__version__.split('-')[0])"
    python = folder / "venv/bin/python"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def cpu():
    with open("/proc/cpuinfo") as f:
        facts = dict(line.split(":", 1) for line in f.read().split("\n\n")[0].splitlines())
    facts = {k.strip(): v.strip() for k, v in facts.items()}
    return f"{facts['model name']} (family {facts['cpu family']}, model {facts['model']})"


def header(how):
    """Where and when figures were taken, and how."""
    date = datetime.date.today().isoformat()
    return f"{cpu()}, {os.cpu_count()} cores, Linux {platform.release()}, {date}; {how}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--models", default="resnet50,mobilenetv2,squeezenet,resnet18")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--iters", type=int, default=20)
    p.add_argument("--float", action="store_true", help="the fused float networks, too")
    p.add_argument("--chart", action="store_true", help="qgraph alone: unfused, fused, int8")
    p.add_argument("--no-amx", action="store_true", help="hide AMX from all engines, as on a CPU without it")
    args = p.parse_args()
    if args.no_amx:
        hide_amx()
    if args.chart:
        return chart(args.folder, args.models.split(","), args)
    ort, openvino = versions(args.folder)
    rows = []
    for model in args.models.split(","):
        quantized(args.folder, model)
        for mode in ["int8", "fused"] if args.float else ["int8"]:
            seen = {e: [] for e in ENGINES}
            shares = []
            for _ in range(args.rounds):
                for engine in ENGINES:
                    rate, share = images_per_s(engine, args.folder, model, mode, args)
                    seen[engine].append(rate)
                    shares += [share] if share is not None else []
            rate = {e: statistics.median(r) for e, r in seen.items()}
            best = max(rate["ort"], rate["openvino"])
            share = f" ({statistics.median(shares):.0f} %)" if shares else ""
            rows.append((model, mode, rate, share, rate["qgraph"] / best))
    print(f"{header(f'batch {args.batch}, {args.threads} thread(s)')}{', AMX hidden' if args.no_amx else ''};")
    print(f"ONNX Runtime {ort}, OpenVINO {openvino}; images per second, median of {args.rounds} rounds.\n")
    print("| network | | qgraph (% of peak) | ONNX Runtime | OpenVINO | qgraph / best peer |")
    print("|---|---|---|---|---|---|")
    for model, mode, rate, share, ratio in rows:
        numbers = f"{rate['qgraph']:.1f}{share} | {rate['ort']:.1f} | {rate['openvino']:.1f}"
        print(f"| {model} | {mode} | {numbers} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
