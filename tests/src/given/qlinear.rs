//! Operators on integers: each against its definition.

use super::*;
use crate::support::model_builder::{float, int};

const Y: Levels = Levels { scale: 0.05, ty: UINT8, zero: 131 };
const Y_SIGNED: Levels = Levels { scale: 0.05, ty: INT8, zero: 3 };

fn ended(model: Model, y: Levels) -> Model {
    model
        .levels("y", y.scale, y.ty, y.zero)
        .node("DequantizeLinear", &["r", "y_s", "y_z"], &["y"], &[])
        .output("y")
}

#[test]
fn qlinear_conv() {
    let scales = [0.004, 0.002, 0.007, 0.003];
    let bias = integers(4, 9000, 3);
    for (x, y, groups) in [(X, Y, 1), (X_SIGNED, Y_SIGNED, 1), (X, Y_SIGNED, 1)] {
        let w = integers(4 * 27 / groups, 127, 2);
        let model = started(x)
            .integers("w", INT8, &[4, 3, 3, 3], &w)
            .floats("w_s", &[4], &scales)
            .integers("w_z", INT8, &[4], &[0; 4])
            .integers("b", INT32, &[4], &bias)
            .node(
                "QLinearConv",
                &["q", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z", "b"],
                &["r"],
                &PADDED(),
            );
        let (inputs, rounded) = input(x);
        let sums = scales.map(|s| s * x.scale);
        let exact = conv3x3(&rounded, [3, 5, 6], &scaled(&w, &scales, 27), &scaled(&bias, &sums, 1), groups);
        assert_rounds(&ended(model, y), &inputs, y, &exact);
    }
}

#[test]
fn qlinear_conv_of_unsigned_weights_without_bias() {
    // The zero point of weights is taken off: 128 leaves what 8 bits with a sign hold.
    let q: Vec<i32> = integers(3 * 9, 127, 4);
    let w: Vec<i32> = q.iter().map(|q| q + 128).collect();
    let model = started(X).integers("w", UINT8, &[3, 1, 3, 3], &w).levels("w", 0.006, UINT8, 128).node(
        "QLinearConv",
        &["q", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z"],
        &["r"],
        &[&PADDED()[..], &[int("group", 3)]].concat(),
    );
    let (inputs, rounded) = input(X);
    let exact = conv3x3(&rounded, [3, 5, 6], &scaled(&q, &[0.006], 1), &[0.0; 3], 3);
    assert_rounds(&ended(model, Y), &inputs, Y, &exact);
}

/// x `[1, 90]` by w `[90, 4]`.
fn product(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    (0..4).map(|m| b[m] + x.iter().enumerate().map(|(k, x)| x * w[k * 4 + m]).sum::<f64>()).collect()
}

fn flat(x: Levels) -> Model {
    // Integers are moved as they are.
    started(x).ints("shape", &[1, 90]).node("Reshape", &["q", "shape"], &["f"], &[])
}

#[test]
fn qlinear_matmul_and_qgemm() {
    let (w, bias) = (integers(360, 127, 5), integers(4, 5000, 6));
    let scales = [0.003, 0.002, 0.004, 0.001];
    let with_weight = |model: Model, w: &[i32], shape: &[i64]| {
        model.integers("w", INT8, shape, w).floats("w_s", &[4], &scales).integers("w_z", INT8, &[4], &[0; 4])
    };
    let turned: Vec<i32> = (0..360).map(|i| w[i % 90 * 4 + i / 90]).collect();
    let (inputs, rounded) = input(X);
    let real = scaled(&w, &scales, 1);

    let matmul = with_weight(flat(X), &w, &[90, 4]).node(
        "QLinearMatMul",
        &["f", "x_s", "x_z", "w", "w_s", "w_z", "y_s", "y_z"],
        &["r"],
        &[],
    );
    assert_rounds(&ended(matmul, Y), &inputs, Y, &product(&rounded, &real, &[0.0; 4]));

    let sums = scales.map(|s| s * X.scale);
    let exact = product(&rounded, &real, &scaled(&bias, &sums, 1));
    let gemm = with_weight(flat(X), &turned, &[4, 90]).integers("b", INT32, &[4], &bias);
    let operands = ["f", "x_s", "x_z", "w", "w_s", "w_z", "b", "y_s", "y_z"];
    let rounds = gemm.clone().microsoft("QGemm", &operands, &["r"], &[int("transB", 1)]);
    assert_rounds(&ended(rounds, Y), &inputs, Y, &exact);

    // Without levels of its own it gives the sums themselves.
    let floats = gemm.microsoft("QGemm", &operands[..7], &["y"], &[int("transB", 1)]).output("y");
    for (found, exact) in run(&floats, &inputs).iter().zip(&exact) {
        assert!((found - exact).abs() < 1e-5, "{found} for {exact}");
    }
}

/// A second tensor of integers, `q2`, of x halved.
fn second(model: Model, levels: Levels) -> Model {
    model
        .floats("half", &[], &[0.5])
        .node("Mul", &["x", "half"], &["h"], &[])
        .levels("h", levels.scale, levels.ty, levels.zero)
        .node("QuantizeLinear", &["h", "h_s", "h_z"], &["q2"], &[])
}

const H: Levels = Levels { scale: 0.011, ty: UINT8, zero: 90 };

/// The same, as real numbers.
fn halves(inputs: &[Vec<f32>]) -> Vec<f64> {
    inputs[0].iter().map(|&x| H.round(f64::from(x * 0.5))).collect()
}

/// A model of two tensors runs in integers but for what makes the second.
#[track_caller]
fn assert_rounds_but_for_halving(model: &Model, inputs: &[Vec<f32>], y: Levels, exact: &[f64]) {
    let graph = quantized(model);
    assert!(floats(&graph).iter().all(|f| f.starts_with("Mul_h")), "{:?}", floats(&graph));
    for (found, exact) in run(model, inputs).iter().zip(exact) {
        let (lo, hi) = y.bounds();
        let zero = f64::from(y.zero);
        let exact = (exact / f64::from(y.scale)).clamp(lo - zero, hi - zero);
        let found = found / f64::from(y.scale);
        assert!((found - exact).abs() <= 0.501, "{found} for {exact}\n{graph}");
    }
}

#[test]
fn qlinear_add_and_mul() {
    let (inputs, a) = input(X);
    let b = halves(&inputs);
    let operands = ["q", "x_s", "x_z", "q2", "h_s", "h_z", "y_s", "y_z"];
    let y = Levels { scale: 0.03, ty: UINT8, zero: 100 };
    for (op, f) in [("QLinearAdd", (|a, b| a + b) as fn(f64, f64) -> f64), ("QLinearMul", |a, b| a * b)] {
        let exact: Vec<f64> = a.iter().zip(&b).map(|(&a, &b)| f(a, b)).collect();
        let model = second(started(X), H).microsoft(op, &operands, &["r"], &[]);
        assert_rounds_but_for_halving(&ended(model, y), &inputs, y, &exact);
        // By a constant, which need not have the shape of the other.
        let constant =
            started(X).integers("q2", INT8, &[3, 1, 1], &[100, -50, 7]).levels("h", 0.02, INT8, -3);
        let c = [103.0 * 0.02, -47.0 * 0.02, 10.0 * 0.02];
        let exact: Vec<f64> = a.iter().enumerate().map(|(i, &a)| f(a, c[i / 30])).collect();
        let model = constant.microsoft(op, &operands, &["r"], &[]);
        let y = Levels { scale: 0.05, ..y };
        assert_rounds(&ended(model, y), &inputs, y, &exact);
    }
}

#[test]
fn qlinear_concat_brings_operands_to_one_scale() {
    let (inputs, a) = input(X);
    let exact = [a, halves(&inputs)].concat();
    let model = second(started(X), H).microsoft(
        "QLinearConcat",
        &["y_s", "y_z", "q", "x_s", "x_z", "q2", "h_s", "h_z"],
        &["r"],
        &[int("axis", 1)],
    );
    let y = Levels { scale: 0.017, ty: UINT8, zero: 125 };
    assert_rounds_but_for_halving(&ended(model, y), &inputs, y, &exact);
}

#[test]
fn qlinear_averages() {
    let (inputs, x) = input(X_SIGNED);
    let y = Levels { scale: 0.004, ty: INT8, zero: 20 };
    let operands = ["q", "x_s", "x_z", "y_s", "y_z"];
    let all = started(X_SIGNED).microsoft("QLinearGlobalAveragePool", &operands, &["r"], &[]);
    let exact: Vec<f64> = x.chunks(30).map(|c| c.iter().sum::<f64>() / 30.0).collect();
    assert_rounds(&ended(all, y), &inputs, y, &exact);

    let y = Levels { scale: 0.013, ..y };
    let window = [ints("kernel_shape", &[2, 3]), ints("strides", &[1, 3])];
    let windows = started(X_SIGNED).microsoft("QLinearAveragePool", &operands, &["r"], &window);
    let mut exact = Vec::new();
    for (c, i, j) in (0..3).flat_map(|c| (0..8).map(move |k| (c, k / 2, k % 2 * 3))) {
        let at = |u: usize, v: usize| x[c * 30 + (i + u) * 6 + j + v];
        exact.push((0..6).map(|t| at(t / 3, t % 3)).sum::<f64>() / 6.0);
    }
    assert_rounds(&ended(windows, y), &inputs, y, &exact);
}

#[test]
fn qlinear_functions() {
    let (inputs, x) = input(X);
    let operands = ["q", "x_s", "x_z", "y_s", "y_z"];
    let y = Levels { scale: 1.0 / 256.0, ty: UINT8, zero: 0 };
    let sigmoid = started(X).microsoft("QLinearSigmoid", &operands, &["r"], &[]);
    let exact: Vec<f64> = x.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
    assert_rounds(&ended(sigmoid, y), &inputs, y, &exact);

    let leaky = started(X).microsoft("QLinearLeakyRelu", &operands, &["r"], &[float("alpha", 0.3)]);
    let exact: Vec<f64> = x.iter().map(|&x| if x < 0.0 { 0.3f32 as f64 * x } else { x }).collect();
    let y = Levels { scale: 0.011, ty: UINT8, zero: 60 };
    assert_rounds(&ended(leaky, y), &inputs, y, &exact);
}

#[test]
fn integers_are_moved_as_they_are() {
    let (inputs, x) = input(X);
    let end = |model: Model| ended(model, X);
    let pooled = end(started(X).node("MaxPool", &["q"], &["r"], &[ints("kernel_shape", &[5, 6])]));
    let most = |c: &[f64]| c.iter().copied().fold(f64::MIN, f64::max);
    assert_rounds(&pooled, &inputs, X, &x.chunks(30).map(most).collect::<Vec<_>>());

    // Padding is an integer too: 70 stands for (70 − 120) · 0.02.
    let padded = started(X).ints("pads", &[0, 0, 0, 1, 0, 0, 0, 0]).integers("fill", UINT8, &[], &[70]).node(
        "Pad",
        &["q", "pads", "fill"],
        &["r"],
        &[],
    );
    let exact: Vec<f64> = x.chunks(6).flat_map(|row| [&[-1.0], row].concat()).collect();
    assert_rounds(&end(padded), &inputs, X, &exact);

    let joined = started(X)
        .node("Transpose", &["q"], &["t"], &[ints("perm", &[0, 1, 3, 2])])
        .node("Transpose", &["t"], &["u"], &[ints("perm", &[0, 1, 3, 2])])
        .node("Concat", &["q", "u"], &["r"], &[int("axis", 2)]);
    let exact: Vec<f64> = x.chunks(30).flat_map(|c| [c, c].concat()).collect();
    assert_rounds(&end(joined), &inputs, X, &exact);
}
