//! Random small graphs: fused and unfused compute the same, with every pass and with any of them switched off; fusing twice
//! changes nothing more.

use super::net::Net;
use super::{Known, fused};
use proptest::prelude::*;
use qgraph_compiler::fuse::PASSES;
use qgraph_compiler::graph::*;

/// One node to add: what, and which of the values so far it reads (from the end).
type Step = (u8, u8, u8);

fn build(steps: &[Step], outputs: (u8, u8), head: bool) -> Graph {
    let mut net = Net::new("random");
    let x = net.input(&[1, 4, 5, 5]);
    let mut values = vec![x];
    // Mostly recent values, so that chains come up.
    let pick = |values: &[ValueId], k: u8| values[values.len() - 1 - (k as usize / 3) % values.len().min(4)];
    for (n, &(what, a, b)) in steps.iter().enumerate() {
        let name = format!("n{n}");
        let (x, y) = (pick(&values, a), pick(&values, b));
        let c = net.graph.shape(x)[1];
        let alike = net.graph.shape(x) == net.graph.shape(y);
        let value = match what % 20 {
            0..=2 => net.conv(&name, x, 4, 3, 1),
            3 => net.conv(&name, x, 4, 1, 0),
            4 => net.conv_with(&name, x, c, 3, [1; 4], c),
            5..=7 => net.batch_norm(&name, x),
            8 | 9 => net.relu(&name, x),
            10 => net.unary(&name, x, ACTIVATIONS[b as usize % ACTIVATIONS.len()]),
            11..=13 if alike => net.add(&name, x, y),
            14 if alike => net.binary(&name, Binary::Mul, x, y),
            15 if c < 12 => net.concat(&name, 1, &[x, y]),
            16 => {
                net.by(&name, [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div][b as usize % 4], x, 0.75)
            }
            17 => {
                let constant = net.random_constant(&format!("{name}.c"), &[1, c, 1, 1], 1.0);
                net.binary(&name, if b % 2 == 0 { Binary::Mul } else { Binary::Add }, constant, x)
            }
            18 => {
                let pad = net.pad(&name, x, 1, 0.0);
                net.conv(&format!("{name}c"), pad, 4, 3, 0)
            }
            _ => net.pool(&name, x, POOLS[b as usize % POOLS.len()]),
        };
        values.push(value);
    }
    let last = values[values.len() - 1];
    let mut chosen = vec![last];
    let other = pick(&values, outputs.0);
    if outputs.1 % 3 == 0 && other != last && other != x {
        chosen.push(other);
    }
    if head {
        let flat = net.flatten("flatten", last);
        let fc = net.dense("fc", flat, 5);
        chosen[0] = net.relu("head", fc);
    }
    net.finish(&chosen)
}

const ACTIVATIONS: [Unary; 6] = [
    Unary::Clip { lo: 0.0, hi: 6.0 },
    Unary::Clip { lo: -0.5, hi: 0.5 },
    Unary::Sigmoid,
    Unary::HardSwish,
    Unary::Tanh,
    Unary::LeakyRelu { alpha: 0.1 },
];

const POOLS: [PoolKind; 3] = [
    PoolKind::Max,
    PoolKind::Average { count_include_pad: true },
    PoolKind::Average { count_include_pad: false },
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn fused_computes_the_same(
        steps in prop::collection::vec(any::<Step>(), 1..14),
        outputs in any::<(u8, u8)>(),
        head in any::<bool>(),
        off in any::<u32>(),
    ) {
        let graph = build(&steps, outputs, head);
        let (once, _) = fused(&graph);
        prop_assert!(once.nodes.len() <= graph.nodes.len() + head as usize);
        let off: Vec<&str> = PASSES.iter().enumerate().filter(|(k, _)| off >> k & 1 == 1).map(|(_, p)| p.name).collect();
        Known::of(&graph).without(&off);
    }
}
