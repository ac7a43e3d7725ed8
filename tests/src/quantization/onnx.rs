//! Rounding as ONNX Runtime has it: the graph that it asks for, what is exported of it and read back, and what ONNX Runtime makes of that.

use super::net::{Net, both, conv, profile, sample, sqnr};
use super::random::{Choice, build};
use crate::given::{again, exported::assert_same};
use crate::ort;
use crate::support::engines;
use crate::support::temp_dir;
use proptest::prelude::*;
use qgraph_compiler::graph::*;
use qgraph_compiler::qgraph::{QGraph, QOp};
use qgraph_compiler::quant::{self, Options, Rounding};
use qgraph_compiler::{data, fuse, pipeline};

fn options() -> Options {
    Options::default().rounding(Rounding::ZeroLast)
}

/// Fused and quantized for ONNX Runtime.
fn quantized(graph: &Graph) -> QGraph {
    let (fused, _) = fuse::fuse_for(graph, Rounding::ZeroLast).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    quant::quantize(&fused, &profile(&fused), &options()).unwrap_or_else(|e| panic!("{e}\n{fused}"))
}

/// A maximum of single elements: what is before it is an integer, and seen by whoever runs the network.
fn seen(graph: &mut Graph, x: ValueId) -> ValueId {
    let &[_, _, h, w] = graph.shape(x) else { panic!("{} is no image", graph.value(x).name) };
    let kind = PoolKind::Max;
    let one = Pool { kind, kernel: [1; 2], strides: [1; 2], dilations: [1; 2], pads: [0; 4], output: [h, w] };
    graph.add_node("seen", Op::Pool(one), [x]).unwrap()
}

/// Everything that residual networks for images are made of, as a model has it before fusion.
fn network(seed: u64) -> Graph {
    let mut net = Net::new(seed);
    let relu = Op::Unary(Unary::Relu);
    let x = net.input(&[1, 3, 20, 20]);
    let a = net.conv("a", x, 16, conv(3, 2, 1), None);
    let a = net.op("a.relu", relu.clone(), &[a]);
    // An inverted residual, whose sum keeps both signs.
    let b = net.same("b", a, 32, 1, None);
    let b = net.op("b.clip", Op::Unary(Unary::Clip { lo: 0.0, hi: 1.5 }), &[b]);
    let c = net.conv("c", b, 32, Conv { groups: 32, ..conv(3, 1, 1) }, None);
    let c = net.op("c.clip", Op::Unary(Unary::Clip { lo: 0.0, hi: 1.5 }), &[c]);
    let d = net.same("d", c, 16, 1, None);
    let d = net.op("d.sum", Op::Binary(Binary::Add), &[a, d]);
    // A residual that is cut off at 0.
    let e = net.same("e", d, 16, 3, None);
    let e = net.op("e.sum", Op::Binary(Binary::Add), &[e, d]);
    let e = net.op("e.relu", relu.clone(), &[e]);
    // A block that is activated first.
    let f = net.batch_norm("f", e);
    let f = net.op("f.relu", relu.clone(), &[f]);
    let g = net.same("g", f, 16, 3, None);
    let g = net.op("g.sum", Op::Binary(Binary::Add), &[g, e]);
    // One scale for what is cut off at 0 and what is not.
    let h = net.same("h", g, 8, 1, None);
    let i = net.same("i", g, 8, 1, None);
    let i = net.op("i.relu", relu, &[i]);
    let j = net.op("j", Op::Concat { axis: 1 }, &[h, i]);
    let k = net.op("k", Op::GlobalPool(GlobalPool::Average), &[j]);
    let flat = net.op("flat", Op::Reshape(vec![1, 16]), &[k]);
    let y = net.dense("y", flat, 10, Epilogue::default());
    let outputs = [e, g, j, k].map(|v| seen(&mut net.graph, v));
    net.done(&[&outputs[..], &[y]].concat())
}

#[test]
fn additions_and_affine_functions_are_operations_of_their_own() {
    let q = quantized(&network(1));
    let count = |kind: &str| q.nodes.iter().filter(|n| n.op.label().starts_with(kind)).count();
    assert_eq!((count("add"), count("affine")), (3, 0), "{q}");
    assert!(!q.adds_residuals(), "{q}");
    assert!(pipeline::exports_exactly(&q), "{q}");
    let (fused, _) = pipeline::fuse(&network(1)).unwrap();
    let fused = super::net::quantized(&fused);
    assert!(fused.adds_residuals() && !pipeline::exports_exactly(&fused), "{fused}");
}

#[test]
fn nothing_is_lost() {
    let graph = network(2);
    let found = both(&graph, &quantized(&graph));
    let (fused, _) = pipeline::fuse(&graph).unwrap();
    let default = both(&graph, &super::net::quantized(&fused));
    for ((real, ours), (_, default)) in found.iter().zip(&default) {
        let (ours, default) = (sqnr(real, ours), sqnr(real, default));
        assert!(ours > default - 3.0, "{ours:.1} dB, by default {default:.1} dB");
    }
}

#[test]
fn what_is_exported_is_read_back_to_the_letter() {
    for seed in 0..8 {
        let graph = network(seed);
        let q = quantized(&graph);
        let inputs: Vec<Vec<f32>> = sample(&graph, 100).iter().map(|t| t.data.to_vec()).collect();
        engines::assert_equal(&q, &inputs, "rounded as ONNX Runtime does");
        let second = assert_same(&q, &inputs);
        assert_eq!(pipeline::export(&q).unwrap(), pipeline::export(&second).unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Any network: what can be read back has the same bits, but for bilinear resizes in f32, which come back as products.
    #[test]
    fn networks(seed in 0u64..1000, channels in 1usize..20, choices in prop::collection::vec(any::<Choice>(), 1..9)) {
        let mut choices = choices;
        // A layer that adds before it rounds is refused.
        choices.iter_mut().filter(|c| c.0 % 16 == 4).for_each(|c| c.0 = 7);
        let mut graph = build(seed, channels, &choices);
        graph.outputs = graph.outputs.clone().into_iter().map(|v| seen(&mut graph, v)).collect();
        let q = quant::quantize(&graph, &profile(&graph), &options()).unwrap_or_else(|e| panic!("{e}\n{graph}"));
        let inputs: Vec<Vec<f32>> = sample(&graph, 100).iter().map(|t| t.data.to_vec()).collect();
        let resizes = q.nodes.iter().any(|n| matches!(n.op, QOp::ResizeLinear { .. }));
        if let (Ok(second), false) = (again(&q), resizes) {
            prop_assert!(engines::evaluate(&q, &inputs) == engines::evaluate(&second, &inputs), "{q}\n{second}");
        }
    }
}

#[test]
fn sums_inside_layers_are_refused() {
    let (fused, _) = pipeline::fuse(&network(1)).unwrap();
    let e = quant::quantize(&fused, &profile(&fused), &options()).unwrap_err().to_string();
    assert!(e.contains("d: adds a residual before it rounds") && e.contains("fuse_for"), "{e}");
    let e = quant::quantize_dynamic(&network(1), &options()).unwrap_err().to_string();
    assert!(e.contains("results are rounded"), "{e}");
    // An exported network keeps the rounding that it has.
    let exported = pipeline::export(&super::net::quantized(&fused)).unwrap();
    let given = qgraph_compiler::onnx::import_bytes(&exported, &Default::default()).unwrap();
    let (given, _) = fuse::fuse_for(&given, Rounding::ZeroLast).unwrap();
    let e = quant::quantize_given(&given, &options()).unwrap_err().to_string();
    assert!(e.contains("rounds otherwise than ONNX Runtime"), "{e}");
}

/// The integers of inner values, and what the last layer makes of them.
#[test]
fn onnx_runtime_computes_the_same() {
    if !ort::has_exact_sums() {
        return;
    }
    let dir = temp_dir("onnx-rounding");
    let networks: Vec<(QGraph, Vec<Vec<f32>>)> = (0..12)
        .map(|seed| {
            let graph = network(seed);
            let inputs = sample(&graph, seed).iter().map(|t| t.data.to_vec()).collect();
            (quantized(&graph), inputs)
        })
        .collect();
    for (k, (q, inputs)) in networks.iter().enumerate() {
        std::fs::write(dir.join(format!("{k}.onnx")), pipeline::export(q).unwrap()).unwrap();
        data::write_npy(&dir.join(format!("{k}.in0.npy")), &q.value(q.inputs[0]).shape, &inputs[0]).unwrap();
    }
    if !ort::run(dir.path()) {
        return;
    }
    for (k, (q, inputs)) in networks.iter().enumerate() {
        let (found, there) = (engines::evaluate(q, inputs), ort::arrays(dir.path(), &k.to_string(), "out"));
        assert_eq!(found.len(), there.len());
        for ((id, found), there) in q.outputs.iter().zip(&found).zip(&there) {
            let found: Vec<f32> = found.iter().map(|&x| f32::from_bits(x)).collect();
            let maker = q.nodes.iter().find(|n| n.output == *id).expect("a node gives it");
            if maker.op == QOp::Dequantize {
                assert!(found == there.data[..], "{k}: {} differs\n{q}", q.value(*id).name);
            } else {
                ort::assert_network(&found, &there.data, &format!("{k}: {}", q.value(*id).name));
            }
        }
    }
}
