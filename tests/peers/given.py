"""Small quantized models by ONNX Runtime and what it computes, for the tests of `tests/src/given`.
usage: given.py DIR (writes inputs.f32, and for each form FORM.onnx and FORM.f32: the step of the output, then the outputs)"""
import os, sys, tempfile
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

random = np.random.default_rng(11)
folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)


def network():
    """Convolutions, a residual, a depthwise layer, a concatenation, poolings, a dense layer."""
    constants, nodes = [], []

    def weight(name, *shape):
        fan = np.prod(shape[1:])
        constants.append(numpy_helper.from_array(random.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32), name))
        return name

    def conv(x, y, out, inputs, k, group=1, relu=True):
        pads = [k // 2] * 4
        bias = weight(y + "_b", out)
        nodes.append(helper.make_node("Conv", [x, weight(y + "_w", out, inputs // group, k, k), bias],
                                      [y + "_c" if relu else y], pads=pads, group=group, name=y))
        if relu:
            nodes.append(helper.make_node("Relu", [y + "_c"], [y]))
        return y

    a = conv("x", "a", 8, 3, 3)
    b = conv(a, "b", 8, 8, 3, group=8)
    c = conv(b, "c", 8, 8, 1, relu=False)
    nodes.append(helper.make_node("Add", [c, a], ["d_sum"]))
    nodes.append(helper.make_node("Relu", ["d_sum"], ["d"]))
    nodes.append(helper.make_node("MaxPool", ["d"], ["p"], kernel_shape=[2, 2], strides=[2, 2]))
    e, f = conv("p", "e", 8, 8, 1), conv("p", "f", 8, 8, 3)
    nodes.append(helper.make_node("Concat", [e, f], ["j"], axis=1))
    nodes.append(helper.make_node("GlobalAveragePool", ["j"], ["g"]))
    nodes.append(helper.make_node("Flatten", ["g"], ["v"]))
    nodes.append(helper.make_node("Gemm", ["v", weight("w", 10, 16), weight("w_b", 10)], ["y"], transB=1, name="y"))
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "given", [value("x", [1, 3, 16, 16])], [value("y", [1, 10])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


class Samples(CalibrationDataReader):
    def __init__(self):
        self.samples = iter([{"x": random.uniform(-1, 1, (1, 3, 16, 16)).astype(np.float32)} for _ in range(32)])

    def get_next(self):
        return next(self.samples, None)


inputs = random.uniform(-1, 1, (20, 3, 16, 16)).astype("<f4")
inputs.tofile(os.path.join(folder, "inputs.f32"))
with tempfile.TemporaryDirectory() as scratch:
    source = os.path.join(scratch, "float.onnx")
    onnx.save(network(), source)
    for form, format, activations in [("qdq", QuantFormat.QDQ, QuantType.QUInt8),
                                      ("qlinear", QuantFormat.QOperator, QuantType.QUInt8),
                                      ("qdq_s8", QuantFormat.QDQ, QuantType.QInt8)]:
        path = os.path.join(folder, form + ".onnx")
        quantize_static(source, path, Samples(), quant_format=format, per_channel=True,
                        activation_type=activations, weight_type=QuantType.QInt8)
        session = ort.InferenceSession(path)
        outputs = np.concatenate([session.run(None, {"x": x[None]})[0].ravel() for x in inputs])
        model = onnx.load(path)
        last = next(n for n in model.graph.node if "y" in n.output)
        step = next(numpy_helper.to_array(i) for i in model.graph.initializer if i.name == last.input[1])
        np.concatenate([step.ravel(), outputs]).astype("<f4").tofile(os.path.join(folder, form + ".f32"))
