//! Channels of one value that differ in range, and sums that reach further than the table behind them sees.

use super::net::{Net, both, check, check_float, conv, profile, quantized, sample, sqnr};
use qgraph_compiler::graph::*;
use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::{QGraph, QOp, QType};
use qgraph_compiler::quant;
use qgraph_compiler::runner::{Engine, Runner};
use qgraph_compiler::target::Target;
use std::collections::HashMap;

/// Multiplies the constant at `position` of a node, channel by channel, by 1, 1/2, 1/4, … or by the inverse of that.
fn grade(graph: &mut Graph, node: &str, position: usize, inverse: bool) {
    let k = graph.nodes.iter().position(|n| n.name == node).expect("a node");
    let id = graph.nodes[k].inputs[position];
    let t = graph.constant(id).expect("a constant").clone();
    let inner = t.data.len() / t.shape[0];
    let factor = |c: usize| if inverse { f32::from(1u16 << c) } else { 1.0 / f32::from(1u16 << c) };
    let data: Vec<f32> = t.data.iter().enumerate().map(|(i, x)| x * factor(i / inner)).collect();
    graph.value_mut(id).data = Some(Tensor::new(t.shape, data));
}

/// Quantized with and without what the profile knows of channels; SQNR of the first output of each.
fn compare(graph: &Graph) -> (QGraph, f64, f64) {
    check_float(graph);
    let q = quantized(graph);
    let mut blind = profile(graph);
    blind.channels.clear();
    let before = quant::quantize(graph, &blind, &Default::default()).expect("quantizes");
    let db = |q: &QGraph| both(graph, q).first().map(|(real, ours)| sqnr(real, ours)).expect("an output");
    let (with, without) = (db(&q), db(&before));
    println!("{with:.1} dB, without {without:.1} dB");
    (q, with, without)
}

/// The values that hold multiples.
fn names(q: &QGraph) -> Vec<&str> {
    q.values.iter().filter(|v| v.factors.iter().any(|f| *f != 1.0)).map(|v| &v.name[..]).collect()
}

fn depthwise(net: &mut Net, name: &str, x: ValueId) -> ValueId {
    let channels = net.graph.shape(x)[1];
    net.conv(name, x, channels, Conv { groups: channels, ..conv(3, 1, 1) }, None)
}

/// A convolution whose channels differ by factors of 2, a depthwise one that makes them equal again.
fn graded(activation: Option<Unary>) -> Graph {
    let mut net = Net::new(5);
    let x = net.input(&[1, 6, 7, 7]);
    let a = net.same("a", x, 8, 3, activation);
    let d = depthwise(&mut net, "d", a);
    let y = net.same("y", d, 4, 1, None);
    let mut graph = net.done(&[y]);
    grade(&mut graph, "a", 1, false);
    grade(&mut graph, "a", 2, false);
    grade(&mut graph, "d", 1, true);
    graph
}

#[test]
fn channels_fill_the_grid_before_a_depthwise_convolution() {
    for activation in [None, Some(Unary::Relu), Some(Unary::Clip { lo: 0.0, hi: 1.0 })] {
        let (q, with, without) = compare(&graded(activation));
        assert_eq!(names(&q)[0], "a");
        assert!(with > without + 8.0 && with > 30.0, "{activation:?}: {with:.1} dB, without {without:.1}");
    }
}

#[test]
fn gated_activations_get_a_table_for_each_channel() {
    for f in [Unary::Silu, Unary::HardSwish, Unary::Mish, Unary::Gelu, Unary::GeluTanh] {
        let (q, with, without) = compare(&graded(Some(f)));
        assert_eq!(names(&q)[..2], ["a/pre", "a"], "{f}");
        let table = q.nodes.iter().find_map(|n| match n.op {
            QOp::Table(table) => Some(q.blob(table)),
            _ => None,
        });
        assert_eq!(table.expect("a table").shape, [8, 256]);
        assert!(with > without + 8.0 && with > 28.0, "{f}: {with:.1} dB, without {without:.1}");
    }
    // Other functions bend at places of their own: one table, channels as they are.
    let (q, ..) = compare(&graded(Some(Unary::Sigmoid)));
    assert!(!names(&q).contains(&"a"));
}

#[test]
fn reports_see_what_multiples_stand_for() {
    for (activation, between) in [(None, ["a", "d"]), (Some(Unary::Silu), ["a/pre", "a"])] {
        let graph = graded(activation);
        let (float, q) = (quant::float(&graph).expect("lowers"), quantized(&graph));
        let input = vec![sample(&graph, 3)[0].data.to_vec()];
        for engine in [Engine::Eval, Engine::Interp] {
            let [exact, ours] = [&float, &q].map(|g| {
                let options = Options { keep_values: true, ..Options::default() };
                let mut runner = Runner::new(g, engine, &Target::portable(), &options).expect("fits");
                runner.run(&input).expect("runs");
                let mut values = HashMap::new();
                runner.values(|name, v| {
                    values.insert(name.to_string(), v.to_vec());
                });
                values
            });
            for name in between {
                let db = sqnr(&exact[name], &ours[name]);
                assert!(db > 24.0, "{name} on {engine:?}: {db:.1} dB");
            }
        }
    }
}

#[test]
fn channels_of_a_residual_stream_are_equal_all_along() {
    let mut net = Net::new(6);
    let x = net.input(&[1, 6, 7, 7]);
    let a = net.same("a", x, 8, 3, None);
    let r = Conv { epilogue: Epilogue { residual: true, activation: None }, ..conv(1, 1, 0) };
    let b = net.conv("b", x, 8, r, Some(a));
    let pool = Pool {
        kind: PoolKind::Max,
        kernel: [2; 2],
        strides: [1; 2],
        dilations: [1; 2],
        pads: [0; 4],
        output: [6; 2],
    };
    let p = net.op("p", Op::Pool(pool), &[b]);
    let n = net.batch_norm("n", p);
    let n = net.op("relu", Op::Unary(Unary::Relu), &[n]);
    let y = net.same("y", n, 4, 1, None);
    let mut graph = net.done(&[y]);
    for node in ["a", "b"] {
        grade(&mut graph, node, 1, false);
        grade(&mut graph, node, 2, false);
    }
    // The normalization makes them equal: γ, μ of its operand's size.
    grade(&mut graph, "n", 1, true);
    grade(&mut graph, "n", 3, false);
    let (q, with, without) = compare(&graph);
    assert_eq!(names(&q)[..3], ["a", "b", "p"]);
    assert!(with > without + 8.0 && with > 28.0, "{with:.1} dB, without {without:.1}");
}

#[test]
fn quiet_channels_fill_the_grid_where_a_sum_counts_them_for_much() {
    for loud in [false, true] {
        let mut net = Net::new(5);
        let x = net.input(&[1, 6, 7, 7]);
        let a = net.same("a", x, 8, 3, Some(Unary::Relu));
        let y = net.same("y", a, 4, 1, None);
        let mut graph = net.done(&[y]);
        grade(&mut graph, "a", 1, false);
        grade(&mut graph, "a", 2, false);
        if !loud {
            // What hardly counts is not worth the evenness of the weights.
            let (_, with, without) = compare(&graph);
            assert!(with > without - 1.0 && with > 30.0, "{with:.1} dB, without {without:.1}");
            continue;
        }
        let weight = graph.nodes[1].inputs[1];
        let t = graph.constant(weight).expect("weights").clone();
        let data: Vec<f32> = t.data.iter().enumerate().map(|(i, w)| w * f32::from(1u16 << (i % 8))).collect();
        graph.value_mut(weight).data = Some(Tensor::new(t.shape, data));
        let (q, with, without) = compare(&graph);
        assert_eq!(names(&q), ["a"]);
        assert!(with > without + 8.0 && with > 30.0, "{with:.1} dB, without {without:.1}");
    }
}

/// Channels of one sign and of both, on either side of 0, of any size: what was observed of each stays within the grid, when it is multiplied too.
#[test]
fn no_observed_channel_saturates() {
    let mut net = Net::new(9);
    let x = net.input(&[1, 6, 7, 7]);
    let a = net.same("a", x, 12, 3, None);
    let d = depthwise(&mut net, "d", a);
    let s = net.same("s", d, 12, 1, Some(Unary::Silu));
    let e = depthwise(&mut net, "e", s);
    let y = net.same("y", e, 4, 1, None);
    let mut graph = net.done(&[y]);
    for (node, offset) in [("a", 9.0f32), ("d", 5.0), ("s", 0.0)] {
        let k = graph.nodes.iter().position(|n| n.name == node).expect("a node");
        let id = graph.nodes[k].inputs[2];
        let bias = graph.constant(id).expect("a bias").clone();
        let data: Vec<f32> =
            bias.data.iter().zip([offset, -offset, 0.0].iter().cycle()).map(|(b, o)| b + o).collect();
        graph.value_mut(id).data = Some(Tensor::new(bias.shape, data));
        grade(&mut graph, node, 1, false);
        grade(&mut graph, node, 2, false);
    }
    let mut p = profile(&graph);
    // Of so many samples there is little that was not observed.
    p.samples = 1_000_000;
    for equalize in [quant::Equalize::Auto, quant::Equalize::On] {
        let options = quant::Options::default().equalize(equalize);
        let q = quant::quantize(&graph, &p, &options).expect("quantizes");
        let (mut multiplied, mut full) = (0, 0);
        for v in q.values.iter().filter(|v| !v.factors.is_empty() && !v.name.ends_with("/pre")) {
            let QType::U8 { scale, zero_point } = v.ty else { panic!("{q}") };
            let zero = f32::from(zero_point);
            let (least, most) = (-zero * scale, (255.0 - zero) * scale);
            for (c, factor) in v.factors.iter().enumerate() {
                let (min, max) = (p.channels[&v.name].min[c] * factor, p.channels[&v.name].max[c] * factor);
                let what = format!("{} channel {c}: {min} to {max} on a grid from {least} to {most}", v.name);
                // The zero point is rounded to a whole step.
                assert!(min >= least - 0.51 * scale && max <= most + 0.51 * scale, "{what}");
                full += usize::from(min <= least + scale || max >= most - scale);
            }
            multiplied += 1;
        }
        assert!(multiplied >= 3 && full >= 2 * multiplied, "{equalize:?}: {full} of {multiplied}\n{q}");
    }
}

#[test]
fn channels_that_something_else_reads_stay() {
    type Reader = fn(&mut Net, ValueId) -> ValueId;
    let readers: [(&str, Reader); 3] = [
        ("the caller", |_, a| a),
        ("a softmax", |net, a| net.op("z", Op::Softmax { axis: 1 }, &[a])),
        ("a product", |net, a| net.op("z", Op::Binary(Binary::Mul), &[a, a])),
    ];
    for (what, reader) in readers {
        let mut net = Net::new(5);
        let x = net.input(&[1, 6, 7, 7]);
        let a = net.same("a", x, 8, 3, Some(Unary::Relu));
        let d = depthwise(&mut net, "d", a);
        let y = net.same("y", d, 4, 1, None);
        let z = reader(&mut net, a);
        let mut graph = net.done(&[y, z]);
        grade(&mut graph, "a", 1, false);
        assert!(!names(&quantized(&graph)).contains(&"a"), "{what}");
    }
}

#[test]
fn a_layer_that_gives_float_computes_no_multiples() {
    let mut net = Net::new(5);
    let x = net.input(&[1, 6, 7, 7]);
    let a = net.same("a", x, 8, 3, Some(Unary::Silu));
    let y = net.batch_norm("y", a);
    let mut graph = net.done(&[y]);
    grade(&mut graph, "a", 1, false);
    grade(&mut graph, "a", 2, false);
    let q = check(&graph, 30.0);
    assert_eq!(names(&q), [""; 0]);
    assert!(q.nodes.iter().all(|n| !matches!(n.op, QOp::Table(_))), "{q}");
}

#[test]
fn grids_of_sums_span_what_the_table_tells_apart() {
    for (f, lowest) in [
        (Unary::Silu, -9.0),
        (Unary::HardSwish, -3.2),
        (Unary::Sigmoid, -7.0),
        (Unary::Elu { alpha: 1.0 }, -7.0),
        (Unary::Mish, -8.0),
        (Unary::Gelu, -3.5),
    ] {
        let mut net = Net::new(11);
        let x = net.input(&[1, 8, 6, 6]);
        let a = net.same("a", x, 8, 1, Some(f));
        let y = net.same("y", a, 8, 3, None);
        let mut graph = net.done(&[y]);
        // One channel is off, far below where the function is flat.
        let bias = graph.nodes[0].inputs[2];
        let mut b = graph.constant(bias).expect("a bias").data.to_vec();
        b[3] = -80.0;
        graph.value_mut(bias).data = Some(Tensor::new([8], b));
        let q = check(&graph, 28.0);
        let sum = q.values.iter().find(|v| v.name == "a/pre").expect("the sum");
        let QType::U8 { scale, zero_point } = sum.ty else { panic!("{q}") };
        let least = -scale * f32::from(zero_point);
        assert!(least > lowest && least < -1.0, "{f}: the grid starts at {least}");
    }
    // Where the function tells all apart, the grid spans all.
    let mut net = Net::new(11);
    let x = net.input(&[1, 8, 6, 6]);
    let a = net.same("a", x, 8, 1, Some(Unary::LeakyRelu { alpha: 0.5 }));
    let y = net.same("y", a, 8, 3, None);
    let graph = net.done(&[y]);
    let (q, observed) = (quantized(&graph), profile(&graph).ranges["a/pre"]);
    let sum = q.values.iter().find(|v| v.name == "a/pre").expect("the sum");
    let QType::U8 { scale, .. } = sum.ty else { panic!("{q}") };
    assert!((scale * 255.0 / (observed.max - observed.min) - 1.0).abs() < 0.02);
}
