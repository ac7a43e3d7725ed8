//! The patterns that MXNet's oneDNN backend is tested with: 18 that must fuse, 8 (and one for the dense layer) that must not
//! or only in part. Small shapes; every case is a golden diff and computes the same before and after.

use super::net::Net;
use super::{fused, golden};
use qgraph_compiler::graph::{Graph, Op, Unary, ValueId};

const X: [usize; 4] = [1, 4, 6, 6];

/// Every activation that a layer can apply.
pub(super) const ACTIVATIONS: [Unary; 20] = [
    Unary::Relu,
    Unary::Clip { lo: 0.0, hi: 6.0 },
    Unary::Clip { lo: 0.0, hi: 1.0 },
    Unary::Clip { lo: -1.0, hi: 1.0 },
    Unary::LeakyRelu { alpha: 0.25 },
    Unary::Elu { alpha: 1.0 },
    Unary::Sigmoid,
    Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Unary::HardSwish,
    Unary::Tanh,
    Unary::Softplus,
    Unary::Mish,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Silu,
    Unary::Square,
    Unary::Sqrt,
    Unary::Abs,
    Unary::Exp,
    Unary::Erf,
];

/// The case with its input.
fn case(name: &str, build: impl FnOnce(&mut Net, ValueId) -> Vec<ValueId>) -> Graph {
    let mut net = Net::new(name);
    let x = net.input(&X);
    let outputs = build(&mut net, x);
    net.finish(&outputs)
}

fn check(name: &str, build: impl FnOnce(&mut Net, ValueId) -> Vec<ValueId>) -> Graph {
    golden(name, &case(name, build))
}

/// The case with each activation: all must give the same number of nodes as the golden one.
fn each_activation(nodes: usize, build: impl Fn(&mut Net, ValueId, Unary) -> ValueId) {
    for unary in ACTIVATIONS {
        let graph = case("each", |net, x| vec![build(net, x, unary)]);
        let fused = fused(&graph).0;
        assert_eq!(fused.nodes.len(), nodes, "{unary}\n{fused}");
    }
}

fn weighted(graph: &Graph) -> usize {
    graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv(_) | Op::Dense(_))).count()
}

#[test]
fn pos_single_conv() {
    check("pos_single_conv", |net, x| vec![net.conv("conv0", x, 8, 3, 0)]);
}

#[test]
fn pos_conv_add() {
    let fused = check("pos_conv_add", |net, x| {
        let conv0 = net.conv("conv0", x, 8, 3, 0);
        let conv1 = net.conv("conv1", x, 8, 3, 0);
        let pool = net.average("pool", conv1);
        vec![net.add("add", conv0, pool)]
    });
    assert_eq!(fused.nodes.len(), 3);
}

#[test]
fn pos_conv_add2() {
    let fused = check("pos_conv_add2", |net, x| {
        let conv0 = net.conv("conv0", x, 8, 3, 0);
        let conv1 = net.conv("conv1", x, 8, 3, 0);
        let pool = net.average("pool", conv1);
        vec![net.add("add", pool, conv0)]
    });
    assert_eq!(fused.nodes.len(), 3);
}

#[test]
fn pos_conv_act_add() {
    let build = |net: &mut Net, x, unary| {
        let conv0 = net.conv("conv0", x, 8, 3, 0);
        let act = net.unary("act", conv0, unary);
        let conv1 = net.conv("conv1", x, 8, 3, 0);
        net.add("add", act, conv1)
    };
    check("pos_conv_act_add", |net, x| vec![build(net, x, Unary::LeakyRelu { alpha: 0.25 })]);
    each_activation(2, build);
}

#[test]
fn pos_conv_bn_act() {
    let build = |net: &mut Net, x, unary| {
        let conv = net.conv("conv0", x, 8, 3, 0);
        let bn = net.batch_norm("bn", conv);
        net.unary("act", bn, unary)
    };
    check("pos_conv_bn_act", |net, x| vec![build(net, x, Unary::Clip { lo: 0.0, hi: 6.0 })]);
    each_activation(1, build);
}

#[test]
fn pos_conv_bn_sum_act() {
    let build = |net: &mut Net, x, unary| {
        let conv0 = net.conv("conv0", x, 8, 3, 0);
        let bn = net.batch_norm("bn", conv0);
        let conv1 = net.conv("conv1", x, 8, 3, 0);
        let add = net.add("add", bn, conv1);
        net.unary("act", add, unary)
    };
    check("pos_conv_bn_sum_act", |net, x| vec![build(net, x, Unary::Relu)]);
    each_activation(2, build);
}

#[test]
fn pos_single_concat() {
    check("pos_single_concat", |net, x| {
        let a = net.node("identity0", Op::Identity, &[x]);
        let b = net.node("identity1", Op::Identity, &[x]);
        vec![net.concat("concat", 1, &[a, b])]
    });
    for (n, axis) in [(2, 3), (4, 2), (4, 3)] {
        let graph = case("concat", |net, x| {
            let copies: Vec<_> = (0..n).map(|k| net.node(&format!("i{k}"), Op::Identity, &[x])).collect();
            vec![net.concat("concat", axis, &copies)]
        });
        assert_eq!(fused(&graph).0.nodes.len(), 1);
    }
}

#[test]
fn pos_single_concat_pos_neg() {
    check("pos_single_concat_pos_neg", |net, x| {
        let conv = net.conv("conv0", x, 4, 1, 0);
        let relu = net.relu("relu", conv);
        vec![net.concat("concat", 1, &[x, relu])]
    });
}

#[test]
fn pos_concat_scale_align() {
    check("pos_concat_scale_align", |net, x| {
        let convs: Vec<_> = (1..=4)
            .map(|k| {
                let conv = net.conv(&format!("conv{k}"), x, 4, 3, 0);
                net.by(&format!("times{k}"), qgraph_compiler::graph::Binary::Mul, conv, k as f32)
            })
            .collect();
        vec![net.concat("concat", 1, &convs)]
    });
}

#[test]
fn pos_conv_act() {
    let build = |net: &mut Net, x, unary| {
        let conv = net.conv("conv0", x, 8, 3, 0);
        net.unary("act", conv, unary)
    };
    check("pos_conv_act", |net, x| vec![build(net, x, Unary::Gelu)]);
    each_activation(1, build);
}

#[test]
fn pos_conv_bn() {
    check("pos_conv_bn", |net, x| {
        let conv = net.conv("conv0", x, 8, 3, 0);
        vec![net.batch_norm("bn", conv)]
    });
}

#[test]
fn pos_conv_bn_sum() {
    for (name, reversed) in [("pos_conv_bn_sum", false), ("pos_conv_bn_sum_reversed", true)] {
        check(name, |net, x| {
            let conv = net.conv("conv0", x, 4, 1, 0);
            let bn = net.batch_norm("bn", conv);
            vec![if reversed { net.add("add", bn, x) } else { net.add("add", x, bn) }]
        });
    }
}

#[test]
fn pos_mobilenetv2_struct() {
    for (name, reversed) in [("pos_mobilenetv2_struct", false), ("pos_mobilenetv2_struct_reversed", true)] {
        let fused = check(name, |net, x| {
            let conv1 = net.conv("conv1", x, 8, 1, 0);
            let bn1 = net.batch_norm("bn1", conv1);
            let conv2 = net.conv("conv2", bn1, 8, 1, 0);
            let bn2 = net.batch_norm("bn2", conv2);
            vec![if reversed { net.add("add", bn2, bn1) } else { net.add("add", bn1, bn2) }]
        });
        assert_eq!(fused.nodes.len(), 2);
    }
}

#[test]
fn pos_bn_relu() {
    check("pos_bn_relu", |net, x| {
        let bn = net.batch_norm("bn", x);
        vec![net.relu("relu", bn)]
    });
}

#[test]
fn pos_single_fc() {
    check("pos_single_fc", |net, x| {
        let flat = net.flatten("flatten", x);
        vec![net.dense("fc", flat, 8)]
    });
    // Without flattening: along the last axis.
    check("pos_single_fc_last_axis", |net, x| vec![net.dense("fc", x, 8)]);
}

#[test]
fn pos_fc_eltwise() {
    let build = |net: &mut Net, x, unary| {
        let flat = net.flatten("flatten", x);
        let fc = net.dense("fc", flat, 8);
        net.unary("act", fc, unary)
    };
    check("pos_fc_eltwise", |net, x| vec![build(net, x, Unary::Square)]);
    // The convolution that the dense layer becomes, and the reshape of its one pixel.
    each_activation(2, build);
}

#[test]
fn pos_fc_identity_eltwise() {
    for (name, op) in [("pos_fc_identity_eltwise", Op::Identity), ("pos_fc_dropout_eltwise", Op::Dropout)] {
        check(name, |net, x| {
            let flat = net.flatten("flatten", x);
            let fc = net.dense("fc", flat, 8);
            let same = net.node("between", op, &[fc]);
            vec![net.relu("relu", same)]
        });
    }
}

#[test]
fn pos_fc_int8_and_fp32_outputs() {
    check("pos_fc_int8_and_fp32_outputs", |net, x| {
        let flat = net.flatten("flatten", x);
        let fc0 = net.dense("fc0", flat, 8);
        let fc1 = net.dense("fc1", fc0, 8);
        let softmax = net.node("softmax", Op::Softmax { axis: 1 }, &[fc0]);
        vec![net.add("add", fc1, softmax)]
    });
}

#[test]
fn neg_conv_bn() {
    let fused = check("neg_conv_bn", |net, x| {
        let conv = net.conv("conv1", x, 8, 3, 0);
        vec![net.batch_norm("bn1", conv), net.average("pool", conv)]
    });
    assert_eq!(fused.nodes.len(), 3);
}

#[test]
fn neg_conv_relu() {
    let fused = check("neg_conv_relu", |net, x| {
        let conv = net.conv("conv1", x, 8, 3, 0);
        vec![net.relu("relu", conv), net.average("pool", conv)]
    });
    assert_eq!(fused.nodes.len(), 3);
}

#[test]
fn neg_conv_add() {
    let fused = check("neg_conv_add", |net, x| {
        let conv = net.conv("conv1", x, 8, 3, 0);
        let added = net.input(&[1, 8, 4, 4]);
        vec![net.add("add", conv, added), net.average("pool", conv)]
    });
    assert_eq!(fused.nodes.len(), 3);
}

/// Conv, BatchNorm, add (if asked), relu; and a pooling that reads the value `cut` of them.
fn cut(name: &str, add: bool, cut: usize) -> Graph {
    check(name, |net, x| {
        let conv = net.conv("conv1", x, 8, 3, 0);
        let mut chain = vec![conv, net.batch_norm("bn", conv)];
        if add {
            let added = net.input(&[1, 8, 4, 4]);
            chain.push(net.add("add", chain[1], added));
        }
        let relu = net.relu("relu", chain[chain.len() - 1]);
        vec![relu, net.average("pool", chain[cut])]
    })
}

#[test]
fn neg_conv_bn_relu_cut_after_conv() {
    assert_eq!(cut("neg_conv_bn_relu_cut_after_conv", false, 0).nodes.len(), 4);
}

#[test]
fn neg_conv_bn_relu_cut_after_bn() {
    assert_eq!(cut("neg_conv_bn_relu_cut_after_bn", false, 1).nodes.len(), 3);
}

#[test]
fn neg_conv_bn_add_relu_cut_after_conv() {
    assert_eq!(cut("neg_conv_bn_add_relu_cut_after_conv", true, 0).nodes.len(), 5);
}

#[test]
fn neg_conv_bn_add_relu_cut_after_bn() {
    assert_eq!(cut("neg_conv_bn_add_relu_cut_after_bn", true, 1).nodes.len(), 4);
}

#[test]
fn neg_conv_bn_add_relu_cut_after_add() {
    assert_eq!(cut("neg_conv_bn_add_relu_cut_after_add", true, 2).nodes.len(), 3);
}

#[test]
fn neg_fc_relu() {
    let fused = check("neg_fc_relu", |net, x| {
        let flat = net.flatten("flatten", x);
        let fc = net.dense("fc", flat, 8);
        vec![net.relu("act1", fc), net.unary("act2", fc, Unary::Sigmoid)]
    });
    assert_eq!(weighted(&fused), 1);
}
