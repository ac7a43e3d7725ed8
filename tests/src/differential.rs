//! Engines agree bit for bit: the evaluator, the kernel interpreter on every target, machine code.

use crate::support::engines::assert_equal;
use crate::support::random_graph::{ConvCase, Maker, random_graph, random_inputs};
use proptest::prelude::*;
use qgraph_compiler::qgraph::Window;

fn case() -> impl Strategy<Value = (u64, ConvCase, [usize; 2])> {
    let pair = |most: usize| [1..=most, 1..=most].prop_map(|p| p);
    let channels = prop_oneof![1..=4usize, 5..=40usize, Just(64), Just(80)];
    let window = (pair(5), pair(3), pair(2), [0..4usize, 0..4usize, 0..4usize, 0..4usize]);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0..3usize);
    (any::<u64>(), channels, 1..=100usize, window, flags, pair(17)).prop_map(
        |(seed, channels, outputs, (kernel, strides, dilations, pads), flags, extra)| {
            let (residual, to_float, sane, kind) = flags;
            let divisor = (1..=channels).rev().find(|d| channels % d == 0 && *d <= 4).unwrap_or(1);
            let (groups, outputs) = match kind {
                0 => (channels, channels),
                1 => (divisor, divisor * outputs.div_ceil(divisor)),
                _ => (1, outputs),
            };
            let window = Window { kernel, strides, dilations, pads };
            // At least one output position.
            let least =
                |k: usize| ((kernel[k] - 1) * dilations[k] + 1).saturating_sub(pads[k] + pads[k + 2]).max(1);
            let map = [least(0) + extra[0] - 1, least(1) + extra[1] - 1];
            (seed, ConvCase { channels, outputs, groups, window, residual, to_float, sane }, map)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_agree((seed, case, map) in case()) {
        let mut m = Maker::new(seed);
        let x = m.input(&[1, case.channels, map[0], map[1]]);
        // The first convolution gives a residual of the right shape for the second.
        let r = m.conv(x, &ConvCase { to_float: false, residual: false, ..case.clone() }, None);
        let y = m.conv(x, &case, r).expect("the window fits");
        let graph = m.finish(&[y]);
        let inputs = random_inputs(&graph, seed);
        assert_equal(&graph, &inputs, "convolution");
    }

    #[test]
    fn random_graphs_agree(seed in any::<u64>(), nodes in 2..14usize) {
        let graph = random_graph(seed, nodes);
        let inputs = random_inputs(&graph, seed);
        assert_equal(&graph, &inputs, &format!("random_graph({seed}, {nodes})"));
    }
}
