#!/usr/bin/env python3
"""What each way of choosing ranges costs on the classifiers of the data folder: top-1, agreement with float, noise of the logits.

usage: accuracy.py DATA QGRAPH [MODEL…]

DATA is the folder with `models` and `images`, QGRAPH the command. Images that calibrate are never scored: of `imagenet_sample` every fifth
calibrates and the other 400 score; the CIFAR networks calibrate on the first 500 lossless training images, and the 10,000 test images score; of
MNIST's test images the first 1,000 calibrate. Everything but the ranges is the default: bias correction, channels made equal where that pays. `mse`
is the default mode, `none` finds ranges at run time. A cell holds top-1, agreement with float, signal-to-noise ratio of the logits. Fails if `naive`
or `entropy` is noisier than MXNet's was, `mse` not by 1 dB better than every peer, or loses more of top-1 than it may."""
import csv
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MODES = ["naive", "entropy", "percentile", "mse", "none"]
DEFAULT = "mse"
IMAGENET = ["--mean", "123.675,116.28,103.53", "--std", "58.395,57.12,57.375"]
GLUON = ["--mean", "125.307,122.961,113.8575", "--std", "51.5865,50.847,51.255"]
CROP = ["--crop", "224"]
NETWORKS = {
    "mobilenet_v2": ("pictures", IMAGENET + CROP),
    "mobilenet_v1_0.75_224": ("pictures", ["--mean", "127.5", "--std", "127.5"] + CROP),
    "squeezenet1.1": ("pictures", IMAGENET + CROP),
    "cifar_resnet20": ("cifar", IMAGENET),
    "cifar_resnet32": ("cifar", IMAGENET),
    "cifar_resnet56": ("cifar", IMAGENET),
    "gluon_cifar_resnet20_v1": ("cifar", GLUON),
    "gluon_cifar_resnet56_v2": ("cifar", GLUON),
    "tiny_resnet8": ("cifar", []),
    "mnist-8": ("digits", []),
}

# dB of the logits, calibrated and scored on the same images: MXNet 2.0b1's modes, and the best of ONNX Runtime 1.32, NNCF and MXNet.
MXNET = {("gluon_cifar_resnet20_v1", "naive"): 24.0, ("gluon_cifar_resnet20_v1", "entropy"): 23.9}
BEST_PEER = {
    "mobilenet_v2": 19.3,
    "mobilenet_v1_0.75_224": 16.2,
    "squeezenet1.1": 32.9,
    "gluon_cifar_resnet20_v1": 26.3,
    "gluon_cifar_resnet56_v2": 23.3,
    "cifar_resnet20": 28.4,
}


def problems(name, mode, found):
    """What a cell does not hold that it should."""
    db, lost = found["sqnr_db"], 100 * (found["float"]["top1"] - found["int8"]["top1"])
    if db < MXNET.get((name, mode), 0):
        yield f"{name} {mode}: {db:.1f} dB, MXNet {MXNET[name, mode]} dB"
    if mode != DEFAULT:
        return
    if db < BEST_PEER.get(name, 0) + 1:
        yield f"{name}: {db:.1f} dB, the best peer {BEST_PEER[name]} dB"
    if lost > (1.0 if name.startswith("mobilenet") else 0.5) + 1e-9:
        yield f"{name}: loses {lost:.2f} points"


def pictures(images, work):
    """Two folders of links: what calibrates, and what is scored; the labels of the latter."""
    with open(images / "imagenet_sample.csv", newline="") as file:
        classes = {row["file"]: row["class"] for row in csv.DictReader(file)}
    parts = work / "calibrate", work / "score"
    for part in parts:
        part.mkdir()
    scored = []
    for k, picture in enumerate(sorted((images / "imagenet_sample").iterdir())):
        part = parts[k % 5 != 0]
        (part / picture.name).symlink_to(picture)
        if k % 5 != 0:
            scored.append(f"{picture.name},{classes[picture.name]}")
    labels = work / "labels.csv"
    labels.write_text("file,label\n" + "\n".join(scored) + "\n")
    return parts[0], [parts[1], "--labels", labels]


def cifar(images, work):
    """Records of 3,073 bytes: the first 500 of the training images, and the test images."""
    calibrate = work / "calibrate.bin"
    calibrate.write_bytes((images / "cifar10_train_1000_lossless.bin").read_bytes()[: 500 * 3073])
    return calibrate, [images / "cifar10_test_jpeg.bin"]


def digits(images, work):
    """MNIST's files, of which the first 1,000 calibrate: the head counts what follows, 784 bytes of each image, one of each label."""
    for kind, head, size in [("images-idx3", 16, 784), ("labels-idx1", 8, 1)]:
        whole = gzip.decompress((images / f"mnist-t10k-{kind}-ubyte.gz").read_bytes())
        for part, bytes_ in [("calibrate", whole[head : head + 1000 * size]), ("score", whole[head + 1000 * size :])]:
            count = (len(bytes_) // size).to_bytes(4, "big")
            (work / f"{part}-{kind}-ubyte").write_bytes(whole[:4] + count + whole[8:head] + bytes_)
    return work / "calibrate-images-idx3-ubyte", [work / "score-images-idx3-ubyte"]


SPLITS = {"pictures": pictures, "cifar": cifar, "digits": digits}


def run(*command):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    data, qgraph, *asked = sys.argv[1:]
    wrong = []
    images, models = Path(data).resolve() / "images", Path(data) / "models"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        splits = {name: split(images, work) for name, split in SPLITS.items()}
        heads = "".join(f" | `{mode}`" for mode in MODES)
        print(f"| network | float{heads} |\n|---|---|" + "---|" * len(MODES), flush=True)
        for name in asked or NETWORKS:
            split, preprocessing = NETWORKS[name]
            calibrate, score = splits[split]
            model, int8 = models / f"{name}.onnx", work / "int8.qgraph"
            cells = []
            for mode in MODES:
                # Without calibration there is no profile that keeps the preprocessing: scoring is told.
                how = ["--calib", "none"] if mode == "none" else ["--calib", calibrate, "--calib-mode", mode, *preprocessing]
                told = preprocessing if mode == "none" else []
                run(qgraph, "quantize", model, *how, "-o", int8)
                found = json.loads(run(qgraph, "compare", model, int8, "--images", *score, *told, "--json"))
                if not cells:
                    cells.append(f"{100 * found['float']['top1']:.2f} %")
                wrong.extend(problems(name, mode, found))
                top1, same = (100 * x for x in (found["int8"]["top1"], found["agreement"]))
                cells.append(f"{top1:.2f} %, {same:.1f} %, {found['sqnr_db']:.1f} dB")
            print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
