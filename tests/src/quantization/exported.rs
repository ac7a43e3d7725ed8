//! Networks that were quantized here, exported and read back: the same bits.

use super::net::{Net, conv, quantized, sample};
use crate::given::again;
use crate::support::engines::evaluate;
use qgraph_compiler::graph::*;
use qgraph_compiler::qgraph::QGraph;

/// What both forms give for a sample; `Err` if the exported one cannot be read.
fn outputs(graph: &Graph, q: &QGraph) -> Result<[Vec<Vec<u32>>; 2], String> {
    let inputs: Vec<Vec<f32>> = sample(graph, 100).iter().map(|t| t.data.to_vec()).collect();
    let second = again(q).map_err(|e| e.to_string())?;
    Ok([evaluate(q, &inputs), evaluate(&second, &inputs)])
}

/// Asserts that a network of one more operator, behind a convolution, is quantized to an operation of that kind and read back unchanged.
#[track_caller]
fn unchanged(kind: &str, add: impl FnOnce(&mut Net, ValueId) -> ValueId) {
    let mut net = Net::new(3);
    let x = net.input(&[1, 3, 6, 5]);
    let a = net.same("a", x, 6, 3, None);
    let y = add(&mut net, a);
    let z = net.same("z", y, 4, 1, None);
    let graph = net.done(&[z]);
    let q = quantized(&graph);
    let kinds: Vec<String> = q.nodes.iter().map(|n| n.op.label()).collect();
    assert!(kinds.iter().any(|k| k.starts_with(kind)), "no {kind}\n{q}");
    let [first, second] = outputs(&graph, &q).unwrap_or_else(|e| panic!("{e}\n{q}"));
    assert!(first == second, "{q}\n{}", again(&q).unwrap());
}

#[test]
fn operators() {
    unchanged("affine", |net, x| {
        let p = net.op("p", Op::Identity, &[x]);
        let pads = vec![(0, 0), (0, 0), (1, 0), (0, 1)];
        let p = net.op("pad", Op::Pad { pads, value: 0.0 }, &[p]);
        net.batch_norm("n", p)
    });
    unchanged("resize", |net, x| {
        let r = Resize {
            interpolation: Interpolation::Linear,
            coordinates: Coordinates::HalfPixel,
            scales: [2.0, 1.4],
            output: [12, 7],
        };
        net.op("r", Op::Resize(r), &[x])
    });
    unchanged("depth_to_space", |net, x| {
        let c = ConvTranspose {
            kernel: [3, 3],
            strides: [2, 2],
            dilations: [1, 1],
            pads: [1; 4],
            output_padding: [1, 1],
            groups: 1,
            epilogue: Epilogue::default(),
        };
        net.transposed("t", x, 5, c)
    });
    for f in [Unary::Sigmoid, Unary::HardSwish, Unary::Tanh, Unary::Gelu, Unary::Mish, Unary::Silu] {
        unchanged("table", |net, x| net.op("f", Op::Unary(f), &[x]));
    }
    unchanged("add", |net, x| {
        let other = net.same("b", x, 6, 3, Some(Unary::Relu));
        let moved = net.op("m", Op::Transpose(vec![0, 1, 2, 3]), &[other]);
        net.op("s", Op::Binary(Binary::Add), &[x, moved])
    });
    unchanged("mul", |net, x| {
        let other = net.same("b", x, 6, 3, Some(Unary::Relu));
        net.op("s", Op::Binary(Binary::Mul), &[x, other])
    });
    unchanged("conv", |net, x| {
        let epilogue = Epilogue { residual: true, activation: Some(Unary::Relu) };
        net.conv("c", x, 6, Conv { epilogue, ..conv(3, 1, 1) }, Some(x))
    });
    unchanged("softmax", |net, x| net.op("s", Op::Softmax { axis: 1 }, &[x]));
}
