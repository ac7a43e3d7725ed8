#!/usr/bin/env python3
"""What a network costs as a part of a program, and how fast it is there.

usage: embedded.py DIR [--models resnet50,…] [--targets avx2,avx512vnni] [--codes rust,asm] [--weights copied|included] [--rounds N] [--clean]

DIR is the folder of compare.py: it has NAME.qgraph of each model, or NAME.onnx, which is quantized. A program is built with
`quantized_model!`, as Rust and as assembly, for release and for debugging. A build is timed when the program's own source has changed,
once more with nothing changed, and, with --clean, from nothing, the compiler behind the macro included. CPU seconds are those of all
processes of a build, memory is the largest process's. Speeds are images per second on one pinned core, medians of rounds in
which the JIT and the programs run one after the other. `cargo build --release` first."""
import argparse
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time

from compare import QGRAPH, ROOT, header, quantized

MANIFEST = """[package]
name = "{package}"
version = "0.0.0"
edition = "2024"
[workspace]
[dependencies]
qgraph-macros = {{ path = "{root}/macros" }}
qgraph-runtime = {{ path = "{root}/runtime", features = ["std"] }}
"""
PROGRAM = """//! Times a network that is a part of this program: TARGET and RUNS as arguments, seconds of each run as JSON.
use qgraph_macros::quantized_model;
use qgraph_runtime::blob::Bytes;
use qgraph_runtime::{{Model, TensorMut, TensorRef}};
use std::time::Instant;

quantized_model!(Net, "{model}", code = "{code}", targets = [{targets}], weights = {weights});

fn main() {{
    let args: Vec<String> = std::env::args().collect();
    let runs: usize = args[2].parse().unwrap();
    let target = Net::TARGETS.into_iter().find(|t| t.name() == args[1]).unwrap();
    let net = Net::on(target).unwrap();
    let x: Vec<f32> = (0..net.input(0).len()).map(|k| (k * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let (mut y, mut arena) = (vec![0.0; net.output(0).len()], Bytes::zeroed(Net::ARENA_BYTES));
    let mut run = || {{
        let start = Instant::now();
        net.run(&[TensorRef::F32(&x)], &mut [TensorMut::F32(&mut y)], &mut arena).unwrap();
        start.elapsed().as_secs_f64()
    }};
    let first = run();
    // Code that is not optimized may take a minute.
    let seconds: Vec<f64> = if first > 2.0 {{ vec![first] }} else {{ (0..runs + 2).map(|_| run()).skip(2).collect() }};
    println!("{{seconds:?}}");
}}
"""
TOKEN = re.compile(r'///[^\n]*|//[^\n]*|b?"(?:[^"\\]|\\.)*"|[A-Za-z0-9_]+|\'\w+|\S', re.S)
# Of the JIT's speed: what is slower is run once, not in every round.
SLOW = 0.1


def tokens(text):
    """Tokens as a macro counts them: a line of documentation is `#[doc = ".."]`, other comments are none."""
    count = 0
    for match in TOKEN.finditer(text):
        word = match.group()
        count += 5 if word.startswith("///") else 0 if word.startswith("//") else 1
    return count


def build(folder, target, profile):
    """Seconds, CPU seconds, and the most memory of any process in MiB, of a build, which is a process of its own."""
    code = "import json, resource, subprocess, sys; r = subprocess.run(sys.argv[1:], capture_output=True, text=True)\n"
    code += "sys.stderr.write(r.stderr if r.returncode else '')\n"
    code += "u = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
    code += "print(json.dumps([u.ru_utime + u.ru_stime, u.ru_maxrss >> 10])); sys.exit(r.returncode)"
    command = [sys.executable, "-c", code, "cargo", "build", "--profile", profile]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    start = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - start
    return [seconds, *json.loads(done.stdout)]


def program(folder, model, code, args):
    """Writes the program's sources."""
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(MANIFEST.format(root=ROOT, package=folder.name))
    shutil.copy(model, folder / model.name)
    shutil.copy(ROOT / "Cargo.lock", folder / "Cargo.lock")
    targets = args.targets.replace(",", ", ")
    (folder / "src/main.rs").write_text(PROGRAM.format(model=model.name, code=code, targets=targets, weights=args.weights))


def expansion(model, code, args):
    """Tokens that the macro's compiler is given for it."""
    kind = ["asm", "--rust"] if code == "asm" else ["rust"]
    kind += ["--weights", "copy"] if args.weights == "copied" else []
    emitted = [QGRAPH, "emit", *kind, model, "--targets", args.targets, "--type", "Net"]
    return tokens(subprocess.run(emitted, check=True, capture_output=True, text=True).stdout)


def pinned(command, args):
    out = subprocess.run([*args.pin.split(), *map(str, command)], check=True, capture_output=True, text=True)
    return json.loads(out.stdout)


def speeds(model, programs, target, args):
    """Images per second of the JIT ("jit") and of each program."""
    jit = [QGRAPH, "bench", model, "--modes", "int8", "--json", "--iters", args.iters, "--target", target]
    seen = {key: [] for key in ["jit", *programs]}
    for _ in range(args.rounds):
        seen["jit"].append(pinned(jit, args)[0]["images_per_s_median"])
        for key, path in programs.items():
            if seen[key] and seen[key][0] < SLOW * seen["jit"][0]:
                continue
            seen[key].append(1 / statistics.median(pinned([path, target, args.iters], args)))
    return {key: statistics.median(rates) for key, rates in seen.items()}


def measure(name, args):
    """A table."""
    model = quantized(args.folder, name).resolve()
    home = args.folder.resolve() / "embedded"
    target = home / "target"
    programs, rows = {}, {}
    for code in args.codes.split(","):
        folder = home / f"{name}-{code}"
        program(folder, model, code, args)
        count = expansion(model, code, args)
        for profile, built in [("release", "release"), ("dev", "debug")]:
            whole = None
            if args.clean:
                shutil.rmtree(target / built, ignore_errors=True)
                whole = build(folder, target, profile)
            else:
                build(folder, target, profile)
            (folder / "src/main.rs").touch()
            own = build(folder, target, profile)
            unchanged = build(folder, target, profile)
            programs[code, built] = folder / built
            shutil.copy(target / built / folder.name, folder / built)
            rows[code, built] = (count, whole, own, unchanged)
    targets = args.targets.split(",")
    rates = {t: speeds(model, programs, t, args) for t in targets}
    jit = ", ".join(f"{t} {r['jit']:.1f}" for t, r in rates.items())
    print(f"\n{name}, `weights = {args.weights}`; the JIT: {jit} images per second\n")
    speed = " | ".join(f"{t} (of the JIT)" for t in targets)
    print(f"| code | build | {speed} | from nothing | program alone | nothing changed | tokens |")
    print("|---" * (6 + len(targets)) + "|")
    for key, (count, whole, own, unchanged) in rows.items():
        cost = [f"{b[0]:.1f} s ({b[1]:.1f} s of CPU, {b[2]} MiB)" if b else "" for b in (whole, own)]
        speed = [f"{r[key]:.1f} ({r[key] / r['jit']:.2f})" for r in rates.values()]
        print(f"| {' | '.join([*key, *speed, *cost])} | {unchanged[0]:.1f} s | {count:,} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--models", default="resnet50,mobilenetv2")
    p.add_argument("--targets", default="avx2,avx512vnni", help="instruction sets that the programs are built for and run on")
    p.add_argument("--codes", default="rust,asm")
    p.add_argument("--weights", default="copied", help="copied: into large pages, as the JIT does; included: where the file has them")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--iters", type=int, default=20)
    p.add_argument("--clean", action="store_true", help="build everything from nothing, and time that too")
    p.add_argument("--pin", default="taskset -c 1", help="what a measured process is run by")
    args = p.parse_args()
    print(header(f"median of {args.rounds} rounds"))
    for name in args.models.split(","):
        measure(name, args)


if __name__ == "__main__":
    main()
