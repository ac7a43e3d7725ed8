//! The fusions that FEATURES promises beyond MXNet's conformance list: every activation of every layer, operands in either order,
//! dense layers with batch normalization, spelled-out gelu, and what must stay apart.

use super::mxnet::ACTIVATIONS;
use super::net::Net;
use super::passes::{case, check, left, operators};
use super::{fused, golden};
use qgraph_compiler::graph::*;

/// One layer for each activation.
fn every_activation(name: &str, layer: impl Fn(&mut Net, &str, ValueId) -> ValueId) -> Graph {
    let mut net = Net::new(name);
    let x = net.input(&[1, 4, 6, 6]);
    let mut outputs = vec![];
    for (k, unary) in ACTIVATIONS.into_iter().enumerate() {
        let sum = layer(&mut net, &format!("layer{k}"), x);
        outputs.push(net.unary(&format!("act{k}"), sum, unary));
    }
    net.finish(&outputs)
}

#[test]
fn layers_apply_every_activation() {
    let conv = every_activation("conv_activations", |net, name, x| net.conv(name, x, 2, 1, 0));
    assert_eq!(golden("conv_activations", &conv).nodes.len(), ACTIVATIONS.len());
    let fc = every_activation("fc_activations", |net, name, x| net.dense(name, x, 2));
    assert_eq!(golden("fc_activations", &fc).nodes.len(), ACTIVATIONS.len());
    let up = every_activation("conv_transpose", |net, name, x| net.conv_transpose(name, x, 2, 1));
    assert_eq!(fused(&up).0.nodes.len(), ACTIVATIONS.len());
}

#[test]
fn residual_in_either_order() {
    let build = |net: &mut Net, x, reversed| {
        let conv = net.conv("conv", x, 4, 3, 1);
        let bn = net.batch_norm("bn", conv);
        let sum = if reversed { net.add("sum", x, bn) } else { net.add("sum", bn, x) };
        net.unary("act", sum, Unary::Clip { lo: 0.0, hi: 6.0 })
    };
    let ops = check("conv_bn_add_relu6", |net, x| build(net, x, false));
    assert_eq!(ops, ["conv"]);
    let (reversed, _) = fused(&case("conv_bn_add_relu6", |net, x| build(net, x, true)));
    assert_eq!(reversed, fused(&case("conv_bn_add_relu6", |net, x| build(net, x, false))).0);
    let dense = |net: &mut Net, reversed| {
        let x = net.input(&[3, 8]);
        let fc = net.dense("fc", x, 8);
        let sum = if reversed { net.add("sum", x, fc) } else { net.add("sum", fc, x) };
        net.unary("act", sum, Unary::Silu)
    };
    let graph = |reversed| {
        let mut net = Net::new("fc_add_act");
        let y = dense(&mut net, reversed);
        net.finish(&[y])
    };
    assert_eq!(golden("fc_add_act", &graph(false)), fused(&graph(true)).0);
}

/// The sum would come before the activation.
#[test]
fn a_sum_after_the_activation_stays() {
    let ops = check("conv_act_then_add", |net, x| {
        let conv = net.conv("conv", x, 4, 3, 1);
        let act = net.relu("act", conv);
        net.add("sum", act, x)
    });
    assert_eq!(ops, ["conv", "add"]);
}

#[test]
fn dense_layers_with_batch_norm() {
    let rows = |name: &str, shape: &[usize], k: usize| {
        let mut net = Net::new(name);
        let x = net.input(shape);
        let fc = net.dense("fc", x, k);
        let bn = net.batch_norm("bn", fc);
        let y = net.relu("relu", bn);
        golden(name, &net.finish(&[y]))
    };
    assert_eq!(operators(&rows("fc_bn_relu", &[2, 8], 5)), ["dense"]);
    // Channels are axis 1, a dense layer's outputs the last: here they are not the same.
    assert_eq!(operators(&rows("fc_bn_along_another_axis", &[2, 3, 8], 5)), ["dense", "batch_norm", "relu"]);
}

/// What ends a classifier: nothing moves data, and the mean of the image stays one node.
#[test]
fn pooled_head() {
    let ops = check("pooled_head", |net, x| {
        let conv = net.conv("conv", x, 8, 1, 0);
        let bn = net.batch_norm("bn", conv);
        let relu = net.relu("relu", bn);
        let mean = net.node("mean", Op::GlobalPool(GlobalPool::Average), &[relu]);
        let flat = net.flatten("flat", mean);
        let dropout = net.node("dropout", Op::Dropout, &[flat]);
        let fc = net.dense("fc", dropout, 5);
        net.node("softmax", Op::Softmax { axis: 1 }, &[fc])
    });
    assert_eq!(ops, ["conv", "global_average_pool", "conv", "reshape", "softmax"]);
}

#[test]
fn prelu() {
    let build = |net: &mut Net, x, slopes: &[f32]| {
        let conv = net.conv("conv", x, 4, 3, 1);
        let slope = net.constant("slope", &[slopes.len(), 1, 1], slopes);
        net.node("prelu", Op::PRelu, &[conv, slope])
    };
    assert_eq!(check("prelu_by_channel", |net, x| build(net, x, &[0.1, 0.2, 0.3, 0.4])), ["conv", "prelu"]);
    assert_eq!(check("prelu_of_one_slope", |net, x| build(net, x, &[0.25; 4])), ["conv"]);
}

#[test]
fn a_transposed_convolution_adds_no_residual() {
    let mut net = Net::new("conv_transpose_bn_add");
    let (x, skip) = (net.input(&[1, 4, 3, 3]), net.input(&[1, 2, 6, 6]));
    let up = net.conv_transpose("up", x, 2, 1);
    let bn = net.batch_norm("bn", up);
    let sum = net.add("sum", bn, skip);
    let y = net.relu("relu", sum);
    let fused = golden("conv_transpose_bn_add", &net.finish(&[y]));
    assert_eq!(operators(&fused), ["conv_transpose", "add", "relu"]);
}

/// x/2·(1 + h) in one of 18 spellings.
fn half_of_x_and_gate(net: &mut Net, x: ValueId, h: ValueId, spelling: usize) -> ValueId {
    let half = |net: &mut Net, v| match spelling / 6 % 3 {
        0 => net.by("half", Binary::Mul, v, 0.5),
        1 => net.by("half", Binary::Div, v, 2.0),
        _ => {
            let half = net.constant("half.c", &[1], &[0.5]);
            net.binary("half", Binary::Mul, half, v)
        }
    };
    match spelling % 6 {
        // x · (1 + h) · 1/2
        0 => {
            let gate = net.by("gate", Binary::Add, h, 1.0);
            let product = net.binary("product", Binary::Mul, x, gate);
            half(net, product)
        }
        // (1 + h) · (x/2)
        1 => {
            let part = half(net, x);
            let gate = net.by("gate", Binary::Add, h, 1.0);
            net.binary("product", Binary::Mul, gate, part)
        }
        // x · ((1 + h)/2)
        2 => {
            let gate = net.by("gate", Binary::Add, h, 1.0);
            let gate = half(net, gate);
            net.binary("product", Binary::Mul, x, gate)
        }
        // x · (h/2 + 1/2)
        3 => {
            let part = half(net, h);
            let gate = net.by("gate", Binary::Add, part, 0.5);
            net.binary("product", Binary::Mul, gate, x)
        }
        // (x + x·h)/2
        4 => {
            let product = net.binary("product", Binary::Mul, x, h);
            let sum = net.add("sum", product, x);
            half(net, sum)
        }
        // x/2 − (−h)·(x/2)
        _ => {
            let part = half(net, x);
            let minus = net.by("minus", Binary::Mul, h, -1.0);
            let product = net.binary("product", Binary::Mul, part, minus);
            let again = net.by("again", Binary::Mul, x, 0.5);
            net.binary("sum", Binary::Sub, again, product)
        }
    }
}

#[test]
fn gelu_by_the_error_function() {
    let build = |net: &mut Net, spelling| {
        let x = net.graph.inputs[0];
        let conv = net.conv("conv", x, 4, 3, 1);
        let y = match spelling % 2 {
            0 => net.by("y", Binary::Div, conv, std::f32::consts::SQRT_2),
            _ => net.by("y", Binary::Mul, conv, std::f32::consts::FRAC_1_SQRT_2),
        };
        let h = net.unary("erf", y, Unary::Erf);
        half_of_x_and_gate(net, conv, h, spelling)
    };
    assert_eq!(check("gelu_erf", |net, _| build(net, 0)), ["conv"]);
    for spelling in 0..18 {
        assert_eq!(left(|net, _| build(net, spelling)), ["conv"], "spelling {spelling}");
    }
    // Another constant is another function.
    let ops = left(|net, x| {
        let y = net.by("y", Binary::Mul, x, 0.7);
        let h = net.unary("erf", y, Unary::Erf);
        half_of_x_and_gate(net, x, h, 0)
    });
    assert!(ops.contains(&"erf".to_string()), "{ops:?}");
}

/// √(2/π)·(x + 0.044715·x³) in one of 5 spellings.
fn cubic(net: &mut Net, x: ValueId, spelling: usize) -> ValueId {
    let slope = (2.0 / std::f32::consts::PI).sqrt();
    let square = net.binary("square", Binary::Mul, x, x);
    match spelling % 5 {
        0 | 1 => {
            let cube = net.binary("cube", Binary::Mul, x, square);
            let part = net.by("part", Binary::Mul, cube, 0.044715);
            let sum = if spelling % 5 == 0 { net.add("inner", x, part) } else { net.add("inner", part, x) };
            net.by("y", Binary::Mul, sum, slope)
        }
        // Terms scaled apart.
        2 => {
            let cube = net.binary("cube", Binary::Mul, square, x);
            let part = net.by("part", Binary::Mul, cube, 0.044715 * slope);
            let linear = net.by("linear", Binary::Mul, x, slope);
            net.add("y", linear, part)
        }
        // x · slope · (1 + 0.044715·x²), twice.
        3 => {
            let part = net.by("part", Binary::Mul, square, 0.044715);
            let sum = net.by("inner", Binary::Add, part, 1.0);
            let scaled = net.by("scaled", Binary::Mul, x, slope);
            net.binary("y", Binary::Mul, scaled, sum)
        }
        _ => {
            let part = net.by("part", Binary::Mul, square, 0.044715);
            let sum = net.by("inner", Binary::Add, part, 1.0);
            let product = net.binary("product_y", Binary::Mul, sum, x);
            net.by("y", Binary::Mul, product, slope)
        }
    }
}

#[test]
fn gelu_by_the_hyperbolic_tangent() {
    let build = |net: &mut Net, gate, inner| {
        let x = net.graph.inputs[0];
        let conv = net.conv("conv", x, 4, 3, 1);
        let y = cubic(net, conv, inner);
        let h = net.unary("tanh", y, Unary::Tanh);
        half_of_x_and_gate(net, conv, h, gate)
    };
    assert_eq!(check("gelu_tanh", |net, _| build(net, 0, 0)), ["conv"]);
    for (gate, inner) in (0..18).flat_map(|gate| (0..5).map(move |inner| (gate, inner))) {
        assert_eq!(left(|net, _| build(net, gate, inner)), ["conv"], "spelling {gate}, {inner}");
    }
}

#[test]
fn gelu_whose_gate_is_read() {
    let mut net = Net::new("gelu_read_inside");
    let x = net.input(&[1, 4, 6, 6]);
    let y = net.by("y", Binary::Div, x, std::f32::consts::SQRT_2);
    let h = net.unary("erf", y, Unary::Erf);
    let gelu = half_of_x_and_gate(&mut net, x, h, 0);
    let pool = net.average("pool", h);
    let fused = golden("gelu_read_inside", &net.finish(&[gelu, pool]));
    assert!(!operators(&fused).contains(&"gelu".into()));
}
