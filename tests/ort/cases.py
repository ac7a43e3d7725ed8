"""Small ONNX models and what ONNX Runtime makes of them, for tests/src/ort.rs.

usage: cases.py DIR      needs: onnxruntime, onnx, numpy

Every supported operator, every attribute that changes its result, and every opset from 7 to 22 in which its form or
meaning changed. All numbers are drawn from a generator seeded by the case's name. Writes, for each case:
NAME.onnx, NAME.in0.npy ..., NAME.out0.npy ..., and in the end `cases.txt`, one name a line, and `given.txt`: the quantized models.
"""
import os, sys, zlib
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OUT = sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)
names, given, refused = [], [], []


def node(op, inputs, outputs=("y",), **attributes):
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def case(name, opset, nodes, shapes, constants=(), outputs=("y",), low=-2.0, high=2.0, ir=8, as_inputs=False, into=names):
    """A model of `nodes` at `opset`. `shapes`: of the inputs, or the inputs, by name. `constants`: arrays, or shapes to fill at random, by name.
    Optimized only if it goes `into` the quantized ones: then ONNX Runtime runs it in integers."""
    name = f"{name}-{opset}"
    assert name not in names + given, name
    random = np.random.default_rng(zlib.crc32(name.encode()))
    draw = lambda shape: random.uniform(low, high, shape).astype(np.float32)
    x = {n: draw(s) if isinstance(s, tuple) else s for n, s in shapes.items()}
    constants = {n: draw(c) if isinstance(c, tuple) else np.asarray(c) for n, c in dict(constants).items()}
    tensor = lambda n, a: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
    inputs = [tensor(n, a) for n, a in x.items()]
    if as_inputs:
        inputs += [tensor(n, a) for n, a in constants.items()]
    graph = helper.make_graph(
        nodes if isinstance(nodes, list) else [nodes], name, inputs,
        [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if into is given else levels.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        results = session.run(None, x)
    except Exception as e:
        refused.append(f"{name}: {e}")
        return
    into.append(name)
    onnx.save(model, f"{OUT}/{name}.onnx")
    for k, a in enumerate(x.values()):
        np.save(f"{OUT}/{name}.in{k}.npy", a)
    for k, a in enumerate(results):
        assert np.isfinite(a).all(), f"{name}: gives NaN or infinity: choose other inputs"
        np.save(f"{OUT}/{name}.out{k}.npy", a)


def ints(*a):
    return np.array(a, np.int64)


def floats(*a):
    return np.array(a, np.float32)


X = {"x": (1, 4, 7, 9)}


def windows():
    conv = lambda name, opset, w, shape=X["x"], bias=True, **a: case(
        f"conv-{name}", opset, node("Conv", ["x", "w", "b"] if bias else ["x", "w"], **a), {"x": shape},
        {"w": w, "b": (w[0],)} if bias else {"w": w}, low=-1, high=1)
    for opset in (7, 11, 22):
        conv("plain", opset, (6, 4, 3, 3))
        conv("pads", opset, (6, 4, 3, 2), pads=[1, 0, 2, 1], strides=[2, 1])
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            conv(f"{auto.lower()}", opset, (5, 4, 4, 3), strides=[3, 2], auto_pad=auto)
    conv("nobias", 11, (6, 4, 1, 1), bias=False)
    conv("kernel_shape", 11, (6, 4, 3, 3), kernel_shape=[3, 3], pads=[1] * 4)
    conv("groups", 11, (6, 2, 3, 3), group=2, pads=[1] * 4)
    conv("depthwise", 11, (4, 1, 5, 3), group=4, pads=[2, 1, 2, 1], strides=[1, 2])
    conv("depthwise_multiplier", 11, (12, 1, 3, 3), group=4, pads=[1] * 4)
    conv("dilated", 11, (6, 4, 3, 3), dilations=[2, 3], pads=[2, 3, 2, 3])
    conv("one_channel", 11, (3, 1, 7, 7), shape=(1, 1, 12, 10), strides=[2, 2], pads=[3] * 4)
    conv("batch", 11, (6, 4, 3, 3), shape=(3, 4, 5, 6), pads=[1] * 4)
    conv("wide", 11, (33, 40, 1, 1), shape=(1, 40, 5, 5))

    transposed = lambda name, opset, w, group=1, bias=True, shape=X["x"], **a: case(
        f"convtranspose-{name}", opset, node("ConvTranspose", ["x", "w", "b"] if bias else ["x", "w"], group=group, **a),
        {"x": shape}, {"w": w, "b": (w[1] * group,)} if bias else {"w": w}, low=-1, high=1)
    for opset in (7, 11, 22):
        transposed("plain", opset, (4, 3, 3, 3))
        transposed("stride", opset, (4, 3, 2, 2), strides=[2, 2], bias=False)
        transposed("pads", opset, (4, 3, 4, 3), strides=[2, 3], pads=[1, 0, 2, 1], output_padding=[1, 2])
        transposed("output_shape", opset, (4, 3, 3, 3), strides=[2, 2], output_shape=[14, 17])
        transposed("valid", opset, (4, 3, 3, 2), strides=[2, 3], auto_pad="VALID")
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        for opset in (11, 22):
            transposed(auto.lower(), opset, (4, 3, 4, 4), strides=[3, 1], auto_pad=auto)
            transposed(f"{auto.lower()}_output_shape", opset, (4, 3, 4, 3), strides=[2, 2], auto_pad=auto, output_shape=[15, 18])
    transposed("dilated", 11, (4, 3, 3, 2), dilations=[2, 3], strides=[1, 2], pads=[1, 1, 0, 2])
    transposed("groups", 11, (4, 3, 3, 3), group=2, strides=[2, 2], pads=[1] * 4)
    transposed("depthwise", 11, (4, 1, 4, 4), group=4, strides=[2, 2], pads=[1] * 4)
    transposed("batch", 11, (4, 3, 2, 2), strides=[2, 2], shape=(2, 4, 3, 5))

    pool = lambda name, opset, op="MaxPool", shape=X["x"], **a: case(
        f"{op.lower()}-{name}", opset, node(op, ["x"], **a), {"x": shape})
    for opset in (7, 8, 10, 11, 12, 22):
        pool("plain", opset, kernel_shape=[2, 3])
        pool("pads", opset, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2])
        for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
            pool(auto.lower(), opset, kernel_shape=[3, 4], strides=[2, 3], auto_pad=auto)
        if opset >= 10:
            pool("ceil", opset, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 1], ceil_mode=1, shape=(1, 3, 8, 8))
            pool("dilated", opset, kernel_shape=[3, 2], dilations=[2, 3], strides=[1, 2])
    # Windows that start beyond the input in ceil mode: dropped.
    pool("ceil_beyond", 12, kernel_shape=[2, 2], strides=[3, 3], pads=[0, 0, 1, 1], ceil_mode=1, shape=(1, 2, 6, 6))
    for opset in (7, 10, 11, 19, 22):
        for count in (0, 1):
            average = lambda name, **a: pool(f"{name}-count{count}", opset, "AveragePool", count_include_pad=count, **a)
            average("plain", kernel_shape=[2, 3], strides=[2, 1])
            average("pads", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2])
            average("same", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
            if opset >= 10:
                average("ceil", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1, shape=(1, 3, 8, 8))
                average("ceil_pads", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, shape=(1, 3, 8, 8))
            if opset >= 19:
                average("dilated", kernel_shape=[3, 2], dilations=[2, 3], pads=[1, 1, 1, 1])
    for opset in (7, 22):
        for op in ("GlobalAveragePool", "GlobalMaxPool"):
            case(op.lower(), opset, node(op, ["x"]), {"x": (2, 4, 5, 7)})
    for opset in (7, 11, 13):
        for op in ("ReduceMean", "ReduceMax"):
            case(f"{op.lower()}-space", opset, node(op, ["x"], axes=[2, 3]), X)
            case(f"{op.lower()}-nokeep", opset, node(op, ["x"], axes=[2, 3], keepdims=0), X)
            if opset > 7:
                case(f"{op.lower()}-negative", opset, node(op, ["x"], axes=[-1, -2], keepdims=1), X)
    for opset in (18, 22):
        for op in ("ReduceMean", "ReduceMax"):
            case(f"{op.lower()}-space", opset, node(op, ["x", "a"]), X, {"a": ints(-2, -1)})
            case(f"{op.lower()}-nokeep", opset, node(op, ["x", "a"], keepdims=0), X, {"a": ints(2, 3)})
        case("reducemean-noop", opset, node("ReduceMean", ["x"], noop_with_empty_axes=1), X)


def layers():
    for opset in (7, 9, 14, 15):
        extra = {"spatial": 1} if opset == 7 else {}
        case("batchnormalization", opset, node("BatchNormalization", ["x", "g", "b", "m", "v"], epsilon=1e-3, **extra), X,
             {"g": (4,), "b": (4,), "m": (4,), "v": floats(0.3, 1.7, 0.9, 2.5)})
    case("batchnormalization-matrix", 9, node("BatchNormalization", ["x", "g", "b", "m", "v"]), {"x": (3, 4)},
         {"g": (4,), "b": (4,), "m": (4,), "v": floats(0.3, 1.7, 0.9, 2.5)})
    for opset in (7, 9, 11, 13):
        gemm = lambda name, w, c, shape=(3, 5), **a: case(
            f"gemm-{name}", opset, node("Gemm", ["x", "w", "c"] if c is not None else ["x", "w"], **a), {"x": shape},
            {"w": w, "c": c} if c is not None else {"w": w}, low=-1, high=1)
        gemm("plain", (5, 4), (4,))
        gemm("turned", (4, 5), (1, 4), transB=1)
        gemm("both_turned", (4, 5), (4,), shape=(5, 3), transA=1, transB=1, alpha=0.5, beta=2.0)
        gemm("column", (5, 4), (3, 1))
        gemm("full", (5, 4), (3, 4), beta=-0.5)
        gemm("scalar", (5, 4), (1,))
        if opset >= 11:
            gemm("noaddend", (5, 4), None, alpha=1.5)
    for opset in (7, 9, 13):
        matmul = lambda name, x, w: case(f"matmul-{name}", opset, node("MatMul", ["x", "w"]), {"x": x}, {"w": w})
        matmul("matrix", (3, 5), (5, 4))
        matmul("stack", (2, 3, 5), (5, 4))
        matmul("stacks", (2, 3, 4, 5), (1, 5, 4))
        matmul("vector", (3, 5), (5,))
        matmul("row", (5,), (5, 4))
        case("matmul-left", opset, node("MatMul", ["w", "x"]), {"x": (5, 3)}, {"w": (4, 5)})
    for opset in (7, 13):
        lrn = lambda name, shape=(1, 7, 4, 5), **a: case(f"lrn-{name}", opset, node("LRN", ["x"], **a), {"x": shape})
        lrn("odd", size=5, alpha=0.5, beta=0.75, bias=1.0)
        lrn("wide", size=3, alpha=2.0, beta=0.5, bias=2.0)
        lrn("default", size=5)
    for opset in (7, 11, 13):
        for axis in (0, 1, 2, 3) if opset < 11 else (-1, 1, -3, 2):
            case(f"softmax-axis{axis}", opset, node("Softmax", ["x"], axis=axis), {"x": (2, 3, 4, 5)}, high=4)
        case("softmax-default", opset, node("Softmax", ["x"]), {"x": (3, 7)}, high=9)
    case("softmax-default4", 11, node("Softmax", ["x"]), {"x": (2, 3, 4, 5)})
    case("softmax-default4", 13, node("Softmax", ["x"]), {"x": (2, 3, 4, 5)})


def functions():
    one = lambda op, opset, name="", low=-4.0, high=4.0, **a: case(
        op.lower() + name, opset, node(op, ["x"], **a), X, low=low, high=high)
    for op, opsets in {"Relu": (7, 13, 14), "Sigmoid": (7, 13), "Tanh": (7, 13), "Softplus": (7, 22), "Abs": (7, 13),
                       "Exp": (7, 13), "Neg": (7, 13), "HardSwish": (14, 22), "Mish": (18, 22)}.items():
        for opset in opsets:
            one(op, opset)
            one(op, opset, "-far", low=-30, high=30) if op != "Exp" else None
    for opset in (7, 16):
        one("LeakyRelu", opset)
        one("LeakyRelu", opset, "-alpha", alpha=0.3)
    for opset in (7, 22):
        one("Elu", opset)
        one("Elu", opset, "-alpha", alpha=0.4)
        one("HardSigmoid", opset)
        one("HardSigmoid", opset, "-alpha", alpha=0.3, beta=0.6)
    for opset in (7, 13):
        one("Sqrt", opset, low=0.1)
        one("Reciprocal", opset, low=0.2)
    for approximate in ("none", "tanh"):
        one("Gelu", 20, f"-{approximate}", approximate=approximate)
    one("Gelu", 20)
    for opset in (7, 10):
        one("Clip", opset, min=-0.5, max=1.5)
        one("Clip", opset, "-low", min=-0.5)
        one("Clip", opset, "-none")
    for opset in (11, 12, 13):
        clip = lambda name, *inputs, constants: case(f"clip{name}", opset, node("Clip", inputs), X, constants)
        clip("", "x", "lo", "hi", constants={"lo": np.float32(-0.5), "hi": np.float32(1.5)})
        clip("-high", "x", "", "hi", constants={"hi": np.float32(1.5)})
        clip("-low", "x", "lo", constants={"lo": np.float32(-0.5)})
        clip("-none", "x", constants={})
    # Crossed bounds: defined (the upper one) since opset 12.
    case("clip-crossed", 13, node("Clip", ["x", "lo", "hi"]), X, {"lo": np.float32(1), "hi": np.float32(-1)})
    for opset in (7, 9, 16):
        for name, slope in {"one": (1,), "channels": (4, 1, 1), "channels4": (1, 4, 1, 1)}.items():
            case(f"prelu-{name}", opset, node("PRelu", ["x", "s"]), X, {"s": slope})
    for opset in (7, 12, 13, 15):
        for exponent in (0.5, 1.0, 2.0):
            case(f"pow-{exponent}", opset, node("Pow", ["x", "e"]), X, {"e": np.float32(exponent)}, low=0.1)
    for opset in (8, 12, 13):
        for op in ("Min", "Max"):
            case(op.lower(), opset, node(op, ["x", "c"]), X, {"c": np.float32(0.5)})
            case(f"{op.lower()}-vector", opset, node(op, ["x", "c"]), X, {"c": floats(0.5)})


def arithmetic():
    for opset in (7, 13, 14):
        for op in ("Add", "Sub", "Mul", "Div"):
            low = 0.3 if op == "Div" else -2.0
            two = lambda name, a, b: case(f"{op.lower()}-{name}", opset, node(op, ["a", "b"]), {"a": a, "b": b}, low=low)
            two("same", (1, 4, 3, 5), (1, 4, 3, 5))
            two("channels", (1, 4, 3, 5), (1, 4, 1, 1))
            two("rows", (1, 4, 3, 5), (3, 1))
            two("scalar", (), (2, 3, 5))
            two("across", (1, 4, 1, 5), (4, 3, 1))
            for name, c in {"scalar": (), "channels": (4, 1, 1), "channels4": (1, 4, 1, 1), "row": (5,), "full": (1, 4, 3, 5)}.items():
                case(f"{op.lower()}-constant-{name}", opset, node(op, ["x", "c"]), {"x": (1, 4, 3, 5)}, {"c": c}, low=low)
                case(f"{op.lower()}-constant-first-{name}", opset, node(op, ["c", "x"]), {"x": (1, 4, 3, 5)}, {"c": c}, low=low)
    for opset in (8, 13):
        case("sum-one", opset, node("Sum", ["x"]), X)
        case("sum-three", opset, node("Sum", ["a", "b", "c"]), {"a": (2, 3), "b": (3,), "c": (2, 1)})


def moves():
    for opset in (7, 11, 13):
        for axis in (1, 2) if opset == 7 else (-3, -1):
            shapes = {"a": [1, 4, 3, 5], "b": [1, 4, 3, 5], "c": [1, 4, 3, 5]}
            for k, s in enumerate(shapes.values()):
                s[axis] += k
            case(f"concat-axis{axis}", opset, node("Concat", shapes, axis=axis), {n: tuple(s) for n, s in shapes.items()})
    case("concat-one", 13, node("Concat", ["x"], axis=1), X)
    case("concat-constant", 13, node("Concat", ["x", "c", "x"], axis=1), X, {"c": (1, 2, 7, 9)})
    for opset in (7, 9, 11, 13, 21):
        for axis in (0, 1, 3, 4) if opset < 11 else (-1, 2):
            case(f"flatten-axis{axis}", opset, node("Flatten", ["x"], axis=axis), {"x": (2, 3, 4, 5)})
    for opset in (7, 13, 14, 21):
        reshape = lambda name, *to: case(f"reshape-{name}", opset, node("Reshape", ["x", "s"]), {"x": (2, 3, 4, 5)}, {"s": ints(*to)})
        reshape("copy", 0, -1, 5)
        reshape("axes", 2, 3, 2, 2, 5)
        reshape("flat", -1)
    case("reshape-allowzero", 14, node("Reshape", ["x", "s"], allowzero=1), {"x": (2, 12)}, {"s": ints(4, 6)})
    for opset in (7, 11):
        case("squeeze", opset, node("Squeeze", ["x"], axes=[0, 2]), {"x": (1, 3, 1, 5)})
        case("squeeze-all", opset, node("Squeeze", ["x"]), {"x": (1, 3, 1, 5)})
        case("unsqueeze", opset, node("Unsqueeze", ["x"], axes=[0, 3]), {"x": (3, 5)})
    for opset in (13, 21):
        case("squeeze", opset, node("Squeeze", ["x", "a"]), {"x": (1, 3, 1, 5)}, {"a": ints(0, -2)})
        case("squeeze-all", opset, node("Squeeze", ["x"]), {"x": (1, 3, 1, 5)})
        case("unsqueeze", opset, node("Unsqueeze", ["x", "a"]), {"x": (3, 5)}, {"a": ints(-1, 1)})
    for opset in (7, 13, 21):
        case("transpose", opset, node("Transpose", ["x"]), {"x": (2, 3, 4)})
        for perm in ([0, 2, 3, 1], [0, 3, 1, 2], [3, 1, 0, 2]):
            case(f"transpose-{''.join(map(str, perm))}", opset, node("Transpose", ["x"], perm=perm), {"x": (2, 3, 4, 5)})
    for opset in (7, 10):
        case("pad", opset, node("Pad", ["x"], pads=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5), X)
        case("pad-zeros", opset, node("Pad", ["x"], pads=[0, 1, 0, 0, 0, 2, 0, 0]), X)
    for opset in (11, 13, 18, 19, 21):
        case("pad", opset, node("Pad", ["x", "p", "v"]), X, {"p": ints(0, 0, 1, 2, 0, 0, 3, 0), "v": np.float32(0.5)})
        case("pad-zeros", opset, node("Pad", ["x", "p"]), X, {"p": ints(0, 1, 0, 0, 0, 2, 0, 0)})
        if opset >= 18:
            case("pad-axes", opset, node("Pad", ["x", "p", "", "a"]), X, {"p": ints(1, 2, 3, 4), "a": ints(-1, 2)})
    for opset in (7, 9):
        case("slice", opset, node("Slice", ["x"], starts=[1, -5], ends=[3, 1000], axes=[1, 3]), X)
        case("slice-noaxes", opset, node("Slice", ["x"], starts=[0, 1], ends=[1, -1]), X)
    for opset in (10, 11, 13):
        case("slice", opset, node("Slice", ["x", "b", "e", "a"]), X, {"b": ints(1, -5), "e": ints(3, 1000), "a": ints(1, 3)})
        case("slice-steps", opset, node("Slice", ["x", "b", "e", "a", "s"]), X,
             {"b": ints(-1, 1), "e": ints(-1000, 8), "a": ints(2, -1), "s": ints(-2, 3)})
    for opset in (7, 11):
        case("split", opset, node("Split", ["x"], ["y", "z"], axis=3, split=[2, 7]), X, outputs=("y", "z"))
        case("split-equal", opset, node("Split", ["x"], ["y", "z"], axis=1), X, outputs=("y", "z"))
    for opset in (13, 18):
        case("split", opset, node("Split", ["x", "s"], ["y", "z"], axis=-1), X, {"s": ints(2, 7)}, outputs=("y", "z"))
    case("split-equal", 13, node("Split", ["x"], ["y", "z"], axis=1), X, outputs=("y", "z"))
    case("split-uneven", 18, node("Split", ["x"], ["y", "z"], axis=3, num_outputs=2), X, outputs=("y", "z"))
    for opset in (7, 11, 13):
        case("gather-one", opset, node("Gather", ["x", "i"], axis=1), X, {"i": np.int64(2)})
        case("gather-even", opset, node("Gather", ["x", "i"], axis=3), X, {"i": ints(1, 3, 5)})
        case("gather-down", opset, node("Gather", ["x", "i"], axis=2), X, {"i": ints(4, 3)})
    for opset in (7, 13):
        case("spacetodepth", opset, node("SpaceToDepth", ["x"], blocksize=2), {"x": (2, 3, 4, 6)})
        case("depthtospace", opset, node("DepthToSpace", ["x"], blocksize=2), {"x": (2, 12, 2, 3)})
    for opset in (11, 13):
        for mode in ("DCR", "CRD"):
            case(f"depthtospace-{mode}", opset, node("DepthToSpace", ["x"], blocksize=2, mode=mode), {"x": (2, 12, 2, 3)})


def resizes():
    R = {"x": (1, 3, 5, 6)}
    for mode in ("nearest", "linear"):
        case(f"upsample-{mode}", 7, node("Upsample", ["x"], mode=mode, scales=[1.0, 1.0, 2.0, 3.0]), R)
        case(f"upsample-{mode}", 9, node("Upsample", ["x", "s"], mode=mode), R, {"s": floats(1, 1, 2, 1.5)})
        case(f"resize-{mode}", 10, node("Resize", ["x", "s"], mode=mode), R, {"s": floats(1, 1, 2, 1.5)})
        case(f"resize-{mode}-down", 10, node("Resize", ["x", "s"], mode=mode), R, {"s": floats(1, 1, 0.6, 0.5)})
    targets = {"up": (2.0, 2.5), "down": (0.6, 0.5), "odd": (1.3, 0.7), "pixel": (0.2, 3.0)}
    for opset in (11, 13, 18, 19):
        for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            for name, (h, w) in targets.items():
                modes = [("linear", {})] + [("nearest", {"nearest_mode": n}) for n in
                                            ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")]
                for mode, extra in modes:
                    full = f"resize-{coordinates}-{name}-{extra.get('nearest_mode', mode)}"
                    make = lambda inputs: node("Resize", inputs, mode=mode, coordinate_transformation_mode=coordinates, **extra)
                    if opset in (11, 19):
                        case(full, opset, make(["x", "", "s"] if opset > 11 else ["x", "r", "s"]), R,
                             {"r": floats(), "s": floats(1, 1, h, w)} if opset == 11 else {"s": floats(1, 1, h, w)})
                    else:
                        case(f"{full}-sizes", opset, make(["x", "", "", "z"]), R, {"z": ints(1, 3, int(5 * h), int(6 * w))})
    case("resize-axes", 18, node("Resize", ["x", "", "s"], axes=[2, 3], mode="linear"), R, {"s": floats(2, 3)})
    case("resize-axes-sizes", 19, node("Resize", ["x", "", "", "s"], axes=[-1, 2], mode="nearest"), R, {"s": ints(9, 4)})
    case("resize-symmetric", 19, node("Resize", ["x", "", "s"], mode="linear", coordinate_transformation_mode="half_pixel_symmetric"),
         R, {"s": floats(1, 1, 2, 2)})


def plumbing():
    relu = lambda x, y="y": node("Relu", [x], [y])
    for opset in (7, 13, 14, 16, 19, 21):
        case("identity", opset, [node("Identity", ["x"], ["i"]), relu("i")], X)
    for opset in (7, 10):
        case("dropout", opset, [node("Dropout", ["x"], ["d"], ratio=0.4), relu("d")], X)
    for opset in (12, 13, 22):
        case("dropout", opset, [node("Dropout", ["x", "r"], ["d"]), relu("d")], X, {"r": np.float32(0.4)})
    for opset in (7, 9, 13, 19, 21):
        case("cast", opset, [node("Cast", ["x"], ["c"], to=TensorProto.FLOAT), relu("c")], X)
        case("cast-constant", opset, [node("Cast", ["i"], ["c"], to=TensorProto.FLOAT), node("Mul", ["x", "c"])], X, {"i": ints(3)})
    for opset in (7, 9, 11, 13, 19, 21):
        value = numpy_helper.from_array(floats(1, -2, 3, 0.5, 1, 2, 3, 4, 5))
        case("constant", opset, [node("Constant", [], ["c"], value=value), node("Mul", ["x", "c"])], X)
    for opset in (12, 13):
        case("constant-floats", opset, [node("Constant", [], ["c"], value_floats=[1.0] * 8 + [2.0]), node("Mul", ["x", "c"])], X)
        case("constant-float", opset, [node("Constant", [], ["c"], value_float=1.5), node("Mul", ["x", "c"])], X)
        case("constant-ints", opset, [node("Constant", [], ["s"], value_ints=[4, 63]), node("Reshape", ["x", "s"])], X)
    for opset in (9, 20, 21):
        half = numpy_helper.from_array(floats(0.5))
        case("constantofshape", opset, [node("ConstantOfShape", ["s"], ["c"], value=half), node("Add", ["x", "c"])], X, {"s": ints(7, 9)})
        case("constantofshape-zeros", opset, [node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"])], X, {"s": ints(7, 1)})
    for opset in (8, 13):
        case("expand", opset, [node("Expand", ["c", "s"], ["e"]), node("Add", ["x", "e"])], X, {"c": (4, 1, 1), "s": ints(4, 7, 9)})
    # The chains that exporters write to flatten: PyTorch's view(x.size(0), -1), and Keras's.
    for opset in (7, 9, 11, 12):
        case("shape-gather", opset, [
            node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"], axis=0), node("Unsqueeze", ["n"], ["n1"], axes=[0]),
            node("Concat", ["n1", "rest"], ["to"], axis=0), node("Reshape", ["x", "to"])], X, {"zero": np.int64(0), "rest": ints(-1)})
    for opset in (13, 15, 19, 21):
        case("shape-gather", opset, [
            node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["n"], axis=0), node("Unsqueeze", ["n", "zero1"], ["n1"]),
            node("Concat", ["n1", "rest"], ["to"], axis=0), node("Reshape", ["x", "to"])],
             X, {"zero": np.int64(0), "zero1": ints(0), "rest": ints(-1)})
    case("shape-slice", 15, [node("Shape", ["x"], ["s"], start=0, end=2), node("Concat", ["s", "rest"], ["to"], axis=0),
                             node("Reshape", ["x", "to"])], X, {"rest": ints(-1)})
    # Twice as large, by arithmetic on the shape.
    case("shape-arithmetic", 13, [
        node("Shape", ["x"], ["s"]), node("Slice", ["s", "b", "e"], ["hw"]), node("Cast", ["hw"], ["f"], to=TensorProto.FLOAT),
        node("Mul", ["f", "two"], ["d"]), node("Floor", ["d"], ["fl"]), node("Cast", ["fl"], ["i"], to=TensorProto.INT64),
        node("Slice", ["s", "z", "b"], ["nc"]), node("Concat", ["nc", "i"], ["to"], axis=0),
        node("Resize", ["x", "", "", "to"], mode="nearest")],
         X, {"b": ints(2), "e": ints(4), "z": ints(0), "two": np.float32(2)})


def networks():
    """A few operators together, so that fusion has something to do."""
    bn = lambda x, y, k="": node("BatchNormalization", [x, f"g{k}", f"h{k}", f"m{k}", f"v{k}"], [y])
    parameters = lambda c, k="": {f"g{k}": (c,), f"h{k}": (c,), f"m{k}": (c,), f"v{k}": floats(*[0.5 + 0.25 * i for i in range(c)])}
    conv = lambda x, y, w, **a: node("Conv", [x, w], [y], **a)
    for opset in (7, 11, 15, 22):
        case("conv-bn-relu-add", opset, [
            conv("x", "c", "w", pads=[1] * 4), bn("c", "n"), node("Relu", ["n"], ["r"]), conv("r", "d", "u", pads=[1] * 4),
            bn("d", "o", 1), node("Add", ["o", "x"], ["s"]), node("Relu", ["s"])],
             X, {"w": (4, 4, 3, 3), "u": (4, 4, 3, 3), **parameters(4), **parameters(4, 1)}, low=-0.5, high=0.5)
        case("pre-activation", opset, [
            bn("x", "n"), node("Relu", ["n"], ["r"]), conv("r", "c", "w", pads=[1] * 4), node("Add", ["c", "x"])],
             X, {"w": (4, 4, 3, 3), **parameters(4)})
        case("head", opset, [
            node("GlobalAveragePool", ["x"], ["g"]), node("Flatten", ["g"], ["f"]), node("Gemm", ["f", "w", "b"], transB=1)],
             X, {"w": (10, 4), "b": (10,)})
    case("silu", 13, [conv("x", "c", "w"), node("Sigmoid", ["c"], ["s"]), node("Mul", ["c", "s"])], X, {"w": (6, 4, 3, 3)})
    case("hardswish-spelled", 11, [
        conv("x", "c", "w"), node("Add", ["c", "three"], ["t"]), node("Clip", ["t", "zero", "six"], ["k"]), node("Mul", ["c", "k"], ["p"]),
        node("Div", ["p", "six"])], X, {"w": (6, 4, 3, 3), "three": np.float32(3), "zero": np.float32(0), "six": np.float32(6)})
    case("gate", 13, [
        node("GlobalAveragePool", ["x"], ["g"]), conv("g", "c", "w"), node("HardSigmoid", ["c"], ["h"]), node("Mul", ["x", "h"])],
         X, {"w": (4, 4, 1, 1)})
    case("padded", 13, [
        node("Pad", ["x", "p"], ["q"]), conv("q", "c", "w"), node("Mul", ["c", "k"], ["s"]), node("Add", ["s", "o"])],
         X, {"p": ints(0, 0, 1, 1, 0, 0, 2, 1), "w": (5, 4, 3, 3), "k": (5, 1, 1), "o": (5, 1, 1)})
    case("two-outputs", 13, [conv("x", "c", "w"), node("Relu", ["c"], ["y"]), node("Sigmoid", ["c"], ["z"])], X,
         {"w": (6, 4, 3, 3)}, outputs=("y", "z"))
    # As older exporters write it: initializers are listed among the inputs.
    case("initializers-as-inputs", 8, [conv("x", "c", "w"), bn("c", "n"), node("Relu", ["n"])], X,
         {"w": (4, 4, 3, 3), **parameters(4)}, ir=3, as_inputs=True)


def quantized():
    """Models in QDQ form. Their weights have 7 bits: with 8, kernels for CPUs without VNNI saturate."""
    random = np.random.default_rng(9)

    def rounded(x, y, scale, zero):
        """Nodes and constants that round x to integers and give them as y."""
        levels = [f"{y}/s", f"{y}/z"]
        return ([node("QuantizeLinear", [x, *levels], [f"{y}/q"]), node("DequantizeLinear", [f"{y}/q", *levels], [y])],
                {levels[0]: np.float32(scale), levels[1]: np.uint8(zero)})

    def model(name, inputs, levels, nodes, constants, y):
        """`nodes` compute c from inputs that are rounded by `levels`, called like them with a d behind; it is rounded by `y`."""
        before = [rounded(n, n + "d", *levels[n]) for n in inputs]
        nodes = [n for part in before for n in part[0]] + nodes
        constants = dict(constants, **{n: c for part in before for n, c in part[1].items()})
        last, more = rounded("c", "y", *y)
        case(f"given-{name}", 13, nodes + last, inputs, {**constants, **more}, into=given)

    def layer(w, x_scale, scales):
        """Weights and bias with a scale for each output channel."""
        q, b = random.integers(-63, 64, w).astype(np.int8), random.integers(-5000, 5000, w[0]).astype(np.int32)
        constants = {"w/q": q, "w/s": scales, "w/z": np.zeros(w[0], np.int8), "b/q": b, "b/s": (scales * np.float32(x_scale)).astype(np.float32),
                     "b/z": np.zeros(w[0], np.int32)}
        return [node("DequantizeLinear", [f"{n}/q", f"{n}/s", f"{n}/z"], [n], axis=0) for n in "wb"], constants

    uniform = lambda low, high: np.float32(random.uniform(low, high))
    for k in range(9):
        # Powers of two meet half steps, and all zero points are odd at times.
        halves, zero = k % 3 == 0, lambda: int(random.integers(0, 256))
        for kind, w, x, attributes in [
                ("dense", (24, 16, 3, 3), (1, 16, 20, 20), dict(pads=[1] * 4)),
                ("pointwise", (40, 24, 1, 1), (1, 24, 20, 20), {}),
                ("depthwise", (32, 1, 3, 3), (1, 32, 20, 20), dict(pads=[1] * 4, group=32)),
                ("first", (16, 3, 3, 3), (1, 3, 41, 41), dict(strides=[2, 2]))]:
            x_scale = 2.0 ** -6 if halves else uniform(0.012, 0.02)
            scales = np.full(w[0], 0.25, np.float32) if halves else random.uniform(0.001, 0.01, w[0]).astype(np.float32)
            y_scale = x_scale * scales.mean() * 37 * 73 / 40 * np.prod(w[1:]) ** 0.5
            y_scale = 2.0 ** np.round(np.log2(y_scale)) if halves else y_scale
            before, constants = layer(w, x_scale, scales)
            model(f"conv-{kind}-{k}", {"x": x}, {"x": (x_scale, 128 - k)}, before + [node("Conv", ["xd", "w", "b"], ["c"], **attributes)],
                  constants, (y_scale, 121 + k))
        before, constants = layer((40, 64), 0.0157, random.uniform(0.001, 0.01, 40).astype(np.float32))
        model(f"gemm-{k}", {"x": (20, 64)}, {"x": (0.0157, 127)}, before + [node("Gemm", ["xd", "w", "b"], ["c"], transB=1)], constants,
              (uniform(0.05, 0.2), 120 + k))
        a, b, y = (0.5, 0.5, 1.0) if halves else (uniform(0.01, 0.03), uniform(0.01, 0.03), uniform(0.02, 0.05))
        span = 60 * a
        x = {n: random.uniform(-span, span, (1, 32, 20, 20)).astype(np.float32) for n in "ab"}
        model(f"add-{k}", x, {"a": (a, zero()), "b": (b, zero())}, [node("Add", ["ad", "bd"], ["c"])], {}, (y, zero()))
        side = (7, 8)[k % 2]
        model(f"mean-{k}", {"x": (1, 256, side, side)}, {"x": (uniform(0.012, 0.02), zero())}, [node("GlobalAveragePool", ["xd"], ["c"])], {},
              (2.0 ** -9 if halves else uniform(0.002, 0.004), 120 + k))
    # All pairs of integers, on grids where it shows that ONNX Runtime does not round a product before it is added.
    (a, a_zero), (b, b_zero) = (0.010786229, 149), (0.028703278, 120)
    pairs = dict(zip("ab", np.meshgrid((np.arange(256) - a_zero) * a, (np.arange(256) - b_zero) * b)))
    model("add-pairs", {n: q.astype(np.float32).reshape(1, 1, 256, 256) for n, q in pairs.items()}, {"a": (a, a_zero), "b": (b, b_zero)},
          [node("Add", ["ad", "bd"], ["c"])], {}, (0.029047947, 129))
    # Pixels as MobileNet takes them lie halfway between the integers of the usual scales.
    pixels = ((np.arange(256) - np.float32(127.5)) / np.float32(127.5)).astype(np.float32).reshape(1, 1, 16, 16)
    for zero in (127, 128):
        for name, scale in {"even": 2 / 255, "near": 0.00784311}.items():
            nodes, constants = rounded("x", "y", scale, zero)
            case(f"given-pixels-{name}-{zero}", 13, nodes, {"x": pixels}, constants, into=given)


os.makedirs(OUT, exist_ok=True)
for write in (windows, layers, functions, arithmetic, moves, resizes, plumbing, networks, quantized):
    write()
if refused:
    sys.exit("ONNX Runtime does not run these cases:\n" + "\n".join(refused))
with open(f"{OUT}/cases.txt", "w") as f:
    f.write("\n".join(names) + "\n")
with open(f"{OUT}/given.txt", "w") as f:
    f.write("\n".join(given) + "\n")
print(f"{len(names) + len(given)} cases by ONNX Runtime {ort.__version__} in {OUT}")
