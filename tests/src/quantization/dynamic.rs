//! Ranges that are found at run time: near float without samples, in integers where layers have weights, image by image.

use super::net::{Net, both, conv, sample, sqnr};
use crate::support::engines::{assert_batch_equal, assert_equal};
use qgraph_compiler::Stage;
use qgraph_compiler::graph::*;
use qgraph_compiler::qgraph::{Arithmetic, QGraph, QOp};
use qgraph_compiler::quant::{self, Activations, Equalize, Options};

fn quantize(graph: &Graph, options: &Options) -> QGraph {
    quant::quantize_dynamic(graph, options).unwrap_or_else(|e| panic!("{e}\n{graph}"))
}

/// Convolutions of every kind, with residual, clamps, an activation that is none, and a dense layer at the end.
fn network(images: usize) -> Graph {
    let mut net = Net::new(11);
    let x = net.input(&[images, 4, 8, 8]);
    let a = net.same("a", x, 16, 3, Some(Unary::Relu));
    let wise = Conv { groups: 16, ..conv(3, 1, 1) };
    let b = net.conv("b", a, 16, Conv { epilogue: silu(), ..wise }, None);
    let mut residual = conv(1, 1, 0);
    residual.epilogue = Epilogue { residual: true, activation: Some(Unary::Relu) };
    let c = net.conv("c", b, 16, residual, Some(a));
    let up = ConvTranspose {
        kernel: [2, 2],
        strides: [2, 2],
        dilations: [1, 1],
        pads: [0; 4],
        output_padding: [0, 0],
        groups: 1,
        epilogue: Epilogue::default(),
    };
    let d = net.transposed("d", c, 8, up);
    let pool = net.op("pool", Op::GlobalPool(GlobalPool::Average), &[d]);
    let flat = net.op("flat", Op::Reshape(vec![images, 8]), &[pool]);
    let y = net.dense("fc", flat, 10, Epilogue::default());
    net.done(&[y])
}

fn silu() -> Epilogue {
    Epilogue { residual: false, activation: Some(Unary::Silu) }
}

#[test]
fn layers_with_weights_run_in_integers_near_float() {
    let graph = network(1);
    for options in [Options::default(), Options::default().weights(quant::Weights::Tensor)] {
        let q = quantize(&graph, &options);
        let convs: Vec<&Arithmetic> = q
            .nodes
            .iter()
            .filter_map(|n| match &n.op {
                QOp::Conv(c) => Some(&c.arithmetic),
                _ => None,
            })
            .collect();
        assert_eq!(convs.len(), 5);
        assert!(convs.iter().all(|a| matches!(a, Arithmetic::IntegerToFloat { .. })), "{q}");
        let (real, ours) = &both(&graph, &q)[0];
        assert!(sqnr(real, ours) > 25.0, "{:.1} dB\n{q}", sqnr(real, ours));
        // Every layer reads another value.
        assert_eq!(q.nodes.iter().filter(|n| n.op == QOp::Peak).count(), 5, "{q}");
        let images: Vec<Vec<Vec<f32>>> =
            (60..63).map(|seed| sample(&graph, seed).iter().map(|t| t.data.to_vec()).collect()).collect();
        assert_equal(&q, &images[0], "ranges at run time");
        assert_batch_equal(&q, &images, "ranges at run time");
    }
    let q = quantize(&graph, &Options::default().exclude("c"));
    let kept = q.nodes.iter().find(|n| n.name == "c").and_then(|n| n.float_reason.as_deref());
    assert_eq!(kept, Some("excluded by 'c'"));
}

/// An image's result does not depend on what it shares a batch with.
#[test]
fn every_image_has_ranges_of_its_own() {
    let (one, three) = (network(1), network(3));
    let run = |graph: &Graph, x: Vec<f32>| {
        let q = quantize(graph, &Options::default());
        qgraph_compiler::qgraph::eval::eval(&q, &[x], &mut |_, _| {}).expect("runs")[0].clone()
    };
    let images: Vec<Vec<f32>> = (0..3)
        .map(|k| sample(&one, 40 + k)[0].data.iter().map(|x| x * 10f32.powi(2 * k as i32 - 2)).collect())
        .collect();
    let together = run(&three, images.concat());
    let apart: Vec<f32> = images.into_iter().flat_map(|x| run(&one, x)).collect();
    assert_eq!(together, apart);
    assert!(run(&one, vec![0.0; 256]).iter().all(|y| y.is_finite()));
}

#[test]
fn what_only_ranges_give_a_meaning_is_refused() {
    let graph = network(1);
    for options in
        [Options::default().activations(Activations::Int8), Options::default().equalize(Equalize::On)]
    {
        let e = quant::quantize_dynamic(&graph, &options).expect_err("refuses");
        assert_eq!(e.stage, Stage::Quantize);
        assert!(e.to_string().contains("finds its ranges at run time"), "{e}");
    }
}
