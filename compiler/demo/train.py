"""Trains the demo network on scikit-learn's bundled handwritten digits and writes digits.onnx, digits_test.bin, digits_calib.bin.

usage: python -m venv VENV && VENV/bin/pip install jax scikit-learn pillow onnx onnxruntime && VENV/bin/python train.py
One CPU core, a few minutes. The data are split by a fixed seed; the network never sees the test digits.
"""
import os
import jax, jax.numpy as jnp, numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = os.path.dirname(os.path.abspath(__file__))
EPOCHS, BATCH, EPSILON, SIDE = 60, 50, 1e-5, 16

# The network as a list: (name, operator, inputs, attributes). "x" is the input. Both the training code and the ONNX file are made from it.
NET = [
    ("conv1", "Conv", ["x"], dict(ci=1, co=16, k=3)), ("bn1", "Bn", ["conv1"], dict(c=16)), ("relu1", "Relu", ["bn1"], {}),
    ("dw2", "Conv", ["relu1"], dict(ci=16, co=16, k=3, groups=16)), ("bn2a", "Bn", ["dw2"], dict(c=16)), ("clip2", "Clip6", ["bn2a"], {}),
    ("pw2", "Conv", ["clip2"], dict(ci=16, co=32, k=1)), ("bn2b", "Bn", ["pw2"], dict(c=32)), ("relu2", "Relu", ["bn2b"], {}),
    ("pool", "MaxPool", ["relu2"], {}),
    ("conv3a", "Conv", ["pool"], dict(ci=32, co=32, k=3)), ("bn3a", "Bn", ["conv3a"], dict(c=32)), ("relu3a", "Relu", ["bn3a"], {}),
    ("conv3b", "Conv", ["relu3a"], dict(ci=32, co=32, k=3)), ("bn3b", "Bn", ["conv3b"], dict(c=32)),
    ("add3", "Add", ["bn3b", "pool"], {}), ("relu3b", "Relu", ["add3"], {}),
    ("dw4", "Conv", ["relu3b"], dict(ci=32, co=32, k=3, groups=32, stride=2)), ("bn4a", "Bn", ["dw4"], dict(c=32)), ("clip4", "Clip6", ["bn4a"], {}),
    ("pw4", "Conv", ["clip4"], dict(ci=32, co=64, k=1)), ("bn4b", "Bn", ["pw4"], dict(c=64)), ("relu4", "Relu", ["bn4b"], {}),
    ("mean", "GlobalAveragePool", ["relu4"], {}), ("flat", "Flatten", ["mean"], {}), ("logits", "Gemm", ["flat"], dict(ci=64, co=10)),
]


def data():
    """Pixels u8 [N,16,16] and labels: the 8x8 digits (0..16) times 15, enlarged by Pillow's bilinear filter; 1400 to train, 397 to test."""
    d = load_digits()
    small = (d.images * 15).astype(np.uint8)
    x = np.stack([np.asarray(Image.fromarray(i).resize((SIDE, SIDE), Image.BILINEAR)) for i in small])
    return train_test_split(x, d.target.astype(np.uint8), test_size=397, random_state=7, stratify=d.target)


def augment(x, rng):
    """Turns by up to 12 degrees, scales by up to 12 %, shifts by up to 1.5 pixels."""
    out = np.empty(x.shape, np.float32)
    for k, image in enumerate(x):
        a, s = np.deg2rad(rng.uniform(-12, 12)), rng.uniform(0.88, 1.12)
        c, r = np.cos(a) / s, np.sin(a) / s
        m = (SIDE - 1) / 2
        dx, dy = rng.uniform(-1.5, 1.5, 2)
        coefficients = (c, r, m - c * m - r * m + dx, -r, c, m + r * m - c * m + dy)
        out[k] = np.asarray(Image.fromarray(image).transform((SIDE, SIDE), Image.AFFINE, coefficients, Image.BILINEAR))
    return out[:, None] / 255


def initial(rng):
    """Parameters (trained) and running statistics (not trained)."""
    p, s = {}, {}
    for name, op, _, a in NET:
        if op == "Conv":
            ci = a["ci"] // a.get("groups", 1)
            p[name] = rng.normal(0, (2 / (ci * a["k"] ** 2)) ** 0.5, (a["co"], ci, a["k"], a["k"])).astype(np.float32)
        elif op == "Bn":
            p[name] = (np.ones(a["c"], np.float32), np.zeros(a["c"], np.float32))
            s[name] = (np.zeros(a["c"], np.float32), np.ones(a["c"], np.float32))
        elif op == "Gemm":
            p[name] = (rng.normal(0, (1 / a["ci"]) ** 0.5, (a["co"], a["ci"])).astype(np.float32), np.zeros(a["co"], np.float32))
    return p, s


def forward(p, s, x):
    """Logits in training mode, and the batch statistics mixed into the running ones."""
    v, s = {"x": x}, dict(s)
    for name, op, inputs, a in NET:
        i = [v[k] for k in inputs]
        if op == "Conv":
            pad, st = a["k"] // 2, a.get("stride", 1)
            y = jax.lax.conv_general_dilated(i[0], p[name], (st, st), [(pad, pad)] * 2, feature_group_count=a.get("groups", 1))
        elif op == "Bn":
            m, var = i[0].mean((0, 2, 3)), i[0].var((0, 2, 3))
            s[name] = (0.95 * s[name][0] + 0.05 * m, 0.95 * s[name][1] + 0.05 * var)
            gamma, beta = (q[:, None, None] for q in p[name])
            y = gamma * (i[0] - m[:, None, None]) / jnp.sqrt(var[:, None, None] + EPSILON) + beta
        elif op == "Relu": y = jax.nn.relu(i[0])
        elif op == "Clip6": y = jnp.clip(i[0], 0, 6)
        elif op == "MaxPool": y = jax.lax.reduce_window(i[0], -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        elif op == "Add": y = i[0] + i[1]
        elif op == "GlobalAveragePool": y = i[0].mean((2, 3), keepdims=True)
        elif op == "Flatten": y = i[0].reshape(i[0].shape[0], -1)
        elif op == "Gemm": y = i[0] @ p[name][0].T + p[name][1]
        v[name] = y
    return v["logits"], s


def loss(p, s, x, labels):
    y, s = forward(p, s, x)
    smooth = 0.95 * jax.nn.one_hot(labels, 10) + 0.005
    decay = sum((q ** 2).sum() for q in jax.tree.leaves(p) if q.ndim > 1)
    return -(smooth * jax.nn.log_softmax(y)).sum(1).mean() + 1e-4 * decay, s


@jax.jit
def step(p, s, m1, m2, t, rate, x, labels):
    """One step of Adam."""
    g, s = jax.grad(loss, has_aux=True)(p, s, x, labels)
    m1 = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, m1, g)
    m2 = jax.tree.map(lambda a, b: 0.999 * a + 0.001 * b * b, m2, g)
    update = lambda q, a, b: q - rate * (a / (1 - 0.9 ** t)) / (jnp.sqrt(b / (1 - 0.999 ** t)) + 1e-8)
    return jax.tree.map(update, p, m1, m2), s, m1, m2


def train(x, labels):
    rng = np.random.default_rng(1)
    p, s = initial(rng)
    m1 = jax.tree.map(np.zeros_like, p)
    m2 = jax.tree.map(np.zeros_like, p)
    steps = EPOCHS * (len(x) // BATCH)
    t = 0
    for epoch in range(EPOCHS):
        order = rng.permutation(len(x))
        pixels = augment(x[order], rng)
        for k in range(len(x) // BATCH):
            t += 1
            rate = 3e-3 * 0.5 * (1 + np.cos(np.pi * t / steps))
            part = slice(k * BATCH, (k + 1) * BATCH)
            p, s, m1, m2 = step(p, s, m1, m2, np.float32(t), np.float32(rate), pixels[part], labels[order][part])
        print(f"epoch {epoch + 1}/{EPOCHS}", end="\r", flush=True)
    print()
    return jax.tree.map(np.asarray, p), jax.tree.map(np.asarray, s)


def export(p, s, path):
    """Every layer its own ONNX node: nothing is fused here, that is what the demo shows."""
    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    constant("zero", 0), constant("six", 6)
    for name, op, i, a in NET:
        if op == "Conv":
            k, st = a["k"], a.get("stride", 1)
            w = constant(f"{name}.weight", p[name])
            attributes = dict(kernel_shape=[k, k], pads=[k // 2] * 4, strides=[st, st], group=a.get("groups", 1))
            nodes.append(helper.make_node("Conv", [*i, w], [name], name, **attributes))
        elif op == "Bn":
            names = [constant(f"{name}.{n}", q) for n, q in zip(("scale", "bias", "mean", "var"), (*p[name], *s[name]))]
            nodes.append(helper.make_node("BatchNormalization", [*i, *names], [name], name, epsilon=EPSILON))
        elif op == "Clip6": nodes.append(helper.make_node("Clip", [*i, "zero", "six"], [name], name))
        elif op == "MaxPool": nodes.append(helper.make_node("MaxPool", i, [name], name, kernel_shape=[2, 2], strides=[2, 2]))
        elif op == "Gemm":
            w, b = constant(f"{name}.weight", p[name][0]), constant(f"{name}.bias", p[name][1])
            nodes.append(helper.make_node("Gemm", [*i, w, b], [name], name, transB=1))
        else: nodes.append(helper.make_node(op, i, [name], name))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, SIDE, SIDE])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "digits", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8, producer_name="qgraph-demo")
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def records(x, labels, path):
    """One record per digit: a label byte, then 256 pixel bytes."""
    np.concatenate([labels[:, None], x.reshape(len(x), -1)], 1).astype(np.uint8).tofile(path)


def main():
    x_train, x_test, y_train, y_test = data()
    p, s = train(x_train, y_train)
    export(p, s, f"{HERE}/digits.onnx")
    records(x_test, y_test, f"{HERE}/digits_test.bin")
    records(x_train[:200], y_train[:200], f"{HERE}/digits_calib.bin")
    session = ort.InferenceSession(f"{HERE}/digits.onnx", providers=["CPUExecutionProvider"])
    for name, x, y in (("train", x_train, y_train), ("test", x_test, y_test)):
        answers = session.run(None, {"x": x[:, None].astype(np.float32) / 255})[0].argmax(1)
        print(f"{name}: {(answers == y).sum()}/{len(y)} = {(answers == y).mean():.4f}")
    print(os.path.getsize(f"{HERE}/digits.onnx"), "bytes")


if __name__ == "__main__":
    main()
