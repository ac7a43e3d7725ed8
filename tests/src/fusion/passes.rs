//! What fusion does beyond MXNet's list, pass by pass: goldens for what is worth reading, counts for variants.

use super::net::Net;
use super::{fused, golden};
use qgraph_compiler::fuse;
use qgraph_compiler::graph::*;

const X: [usize; 4] = [1, 4, 6, 6];

pub(super) fn case(name: &str, build: impl FnOnce(&mut Net, ValueId) -> ValueId) -> Graph {
    let mut net = Net::new(name);
    let x = net.input(&X);
    let output = build(&mut net, x);
    net.finish(&[output])
}

/// Golden, and the operators that are left.
pub(super) fn check(name: &str, build: impl FnOnce(&mut Net, ValueId) -> ValueId) -> Vec<String> {
    operators(&golden(name, &case(name, build)))
}

/// The operators that are left, without a golden.
pub(super) fn left(build: impl FnOnce(&mut Net, ValueId) -> ValueId) -> Vec<String> {
    operators(&fused(&case("variant", build)).0)
}

pub(super) fn operators(graph: &Graph) -> Vec<String> {
    graph.nodes.iter().map(|n| n.op.name()).collect()
}

/// x · clip(x + 3, 0, 6) / 6 in one of its spellings.
fn hard_swish(net: &mut Net, x: ValueId, spelling: usize) -> ValueId {
    let three = net.constant("three", &[1], &[3.0]);
    let add = match spelling % 2 {
        0 => net.add("add", x, three),
        _ => net.add("add", three, x),
    };
    let clip = net.unary("clip", add, Unary::Clip { lo: 0.0, hi: 6.0 });
    let mul = |net: &mut Net, a, b| match spelling / 2 % 2 {
        0 => net.binary("mul", Binary::Mul, a, b),
        _ => net.binary("mul", Binary::Mul, b, a),
    };
    let sixth = |net: &mut Net, v| match spelling / 4 % 2 {
        0 => net.by("div", Binary::Div, v, 6.0),
        _ => net.by("div", Binary::Mul, v, 1.0 / 6.0),
    };
    match spelling / 8 {
        0 => {
            let product = mul(net, x, clip);
            sixth(net, product)
        }
        1 => {
            let gate = sixth(net, clip);
            mul(net, x, gate)
        }
        _ => {
            let part = sixth(net, x);
            mul(net, part, clip)
        }
    }
}

#[test]
fn hard_swish_in_every_spelling() {
    check("hard_swish", |net, x| {
        let conv = net.conv("conv", x, 8, 3, 1);
        hard_swish(net, conv, 0)
    });
    for spelling in 0..24 {
        let ops = left(|net, x| {
            let conv = net.conv("conv", x, 8, 3, 1);
            hard_swish(net, conv, spelling)
        });
        assert_eq!(ops, ["conv"], "spelling {spelling}");
    }
    let ops = left(|net, x| {
        let gate = net.unary("gate", x, Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 });
        net.binary("mul", Binary::Mul, gate, x)
    });
    assert_eq!(ops, ["hard_swish"]);
}

#[test]
fn hard_swish_whose_inside_is_read() {
    let mut net = Net::new("hard_swish_read_inside");
    let x = net.input(&X);
    let y = hard_swish(&mut net, x, 0);
    let clip = ValueId(net.graph.values.iter().position(|v| v.name == "clip").unwrap() as u32);
    let pool = net.average("pool", clip);
    let fused = golden("hard_swish_read_inside", &net.finish(&[y, pool]));
    assert!(!operators(&fused).contains(&"hard_swish".into()));
}

#[test]
fn hard_sigmoid() {
    check("hard_sigmoid", |net, x| {
        let add = net.by("add", Binary::Add, x, 3.0);
        let clip = net.unary("clip", add, Unary::Clip { lo: 0.0, hi: 6.0 });
        net.by("div", Binary::Div, clip, 6.0)
    });
}

#[test]
fn gates_of_x_by_functions_of_x() {
    let product = |first, second: Option<Unary>| {
        left(|net, x| {
            let mut gate = net.unary("first", x, first);
            if let Some(second) = second {
                gate = net.unary("second", gate, second);
            }
            net.binary("mul", Binary::Mul, gate, x)
        })
    };
    assert_eq!(product(Unary::Sigmoid, None), ["silu"]);
    assert_eq!(product(Unary::Softplus, Some(Unary::Tanh)), ["mish"]);
    assert_eq!(product(Unary::Tanh, None), ["tanh", "mul"]);
    // A gate of another value is no silu.
    let ops = left(|net, x| {
        let other = net.average("pool", x);
        let gate = net.unary("gate", other, Unary::Sigmoid);
        net.binary("mul", Binary::Mul, x, gate)
    });
    assert_eq!(ops, ["average_pool", "sigmoid", "mul"]);
    assert_eq!(left(|net, x| net.binary("mul", Binary::Mul, x, x)), ["square"]);
    let prelu = |slopes: &[f32]| {
        left(|net, x| {
            let slope = net.constant("slope", &[slopes.len(), 1, 1], slopes);
            net.node("prelu", Op::PRelu, &[x, slope])
        })
    };
    assert_eq!(prelu(&[0.1; 4]), ["leaky_relu"]);
    assert_eq!(prelu(&[0.1, 0.2, 0.3, 0.4]), ["prelu"]);
}

#[test]
fn clamps() {
    check("clamps", |net, x| {
        let conv = net.conv("conv", x, 4, 1, 0);
        let sum = net.add("sum", conv, conv);
        let relu = net.relu("relu", sum);
        let clip = net.unary("clip", relu, Unary::Clip { lo: -1.0, hi: 6.0 });
        net.relu("again", clip)
    });
    let ops = left(|net, x| {
        let sigmoid = net.unary("sigmoid", x, Unary::Sigmoid);
        net.relu("relu", sigmoid)
    });
    assert_eq!(ops, ["sigmoid"]);
    // Disjoint: everything becomes the bound of the second.
    let ops = left(|net, x| {
        let low = net.unary("low", x, Unary::Clip { lo: -2.0, hi: -1.0 });
        net.unary("high", low, Unary::Clip { lo: 1.0, hi: 2.0 })
    });
    assert_eq!(ops, ["clip"]);
}

#[test]
fn batch_norm_before_a_convolution() {
    let ops = check("bn_before_conv", |net, x| {
        let bn = net.batch_norm("bn", x);
        net.conv("conv", bn, 8, 3, 0)
    });
    assert_eq!(ops, ["conv"]);
    let ops = check("bn_before_padded_conv", |net, x| {
        let bn = net.batch_norm("bn", x);
        net.conv("conv", bn, 8, 3, 1)
    });
    assert_eq!(ops, ["batch_norm", "conv"]);
    // A scale alone keeps 0 at 0.
    let ops = left(|net, x| {
        let scaled = net.by("scale", Binary::Mul, x, 0.5);
        net.conv("conv", scaled, 8, 3, 1)
    });
    assert_eq!(ops, ["conv"]);
    // Groups; the layer before wins over the layer after.
    let ops = left(|net, x| {
        let bn = net.batch_norm("bn", x);
        let depthwise = net.conv_with("depthwise", bn, 8, 3, [0; 4], 4);
        let bn = net.batch_norm("bn2", depthwise);
        net.conv_with("grouped", bn, 4, 3, [1; 4], 2)
    });
    assert_eq!(ops, ["conv", "conv"]);
}

#[test]
fn pre_activation_block() {
    let ops = check("pre_activation_block", |net, x| {
        let stem = net.conv("stem", x, 8, 3, 1);
        let bn1 = net.batch_norm("bn1", stem);
        let relu1 = net.relu("relu1", bn1);
        let conv1 = net.conv("conv1", relu1, 8, 3, 1);
        let bn2 = net.batch_norm("bn2", conv1);
        let relu2 = net.relu("relu2", bn2);
        let conv2 = net.conv("conv2", relu2, 8, 3, 1);
        let add = net.add("add", conv2, stem);
        let bn3 = net.batch_norm("bn3", add);
        net.relu("relu3", bn3)
    });
    assert_eq!(ops, ["conv", "batch_norm", "relu", "conv", "conv", "batch_norm", "relu"]);
}

#[test]
fn batch_norm_after_other_layers() {
    for groups in [1, 2] {
        let ops = left(|net, x| {
            let up = net.conv_transpose("up", x, 8, groups);
            let bn = net.batch_norm("bn", up);
            net.relu("relu", bn)
        });
        assert_eq!(ops, ["conv_transpose"]);
        // A transposed convolution after it can take the scale, never the shift.
        let ops = left(|net, x| {
            let scale = net.random_constant("scale", &[1, 4, 1, 1], 1.0);
            let scaled = net.binary("mul", Binary::Mul, scale, x);
            net.conv_transpose("up", scaled, 8, groups)
        });
        assert_eq!(ops, ["conv_transpose"]);
    }
    let ops = left(|net, x| {
        let bn = net.batch_norm("bn", x);
        net.conv_transpose("up", bn, 8, 1)
    });
    assert_eq!(ops, ["batch_norm", "conv_transpose"]);
    let ops = left(|net, x| {
        let flat = net.flatten("flatten", x);
        let fc = net.dense("fc", flat, 8);
        let bn = net.batch_norm("bn", fc);
        let fc = net.dense("fc2", bn, 3);
        net.unary("abs", fc, Unary::Abs)
    });
    assert_eq!(ops, ["conv", "conv", "reshape"]);
}

#[test]
fn arithmetic_by_constants() {
    let ops = check("arithmetic_into_conv", |net, x| {
        let conv = net.conv("conv", x, 8, 3, 1);
        let mul = net.by("mul", Binary::Mul, conv, 2.0);
        let per_channel = net.random_constant("offsets", &[8, 1, 1], 1.0);
        let sub = net.binary("sub", Binary::Sub, per_channel, mul);
        let div = net.by("div", Binary::Div, sub, 4.0);
        net.by("add", Binary::Add, div, 1.0)
    });
    assert_eq!(ops, ["conv"]);
    let ops = check("arithmetic_left_alone", |net, x| {
        let halved = net.by("halve", Binary::Mul, x, 0.5);
        let shifted = net.by("shift", Binary::Sub, halved, 0.25);
        net.relu("relu", shifted)
    });
    assert_eq!(ops, ["batch_norm", "relu"]);
    // Along the width: neither a weight nor a batch normalization can do that.
    let ops = left(|net, x| {
        let conv = net.conv("conv", x, 8, 3, 1);
        let columns = net.random_constant("columns", &[6], 1.0);
        net.add("add", conv, columns)
    });
    assert_eq!(ops, ["conv", "add"]);
    // The numerator is not affine.
    assert_eq!(
        left(|net, x| {
            let exp = net.unary("exp", x, Unary::Exp);
            let one = net.constant("one", &[], &[1.0]);
            net.binary("div", Binary::Div, one, exp)
        }),
        ["exp", "div"]
    );
    // Rank 2, where no batch normalization stands in.
    let ops = left(|net, x| {
        let flat = net.flatten("flatten", x);
        let softmax = net.node("softmax", Op::Softmax { axis: 1 }, &[flat]);
        let twice = net.by("twice", Binary::Mul, softmax, 2.0);
        net.by("thrice", Binary::Mul, twice, 3.0)
    });
    assert_eq!(ops, ["reshape", "softmax", "mul"]);
}

#[test]
fn numbers_beyond_f32_are_refused() {
    let mut net = Net::new("overflow");
    let x = net.input(&X);
    let conv = net.conv("conv", x, 2, 1, 0);
    let mul = net.by("mul", Binary::Mul, conv, 3e38);
    let mul = net.by("mul2", Binary::Mul, mul, 3e38);
    let sum = net.relu("relu", mul);
    let graph = net.finish(&[sum]);
    let (fused, events) = fuse::fuse(&graph).unwrap();
    assert_eq!(verify::verify(&fused), []);
    assert!(events.iter().any(|e| !e.done), "{events:?}");
    // A variance below −epsilon, a division by zero: no function to fold.
    let mut net = Net::new("nan");
    let x = net.input(&X);
    let conv = net.conv("conv", x, 2, 1, 0);
    let div = net.by("div", Binary::Div, conv, 0.0);
    let graph = net.finish(&[div]);
    assert_eq!(operators(&fuse::fuse(&graph).unwrap().0), ["conv", "div"]);
}

#[test]
fn pads() {
    let ops = check("pad_into_conv", |net, x| {
        let pad = net.pad("pad", x, 2, 0.0);
        net.conv("conv", pad, 8, 3, 1)
    });
    assert_eq!(ops, ["conv"]);
    let average = |count_include_pad| PoolKind::Average { count_include_pad };
    let ops = check("pad_into_average", |net, x| {
        let pad = net.pad("pad", x, 1, 0.0);
        net.pool_with("pool", pad, average(false), [0; 4])
    });
    assert_eq!(ops, ["average_pool"]);
    let ops = check("pad_into_uncounted_average", |net, x| {
        let pad = net.pad("pad", x, 1, 0.0);
        net.pool_with("pool", pad, average(false), [1, 0, 0, 0])
    });
    assert_eq!(ops, ["pad", "average_pool"]);
    let maximum = |positive: bool, value: f32, around: usize| {
        left(|net, x| {
            let x = if positive { net.relu("relu", x) } else { x };
            let pad = net.pad("pad", x, around, value);
            net.pool_with("pool", pad, PoolKind::Max, [0; 4])
        })
    };
    assert_eq!(maximum(true, 0.0, 1), ["relu", "max_pool"]);
    assert_eq!(maximum(false, 0.0, 1), ["pad", "max_pool"]);
    assert_eq!(maximum(false, -3.4e38, 1), ["max_pool"]);
    assert_eq!(maximum(true, 0.5, 1), ["relu", "pad", "max_pool"]);
    // A window that lies wholly in the padding.
    assert_eq!(maximum(true, 0.0, 3), ["relu", "pad", "max_pool"]);
    let ops = left(|net, x| {
        let pad = net.pad("pad", x, 1, 1.0);
        net.conv("conv", pad, 8, 3, 0)
    });
    assert_eq!(ops, ["pad", "conv"]);
}

#[test]
fn residuals_refused() {
    let mut net = Net::new("residual_broadcast");
    let x = net.input(&X);
    let pixel = net.input(&[1, 8, 1, 1]);
    let conv = net.conv("conv", x, 8, 3, 1);
    let add = net.add("add", conv, pixel);
    let ops = operators(&golden("residual_broadcast", &net.finish(&[add])));
    assert_eq!(ops, ["conv", "add"]);
    // The convolution is the smaller operand.
    let mut net = Net::new("residual_of_pixel");
    let x = net.input(&[1, 4, 1, 1]);
    let map = net.input(&[1, 8, 6, 6]);
    let conv = net.conv("conv", x, 8, 1, 0);
    let add = net.add("add", conv, map);
    assert_eq!(operators(&fused(&net.finish(&[add])).0), ["conv", "add"]);
    assert_eq!(
        left(|net, x| {
            let conv = net.conv("conv", x, 8, 3, 1);
            net.add("add", conv, conv)
        }),
        ["conv", "add"]
    );
}

#[test]
fn two_residuals_in_a_row() {
    let ops = check("two_residuals", |net, x| {
        let a = net.conv("a", x, 4, 1, 0);
        let b = net.conv("b", x, 4, 1, 0);
        let first = net.add("first", a, x);
        let second = net.add("second", b, first);
        net.relu("relu", second)
    });
    assert_eq!(ops, ["conv", "conv"]);
}

#[test]
fn flatten_and_dense() {
    let ops = check("flatten_and_dense", |net, x| {
        let flat = net.flatten("flatten", x);
        let fc1 = net.dense("fc1", flat, 16);
        let relu1 = net.relu("relu1", fc1);
        let fc2 = net.dense("fc2", relu1, 16);
        let sum = net.add("sum", fc2, relu1);
        net.relu("relu2", sum)
    });
    assert_eq!(ops, ["conv", "conv", "reshape"]);
    // Channels last: not the order in which the kernel would read.
    let ops = left(|net, x| {
        let last = net.node("last", Op::Transpose(vec![0, 2, 3, 1]), &[x]);
        let rows = net.reshape("rows", last, &[1, 36, 4]);
        net.dense("fc", rows, 3)
    });
    assert_eq!(ops, ["transpose", "reshape", "dense"]);
}

#[test]
fn activation_behind_a_reshape() {
    let ops = check("activation_behind_a_reshape", |net, x| {
        let conv = net.conv("conv", x, 4, 3, 1);
        let last = net.node("last", Op::Transpose(vec![0, 2, 3, 1]), &[conv]);
        let rows = net.reshape("rows", last, &[1, 36, 4]);
        net.unary("sigmoid", rows, Unary::Sigmoid)
    });
    assert_eq!(ops, ["conv", "transpose", "reshape"]);
}

#[test]
fn moves() {
    let ops = check("moves", |net, x| {
        let a = net.node("a", Op::Transpose(vec![0, 2, 3, 1]), &[x]);
        let b = net.node("b", Op::Transpose(vec![0, 3, 1, 2]), &[a]);
        let c = net.reshape("c", b, &[4, 36]);
        let d = net.reshape("d", c, &X);
        let e = net.pad("e", d, 0, 0.0);
        net.relu("relu", e)
    });
    assert_eq!(ops, ["relu"]);
    let ops = left(|net, x| {
        let inner = net.concat("inner", 1, &[x, x]);
        let relu = net.relu("relu", x);
        net.concat("outer", 1, &[relu, inner, relu])
    });
    assert_eq!(ops, ["relu", "concat"]);
    // A backwards slice is not the whole.
    let axis = |count| SliceAxis { start: 0, step: 1, count };
    let ops = left(|net, x| {
        let back = SliceAxis { start: 5, step: -1, count: 6 };
        net.node("flip", Op::Slice(vec![axis(1), axis(4), axis(6), back]), &[x])
    });
    assert_eq!(ops, ["slice"]);
    let ops = check("resize_of_a_pixel", |net, x| {
        let pixel = net.node("pixel", Op::GlobalPool(GlobalPool::Average), &[x]);
        let again = net.node("again", Op::GlobalPool(GlobalPool::Max), &[pixel]);
        let resize = Resize {
            interpolation: Interpolation::Linear,
            coordinates: Coordinates::HalfPixel,
            scales: [6.0, 6.0],
            output: [6, 6],
        };
        net.node("resize", Op::Resize(resize), &[again])
    });
    assert_eq!(ops, ["global_average_pool", "resize"]);
}

#[test]
fn constants_twins_and_the_dead() {
    let mut net = Net::new("cleaning");
    let x = net.input(&X);
    let two = net.constant("two", &[1], &[2.0]);
    let four = net.binary("four", Binary::Mul, two, two);
    let a = net.add("a", x, four);
    let four_again = net.constant("four_again", &[1], &[4.0]);
    let b = net.add("b", x, four_again);
    let ra = net.unary("ra", a, Unary::Tanh);
    let rb = net.unary("rb", b, Unary::Tanh);
    let sum = net.add("sum", ra, rb);
    net.unary("unread", b, Unary::Exp);
    let fused = golden("cleaning", &net.finish(&[sum]));
    assert_eq!(operators(&fused), ["batch_norm", "tanh", "add"]);
}

#[test]
fn outputs_keep_their_names() {
    // Identity at the border: of a node, of an input, twice of the same; twins that are both outputs.
    let mut net = Net::new("outputs");
    let x = net.input(&X);
    let relu = net.relu("relu", x);
    let tanh = net.unary("tanh", relu, Unary::Tanh);
    let out = net.node("out", Op::Identity, &[relu]);
    let again = net.node("again", Op::Identity, &[relu]);
    let echo = net.node("echo", Op::Identity, &[x]);
    let twin = net.unary("twin", relu, Unary::Tanh);
    let graph = net.finish(&[out, tanh, again, echo, twin]);
    let fused = golden("outputs", &graph);
    assert_eq!(fused.outputs.len(), 5);
}

/// Something for every pass, and the counts in the report.
#[test]
fn every_pass_at_work() {
    let graph = case("every_pass", |net, x| {
        let same = net.node("same", Op::Identity, &[x]);
        net.relu("unread", same);
        let pad = net.pad("pad", same, 1, 0.0);
        let conv = net.conv("conv", pad, 4, 3, 0);
        let bn = net.batch_norm("bn", conv);
        let gained = net.by("gained", Binary::Mul, same, 1.5);
        let add = net.add("add", bn, gained);
        let twin = net.add("twin", bn, gained);
        let relu = net.relu("relu", add);
        let relu6 = net.unary("relu6", twin, Unary::Clip { lo: 0.0, hi: 6.0 });
        let both = net.concat("both", 1, &[relu, relu6]);
        let clip = net.unary("clip", both, Unary::Clip { lo: 1.0, hi: 7.0 });
        let again = net.relu("again", clip);
        let swish = hard_swish(net, again, 0);
        let scaled = net.by("scaled", Binary::Mul, swish, 2.0);
        let shifted = net.by("shifted", Binary::Add, scaled, 0.5);
        let pool = net.average("pool", shifted);
        let two = net.constant("two", &[1], &[2.0]);
        let four = net.binary("four", Binary::Mul, two, two);
        let quarter = net.binary("quarter", Binary::Div, pool, four);
        let normal = net.conv("normal", quarter, 4, 1, 0);
        let last = net.node("last", Op::Transpose(vec![0, 2, 3, 1]), &[normal]);
        let tanh = net.unary("tanh", last, Unary::Tanh);
        let first = net.node("first", Op::Transpose(vec![0, 3, 1, 2]), &[tanh]);
        let flat = net.flatten("flatten", first);
        net.dense("fc", flat, 3)
    });
    let (_, events) = fused(&graph);
    // A float network has no roundings: `given` has networks that do.
    for pass in fuse::PASSES.iter().filter(|p| !["round", "sum"].contains(&p.name)) {
        assert!(events.iter().any(|e| e.done && e.pass == pass.name), "{} had nothing to do", pass.name);
    }
    golden("every_pass", &graph);
    let report = fuse::report(&events);
    let (counts, list) = report.split_once('\n').unwrap();
    let made = "19 fused (identity 2, constant 1, common 1, dead 3, movement 1, pattern 1, clamp 1, sink 1, affine-merge 1, \
                affine-after 1, affine-before 1, pad 1, residual 1, activation 1, flatten 1, affine-normal 1)";
    assert_eq!(counts, format!("{made}, 4 declined (activation 2, affine-normal 2)"));
    let lines: String = events.iter().map(|e| format!("  {e}\n")).collect();
    assert_eq!(list, lines);
}

#[test]
fn an_unknown_pass_is_an_error() {
    let error = fuse::Options::default().set("batchnorm", true).unwrap_err().to_string();
    assert!(error.contains("batchnorm") && error.contains("affine-after"), "{error}");
}

#[test]
fn an_invalid_graph_is_an_error() {
    let mut graph = case("invalid", |net, x| net.relu("relu", x));
    graph.nodes[0].inputs = vec![ValueId(77)];
    let error = fuse::fuse(&graph).unwrap_err().to_string();
    assert!(error.contains("relu"), "{error}");
}
