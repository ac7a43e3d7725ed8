//! What a user may ask of quantization: which layers stay in float, how scales are shared, where zeros lie, corrected biases, clipped weights.

use super::net::{Net, both, conv, profile, sample, sqnr};
use qgraph_compiler::calib::{Profile, Range};
use qgraph_compiler::graph::{self, *};
use qgraph_compiler::qgraph::{self, Arithmetic, QGraph, QOp, QType};
use qgraph_compiler::quant::{self, Activations, Equalize, Mode, Options, Weights};
use qgraph_compiler::{Error, Stage};

/// Three convolutions, an addition, a dense layer, with names that patterns tell apart.
fn network() -> Graph {
    let mut net = Net::new(3);
    let x = net.input(&[1, 4, 6, 6]);
    let a = net.same("block.a", x, 8, 3, Some(Unary::Relu));
    let b = net.same("block.b", a, 8, 3, None);
    let sum = net.op("sum", Op::Binary(Binary::Add), &[a, b]);
    let c = net.same("head/c", sum, 8, 1, Some(Unary::Relu));
    let pool = net.op("pool", Op::GlobalPool(GlobalPool::Average), &[c]);
    let flat = net.op("flat", Op::Reshape(vec![1, 8]), &[pool]);
    let y = net.dense("fc", flat, 5, Epilogue::default());
    net.done(&[y])
}

fn quantize(graph: &Graph, options: &Options) -> QGraph {
    quant::quantize(graph, &profile(graph), options).unwrap_or_else(|e| panic!("{e}\n{graph}"))
}

fn refused(graph: &Graph, options: &Options) -> Error {
    let e = quant::quantize(graph, &profile(graph), options).expect_err("refuses");
    assert_eq!(e.stage, Stage::Quantize);
    e
}

/// Names and reasons of what was excluded.
fn excluded(q: &QGraph) -> Vec<(&str, &str)> {
    let reason =
        |n: &'_ qgraph::QNode| n.float_reason.as_deref().filter(|r| r.starts_with("excluded")).is_some();
    q.nodes
        .iter()
        .filter(|n| reason(n))
        .map(|n| (&n.name[..], n.float_reason.as_deref().unwrap_or("")))
        .collect()
}

#[test]
fn excluded_layers_run_in_float() {
    let graph = network();
    let names = |options: Options| {
        let q = quantize(&graph, &options);
        for (node, _) in excluded(&q) {
            let n = q.nodes.iter().find(|n| n.name == node).expect("it is there");
            let float = n.inputs.iter().chain([&n.output]).all(|&v| q.value(v).ty == QType::F32);
            assert!(float, "{node}\n{q}");
        }
        for (real, ours) in both(&graph, &q) {
            assert!(sqnr(&real, &ours) > 25.0, "{q}");
        }
        excluded(&q).iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    let of = |pattern: &str| names(Options::default().exclude(pattern));
    assert_eq!(of("block.a"), ["block.a"]);
    assert_eq!(of("block.?"), ["block.a", "block.b"]);
    assert_eq!(of("*c"), ["head/c", "fc"]);
    assert_eq!(of("/^(head|block).[bc]$/"), ["block.b", "head/c"]);
    // The dense layer reads the image: "flat" is gone.
    assert_eq!(of("*"), ["block.a", "block.b", "sum", "head/c", "pool", "fc"]);
    assert_eq!(names(Options::default().exclude_op("Conv")), ["block.a", "block.b", "head/c"]);
    assert_eq!(names(Options::default().exclude_op("dense").exclude("sum")), ["sum", "fc"]);
    assert_eq!(names(Options::default().float_first()), ["block.a"]);
    assert_eq!(names(Options::default().float_last()), ["fc"]);
    let all = Options::default().float_first().exclude("/block/").exclude_op("conv");
    let q = quantize(&graph, &all);
    // The first that asked is named.
    assert_eq!(
        excluded(&q),
        [
            ("block.a", "excluded by '/block/'"),
            ("block.b", "excluded by '/block/'"),
            ("head/c", "excluded with all 'conv'")
        ]
    );
}

#[test]
fn words_that_match_nothing_are_named_with_the_nearest() {
    let graph = network();
    let wrong = Options::default()
        .exclude("block.x")
        .exclude("sum")
        .exclude("Head/*d")
        .exclude("/[/")
        .exclude_op("lstm");
    let e = refused(&graph, &wrong);
    let subjects: Vec<&str> = e.problems.iter().map(|p| &p.subject[..]).collect();
    assert_eq!(
        subjects,
        ["exclude 'block.x'", "exclude 'Head/*d'", "exclude '/[/'", "exclude operator 'lstm'"]
    );
    assert!(e.problems[0].message.contains("the nearest are 'block.a', 'block.b'"), "{e}");
    assert!(e.problems[1].message.contains("the nearest are 'head/c'"), "{e}");
    assert!(e.problems[2].message.contains("not a regular expression"), "{e}");
    assert!(
        e.problems[3].message.contains("there are: add, conv, dense, global_average_pool, reshape"),
        "{e}"
    );
}

/// A clamp that is excluded by itself is not merged into the integer node before it.
#[test]
fn an_excluded_clamp_stays_by_itself() {
    let mut net = Net::new(4);
    let x = net.input(&[1, 4, 6, 6]);
    let a = net.same("a", x, 4, 3, None);
    let r = net.op("r", Op::Unary(Unary::Relu), &[a]);
    let y = net.same("y", r, 4, 1, None);
    let graph = net.done(&[y]);
    let clamp = |q: &QGraph| q.nodes.iter().any(|n| n.name == "r");
    assert!(!clamp(&quantize(&graph, &Options::default())));
    let q = quantize(&graph, &Options::default().exclude("r"));
    assert!(clamp(&q) && excluded(&q) == [("r", "excluded by 'r'")], "{q}");
    assert!(sqnr(&both(&graph, &q)[0].0, &both(&graph, &q)[0].1) > 25.0);
}

/// Between two functions that run in float, a maximum would be two conversions for its own sake.
#[test]
fn smart_leaves_out_what_no_layer_is_joined_to() {
    let mut net = Net::new(6);
    let x = net.input(&[1, 4, 6, 6]);
    let a = net.same("a", x, 4, 3, None);
    let square = net.op("square", Op::Unary(Unary::Square), &[a]);
    let soft = net.op("soft", Op::Softmax { axis: 1 }, &[square]);
    let sum = net.op("sum", Op::Binary(Binary::Add), &[soft, soft]);
    let pool = net.op("pool", Op::GlobalPool(GlobalPool::Max), &[sum]);
    let again = net.op("again", Op::Softmax { axis: 1 }, &[pool]);
    let tail = net.op("tail", Op::Unary(Unary::Square), &[again]);
    let y = net.same("y", tail, 4, 1, None);
    let graph = net.done(&[y]);
    let float = |mode| {
        let q = quantize(&graph, &Options::default().mode(mode));
        assert!(sqnr(&both(&graph, &q)[0].0, &both(&graph, &q)[0].1) > 20.0, "{q}");
        let reasons = q.nodes.iter().filter_map(|n| Some((n.name.clone(), n.float_reason.clone()?)));
        reasons.collect::<Vec<_>>()
    };
    let none = "softmax has no integer form";
    let alone = "smart: no integer layer with weights is joined to it";
    let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
        all.iter().map(|(n, r)| (n.to_string(), r.to_string())).collect()
    };
    let between = ("square", "feeds only layers that run in float");
    assert_eq!(float(Mode::Full), pairs(&[between, ("soft", none), ("again", none)]));
    let smart = [between, ("soft", none), ("sum", alone), ("pool", alone), ("again", none)];
    assert_eq!(float(Mode::Smart), pairs(&smart));
}

#[test]
fn weights_share_a_scale_by_tensor_or_channel() {
    let mut graph = network();
    // A channel of much smaller weights.
    let id = graph.nodes[0].inputs[1];
    let mut weight = graph.constant(id).expect("weights").clone();
    let data: Vec<f32> =
        weight.data.iter().enumerate().map(|(i, w)| if i < 36 { w / 64.0 } else { *w }).collect();
    weight.data = data.into();
    graph.value_mut(id).data = Some(weight);
    let scales = |weights| {
        let q = quantize(&graph, &Options::default().weights(weights).equalize(Equalize::Off));
        let conv = q.nodes.iter().find_map(|n| match &n.op {
            QOp::Conv(c) if n.name == "block.a" => Some(c.clone()),
            _ => None,
        });
        let Arithmetic::Integer { scale, .. } = conv.expect("a convolution").arithmetic else {
            panic!("{q}")
        };
        q.blob_f32(scale).to_vec()
    };
    let (channel, tensor) = (scales(Weights::Channel), scales(Weights::Tensor));
    assert!(channel[0] < channel[1] / 16.0, "{channel:?}");
    assert!(tensor.iter().all(|s| *s == tensor[0]), "{tensor:?}");
    let most = channel.iter().fold(0f32, |m, s| m.max(*s));
    assert!((tensor[0] / most - 1.0).abs() < 1e-5);
}

#[test]
fn zeros_lie_where_the_scheme_has_them() {
    let graph = network();
    let mut p = profile(&graph);
    p.ranges.insert("sum".into(), Range { min: -0.5, max: 1.27 });
    p.ranges.insert("block.a".into(), Range { min: 0.0, max: 2.55 });
    for (scheme, sum, positive) in [
        (Activations::Affine, (1.77 / 255.0, 72), (0.01, 0)),
        (Activations::Auto, (0.01, 128), (0.01, 0)),
        (Activations::Int8, (0.01, 128), (2.55 / 127.0, 128)),
        (Activations::Uint8, (1.27 / 255.0, 0), (0.01, 0)),
    ] {
        // Multiples have ranges of their own.
        let options = Options::default().activations(scheme).equalize(Equalize::Off);
        let q = quant::quantize(&graph, &p, &options).expect("quantizes");
        for (name, (scale, zero)) in [("sum", sum), ("block.a", positive)] {
            let ty = q.values.iter().find(|v| v.name == name).expect("a value").ty;
            let QType::U8 { scale: s, zero_point } = ty else { panic!("{q}") };
            assert!(
                (s / scale - 1.0).abs() < 1e-5 && zero_point == zero,
                "{scheme:?} {name}: {s} {zero_point}"
            );
        }
    }
}

/// Inputs of one sign, and weights that all round the same way but one: what rounding adds is nearly the same for every sample, and a bias
/// can take it off.
#[test]
fn biases_make_up_for_rounded_weights() {
    for strides in [1, 2] {
        let mut net = Net::new(8);
        let x = net.input(&[1, 4, 9, 9]);
        let a = net.op("a", Op::Unary(Unary::Sigmoid), &[x]);
        let c = net.conv("c", a, 6, Conv { groups: 2, ..conv(3, strides, 1) }, None);
        let mut graph = net.done(&[c]);
        let id = graph.nodes[1].inputs[1];
        let mut weight = graph.constant(id).expect("weights").clone();
        let data: Vec<f32> =
            (0..weight.data.len()).map(|i| if i % 18 == 7 { 1.27 } else { 0.0149 }).collect();
        weight.data = data.into();
        graph.value_mut(id).data = Some(weight);
        let p = profile(&graph);
        let mean = |correct| {
            let q =
                quant::quantize(&graph, &p, &Options::default().correct_biases(correct)).expect("quantizes");
            // Of samples that calibration has not seen, mean by output channel.
            let mut errors = [0.0f64; 6];
            for seed in 500..540 {
                let x = sample(&graph, seed);
                let real = graph::eval::eval(&graph, &x, &mut |_, _| {}).expect("evaluates");
                let inputs: Vec<Vec<f32>> = x.iter().map(|t| t.data.to_vec()).collect();
                let ours = qgraph::eval::eval(&q, &inputs, &mut |_, _| {}).expect("evaluates");
                let area = ours[0].len() / 6;
                for (i, (r, o)) in real[0].data.iter().zip(&ours[0]).enumerate() {
                    errors[i / area] += f64::from(o - r) / (40 * area) as f64;
                }
            }
            errors.iter().fold(0f64, |m, e| m.max(e.abs()))
        };
        let (with, without) = (mean(true), mean(false));
        println!("stride {strides}: {with:.5}, without {without:.5}");
        assert!(with < without / 5.0, "stride {strides}: {with} {without}");
    }
}

/// One weight of a kernel is far larger than the others, and reads next to nothing: the grid of the others need not span it.
#[test]
fn weights_are_cut_off_where_their_error_counts_least() {
    let mut net = Net::new(12);
    let x = net.input(&[1, 16, 6, 6]);
    let a = net.same("a", x, 16, 1, None);
    let y = net.same("y", a, 8, 1, None);
    let mut graph = net.done(&[y]);
    let constant = |graph: &mut Graph, node: usize, input: usize, change: &dyn Fn(usize, f32) -> f32| {
        let id = graph.nodes[node].inputs[input];
        let t = graph.constant(id).expect("a constant").clone();
        let data: Vec<f32> = t.data.iter().enumerate().map(|(i, &x)| change(i, x)).collect();
        graph.value_mut(id).data = Some(Tensor::new(t.shape, data));
    };
    // Channel 3 of `a` is nearly 0, and `y` weighs it four times as much as any other.
    constant(&mut graph, 0, 1, &|i, w| if i / 16 == 3 { w * 1e-3 } else { w });
    constant(&mut graph, 0, 2, &|_, _| 0.0);
    constant(&mut graph, 1, 1, &|i, w| if i % 16 == 3 { 2.0 } else { w });
    let mut p = profile(&graph);
    let db = |p: &Profile, sharing, clip| {
        let options = Options::default().weights(sharing).equalize(Equalize::Off).clip_weights(clip);
        let q = quant::quantize(&graph, p, &options).expect("quantizes");
        let (real, ours) = both(&graph, &q).remove(0);
        sqnr(&real, &ours)
    };
    for sharing in [Weights::Channel, Weights::Tensor] {
        let (with, without) = (db(&p, sharing, true), db(&p, sharing, false));
        println!("{sharing:?}: {with:.1} dB, without {without:.1} dB");
        assert!(with > without + 3.0, "{sharing:?}: {with:.1} dB, without {without:.1} dB");
    }
    // Without knowledge of what weights read, all count as much: the large one stays.
    p.channels.clear();
    let (with, without) = (db(&p, Weights::Channel, true), db(&p, Weights::Channel, false));
    assert!((with - without).abs() < 1.0, "{with:.1} dB, without {without:.1} dB");
}
