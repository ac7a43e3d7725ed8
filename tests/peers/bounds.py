#!/usr/bin/env python3
"""What a core's multipliers alone allow: images per second of a network in int8 and in f32, if nothing else took time.

usage: bounds.py PEAK MODEL.onnx…

PEAK is the int8 peak in GMAC/s that `qgraph bench` prints. A dot of 4 bytes and a fused multiply-add take the same units. Every 16 outputs
need a dot for each 4 bytes of a sum (a row of a narrow first layer, a column of a depthwise layer are rounded up to 4), and one multiply-add
for the scale that the numeric contract asks for, as do 16 added residuals. Packing, loads, stores, caches are left out, so that no
implementation of the contract with direct sums passes the bound."""
import math
import sys

import onnx


def shapes(graph):
    values = [*graph.value_info, *graph.input, *graph.output]
    return {v.name: [d.dim_value or 1 for d in v.type.tensor_type.shape.dim] for v in values}


def work(path):
    """Multiply-accumulates, dots and scalings of vectors of 16 of an image."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False)).graph
    shape, weight = shapes(graph), {i.name: list(i.dims) for i in graph.initializer}
    macs = dots = scalings = 0
    for node in graph.node:
        out = math.prod(shape.get(node.output[0], [0])[1:])
        if node.op_type == "Conv":
            _, channels, height, width = weight[node.input[1]]
            depthwise = channels == 1 and any(a.name == "group" and a.i > 1 for a in node.attribute)
            if depthwise:
                steps = width * math.ceil(height / 4)
            elif channels < 4:
                steps = height * math.ceil(width * channels / 4)
            else:
                steps = height * width * math.ceil(channels / 4)
            macs, dots, scalings = macs + out * channels * height * width, dots + out * steps, scalings + out
        elif node.op_type in ("Gemm", "MatMul"):
            size = math.prod(weight[node.input[1]])
            macs, dots, scalings = macs + size, dots + size / 4, scalings + out
        elif node.op_type == "Add":
            scalings += out
    return macs, dots / 16, scalings / 16


def main():
    peak = float(sys.argv[1]) * 1e9
    print("| network | GMAC | int8: dots alone | with scaling | f32 |\n|---|---|---|---|---|")
    for path in sys.argv[2:]:
        macs, dots, scalings = work(path)
        vectors = peak / 64
        cells = peak / macs, vectors / (dots + scalings), peak / 4 / macs
        name = path.rsplit("/", 1)[-1].removesuffix(".onnx")
        print(f"| {name} | {macs / 1e9:.2f} | " + " | ".join(f"{c:.1f}" for c in cells) + " |")


if __name__ == "__main__":
    main()
