//! QuantizeLinear and DequantizeLinear around float operators.

use super::*;
use crate::support::model_builder::int;

/// Weights `w` `[4, 3, 3, 3]` and bias `b` with a scale for each channel, as constants that are dequantized.
fn with_layer(model: Model, x: Levels) -> (Model, Vec<f64>, Vec<f64>) {
    let scales = [0.004, 0.002, 0.007, 0.003];
    let (w, b) = (integers(108, 127, 2), integers(4, 9000, 3));
    let sums = scales.map(|s| s * x.scale);
    let model = model
        .integers("wq", INT8, &[4, 3, 3, 3], &w)
        .floats("w_s", &[4], &scales)
        .integers("w_z", INT8, &[4], &[0; 4])
        .node("DequantizeLinear", &["wq", "w_s", "w_z"], &["w"], &[int("axis", 0)])
        .integers("bq", INT32, &[4], &b)
        .floats("b_s", &[4], &sums)
        .node("DequantizeLinear", &["bq", "b_s"], &["b"], &[int("axis", 0)]);
    (model, scaled(&w, &scales, 27), scaled(&b, &sums, 1))
}

/// Rounds `from` to integers and gives them as `to`.
fn rounded(model: Model, from: &str, to: &str, levels: Levels) -> Model {
    let [s, z, q] = [format!("{to}_s"), format!("{to}_z"), format!("{to}_q")];
    model
        .levels(to, levels.scale, levels.ty, levels.zero)
        .node("QuantizeLinear", &[from, &s, &z], &[&q], &[])
        .node("DequantizeLinear", &[&q, &s, &z], &[to], &[])
}

fn dequantized(x: Levels) -> Model {
    started(x).node("DequantizeLinear", &["q", "x_s", "x_z"], &["xd"], &[])
}

const Y: Levels = Levels { scale: 0.05, ty: UINT8, zero: 131 };

#[test]
fn a_convolution_keeps_every_integer() {
    for (x, y) in [(X, Y), (X_SIGNED, Levels { scale: 0.05, ty: INT8, zero: 3 })] {
        let (model, w, b) = with_layer(dequantized(x), x);
        let model =
            rounded(model.node("Conv", &["xd", "w", "b"], &["c"], &PADDED()), "c", "y", y).output("y");
        let (inputs, real) = input(x);
        assert_rounds(&model, &inputs, y, &conv3x3(&real, [3, 5, 6], &w, &b, 1));
        // The integers themselves: of the bias with the zero point of x folded in, of the weights in any order.
        let graph = quantized(&model);
        let blob = |name: &str| {
            graph.blobs.iter().position(|b| b.name.ends_with(name)).expect("a layer's constants")
        };
        let bias = graph.blob_i32(qgraph_compiler::qgraph::BlobId(blob("/bias") as u32));
        let zero = x.zero + if x.ty == INT8 { 128 } else { 0 };
        let (w, b) = (integers(108, 127, 2), integers(4, 9000, 3));
        let folded = |c: usize| b[c] - zero * w[c * 27..][..27].iter().sum::<i32>();
        assert_eq!(bias, (0..4).map(folded).collect::<Vec<_>>());
        let bytes = graph.blob_bytes(qgraph_compiler::qgraph::BlobId(blob("/weight") as u32));
        let mut found: Vec<i32> = bytes.iter().map(|&b| i32::from(b as i8)).filter(|&q| q != 0).collect();
        let mut given: Vec<i32> = w.into_iter().filter(|&q| q != 0).collect();
        found.sort_unstable();
        given.sort_unstable();
        assert_eq!(found, given);
    }
}

/// As QuantizeLinear is defined and ONNX Runtime computes: the quotient is rounded, half to even, then the zero point is added.
#[test]
fn half_steps_go_to_even_distances_from_the_zero_point() {
    let (x, y) = (Levels { scale: 2.0, ty: UINT8, zero: 3 }, Levels { scale: 4.0, ty: UINT8, zero: 1 });
    let start = Model::new(13).input("x", &[1, 2, 1, 4]);
    let start = rounded(start, "x", "xd", x);
    let conv = start
        .clone()
        .integers("wq", INT8, &[2, 2, 1, 1], &[1, 0, 0, 1])
        .levels("w", 1.0, INT8, 0)
        .node("DequantizeLinear", &["wq", "w_s", "w_z"], &["w"], &[])
        .node("Conv", &["xd", "w"], &["c"], &[]);
    let mean = start.clone().node("GlobalAveragePool", &["xd"], &["c"], &[]);
    let of = |model: Model| rounded(model, "c", "y", y).output("y");
    // Distances 1 2 3 5 and −1 −2 −3 4 from the zero point of x, in half steps of y.
    let inputs = [vec![2.0, 4.0, 6.0, 10.0, -2.0, -4.0, -6.0, 8.0]];
    assert_eq!(run(&of(conv), &inputs), [0.0, 4.0, 8.0, 8.0, 0.0, -4.0, -4.0, 8.0]);
    // Means 5.5 and −1, so 1.375 and −0.25 steps.
    assert_eq!(run(&of(mean), &inputs), [4.0, 0.0]);
    // Half steps of x itself: −0.5 0.5 1.5 2.5, and beyond its ends.
    let inputs = [vec![-1.0, 1.0, 3.0, 5.0, -9.0, -7.0, 505.0, f32::NAN]];
    let found = run(&start.output("xd"), &inputs);
    assert_eq!(found, [0.0, 0.0, 4.0, 4.0, -6.0, -6.0, 504.0, -6.0]);
}

#[test]
fn activations_become_clamps_and_tables() {
    let (inputs, real) = input(X);
    let (model, w, b) = with_layer(dequantized(X), X);
    let sums = conv3x3(&real, [3, 5, 6], &w, &b, 1);
    let conv = model.node("Conv", &["xd", "w", "b"], &["c"], &PADDED());

    let relu = conv.clone().node("Relu", &["c"], &["r"], &[]);
    let y = Levels { scale: 0.03, ty: UINT8, zero: 0 };
    let exact: Vec<f64> = sums.iter().map(|s| s.max(0.0)).collect();
    let graph = quantized(&rounded(relu, "r", "y", y).output("y"));
    assert_eq!(graph.nodes.len(), 3, "{graph}");
    assert_eq!(floats(&graph), [""; 0]);

    // The sum is rounded, then the sigmoid of that: a table.
    let model = rounded(conv, "c", "d", Y).node("Sigmoid", &["d"], &["s"], &[]);
    let y = Levels { scale: 1.0 / 256.0, ty: UINT8, zero: 0 };
    let model = rounded(model, "s", "y", y).output("y");
    let found = run(&model, &inputs);
    for (found, sum) in found.iter().zip(&sums) {
        let exact = y.round(1.0 / (1.0 + (-Y.round(*sum)).exp()));
        assert!((found - exact).abs() < 0.02, "{found} for {exact}");
    }
    assert_eq!(exact.len(), found.len());
}

/// Two layers of x, one of them rounded to `a`, added and rounded to `y`.
fn added(a: Levels, y: Levels) -> (Model, Vec<f64>) {
    let (model, w, b) = with_layer(dequantized(X), X);
    let (_, real) = input(X);
    let sums = conv3x3(&real, [3, 5, 6], &w, &b, 1);
    let model = model.node("Conv", &["xd", "w", "b"], &["c"], &PADDED());
    let model = rounded(model, "c", "ca", a).node("Sigmoid", &["ca"], &["other"], &[]);
    let other = Levels { scale: 0.02, ty: UINT8, zero: 0 };
    let model = rounded(model, "other", "o", other);
    let (w2, b2) = (integers(108, 127, 8), [0.0; 4]);
    let model = model
        .integers("vq", INT8, &[4, 3, 3, 3], &w2)
        .levels("v", 0.003, INT8, 0)
        .node("DequantizeLinear", &["vq", "v_s", "v_z"], &["v"], &[])
        .node("Conv", &["xd", "v"], &["e"], &PADDED());
    let model =
        rounded(model, "e", "ea", a).node("Add", &["o", "ea"], &["f"], &[]).node("Relu", &["f"], &["g"], &[]);
    let exact = conv3x3(&real, [3, 5, 6], &scaled(&w2, &[0.003], 1), &b2, 1)
        .iter()
        .zip(&sums)
        .map(|(e, sum)| (a.round(*e) + other.round(1.0 / (1.0 + (-a.round(*sum)).exp()))).max(0.0))
        .collect();
    (rounded(model, "g", "y", y).output("y"), exact)
}

#[test]
fn a_sum_is_rounded_once_where_that_hardly_matters() {
    let (inputs, _) = input(X);
    let fine = Levels { scale: 0.04, ty: UINT8, zero: 128 };
    let y = Levels { scale: 0.041, ty: UINT8, zero: 0 };
    // The steps of the layer are smaller than those of the sum: the layer adds, and is off by one at most.
    let (model, exact) = added(fine, y);
    let text = fused(&model).to_string();
    assert!(text.contains("+ %o_q") || text.contains("+ %o"), "{text}");
    assert!(!text.contains("= add"), "{text}");
    for (found, exact) in run(&model, &inputs).iter().zip(&exact) {
        let steps = ((found - y.round(*exact)) / f64::from(y.scale)).abs();
        assert!(steps < 1.01, "{found} for {exact}");
    }
    // They are larger: it stays an addition, exact but for the two roundings of what is added.
    let coarse = Levels { scale: 0.06, ..fine };
    let (model, exact) = added(coarse, y);
    assert!(fused(&model).to_string().contains("= add"), "{}", fused(&model));
    let far =
        run(&model, &inputs).iter().zip(&exact).filter(|(f, e)| (**f - y.round(**e)).abs() > 1e-4).count();
    assert!(far * 50 < exact.len(), "{far} of {}", exact.len());
}

#[test]
fn a_sum_is_rounded_as_often_as_the_model_says_where_that_is_asked_for() {
    let (inputs, _) = input(X);
    let fine = Levels { scale: 0.04, ty: UINT8, zero: 128 };
    let (model, _) = added(fine, Levels { scale: 0.041, ty: UINT8, zero: 0 });
    let imported = import_bytes(&model.bytes(), &Options::default()).unwrap();
    let (exact, _) = pipeline::fuse_for(&imported, quant::Rounding::ZeroLast).unwrap();
    assert!(exact.to_string().contains("= add"), "{exact}");
    let options = quant::Options::default().rounding(quant::Rounding::ZeroLast);
    let q = pipeline::quantize_given(&exact, &options).unwrap();
    // What was exported of it needs no asking.
    exported::assert_same(&q, &inputs);
    let e = pipeline::quantize_given(&fused(&model), &options).unwrap_err().to_string();
    assert!(e.contains("adds a residual before it rounds"), "{e}");
}

#[test]
fn operators_in_float_read_what_the_model_rounded() {
    let model = dequantized(X).node("Softmax", &["xd"], &["y"], &[int("axis", 1)]).output("y");
    let graph = quantized(&model);
    let (inputs, rounded) = input(X);
    let rounded = vec![rounded.iter().map(|&x| x as f32).collect()];
    assert_ne!(inputs, rounded);
    assert_eq!(evaluate(&graph, &inputs), evaluate(&graph, &rounded), "{graph}");
}

#[test]
fn float_weights_that_are_rounded_at_run_time_are_constants() {
    // As trainers that know of quantization write them.
    let w: Vec<f32> = noise(108, 2).iter().map(|w| w * 0.4).collect();
    let scales = [0.004, 0.0035, 0.0032, 0.005];
    let model = dequantized(X)
        .floats("wf", &[4, 3, 3, 3], &w)
        .floats("w_s", &[4], &scales)
        .integers("w_z", INT8, &[4], &[0; 4])
        .node("QuantizeLinear", &["wf", "w_s", "w_z"], &["wq"], &[int("axis", 0)])
        .node("DequantizeLinear", &["wq", "w_s", "w_z"], &["w"], &[int("axis", 0)])
        .node("Conv", &["xd", "w"], &["c"], &PADDED());
    let model = rounded(model, "c", "y", Y).output("y");
    let q: Vec<i32> = w
        .iter()
        .enumerate()
        .map(|(i, w)| (w / scales[i / 27]).round_ties_even().clamp(-128.0, 127.0) as i32)
        .collect();
    let (inputs, real) = input(X);
    assert_rounds(&model, &inputs, Y, &conv3x3(&real, [3, 5, 6], &scaled(&q, &scales, 27), &[0.0; 4], 1));
}

#[test]
fn transposed_convolutions_keep_their_integers() {
    // [C, M, 2, 2], scales along M; stride 2: every output has one tap.
    let (w, scales) = (integers(3 * 2 * 4, 127, 9), [0.01, 0.006]);
    let model = dequantized(X)
        .integers("wq", INT8, &[3, 2, 2, 2], &w)
        .floats("w_s", &[2], &scales)
        .integers("w_z", INT8, &[2], &[0; 2])
        .node("DequantizeLinear", &["wq", "w_s", "w_z"], &["w"], &[int("axis", 1)])
        .node("ConvTranspose", &["xd", "w"], &["c"], &[ints("strides", &[2, 2])]);
    let model = rounded(model, "c", "y", Y).output("y");
    let (inputs, x) = input(X);
    let real = scaled(&w, &scales, 4);
    let mut exact = Vec::new();
    for (m, i, j) in (0..2).flat_map(|m| (0..120).map(move |k| (m, k / 12, k % 12))) {
        let tap = |c: usize| real[(c * 2 + m) * 4 + i % 2 * 2 + j % 2];
        exact.push((0..3).map(|c| x[c * 30 + i / 2 * 6 + j / 2] * tap(c)).sum::<f64>());
    }
    assert_rounds(&model, &inputs, Y, &exact);
}

#[test]
fn what_the_model_leaves_in_float_says_so() {
    let reasons = |model: &Model| floats(&quantized(model));
    // A convolution whose weights are float.
    let model =
        dequantized(X).weight("w", &[4, 3, 3, 3], 1).node("Conv", &["xd", "w"], &["c"], &PADDED()).named("k");
    let model = rounded(model, "c", "y", Y).output("y");
    assert_eq!(reasons(&model), ["k: the model does not quantize its weights"]);
    // One of float activations, and what is not rounded behind.
    let (model, ..) = with_layer(Model::new(13).input("x", &[1, 3, 5, 6]), X);
    let model = model.node("Conv", &["x", "w", "b"], &["c"], &PADDED()).named("k");
    let model = rounded(model, "c", "d", Y).node("Sigmoid", &["d"], &["y"], &[]).named("s").output("y");
    assert_eq!(
        reasons(&model),
        ["k: the model gives it 'x' in float", "s: the model does not round its result to integers"]
    );
    // Weights of −128 do not fit the kernels' range.
    let model = dequantized(X)
        .integers("wq", INT8, &[1, 3, 1, 1], &[-128, 3, 4])
        .levels("w", 0.01, INT8, 0)
        .node("DequantizeLinear", &["wq", "w_s", "w_z"], &["w"], &[])
        .node("Conv", &["xd", "w"], &["c"], &[])
        .named("k");
    let model = rounded(model, "c", "y", Y).output("y");
    assert_eq!(
        reasons(&model),
        ["k: a weight is -128 steps from its zero point; integers of -127 to 127 are run"]
    );
    // The user's word counts too.
    let (model, ..) = with_layer(dequantized(X), X);
    let model = model.node("Conv", &["xd", "w", "b"], &["c"], &PADDED()).named("k");
    let model = rounded(model, "c", "y", Y).output("y");
    let options = quant::Options::default().exclude("k");
    let graph = pipeline::quantize_given(&fused(&model), &options).unwrap();
    assert_eq!(floats(&graph), ["k: excluded by 'k'"]);
}

#[test]
fn the_float_form_of_a_given_model_rounds_where_it_does() {
    let (model, w, b) = with_layer(dequantized(X), X);
    let model = rounded(model.node("Conv", &["xd", "w", "b"], &["c"], &PADDED()), "c", "y", Y).output("y");
    let graph = pipeline::float(&fused(&model)).unwrap();
    let (inputs, real) = input(X);
    assert_equal(&graph, &inputs, "roundings in float");
    let found = evaluate(&graph, &inputs);
    for (found, exact) in found[0].iter().zip(conv3x3(&real, [3, 5, 6], &w, &b, 1)) {
        let (found, exact) = (f64::from(f32::from_bits(*found)) / 0.05, exact / 0.05);
        assert!((found - exact).abs() < 0.501, "{found} for {exact}");
    }
}
