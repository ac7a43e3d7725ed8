//! Rules that hold for quantized graphs, one by one, at their edges.

use super::net::{Net, both, check, conv, profile, quantized, sqnr};
use qgraph_compiler::calib::Range;
use qgraph_compiler::graph::*;
use qgraph_compiler::qgraph::{Arithmetic, QConv, QGraph, QOp, QType, QValue};
use qgraph_compiler::{Stage, quant};

fn value<'a>(q: &'a QGraph, name: &str) -> &'a QValue {
    q.values.iter().find(|v| v.name == name).unwrap_or_else(|| panic!("no value {name}\n{q}"))
}

fn op<'a>(q: &'a QGraph, name: &str) -> &'a QOp {
    &q.nodes.iter().find(|n| n.name == name).unwrap_or_else(|| panic!("no node {name}\n{q}")).op
}

fn qconv<'a>(q: &'a QGraph, name: &str) -> &'a QConv {
    match op(q, name) {
        QOp::Conv(c) => c,
        other => panic!("{other:?}"),
    }
}

/// Two convolutions; the first one's weights and bias come from `fill(i, weight, bias)`.
fn two(edit: impl FnOnce(&mut [f32], &mut [f32])) -> Graph {
    let mut net = Net::new(11);
    let x = net.input(&[1, 8, 6, 6]);
    let a = net.same("a", x, 8, 1, None);
    let y = net.same("y", a, 8, 3, None);
    let mut graph = net.done(&[y]);
    let (w, b) = (graph.nodes[0].inputs[1], graph.nodes[0].inputs[2]);
    let tensors = [w, b].map(|v| graph.constant(v).expect("constant").clone());
    let mut data = tensors.clone().map(|t| t.data.to_vec());
    let [weight, bias] = &mut data;
    edit(weight, bias);
    for ((v, t), d) in [w, b].into_iter().zip(tensors).zip(data) {
        graph.value_mut(v).data = Some(Tensor::new(t.shape, d));
    }
    graph
}

#[test]
fn snapshot() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 3, 8, 8]);
    let a = net.same("stem", x, 16, 3, Some(Unary::Relu));
    let d = Conv { groups: 16, ..conv(3, 1, 1) };
    let d = net.conv("depthwise", a, 16, d, None);
    let s = net.op("swish", Op::Unary(Unary::HardSwish), &[d]);
    let r = Conv { epilogue: Epilogue { residual: true, activation: Some(Unary::Relu) }, ..conv(1, 1, 0) };
    let r = net.conv("project", s, 16, r, Some(a));
    let c = net.op("concat", Op::Concat { axis: 1 }, &[r, a]);
    let g = net.op("pool", Op::GlobalPool(GlobalPool::Average), &[c]);
    let f = net.op("flatten", Op::Reshape(vec![1, 32]), &[g]);
    let y = net.dense("fc", f, 10, Epilogue::default());
    let y = net.op("softmax", Op::Softmax { axis: 1 }, &[y]);
    let graph = net.done(&[y]);
    insta::assert_snapshot!("integer", quantized(&graph));
    insta::assert_snapshot!("float", quant::float(&graph).expect("lowers"));
}

/// What no convolution is there to take, fused: add + relu6 is one integer addition, batch normalization + relu one scaling.
#[test]
fn clamps_after_additions_and_normalizations() {
    let mut net = Net::new(2);
    let x = net.input(&[1, 4, 8, 8]);
    let left = net.op("left", Op::GlobalPool(GlobalPool::Max), &[x]);
    let right = net.op("right", Op::GlobalPool(GlobalPool::Average), &[x]);
    let sum = net.op("sum", Op::Binary(Binary::Add), &[left, right]);
    let relu6 = net.op("relu6", Op::Unary(Unary::Clip { lo: 0.0, hi: 6.0 }), &[sum]);
    let product = net.op("product", Op::Binary(Binary::Mul), &[relu6, right]);
    let bn = net.batch_norm("bn", product);
    let relu = net.op("relu", Op::Unary(Unary::Relu), &[bn]);
    let y = net.same("y", relu, 4, 1, None);
    let (fused, _) = qgraph_compiler::fuse::fuse(&net.done(&[y])).expect("fuses");
    insta::assert_snapshot!("clamps", check(&fused, 25.0));
}

#[test]
fn the_profile_must_be_of_the_graph_and_complete() {
    let graph = two(|_, _| {});
    let mut p = profile(&graph);
    p.graph = "0".into();
    let e = quant::quantize(&graph, &p, &Default::default()).unwrap_err();
    assert_eq!(e.stage, Stage::Quantize);
    assert!(e.to_string().contains("belongs to another graph"), "{e}");

    let mut p = profile(&graph);
    p.ranges.remove("a");
    p.ranges.insert("x".into(), Range { min: 0.0, max: f32::INFINITY });
    let e = quant::quantize(&graph, &p, &Default::default()).unwrap_err();
    let named: Vec<_> = e.problems.iter().map(|p| &p.subject[..]).collect();
    assert_eq!(named, ["x", "a"], "{e}");
}

#[test]
fn weights_must_be_finite() {
    for bad in [f32::NAN, f32::INFINITY] {
        let good = two(|_, _| {});
        let graph = two(|w, _| w[3] = bad);
        let e = quant::quantize(&graph, &profile(&good), &Default::default()).unwrap_err();
        assert!(e.stage == Stage::Quantize && e.to_string().contains('a'), "{e}");
        assert!(quant::float(&graph).is_err());
    }
}

#[test]
fn activations_use_the_whole_byte_and_hold_zero() {
    let graph = two(|_, _| {});
    let mut p = profile(&graph);
    for (range, scale, zero) in [
        ((-1.0, 1.55), 0.01, 100),
        ((1.0, 2.55), 0.01, 0),
        ((-5.1, -3.0), 0.02, 255),
        ((0.0, 0.0), 1.0, 0),
        ((-0.5, 0.0), 0.5 / 255.0, 255),
    ] {
        p.ranges.insert("a".into(), Range { min: range.0, max: range.1 });
        // Multiples have ranges of their own.
        let options = quant::Options::default().equalize(quant::Equalize::Off);
        let q = quant::quantize(&graph, &p, &options).expect("quantizes");
        let QType::U8 { scale: s, zero_point } = value(&q, "a").ty else { panic!("{q}") };
        assert!((s / scale - 1.0).abs() < 1e-6 && zero_point == zero, "{range:?}: {s} {zero_point}");
    }
    // A range too small for any multiplier is widened until there is one.
    p.ranges.insert("a".into(), Range { min: 0.0, max: 1e-30 });
    quant::quantize(&graph, &p, &Default::default()).expect("quantizes");
    p.ranges.insert("a".into(), Range { min: f32::MIN, max: f32::MAX });
    quant::quantize(&graph, &p, &Default::default()).expect("quantizes");
}

#[test]
fn large_biases_cost_resolution_but_nothing_overflows() {
    let graph = two(|w, b| {
        w[0..8].fill(1e-7);
        b[0] = 3.0;
        w[8..16].fill(0.0);
        w[9] = 1e-30;
        b[1] = -2.0;
    });
    let q = check(&graph, 25.0);
    let bias = q.blob_i32(qconv(&q, "a").bias);
    assert!(bias[0].unsigned_abs() > 1 << 20, "{bias:?}");
}

#[test]
fn sums_of_very_many_products_fit() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 70_000]);
    let w = net.graph.add_constant("w", Tensor::new([2, 70_000], vec![0.01; 140_000]));
    let b = net.constant("b", &[2], 1.0);
    let y = net.op("fc", Op::Dense(Epilogue::default()), &[x, w, b]);
    let graph = net.done(&[y]);
    let q = quantized(&graph);
    let (real, ours) = both(&graph, &q).remove(0);
    assert!(sqnr(&real, &ours) > 20.0, "{real:?} {ours:?}");
}

#[test]
fn dead_channels_give_their_bias() {
    let graph = two(|w, b| {
        w[0..16].fill(0.0);
        b[0] = 0.7;
        b[1] = 0.0;
    });
    check(&graph, 25.0);
    // In the last layer to all digits.
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 3, 3]);
    let w = net.graph.add_constant("w", Tensor::new([2, 4, 1, 1], vec![0.0; 8]));
    let b = net.graph.add_constant("b", Tensor::new([2], vec![0.7, 0.0]));
    let y = net.op("c", Op::Conv(conv(1, 1, 0)), &[x, w, b]);
    let graph = net.done(&[y]);
    let q = quantized(&graph);
    let (real, ours) = both(&graph, &q).remove(0);
    assert!(sqnr(&real, &ours) > 120.0, "{real:?} {ours:?}");
}

#[test]
fn the_last_layer_gives_float() {
    // Through moves, not through what rounds.
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let a = net.same("a", x, 8, 3, None);
    let b = net.same("b", a, 4, 1, Some(Unary::Relu));
    let c = net.same("c", a, 4, 1, Some(Unary::Sigmoid));
    let t = net.op("t", Op::Transpose(vec![0, 2, 3, 1]), &[b]);
    let u = net.op("u", Op::Transpose(vec![0, 2, 3, 1]), &[c]);
    let y = net.op("y", Op::Concat { axis: 3 }, &[t, u]);
    let q = check(&net.done(&[y]), 35.0);
    for (name, in_float) in [("a", false), ("b", true), ("c", true)] {
        let got = matches!(qconv(&q, name).arithmetic, Arithmetic::IntegerToFloat { .. });
        assert_eq!(got, in_float, "{name}\n{q}");
    }
    let float: Vec<_> = quant::summary(&q).into_iter().filter(|p| !p.integer).collect();
    let names: Vec<_> = float.iter().map(|p| &p.node[..]).collect();
    assert_eq!(names, ["c/activation", "t", "u", "y"]);
    assert!(float.iter().all(|p| p.reason.as_ref().is_some_and(|r| r.starts_with("output"))));
    assert_eq!(value(&q, "y").ty, QType::F32);

    // A residual keeps the layer in u8, and so does another reader.
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let a = net.same("a", x, 4, 3, None);
    let r = Conv { epilogue: Epilogue { residual: true, activation: None }, ..conv(1, 1, 0) };
    let y = net.conv("y", a, 4, r, Some(a));
    let q = check(&net.done(&[a, y]), 28.0);
    assert!(matches!(op(&q, "y/dequantize"), QOp::Dequantize));
    assert!(matches!(op(&q, "a/dequantize"), QOp::Dequantize));
    assert_eq!([value(&q, "a").ty, value(&q, "y").ty], [QType::F32; 2]);
    assert_ne!(value(&q, "a/u8").ty, QType::F32);
}

#[test]
fn concatenations_share_a_scale() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let a = net.same("a", x, 8, 3, None);
    let b = net.same("b", x, 8, 3, Some(Unary::Sigmoid));
    let p = Pool {
        kind: PoolKind::Max,
        kernel: [3, 3],
        strides: [1, 1],
        dilations: [1, 1],
        pads: [1; 4],
        output: [4, 4],
    };
    let p = net.op("p", Op::Pool(p), &[b]);
    let c = net.op("c", Op::Concat { axis: 1 }, &[a, p]);
    let y = net.same("y", c, 4, 1, None);
    let q = check(&net.done(&[y]), 30.0);
    for name in ["a", "b", "p"] {
        assert_eq!(value(&q, name).ty, value(&q, "c").ty, "{name}");
    }
    assert_ne!(value(&q, "b/pre").ty, value(&q, "c").ty);
}

#[test]
fn a_narrow_shared_operand_of_a_concatenation_is_rescaled() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let a = net.same("a", x, 8, 3, None);
    let k = net.graph.add_constant("k", Tensor::new([1], [0.01]));
    let small = net.op("small", Op::Binary(Binary::Mul), &[a, k]);
    let c = net.op("c", Op::Concat { axis: 1 }, &[a, small]);
    let large = net.graph.add_constant("large", Tensor::new([1], [100.0]));
    let other = net.op("other", Op::Binary(Binary::Mul), &[small, large]);
    let c = net.same("yc", c, 8, 1, None);
    let o = net.same("yo", other, 8, 1, None);
    let q = check(&net.done(&[c, o]), 28.0);
    assert_eq!(value(&q, "small/rescale").ty, value(&q, "c").ty);
    assert_ne!(value(&q, "small").ty, value(&q, "c").ty);
}

#[test]
fn clamps_merge_into_the_only_producer() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let a = net.same("a", x, 4, 3, None);
    let s = net.op("s", Op::Binary(Binary::Add), &[a, x]);
    let r = net.op("r", Op::Unary(Unary::Relu), &[s]);
    let n = net.batch_norm("n", r);
    let m = net.op("m", Op::Unary(Unary::Clip { lo: -0.25, hi: 1.0 }), &[n]);
    let o = net.op("o", Op::Unary(Unary::Relu), &[n]);
    let t = net.op("t", Op::Binary(Binary::Mul), &[m, o]);
    let y = net.same("y", t, 4, 1, None);
    let q = check(&net.done(&[y]), 25.0);
    // The sum has the relu; the normalization has two readers, so their clamps are tables.
    let QOp::Add { lo, hi, .. } = op(&q, "s") else { panic!("{q}") };
    let QType::U8 { zero_point, .. } = value(&q, "r").ty else { panic!("{q}") };
    assert_eq!((*lo, *hi), (zero_point, 255));
    assert!(q.nodes.iter().all(|n| n.name != "r"));
    assert!(matches!((op(&q, "m"), op(&q, "o")), (QOp::Table(_), QOp::Table(_))));
}

#[test]
fn every_output_is_a_value_of_its_own() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let k = net.constant("k", &[2, 2], 1.0);
    let a = net.same("a", x, 4, 3, None);
    let i = net.op("i", Op::Identity, &[a]);
    let j = net.op("j", Op::Dropout, &[i]);
    let b = net.same("b", j, 4, 3, None);
    let x_again = net.op("x_again", Op::Identity, &[x]);
    let graph = net.done(&[b, i, a, x_again, k]);
    let q = check(&graph, 28.0);
    let names: Vec<_> = q.outputs.iter().map(|&o| &q.value(o).name[..]).collect();
    assert_eq!(names, ["b", "i", "a", "x_again", "k"]);
    // Straight from the input, and the same value twice.
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let a = net.same("a", x, 4, 3, None);
    net.graph.outputs = vec![x, a, a];
    assert_eq!(verify::verify(&net.graph), []);
    check(&net.graph, 28.0);
}

#[test]
fn dead_nodes_vanish() {
    let mut net = Net::new(1);
    let x = net.input(&[1, 4, 4, 4]);
    let a = net.same("a", x, 4, 3, None);
    net.op("dead", Op::Softmax { axis: 1 }, &[a]);
    let y = net.same("y", a, 4, 3, None);
    let graph = net.done(&[y]);
    let q = quantized(&graph);
    assert!(q.nodes.iter().all(|n| n.float_reason.is_none() && n.name != "dead"), "{q}");
}
