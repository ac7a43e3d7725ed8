//! Random networks on both roads.

use super::net::{Net, both, check_float, conv, quantized, sqnr};
use proptest::prelude::*;
use qgraph_compiler::graph::*;
use qgraph_compiler::quant;

/// One step of a random network: an operator by number, and numbers that choose its attributes and operands.
pub(super) type Choice = (u8, u8, u8, u8);

/// A network that applies the choices one after the other to what there is.
pub(super) fn build(seed: u64, channels: usize, choices: &[Choice]) -> Graph {
    let mut net = Net::new(seed);
    let x = net.input(&[1, channels, 9, 8]);
    let mut values = vec![x];
    for (k, &(op, a, b, c)) in choices.iter().enumerate() {
        let name = format!("n{k}");
        let x = values[values.len() - 1 - c as usize % values.len().min(3)];
        let shape = net.graph.shape(x).to_vec();
        let like: Vec<ValueId> = values.iter().copied().filter(|&v| net.graph.shape(v) == shape).collect();
        let other = like[b as usize % like.len()];
        let activation = [
            None,
            Some(Unary::Relu),
            Some(Unary::Clip { lo: 0.0, hi: 1.5 }),
            Some(Unary::HardSwish),
            Some(Unary::LeakyRelu { alpha: 0.1 }),
        ][a as usize % 5];
        let outputs = 1 + b as usize % 20;
        let y = match op % 16 {
            0..=2 => {
                let kernel = 1 + a as usize % 3;
                let mut g = Conv { strides: [1 + b as usize % 2, 1], ..conv(kernel, 1, kernel / 2) };
                g.epilogue.activation = activation;
                net.conv(&name, x, outputs, g, None)
            }
            3 => {
                let mut g = Conv { groups: shape[1], ..conv(3, 1, 1) };
                g.epilogue.activation = activation;
                net.conv(&name, x, shape[1], g, None)
            }
            4 => {
                let mut g = conv(3, 1, 1);
                g.epilogue = Epilogue { residual: true, activation };
                net.conv(&name, x, shape[1], g, Some(other))
            }
            5 => net.batch_norm(&name, x),
            6 => net.op(&name, Op::Unary(activation.unwrap_or(Unary::Sigmoid)), &[x]),
            7 => net.op(
                &name,
                Op::Binary([Binary::Add, Binary::Sub, Binary::Mul][a as usize % 3]),
                &[x, other],
            ),
            8 => {
                let k = net.constant(&format!("{name}.k"), &[shape[1], 1, 1], 1.5);
                net.op(&name, Op::Binary([Binary::Add, Binary::Mul][a as usize % 2]), &[x, k])
            }
            9 => net.op(&name, Op::Concat { axis: 1 + a as usize % 3 }, &[x, other]),
            10 => {
                let kind = match a % 3 {
                    0 => PoolKind::Max,
                    1 => PoolKind::Average { count_include_pad: true },
                    _ => PoolKind::Average { count_include_pad: false },
                };
                let p = Pool {
                    kind,
                    kernel: [3, 3],
                    strides: [1, 1],
                    dilations: [1, 1],
                    pads: [1; 4],
                    output: [shape[2], shape[3]],
                };
                net.op(&name, Op::Pool(p), &[x])
            }
            11 => net.op(&name, Op::Transpose(vec![0, 1, 3, 2]), &[x]),
            12 => {
                let pads = vec![(0, 0), (0, 0), (a as usize % 2, 1), (0, b as usize % 2)];
                net.op(&name, Op::Pad { pads, value: 0.0 }, &[x])
            }
            13 => {
                let output = [shape[2].min(12) + a as usize % 3, shape[3].min(12)];
                let interpolation = match b % 2 {
                    0 => Interpolation::Linear,
                    _ => Interpolation::Nearest(NearestRounding::Floor),
                };
                let scales = [output[0] as f32 / shape[2] as f32, output[1] as f32 / shape[3] as f32];
                let r = Resize { interpolation, coordinates: Coordinates::HalfPixel, scales, output };
                net.op(&name, Op::Resize(r), &[x])
            }
            14 => net.op(&name, Op::Softmax { axis: 1 }, &[x]),
            _ => net.op(&name, Op::Identity, &[x]),
        };
        values.push(y);
    }
    let mut outputs = vec![values[values.len() - 1]];
    if seed % 3 == 0 {
        outputs.push(values[values.len() / 2]);
    }
    net.done(&outputs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Any network: float is exact within rounding; integers give a valid graph and not a wild result.
    #[test]
    fn networks(seed in 0u64..1000, channels in 1usize..20, choices in prop::collection::vec(any::<Choice>(), 1..9)) {
        let graph = build(seed, channels, &choices);
        check_float(&graph);
        let q = quantized(&graph);
        for (real, ours) in both(&graph, &q) {
            // Products of products and softmax outputs are hard on eight bits; a wrong layout or scale gives less than 0.
            prop_assert!(sqnr(&real, &ours) > 8.0, "{} dB\n{graph}\n{q}", sqnr(&real, &ours));
        }
        let says = quant::summary(&q);
        for (n, p) in q.nodes.iter().zip(&says) {
            prop_assert!(p.integer || p.reason.is_some() || n.inputs.is_empty() || n.name.ends_with("/copy"), "{p:?}\n{q}");
        }
    }
}
