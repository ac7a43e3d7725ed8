//! Engines agree bit for bit: the evaluator, the kernel interpreter on every target, machine code.

use crate::support::engines::{assert_batch_equal, assert_equal, plan};
use crate::support::random_graph::{ConvCase, Maker, random_graph, random_inputs};
use proptest::prelude::*;
use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::Window;
use qgraph_compiler::target::Target;

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
    fn batches_agree_with_single_images(seed in any::<u64>(), nodes in 2..10usize, images in 1..=33usize) {
        let images = if nodes > 4 { images % 4 + 1 } else { images };
        let graph = random_graph(seed, nodes);
        let images: Vec<_> = (0..images as u64).map(|i| random_inputs(&graph, seed ^ i)).collect();
        assert_batch_equal(&graph, &images, &format!("random_graph({seed}, {nodes})"));
    }

    #[test]
    fn random_graphs_agree(seed in any::<u64>(), nodes in 2..14usize) {
        let graph = random_graph(seed, nodes);
        let inputs = random_inputs(&graph, seed);
        assert_equal(&graph, &inputs, &format!("random_graph({seed}, {nodes})"));
    }
}

/// Fully connected layers behind a small map: what runs for all images at once.
fn classifier(seed: u64) -> qgraph_compiler::qgraph::QGraph {
    let mut m = Maker::new(seed);
    let conv = |channels, outputs, kernel, to_float| ConvCase {
        channels,
        outputs,
        groups: 1,
        window: Window { kernel, strides: [1, 1], dilations: [1, 1], pads: [0; 4] },
        residual: false,
        to_float,
        sane: true,
    };
    let x = m.input(&[1, 20, 9, 9]);
    let x = m.conv(x, &conv(20, 24, [1, 1], false), None).expect("the window fits");
    let x = m.conv(x, &conv(24, 40, [9, 9], false), None).expect("the window fits");
    let r = m.conv(x, &conv(40, 70, [1, 1], false), None);
    let residual = ConvCase { residual: true, ..conv(40, 70, [1, 1], false) };
    let x = m.conv(x, &residual, r).expect("the window fits");
    let x = m.conv(x, &conv(70, 10, [1, 1], true), None).expect("the window fits");
    m.finish(&[x])
}

#[test]
fn fully_connected_layers_run_for_the_whole_batch() {
    let graph = classifier(7);
    for batch in [1, 2, 3, 8, 33] {
        let options = Options { batch, ..Options::default() };
        let plan = plan(&graph, &Target::avx512vnni(), &options);
        let tail: Vec<&str> =
            plan.steps[plan.head..].iter().map(|s| s.what).filter(|w| *w == "conv").collect();
        assert_eq!(tail.len(), if batch > 1 { 4 } else { 0 }, "{plan}");
        let images: Vec<_> = (0..batch as u64).map(|i| random_inputs(&graph, i)).collect();
        assert_batch_equal(&graph, &images, "classifier");
    }
}

#[test]
fn narrow_depthwise_layers_fold_their_pixels() {
    let mut folded = 0;
    for (k, channels) in [3, 5, 8, 12, 16, 24, 32].into_iter().enumerate() {
        for (kernel, pad) in [([3, 3], 1), ([5, 5], 2), ([1, 2], 0), ([2, 7], 3)] {
            for (width, residual) in [(8, true), (12, false), (16, true), (19, false)] {
                let case = ConvCase {
                    channels,
                    outputs: channels,
                    groups: channels,
                    window: Window { kernel, strides: [1, 1], dilations: [1, 1], pads: [pad; 4] },
                    residual,
                    to_float: false,
                    sane: true,
                };
                let mut m = Maker::new(k as u64);
                // So wide that the result has `width` columns.
                let x = m.input(&[1, channels, 7, width + kernel[1] - 1 - 2 * pad]);
                let r = m.conv(x, &ConvCase { residual: false, ..case.clone() }, None);
                let y = m.conv(x, &case, r).expect("the window fits");
                let graph = m.finish(&[y]);
                let plan = plan(&graph, &Target::avx512vnni(), &Options::default());
                folded += usize::from(plan.kernels.iter().any(|k| k.name.contains("_fold")));
                assert_equal(&graph, &random_inputs(&graph, 1), "folded");
            }
        }
    }
    assert!(folded > 40, "only {folded} of 112 layers are folded");
}
