//! Element by element, normalizations, and products with matrices.

use super::*;
use qgraph_compiler::graph::Tensor;

fn unary(opset: i64, op: &str, attributes: &[AttributeProto]) -> Model {
    one(opset, op, &["x"], attributes).input("x", &[2, 3])
}

#[test]
fn activations() {
    let check = |op: &str, attributes: &[AttributeProto], head: &str| {
        gives(unary(20, op, attributes), &[&format!("%y [2,3] = {head} (%x)")]);
    };
    check("Relu", &[], "relu");
    check("LeakyRelu", &[], "leaky_relu(0.01)");
    check("LeakyRelu", &[float("alpha", 0.1)], "leaky_relu(0.1)");
    check("Elu", &[], "elu(1)");
    check("Sigmoid", &[], "sigmoid");
    check("HardSigmoid", &[], "hard_sigmoid(0.2, 0.5)");
    check("HardSigmoid", &[float("alpha", 0.25), float("beta", 0.0)], "hard_sigmoid(0.25, 0)");
    check("HardSwish", &[], "hard_swish");
    check("Tanh", &[], "tanh");
    check("Softplus", &[], "softplus");
    check("Mish", &[], "mish");
    check("Gelu", &[], "gelu");
    check("Gelu", &[text("approximate", "tanh")], "gelu_tanh");
    check("Sqrt", &[], "sqrt");
    check("Abs", &[], "abs");
    check("Exp", &[], "exp");
    check("Erf", &[], "erf");
    check("Identity", &[], "identity");
    check("Dropout", &[], "dropout");
    check("Cast", &[int("to", 10)], "identity");
    gives(unary(13, "Neg", &[]), &["%y [2,3] = mul (%x, Neg_y.minus_one [])"]);
    gives(unary(13, "Reciprocal", &[]), &["%y [2,3] = div (Reciprocal_y.one [], %x)"]);
    refuses(unary(13, "LeakyRelu", &[float("alpha", f32::NAN)]), &["alpha", "NaN"]);
    refuses(unary(13, "LeakyRelu", &[int("alpha", 1)]), &["alpha", "float"]);
    refuses(unary(20, "Gelu", &[text("approximate", "fast")]), &["fast"]);
    refuses(unary(13, "Cast", &[int("to", 7)]), &["int64"]);
}

#[test]
fn clips() {
    let attributes = |a: &[AttributeProto]| unary(7, "Clip", a);
    gives(attributes(&[]), &["%y [2,3] = clip(-inf, inf) (%x)"]);
    gives(attributes(&[float("min", 0.0), float("max", 6.0)]), &["%y [2,3] = clip(0, 6) (%x)"]);
    gives(attributes(&[float("min", 0.0), float("max", f32::MAX)]), &["%y [2,3] = clip(0, inf) (%x)"]);
    let operands = |inputs: &[&str]| {
        let model = one(11, "Clip", inputs, &[]).input("x", &[2, 3]);
        model.floats("lo", &[], &[-1.0]).floats("hi", &[], &[6.0]).floats("inf", &[], &[f32::INFINITY])
    };
    gives(operands(&["x", "lo", "hi"]), &["%y [2,3] = clip(-1, 6) (%x)"]);
    gives(operands(&["x", "", "hi"]), &["%y [2,3] = clip(-inf, 6) (%x)"]);
    gives(operands(&["x", "lo"]), &["%y [2,3] = clip(-1, inf) (%x)"]);
    gives(operands(&["x", "lo", "inf"]), &["%y [2,3] = clip(-1, inf) (%x)"]);
    // ONNX: with the bounds crossed, everything is the upper one.
    gives(operands(&["x", "hi", "lo"]), &["%y [2,3] = clip(-1, -1) (%x)"]);
    refuses(
        one(11, "Clip", &["x", "z"], &[]).input("x", &[2, 3]).input("z", &[]),
        &["lower bound", "run time"],
    );
    let bound = |op: &str| one(13, op, &["x", "c"], &[]).input("x", &[2, 3]).floats("c", &[1], &[6.0]);
    gives(bound("Min"), &["%y [2,3] = clip(-inf, 6) (%x)"]);
    gives(bound("Max"), &["%y [2,3] = clip(6, inf) (%x)"]);
    refuses(one(13, "Max", &["x", "z"], &[]).input("x", &[2, 3]).input("z", &[2, 3]), &["Max", "constant"]);
}

#[test]
fn two_tensors() {
    for (op, name) in [("Add", "add"), ("Sub", "sub"), ("Mul", "mul"), ("Div", "div")] {
        let both = one(7, op, &["a", "b"], &[]).input("a", &[2, 3, 4]).input("b", &[3, 1]);
        gives(both, &[&format!("%y [2,3,4] = {name} (%a, %b)")]);
        let left = one(14, op, &["c", "b"], &[]).floats("c", &[], &[2.0]).input("b", &[3, 1]);
        gives(left, &[&format!("%y [3,1] = {name} (c [], %b)")]);
    }
    refuses(one(7, "Add", &["a", "b"], &[]).input("a", &[2]).input("b", &[3]), &["Add", "broadcast"]);
    refuses(one(7, "Add", &["a"], &[]).input("a", &[2]), &["no input 1"]);
    refuses(one(7, "Add", &["a", "i"], &[]).input("a", &[2]).ints("i", &[1, 2]), &["integers"]);
    let sum = one(13, "Sum", &["a", "b", "c"], &[]).input("a", &[2]).input("b", &[2]).input("c", &[2]);
    gives(sum, &["%Sum_y.sum1 [2] = add (%a, %b)", "%y [2] = add (%Sum_y.sum1, %c)"]);
    let pow = |e: f32| one(13, "Pow", &["x", "e"], &[]).input("x", &[2]).floats("e", &[], &[e]);
    gives(pow(2.0), &["%y [2] = square (%x)"]);
    gives(pow(0.5), &["%y [2] = sqrt (%x)"]);
    gives(pow(1.0), &["%y [2] = identity (%x)"]);
    gives(pow(3.0), &["%Pow_y.square [2] = square (%x)", "%y [2] = mul (%x, %Pow_y.square)"]);
    refuses(pow(4.0), &["power 4"]);
    let prelu = one(9, "PRelu", &["x", "s"], &[]).input("x", &[1, 3, 2, 2]).weight("s", &[3, 1, 1], 1);
    gives(prelu, &["%y [1,3,2,2] = prelu (%x, s [3,1,1])"]);
}

#[test]
fn normalizations() {
    let norm = |attributes: &[AttributeProto], variance: f32| {
        let model = one(9, "BatchNormalization", &["x", "g", "b", "m", "v"], attributes);
        let model =
            model.input("x", &[1, 2, 3, 3]).weight("g", &[2], 1).weight("b", &[2], 2).weight("m", &[2], 3);
        model.floats("v", &[2], &[1.0, variance])
    };
    gives(
        norm(&[float("epsilon", 0.001)], 2.0),
        &["%y [1,2,3,3] = batch_norm epsilon 0.001 (%x, g [2], b [2], m [2], v [2])"],
    );
    refuses(norm(&[int("training_mode", 1)], 2.0), &["training"]);
    refuses(norm(&[int("spatial", 0)], 2.0), &["spatial"]);
    refuses(norm(&[], -2.0), &["variance", "-2"]);
    refuses(norm(&[], f32::NAN), &["v", "NaN"]);
    gives(
        one(13, "LRN", &["x"], &[int("size", 5), float("bias", 2.0)]).input("x", &[1, 8, 2, 2]),
        &["%y [1,8,2,2] = lrn size 5 alpha 0.0001 beta 0.75 bias 2 (%x)"],
    );
    refuses(one(13, "LRN", &["x"], &[]).input("x", &[1, 8, 2, 2]), &["LRN", "0"]);
    let training = one(12, "Dropout", &["x", "", "t"], &[]).input("x", &[2]).floats("t", &[], &[1.0]);
    refuses(training, &["training"]);
}

#[test]
fn softmax_in_both_definitions() {
    let softmax =
        |opset, shape: &[i64], a: &[AttributeProto]| one(opset, "Softmax", &["x"], a).input("x", shape);
    gives(softmax(13, &[2, 3, 4], &[]), &["%y [2,3,4] = softmax axis 2 (%x)"]);
    gives(softmax(13, &[2, 3, 4], &[int("axis", 1)]), &["%y [2,3,4] = softmax axis 1 (%x)"]);
    gives(softmax(7, &[2, 3], &[]), &["%y [2,3] = softmax axis 1 (%x)"]);
    gives(softmax(7, &[2, 1, 3, 1], &[]), &["%y [2,1,3,1] = softmax axis 2 (%x)"]);
    gives(softmax(11, &[2, 1, 1], &[int("axis", -2)]), &["%y [2,1,1] = softmax axis 1 (%x)"]);
    gives(
        softmax(12, &[2, 3, 4], &[]),
        &[
            "%Softmax_y.flat [2,12] = reshape (%x)",
            "%Softmax_y.softmax [2,12] = softmax axis 1 (%Softmax_y.flat)",
            "%y [2,3,4] = reshape (%Softmax_y.softmax)",
        ],
    );
    refuses(softmax(13, &[2], &[int("axis", 1)]), &["axis 1"]);
}

fn gemm(attributes: &[AttributeProto], c: &[f32], c_shape: &[i64]) -> Model {
    let model = one(11, "Gemm", &["a", "b", "c"], attributes).floats("c", c_shape, c);
    model.input("a", &[2, 3]).floats("b", &[3, 2], &[1., 2., 3., 4., 5., 6.])
}

fn constant<'a>(graph: &'a qgraph_compiler::graph::Graph, name: &str) -> &'a Tensor {
    let value =
        graph.values.iter().find(|v| v.name == name).unwrap_or_else(|| panic!("no {name} in {graph}"));
    value.data.as_ref().expect("a constant")
}

#[test]
fn gemm_folds_its_factors() {
    let both = [float("alpha", 2.0), float("beta", 0.5)];
    let graph = import(&gemm(&both, &[1., 4.], &[2]));
    assert_eq!(*constant(&graph, "Gemm_y.weight"), Tensor::new([2, 3], [2., 6., 10., 4., 8., 12.]));
    assert_eq!(*constant(&graph, "Gemm_y.bias"), Tensor::new([2], [0.5, 2.]));
    let scalar = import(&gemm(&[], &[7.], &[1, 1]));
    assert_eq!(*constant(&scalar, "Gemm_y.bias"), Tensor::new([2], [7., 7.]));
    // Transposed already and unscaled: used as it stands, under its own name.
    let plain = one(13, "Gemm", &["a", "b", "c"], &[int("transB", 1)]).input("a", &[5, 3]);
    let plain = plain.weight("b", &[4, 3], 1).weight("c", &[4], 2);
    gives(plain, &["%y [5,4] = dense (%a, b [4,3], c [4])"]);
    let turned = one(13, "Gemm", &["a", "b"], &[int("transA", 1), int("transB", 1)]).input("a", &[3, 5]);
    gives(
        turned.weight("b", &[4, 3], 1),
        &[
            "%Gemm_y.transposed [5,3] = transpose [1,0] (%a)",
            "%y [5,4] = dense (%Gemm_y.transposed, b [4,3], Gemm_y.bias [4])",
        ],
    );
}

#[test]
fn gemm_with_a_wide_addend() {
    let wide = gemm(&[float("beta", 2.0)], &[1., 2., 3., 4.], &[2, 2]);
    let graph = import(&wide);
    assert_eq!(*constant(&graph, "Gemm_y.addend"), Tensor::new([2, 2], [2., 4., 6., 8.]));
    gives(
        wide,
        &[
            "%Gemm_y.product [2,2] = dense (%a, Gemm_y.weight [2,3], Gemm_y.bias [2])",
            "%y [2,2] = add (%Gemm_y.product, Gemm_y.addend [2,2])",
        ],
    );
    let computed = one(13, "Gemm", &["a", "b", "c"], &[]).input("a", &[2, 3]).weight("b", &[3, 2], 1);
    gives(
        computed.input("c", &[2, 1]),
        &[
            "%Gemm_y.product [2,2] = dense (%a, Gemm_y.weight [2,3], Gemm_y.bias [2])",
            "%y [2,2] = add (%Gemm_y.product, %c)",
        ],
    );
    refuses(gemm(&[], &[0.; 3], &[3]), &["addend", "broadcast"]);
    refuses(gemm(&[float("alpha", f32::INFINITY)], &[0.; 2], &[2]), &["alpha"]);
    refuses(one(13, "Gemm", &["a", "b"], &[]).input("a", &[2, 3]).input("b", &[3, 2]), &["Gemm", "both"]);
    refuses(one(13, "Gemm", &["a", "b"], &[]).input("a", &[2, 3]).weight("b", &[2, 2], 1), &["does not fit"]);
}

#[test]
fn matmul() {
    let right = |x: &[i64], w: &[i64]| one(13, "MatMul", &["x", "w"], &[]).input("x", x).weight("w", w, 1);
    let operands = "MatMul_y.weight [4,3], MatMul_y.bias [4]";
    gives(right(&[2, 5, 3], &[3, 4]), &[&format!("%y [2,5,4] = dense (%x, {operands})")]);
    gives(right(&[3], &[3, 4]), &[&format!("%y [4] = dense (%x, {operands})")]);
    gives(right(&[2, 5, 3], &[1, 3, 4]), &[&format!("%y [2,5,4] = dense (%x, {operands})")]);
    gives(
        right(&[5, 3], &[1, 1, 3, 4]),
        &[
            &format!("%MatMul_y.product [5,4] = dense (%x, {operands})"),
            "%y [1,1,5,4] = reshape (%MatMul_y.product)",
        ],
    );
    gives(
        right(&[3], &[1, 3, 4]),
        &[
            &format!("%MatMul_y.product [4] = dense (%x, {operands})"),
            "%y [1,4] = reshape (%MatMul_y.product)",
        ],
    );
    gives(
        right(&[2, 3], &[3]),
        &[
            "%MatMul_y.product [2,1] = dense (%x, MatMul_y.weight [1,3], MatMul_y.bias [1])",
            "%y [2] = reshape (%MatMul_y.product)",
        ],
    );
    let left = one(13, "MatMul", &["w", "x"], &[]).input("x", &[3, 5]).weight("w", &[4, 3], 1);
    gives(
        left,
        &[
            "%MatMul_y.transposed [5,3] = transpose [1,0] (%x)",
            "%MatMul_y.product [5,4] = dense (%MatMul_y.transposed, w [4,3], MatMul_y.bias [4])",
            "%y [4,5] = transpose [1,0] (%MatMul_y.product)",
        ],
    );
    let graph =
        import(&one(13, "MatMul", &["x", "w"], &[]).input("x", &[2]).floats("w", &[2, 2], &[1., 2., 3., 4.]));
    assert_eq!(*constant(&graph, "MatMul_y.weight"), Tensor::new([2, 2], [1., 3., 2., 4.]));
    refuses(right(&[2, 5, 3], &[2, 3, 4]), &["stack"]);
    refuses(one(13, "MatMul", &["x", "z"], &[]).input("x", &[2, 3]).input("z", &[3, 4]), &["both"]);
    let deep = one(13, "MatMul", &["w", "x"], &[]).input("x", &[2, 3, 5]).weight("w", &[4, 3], 1);
    refuses(deep, &["left"]);
}
