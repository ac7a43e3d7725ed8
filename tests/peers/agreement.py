#!/usr/bin/env python3
"""How near qgraph and ONNX Runtime are on models that are quantized already, and what separates them.

usage: agreement.py [--images N] [--layers N] [--flips N] [--speed CORE] MODEL.onnx INPUTS.npy [MODEL.qgraph]

MODEL.onnx is in QDQ form; without MODEL.qgraph it is imported by qgraph (import agreement), with it MODEL.onnx is what `export-onnx` wrote of that
(export agreement). INPUTS.npy is [N, ...] of f32. Needs onnx, onnxruntime, numpy, and `cargo build --release` (or QGRAPH, another binary). It checks the
model (onnx.checker, shape inference) and prints

- the last quantized tensor: elements equal and within one step; the output: same best class, and its SQNR if it is not that tensor; for ONNX Runtime
  with its optimizations off (f32 between roundings) against on (integers), and for qgraph against each;
- --layers N: for N images each quantized tensor again, computed from the integers that ONNX Runtime itself has before it: one layer's difference, without
  that of the layers before, for qgraph, ONNX Runtime and exact arithmetic (f64) against each other;
- --flips N: what ONNX Runtime makes of one element of an early tensor moved by one step, against itself, over N images. Where this is far below 100 %, no
  figure of a whole network can say who computes it right, but the figures of its layers can;
- --speed CORE: images per second of qgraph on both, MODEL.onnx imported and its float original quantized by qgraph (FLOAT.qgraph by --own)."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

ROOT = pathlib.Path(__file__).resolve().parents[2]
QGRAPH = os.environ.get("QGRAPH", ROOT / "target/release/qgraph")
MODES = {"off": "ORT_DISABLE_ALL", "on": "ORT_ENABLE_ALL"}


def qgraph(*args):
    run = subprocess.run([QGRAPH, *map(str, args)], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(run.stderr)
    return run.stdout


class Model:
    """A QDQ model: its graph, constants, and the tensors of integers that it computes."""

    def __init__(self, path):
        self.model = onnx.load(path)
        onnx.checker.check_model(self.model)
        onnx.shape_inference.infer_shapes(self.model, strict_mode=True)
        graph = self.model.graph
        self.constant = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        self.tensors = {i.name: i for i in graph.initializer}
        self.maker = {o: n for n in graph.node for o in n.output}
        self.input = next(i.name for i in graph.input if i.name not in self.constant)
        self.output = graph.output[0].name
        rounds = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in self.constant]
        self.integers = [n.output[0] for n in rounds]
        self.scale = {n.output[0]: np.float32(self.constant[n.input[1]]).ravel()[0] for n in rounds}
        self.zero = {n.output[0]: self.constant[n.input[2]].ravel()[0] for n in rounds}
        last = self.maker[self.output]
        self.last = last.input[0] if last.op_type == "DequantizeLinear" else None

    def session(self, mode, outputs=None, model=None):
        model = model or self.model
        if outputs:
            old, model = model, onnx.ModelProto()
            model.CopyFrom(old)
            del model.graph.output[:]
            model.graph.output.extend(helper.make_tensor_value_info(o, self.type(o), None) for o in outputs)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, MODES[mode])
        return onnxruntime.InferenceSession(model.SerializeToString(), options)

    def type(self, tensor):
        return helper.np_dtype_to_tensor_dtype(self.zero[tensor].dtype) if tensor in self.zero else TensorProto.FLOAT

    def cut(self, path):
        """Saves the model with its last quantized tensor, as real numbers, for the output."""
        real = next(n.output[0] for n in self.model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == self.integers[-1])
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info(real, TensorProto.FLOAT, None))
        onnx.save(model, path)

    def real(self, tensor, q, dtype):
        return ((q.astype(int) - int(self.zero[tensor])) * dtype(self.scale[tensor])).astype(dtype)

    def quantize(self, tensor, x):
        ends = np.iinfo(self.zero[tensor].dtype)
        q = np.rint(np.float64(x) / np.float64(self.scale[tensor])) + int(self.zero[tensor])
        return np.clip(q, ends.min, ends.max).astype(int)

    def before(self, tensor):
        """Nodes between a tensor of integers and those before it, and the real tensors that these start from."""
        nodes, starts, seen = [], [], set(self.constant) | {""}

        def walk(name):
            if name in seen:
                return
            seen.add(name)
            node = self.maker.get(name)
            if node is None or node.op_type == "DequantizeLinear" and node.input[0] in self.scale:
                starts.append(name)
                return
            for i in node.input:
                walk(i)
            nodes.append(node)

        walk(self.maker[tensor].input[0])
        return nodes, starts

    def wrap(self, nodes, inputs, output, constants):
        read = {i for n in nodes for i in n.input}
        graph = helper.make_graph(nodes, "layer", inputs, [output], constants + [t for n, t in self.tensors.items() if n in read])
        return helper.make_model(graph, opset_imports=list(self.model.opset_import), ir_version=self.model.ir_version)

    def layer(self, tensor, nodes, starts, feeds, scratch):
        """The integers that qgraph computes."""
        inputs, around = [], []
        for k, name in enumerate(starts):
            inputs.append(helper.make_tensor_value_info(f"in{k}", TensorProto.FLOAT, feeds[name].shape))
            if name == self.input:
                around.append(helper.make_node("Identity", [f"in{k}"], [name]))
                continue
            levels = self.maker[name].input[1:3]
            around.append(helper.make_node("QuantizeLinear", [f"in{k}", *levels], [f"in{k}/q"]))
            around.append(helper.make_node("DequantizeLinear", [f"in{k}/q", *levels], [name]))
        last = self.maker[tensor]
        around += nodes + [last, helper.make_node("DequantizeLinear", [tensor, *last.input[1:3]], ["real"])]
        output = helper.make_tensor_value_info("real", TensorProto.FLOAT, None)
        onnx.save(self.wrap(around, inputs, output, []), scratch / "layer.onnx")
        np.savez(scratch / "in.npz", **{f"in{k}": feeds[name] for k, name in enumerate(starts)})
        qgraph("run", scratch / "layer.onnx", "--input", scratch / "in.npz", "--output", scratch / "out.npy")
        return self.quantize(tensor, np.load(scratch / "out.npy"))

    def exact(self, tensor, nodes, starts, feeds):
        """The integers by the definition, in f64."""
        constants, kept = [], []
        for n in nodes:
            if n.op_type != "DequantizeLinear":
                kept.append(n)
                continue
            q, scale = (self.constant[i].astype(float) for i in n.input[:2])
            zero = self.constant[n.input[2]].astype(float) if len(n.input) > 2 else 0 * scale
            if scale.size > 1:
                axis = next((a.i for a in n.attribute if a.name == "axis"), 1)
                shape = [-1 if k == axis else 1 for k in range(q.ndim)]
                scale, zero = scale.reshape(shape), zero.reshape(shape)
            constants.append(numpy_helper.from_array((q - zero) * scale, n.output[0]))
        wide = {i for n in kept for i in n.input if i in self.constant and self.constant[i].dtype == np.float32}
        kept_constants = constants + [numpy_helper.from_array(self.constant[i].astype(float), i) for i in wide]
        x = self.maker[tensor].input[0]
        if not kept:
            return self.quantize(tensor, feeds[x])
        inputs = [helper.make_tensor_value_info(s, TensorProto.DOUBLE, None) for s in starts]
        model = self.wrap(kept, inputs, helper.make_tensor_value_info(x, TensorProto.DOUBLE, None), [])
        others = [t for t in model.graph.initializer if t.name not in wide]
        del model.graph.initializer[:]
        model.graph.initializer.extend(others + kept_constants)
        return self.quantize(tensor, ReferenceEvaluator(model).run(None, feeds)[0])


def share(pairs, far):
    return 100 * np.mean([np.mean(abs(a.astype(int) - b.astype(int)) <= far) for a, b in pairs])


def whole(m, path, images, own, scratch):
    """Results of whole networks: of each image the last quantized tensor, and the output."""
    last, shown = m.last or m.integers[-1], {}
    for mode in MODES:
        session = m.session(mode, [last, m.output])
        results = [session.run(None, {m.input: x[None]}) for x in images]
        shown[f"ONNX Runtime, {mode}"] = [(q.ravel(), y.ravel()) for q, y in results]
    shape = ["--shape", f"{m.input}=1x" + "x".join(map(str, images[0].shape))]
    if own is None:
        own = scratch / "model.qgraph"
        qgraph("quantize", path, *shape, "-o", own)
    inner = own
    if not m.last:
        m.cut(scratch / "inner.onnx")
        inner = scratch / "inner.qgraph"
        qgraph("quantize", scratch / "inner.onnx", *shape, "-o", inner)

    def run(model, x):
        np.save(scratch / "in.npy", x[None])
        qgraph("run", model, "--input", scratch / "in.npy", "--output", scratch / "out.npy")
        return np.load(scratch / "out.npy").ravel()

    found = shown["qgraph"] = []
    for x in images:
        y = run(own, x)
        found.append((m.quantize(last, y if m.last else run(inner, x)), y))
    names = list(shown)
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        (qa, ya), (qb, yb) = (zip(*shown[names[k]]) for k in (a, b))
        top = 100 * np.mean([x.argmax() == y.argmax() for x, y in zip(ya, yb)])
        noise = ""
        if not m.last:
            x, y = np.concatenate(ya), np.concatenate(yb)
            noise = f", SQNR of the output {10 * np.log10((x * x).sum() / max(1e-30, ((x - y) ** 2).sum())):.1f} dB"
        print(f"{len(images)} images, {names[a]} / {names[b]}: equal {share(list(zip(qa, qb)), 0):.2f} %, within one step {share(list(zip(qa, qb)), 1):.2f} %, "
              f"same best class {top:.2f} %{noise}", flush=True)


def layers(m, images, scratch):
    """Each layer by itself."""
    for mode in MODES:
        session = m.session(mode, m.integers)
        values = [dict(zip(m.integers, session.run(None, {m.input: x[None]}))) for x in images]
        rows = []
        for tensor in m.integers:
            nodes, starts = m.before(tensor)
            trios = []
            for x, v in zip(images, values):
                def feeds(dtype):
                    of = lambda s: x[None] if s == m.input else m.real(m.maker[s].input[0], v[m.maker[s].input[0]], dtype)
                    return {s: of(s).astype(dtype) for s in starts}
                ours = m.layer(tensor, nodes, starts, feeds(np.float32), scratch)
                trios.append((ours.ravel(), v[tensor].astype(int).ravel(), m.exact(tensor, nodes, starts, feeds(np.float64)).ravel()))
            far = max(abs(a - b).max() for a, b, _ in trios)
            equal = [share([(t[a], t[b]) for t in trios], 0) for a, b in [(0, 1), (0, 2), (1, 2)]]
            rows.append((equal, far, tensor))
        mean, worst = np.mean([r[0] for r in rows], axis=0), min(rows, key=lambda r: r[0][0])
        print(f"{len(rows)} layers by themselves ({len(images)} images, ONNX Runtime {mode}), elements equal on the mean: qgraph / ONNX Runtime {mean[0]:.4f} %, "
              f"qgraph / exact {mean[1]:.4f} %, ONNX Runtime / exact {mean[2]:.4f} %; "
              f"worst layer {worst[2]} {worst[0][0]:.4f} %, furthest element {max(r[1] for r in rows)} step(s) off", flush=True)


def flips(m, images):
    """One element moved by one step, in ONNX Runtime."""
    last, random = m.last or m.integers[-1], np.random.default_rng(0)
    for at in [len(m.integers) // 20, len(m.integers) // 6, len(m.integers) // 3]:
        tensor, model = m.integers[at], onnx.ModelProto()
        model.CopyFrom(m.model)
        nodes = list(model.graph.node)
        for n in nodes:
            n.input[:] = ["moved" if i == tensor else i for i in n.input]
        where = 1 + next(k for k, n in enumerate(nodes) if tensor in n.output)
        steps = [helper.make_node("Cast", [tensor], ["wide"], to=TensorProto.INT32), helper.make_node("Add", ["wide", "change"], ["sum"]),
                 helper.make_node("Cast", ["sum"], ["moved"], to=m.type(tensor))]
        del model.graph.node[:]
        model.graph.node.extend(nodes[:where] + steps + nodes[where:])
        model.graph.input.append(helper.make_tensor_value_info("change", TensorProto.INT32, None))
        session, values = m.session("on", [last], model), m.session("on", [tensor])
        pairs = []
        for x in images:
            q = values.run(None, {m.input: x[None]})[0]
            inner = np.flatnonzero((q > q.min()) & (q < q.max()))
            change = np.zeros(q.shape, np.int32)
            run = lambda: session.run(None, {m.input: x[None], "change": change})[0].ravel()
            before = run()
            change.ravel()[random.choice(inner)] = 1
            pairs.append((before, run()))
        print(f"one of {q.size} elements of {tensor} (tensor {at} of {len(m.integers)}) moved by one step, ONNX Runtime against itself, {len(images)} images: "
              f"equal {share(pairs, 0):.2f} %, within one step {share(pairs, 1):.2f} %", flush=True)


def speed(files, core):
    """Images per second of the same network in several forms, in turn on one core."""
    seen = {f: [] for f in files}
    for _ in range(5):
        for f in files:
            run = subprocess.run(["taskset", "-c", str(core), QGRAPH, "bench", f, "--iters", "20", "--json"], check=True, capture_output=True, text=True)
            seen[f].append(json.loads(run.stdout)[0]["images_per_s_median"])
    print("images per second, medians of 5 rounds: " + ", ".join(f"{f.name} {statistics.median(r):.1f}" for f, r in seen.items()))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", type=pathlib.Path)
    p.add_argument("inputs", type=pathlib.Path)
    p.add_argument("quantized", type=pathlib.Path, nargs="?")
    p.add_argument("--images", type=int, default=100)
    p.add_argument("--layers", type=int, default=0)
    p.add_argument("--flips", type=int, default=0)
    p.add_argument("--speed", type=int, metavar="CORE")
    p.add_argument("--own", type=pathlib.Path, metavar="FLOAT.qgraph")
    args = p.parse_args()
    m, images = Model(args.model), np.load(args.inputs)
    print(f"{args.model.name}: onnx.checker and shape inference pass, {len(m.integers)} tensors of integers, ONNX Runtime {onnxruntime.__version__}")
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        whole(m, args.model, images[:args.images], args.quantized, scratch)
        if args.layers:
            layers(m, images[:args.layers], scratch)
        if args.flips:
            flips(m, images[:args.flips])
        if args.speed is not None:
            files = [args.quantized or scratch / "model.qgraph"] + ([args.own] if args.own else [])
            speed(files, args.speed)


if __name__ == "__main__":
    main()
