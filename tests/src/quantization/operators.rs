//! Every operator on both roads: in float within rounding, in integers within the noise of eight bits.

use super::net::{Net, check, conv};
use qgraph_compiler::graph::*;
use qgraph_compiler::qgraph::{Arithmetic, QOp};

/// A network of one input, `build` and one more convolution, so that `build`'s result is u8.
fn within(shape: &[usize], decibels: f64, build: impl FnOnce(&mut Net, ValueId) -> ValueId) {
    let mut net = Net::new(7);
    let x = net.input(shape);
    let y = build(&mut net, x);
    let y = net.same("last", y, 8, 1, None);
    check(&net.done(&[y]), decibels);
}

#[test]
fn convolutions() {
    let relu = Some(Unary::Relu);
    let relu6 = Some(Unary::Clip { lo: 0.0, hi: 0.6 });
    for (channels, outputs, c) in [
        (3, 16, Conv { pads: [1, 0, 2, 1], ..conv(3, 2, 1) }),
        (3, 20, Conv { kernel: [7, 5], strides: [2, 3], pads: [3, 2, 3, 2], ..conv(3, 1, 0) }),
        (1, 8, conv(5, 1, 2)),
        (2, 8, Conv { dilations: [2, 2], ..conv(3, 1, 2) }),
        (8, 40, conv(1, 1, 0)),
        (18, 17, Conv { epilogue: Epilogue { residual: false, activation: relu }, ..conv(3, 1, 1) }),
        (16, 16, Conv { groups: 16, ..conv(3, 1, 1) }),
        (20, 20, Conv { groups: 20, kernel: [5, 3], strides: [2, 1], ..conv(5, 1, 2) }),
        (
            12,
            24,
            Conv { groups: 3, epilogue: Epilogue { residual: false, activation: relu6 }, ..conv(3, 1, 1) },
        ),
        (4, 8, Conv { groups: 4, ..conv(3, 1, 1) }),
    ] {
        let text = format!("{c:?}");
        println!("{text}");
        within(&[1, channels, 11, 10], 30.0, |net, x| net.conv("c", x, outputs, c, None));
    }
    within(&[2, 5, 6, 7], 30.0, |net, x| net.conv("c", x, 9, conv(3, 1, 1), None));
}

#[test]
fn residuals() {
    for activation in [None, Some(Unary::Relu), Some(Unary::Clip { lo: -0.5, hi: 0.9 }), Some(Unary::Sigmoid)]
    {
        within(&[1, 8, 6, 6], 28.0, |net, x| {
            let r = net.same("r", x, 16, 1, None);
            let c = Conv { epilogue: Epilogue { residual: true, activation }, ..conv(3, 1, 1) };
            net.conv("c", x, 16, c, Some(r))
        });
    }
}

#[test]
fn activations() {
    for f in [
        Unary::Relu,
        Unary::Clip { lo: -0.3, hi: f32::INFINITY },
        Unary::Clip { lo: f32::NEG_INFINITY, hi: 0.4 },
        Unary::LeakyRelu { alpha: 0.1 },
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
        Unary::Abs,
        Unary::Exp,
        Unary::Erf,
    ] {
        println!("{f}");
        // Fused, alone behind a move, and in float as the last layer.
        within(&[1, 4, 6, 6], 27.0, |net, x| net.same("c", x, 8, 3, Some(f)));
        within(&[1, 4, 6, 6], 27.0, |net, x| net.op("f", Op::Unary(f), &[x]));
        let mut net = Net::new(3);
        let x = net.input(&[1, 4, 6, 6]);
        let y = net.same("c", x, 8, 3, Some(f));
        check(&net.done(&[y]), 30.0);
    }
}

#[test]
fn dense_layers() {
    // From an image, from a matrix, with three axes, with a residual, twice in a row.
    let mut net = Net::new(1);
    let x = net.input(&[2, 3, 4, 5]);
    let c = net.same("c", x, 6, 3, Some(Unary::Relu));
    let f = net.op("flat", Op::Reshape(vec![2, 120]), &[c]);
    let relu = Epilogue { residual: false, activation: Some(Unary::Relu) };
    let a = net.dense("a", f, 10, relu.clone());
    let b = net.dense("b", a, 7, Epilogue::default());
    let q = check(&net.done(&[b]), 30.0);
    // No reshape is left but the last: the first layer reads the image, the second the first.
    let reshapes: Vec<_> = q.nodes.iter().filter(|n| n.op == QOp::Reshape).map(|n| &n.name[..]).collect();
    assert_eq!(reshapes, ["b/out"]);
    assert!(q.values.iter().any(|v| v.name == "a"), "{q}");

    let mut net = Net::new(2);
    let x = net.input(&[2, 5, 12]);
    let a = net.dense("a", x, 9, relu);
    let r = net.dense("r", x, 9, Epilogue::default());
    let w = net.constant("w", &[9, 9], 0.5);
    let bias = net.constant("bias", &[9], 0.5);
    let sum = Op::Dense(Epilogue { residual: true, activation: Some(Unary::Silu) });
    let s = net.op("s", sum, &[a, w, bias, r]);
    let y = net.dense("y", s, 4, Epilogue::default());
    check(&net.done(&[y]), 27.0);
}

#[test]
fn transposed_convolutions() {
    for stride in [[1, 1], [2, 2], [3, 2]] {
        for (kernel, pads, dilations, groups) in [
            ([2, 2], [0, 0, 0, 0], [1, 1], 1),
            ([3, 4], [1, 1, 1, 2], [1, 1], 1),
            ([4, 3], [2, 0, 1, 1], [2, 1], 1),
            ([3, 3], [1, 1, 1, 1], [2, 3], 2),
            ([1, 5], [0, 3, 0, 4], [1, 1], 6),
        ] {
            for output_padding in [[0, 0], [stride[0] - 1, 0]] {
                let c = ConvTranspose {
                    kernel,
                    strides: stride,
                    dilations,
                    pads,
                    output_padding,
                    groups,
                    epilogue: Epilogue { residual: false, activation: Some(Unary::Relu) },
                };
                println!("{c:?}");
                within(&[1, 6, 5, 6], 28.0, |net, x| net.transposed("t", x, 12, c));
            }
        }
    }
    // As the last layer, and with a table.
    let c = ConvTranspose {
        kernel: [4, 4],
        strides: [2, 2],
        dilations: [1, 1],
        pads: [1; 4],
        output_padding: [0, 0],
        groups: 1,
        epilogue: Epilogue { residual: false, activation: Some(Unary::Sigmoid) },
    };
    let mut net = Net::new(5);
    let x = net.input(&[1, 4, 5, 5]);
    let t = net.transposed("t", x, 6, c.clone());
    let y = net.transposed("y", t, 3, c);
    check(&net.done(&[y]), 30.0);
}

#[test]
fn arithmetic() {
    for op in [Binary::Add, Binary::Sub, Binary::Mul] {
        println!("{op:?}");
        within(&[1, 4, 6, 6], 25.0, |net, x| {
            let a = net.same("a", x, 8, 3, None);
            let b = net.same("b", x, 8, 3, None);
            net.op("y", Op::Binary(op), &[a, b])
        });
        // Broadcast along every axis in turn, tensor and constant, either order.
        for shape in [&[1, 8, 1, 1][..], &[8, 1, 1], &[1, 1, 6, 6], &[6], &[1, 8, 6, 6], &[]] {
            within(&[1, 4, 6, 6], 25.0, |net, x| {
                let a = net.same("a", x, 8, 3, None);
                let c = net.constant("k", shape, 1.0);
                let y = net.op("y", Op::Binary(op), &[a, c]);
                let c = net.constant("l", shape, 1.0);
                net.op("z", Op::Binary(op), &[c, y])
            });
        }
        within(&[1, 4, 6, 6], 25.0, |net, x| {
            let a = net.same("a", x, 8, 3, None);
            let g = net.op("g", Op::GlobalPool(GlobalPool::Average), &[a]);
            let y = net.op("y", Op::Binary(op), &[a, g]);
            net.op("z", Op::Unary(Unary::Relu), &[y])
        });
    }
    within(&[1, 4, 6, 6], 28.0, |net, x| {
        let a = net.same("a", x, 8, 3, Some(Unary::Sigmoid));
        let c = net.graph.add_constant("k", Tensor::new([1, 1, 1], [2.5]));
        let y = net.op("y", Op::Binary(Binary::Div), &[a, c]);
        let one = net.graph.add_constant("one", Tensor::new([], [1.0]));
        let d = net.op("d", Op::Binary(Binary::Add), &[a, one]);
        let y = net.op("q", Op::Binary(Binary::Div), &[y, d]);
        net.op("r", Op::Binary(Binary::Div), &[one, y])
    });
    within(&[1, 5, 6, 6], 28.0, |net, x| {
        let y = net.batch_norm("bn", x);
        net.op("relu", Op::Unary(Unary::Relu), &[y])
    });
    within(&[1, 5, 6, 6], 28.0, |net, x| {
        let y = net.same("c", x, 8, 3, None);
        net.batch_norm("bn", y)
    });
}

#[test]
fn slopes() {
    for shape in [&[1][..], &[8, 1, 1], &[1, 1, 1]] {
        within(&[1, 4, 6, 6], 28.0, |net, x| {
            let a = net.same("a", x, 8, 3, None);
            let s = net.constant("slope", shape, 0.5);
            net.op("p", Op::PRelu, &[a, s])
        });
    }
}

#[test]
fn pools() {
    let pool =
        |kind, kernel, strides, pads, output| Pool { kind, kernel, strides, dilations: [1, 1], pads, output };
    let average = |count_include_pad| PoolKind::Average { count_include_pad };
    for p in [
        pool(PoolKind::Max, [3, 3], [2, 2], [1; 4], [4, 4]),
        pool(PoolKind::Max, [2, 2], [2, 2], [0; 4], [4, 4]),
        pool(average(false), [3, 3], [1, 1], [1; 4], [7, 8]),
        pool(average(true), [3, 2], [2, 2], [1; 4], [4, 5]),
        pool(average(false), [2, 3], [2, 2], [0; 4], [4, 4]),
    ] {
        println!("{p:?}");
        let behind = p.clone();
        within(&[1, 4, 7, 8], 28.0, |net, x| {
            let c = net.same("c", x, 8, 3, None);
            let y = net.op("p", Op::Pool(p), &[c]);
            net.op("relu", Op::Unary(Unary::Relu), &[y])
        });
        // As the last layer.
        let mut net = Net::new(4);
        let x = net.input(&[1, 4, 7, 8]);
        let c = net.same("c", x, 8, 3, None);
        let y = net.op("p", Op::Pool(behind), &[c]);
        check(&net.done(&[y]), 28.0);
    }
    for p in [GlobalPool::Max, GlobalPool::Average] {
        within(&[2, 4, 7, 8], 28.0, |net, x| {
            let c = net.same("c", x, 8, 3, Some(Unary::Relu));
            net.op("p", Op::GlobalPool(p), &[c])
        });
    }
}

#[test]
fn moves() {
    within(&[1, 4, 6, 6], 30.0, |net, x| {
        let a = net.same("a", x, 8, 3, None);
        let y = net.op("t", Op::Transpose(vec![0, 3, 1, 2]), &[a]);
        let pads = vec![(0, 0), (0, 1), (1, 2), (0, 0)];
        let y = net.op("pad", Op::Pad { pads, value: 0.25 }, &[y]);
        let axis = |start, step, count| SliceAxis { start, step, count };
        let axes = vec![axis(0, 1, 1), axis(6, -2, 3), axis(1, 1, 8), axis(0, 2, 3)];
        let y = net.op("s", Op::Slice(axes), &[y]);
        let y = net.op("r", Op::Reshape(vec![1, 9, 4, 2]), &[y]);
        let y = net.op("i", Op::Identity, &[y]);
        net.op("d", Op::Dropout, &[y])
    });
    within(&[1, 4, 6, 6], 28.0, |net, x| {
        let a = net.same("a", x, 8, 3, None);
        let k = net.constant("k", &[1, 2, 6, 6], 0.5);
        net.op("cat", Op::Concat { axis: 1 }, &[x, a, k])
    });
}

#[test]
fn resizes() {
    let nearest = [
        NearestRounding::RoundPreferFloor,
        NearestRounding::RoundPreferCeil,
        NearestRounding::Floor,
        NearestRounding::Ceil,
    ]
    .map(Interpolation::Nearest);
    for coordinates in [
        Coordinates::HalfPixel,
        Coordinates::PytorchHalfPixel,
        Coordinates::AlignCorners,
        Coordinates::Asymmetric,
    ] {
        for interpolation in nearest.into_iter().chain([Interpolation::Linear]) {
            for output in [[10, 12], [7, 3], [1, 6]] {
                let scales = [output[0] as f32 / 5.0, output[1] as f32 / 6.0];
                let r = Resize { interpolation, coordinates, scales, output };
                println!("{r:?}");
                within(&[1, 3, 5, 6], 30.0, |net, x| {
                    let a = net.same("a", x, 8, 3, None);
                    net.op("r", Op::Resize(r), &[a])
                });
            }
        }
    }
}

#[test]
fn islands() {
    for op in [Op::Softmax { axis: 1 }, Op::Lrn { size: 5, alpha: 0.5, beta: 0.75, bias: 1.0 }] {
        let mut net = Net::new(9);
        let x = net.input(&[1, 4, 6, 6]);
        let a = net.same("a", x, 8, 3, None);
        let b = net.op("island", op, &[a]);
        let y = net.same("y", b, 8, 1, None);
        let q = check(&net.done(&[y]), 28.0);
        let island = q.nodes.iter().find(|n| n.name == "island").expect("is there");
        assert!(island.float_reason.as_ref().is_some_and(|r| r.contains("no integer form")));
        // The layer before gives float itself.
        let QOp::Conv(a) = &q.nodes.iter().find(|n| n.name == "a").expect("is there").op else { panic!() };
        assert!(matches!(a.arithmetic, Arithmetic::IntegerToFloat { .. }));
    }
}
