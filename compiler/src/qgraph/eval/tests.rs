//! Every operator on numbers worked out by hand, and convolution against the plainest loops.

use super::super::builder::Builder;
use super::super::layout::WeightShape;
use super::super::{Arithmetic, FloatBinary, QConv, QOp, QSlice, QType, Residual, Window};
use super::*;
use qgraph_runtime::functions::{Tap, Unary};
use qgraph_runtime::requant::requantize;

const BYTE: QType = QType::U8 { scale: 1.0, zero_point: 0 };
const INF: f32 = f32::INFINITY;

fn u8_type(scale: f32, zero_point: u8) -> QType {
    QType::U8 { scale, zero_point }
}

/// Runs one operation on constants; gives its result.
fn run(
    operands: &[(&[usize], QType, &Data)],
    shape: &[usize],
    ty: QType,
    op: impl FnOnce(&mut Builder) -> QOp,
) -> Data {
    let mut b = Builder::new("t");
    let mut ids = Vec::new();
    for (i, (shape, ty, data)) in operands.iter().enumerate() {
        let blob = match data {
            Data::F32(x) => b.add_blob_f32("x", shape, x),
            Data::U8(x) => b.add_blob_u8("x", shape, x),
        };
        ids.push(b.add_op(format!("x{i}"), QOp::Constant(blob), &[], shape, *ty));
    }
    let op = op(&mut b);
    let y = b.add_op("y", op, &ids, shape, ty);
    let float = b.add_value("float", shape, QType::F32);
    let last = if ty == QType::F32 { QOp::Reshape } else { QOp::Dequantize };
    b.add_node("float", last, &[y], float);
    b.add_output(float);
    let graph = b.finish().unwrap_or_else(|e| panic!("{e}"));
    let mut result = None;
    eval(&graph, &[], &mut |name, data| {
        if name == "y" {
            result = Some(data.clone());
        }
    })
    .unwrap();
    result.unwrap()
}

fn f(x: &[f32]) -> Data {
    Data::F32(x.to_vec())
}

fn u(x: &[u8]) -> Data {
    Data::U8(x.to_vec())
}

fn window(kernel: [usize; 2], strides: [usize; 2], dilations: [usize; 2], pads: [usize; 4]) -> Window {
    Window { kernel, strides, dilations, pads }
}

#[test]
fn quantize_rounds_half_to_even_and_saturates() {
    let x = f(&[0.0, 0.25, 0.75, -1.0, 1e9, -1e9]);
    let y = run(&[(&[6], QType::F32, &x)], &[6], u8_type(0.5, 10), |_| QOp::Quantize);
    // 0.25/0.5 = 0.5 → 10.5 → 10; 1.5 → 11.5 → 12.
    assert_eq!(y, u(&[10, 10, 12, 8, 255, 0]));
    let back = run(&[(&[6], u8_type(0.5, 10), &y)], &[6], QType::F32, |_| QOp::Dequantize);
    assert_eq!(back, f(&[0.0, 0.0, 1.0, -1.0, 122.5, -5.0]));
}

#[test]
fn affine_and_prelu_go_by_channel() {
    let x = u(&[1, 2, 3, 4]);
    let y = run(&[(&[1, 2, 2], BYTE, &x)], &[1, 2, 2], BYTE, |b| QOp::Affine {
        scale: b.add_blob_f32("s", &[2], &[2.0, -1.0]),
        offset: b.add_blob_f32("o", &[2], &[1.0, 10.0]),
        lo: 4.0,
        hi: 6.0,
    });
    assert_eq!(y, u(&[4, 5, 6, 6]));
    let x = f(&[-1.0, 2.0, -3.0, 4.0]);
    let y = run(&[(&[1, 2, 2], QType::F32, &x)], &[1, 2, 2], QType::F32, |b| {
        QOp::PRelu(b.add_blob_f32("s", &[2], &[0.5, 2.0]))
    });
    assert_eq!(y, f(&[-0.5, 2.0, -6.0, 4.0]));
    let y = run(&[(&[1, 2, 2], QType::F32, &x)], &[1, 2, 2], QType::F32, |b| QOp::Affine {
        scale: b.add_blob_f32("s", &[2], &[2.0, 3.0]),
        offset: b.add_blob_f32("o", &[2], &[1.0, 0.0]),
        lo: -4.0,
        hi: INF,
    });
    assert_eq!(y, f(&[-1.0, 5.0, -4.0, 12.0]));
}

#[test]
fn two_operands_broadcast() {
    let (a, b) = (u(&[10, 20, 30, 40]), u(&[4, 6]));
    // real: (q_a − 10)·0.5 + (q_b − 2)·2, output scale 1, zero 5.
    let y = run(
        &[(&[2, 2], u8_type(0.5, 10), &a), (&[2], u8_type(2.0, 2), &b)],
        &[2, 2],
        u8_type(1.0, 5),
        |_| QOp::Add { a: 0.5, b: 2.0, k: 5.0 - 10.0 * 0.5 - 2.0 * 2.0, lo: 0, hi: 30 },
    );
    assert_eq!(y, u(&[9, 18, 19, 28]));
    let y = run(
        &[(&[2, 2], u8_type(0.5, 10), &a), (&[2, 1], u8_type(2.0, 5), &b)],
        &[2, 2],
        u8_type(1.0, 50),
        |_| QOp::Mul { scale: 1.0, lo: 0, hi: 255 },
    );
    assert_eq!(y, u(&[50, 40, 70, 80]));
    let (a, b) = (f(&[1.0, 2.0]), f(&[4.0, -8.0]));
    for (op, want) in [
        (FloatBinary::Add, [5.0, -3.0, 6.0, -3.0]),
        (FloatBinary::Sub, [-3.0, 9.0, -2.0, 10.0]),
        (FloatBinary::Mul, [4.0, -3.0, 8.0, -3.0]),
        (FloatBinary::Div, [0.25, -0.125, 0.5, -0.25]),
    ] {
        let y = run(&[(&[2, 1], QType::F32, &a), (&[2], QType::F32, &b)], &[2, 2], QType::F32, |_| {
            QOp::Binary { op, lo: -3.0, hi: INF }
        });
        assert_eq!(y, f(&want), "{op:?}");
    }
}

#[test]
fn table_looks_up() {
    let table: Vec<u8> = (0..=255).rev().collect();
    let y = run(&[(&[3], BYTE, &u(&[0, 1, 255]))], &[3], BYTE, |b| {
        QOp::Table(b.add_blob_u8("t", &[256], &table))
    });
    assert_eq!(y, u(&[255, 254, 0]));
    // One for each channel.
    let tables: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
    let x = u(&[0, 1, 2, 3, 4, 5, 6, 7]);
    let y = run(&[(&[2, 2, 1, 2], BYTE, &x)], &[2, 2, 1, 2], BYTE, |b| {
        QOp::Table(b.add_blob_u8("t", &[2, 256], &tables))
    });
    assert_eq!(y, u(&[0, 1, 253, 252, 4, 5, 249, 248]));
}

#[test]
fn pools() {
    let x: Vec<u8> = (1..=9).collect();
    let max =
        |w: Window, n: usize| run(&[(&[1, 1, 3, 3], BYTE, &u(&x))], &[1, 1, n, n], BYTE, |_| QOp::MaxPool(w));
    assert_eq!(max(window([2, 2], [1, 1], [1, 1], [0; 4]), 2), u(&[5, 6, 8, 9]));
    assert_eq!(max(window([2, 2], [2, 2], [1, 1], [1, 1, 0, 0]), 2), u(&[1, 3, 7, 9]));
    // Ceil mode: the last window sees one row.
    assert_eq!(max(window([2, 2], [2, 2], [1, 1], [0; 4]), 2), u(&[5, 6, 8, 9]));

    let w = window([2, 2], [2, 2], [1, 1], [1, 1, 0, 0]);
    let average = |include, from: QType, to: QType, ratio: f64| {
        let data =
            if from == QType::F32 { f(&x.iter().map(|&x| f32::from(x)).collect::<Vec<_>>()) } else { u(&x) };
        run(&[(&[1, 1, 3, 3], from, &data)], &[1, 1, 2, 2], to, |_| QOp::AvgPool {
            window: w.clone(),
            count_include_pad: include,
            ratio,
        })
    };
    assert_eq!(average(false, QType::F32, QType::F32, 1.0), f(&[1.0, 2.5, 5.5, 7.0]));
    assert_eq!(average(true, QType::F32, QType::F32, 1.0), f(&[0.25, 1.25, 2.75, 7.0]));
    // (q − 1)·2: averages 0, 3, 9, 12; output scale 1, zero 3.
    assert_eq!(average(false, u8_type(2.0, 1), u8_type(1.0, 3), 2.0), u(&[3, 6, 12, 15]));
    assert_eq!(average(false, u8_type(2.0, 1), QType::F32, 2.0), f(&[0.0, 3.0, 9.0, 12.0]));
}

#[test]
fn moves_move() {
    let x: Vec<u8> = (0..6).collect();
    let x = u(&x);
    let one = |shape: &[usize], result: &[usize], op: QOp| run(&[(shape, BYTE, &x)], result, BYTE, |_| op);
    assert_eq!(one(&[2, 3], &[3, 2], QOp::Transpose(vec![1, 0])), u(&[0, 3, 1, 4, 2, 5]));
    assert_eq!(one(&[2, 3], &[6], QOp::Reshape), x);
    let slices = vec![QSlice { start: 1, step: -1, count: 2 }, QSlice { start: 0, step: 2, count: 2 }];
    assert_eq!(one(&[2, 3], &[2, 2], QOp::Slice(slices)), u(&[3, 5, 0, 2]));
    let pad = QOp::Pad { pads: vec![(1, 0), (0, 1)], fill: 7.0 };
    assert_eq!(one(&[2, 3], &[3, 4], pad), u(&[7, 7, 7, 7, 0, 1, 2, 7, 3, 4, 5, 7]));
    let nearest = QOp::ResizeNearest { rows: vec![1, 0], cols: vec![0, 0, 2] };
    assert_eq!(one(&[1, 1, 2, 3], &[1, 1, 2, 3], nearest), u(&[3, 3, 5, 0, 0, 2]));
    let y =
        run(&[(&[2, 3], BYTE, &x), (&[2, 1], BYTE, &u(&[8, 9]))], &[2, 4], BYTE, |_| QOp::Concat { axis: 1 });
    assert_eq!(y, u(&[0, 1, 2, 8, 3, 4, 5, 9]));
}

#[test]
fn depth_to_space_interleaves_and_crops() {
    // One row of two pixels, blocks 2×2 of one channel: channels 0..4 are the block's cells.
    let x = u(&[0, 10, 1, 11, 2, 12, 3, 13]);
    let op = |crop| move |_: &mut Builder| QOp::DepthToSpace { block: [2, 2], crop };
    let y = run(&[(&[1, 4, 1, 2], BYTE, &x)], &[1, 1, 2, 4], BYTE, op([0, 0]));
    assert_eq!(y, u(&[0, 1, 10, 11, 2, 3, 12, 13]));
    let y = run(&[(&[1, 4, 1, 2], BYTE, &x)], &[1, 1, 1, 2], BYTE, op([1, 1]));
    assert_eq!(y, u(&[3, 12]));
}

#[test]
fn float_functions() {
    let close = |y: Data, want: &[f32]| {
        let Data::F32(y) = y else { panic!("not f32") };
        assert!(
            y.len() == want.len() && y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6),
            "{y:?} {want:?}"
        );
    };
    let float = |shape: &[usize], x: &[f32], result: &[usize], op: QOp| {
        run(&[(shape, QType::F32, &f(x))], result, QType::F32, |_| op)
    };
    // Along the middle axis: e^0, e^ln 3 and two equal ones.
    let x = [0.0, 5.0, 3f32.ln(), 5.0];
    close(float(&[1, 2, 2], &x, &[1, 2, 2], QOp::Softmax { axis: 1 }), &[0.25, 0.5, 0.75, 0.5]);
    close(float(&[2, 2], &x, &[2, 2], QOp::Softmax { axis: 0 }), &[0.25, 0.5, 0.75, 0.5]);
    // Three channels, of which each sees its neighbours; two images, so that images are kept apart.
    let x = [1.0, 2.0, 3.0, 2.0, 0.0, 0.0];
    let lrn = QOp::Lrn { size: 3, alpha: 3.0, beta: 1.0, bias: 1.0 };
    let want = [1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0, 2.0 / 5.0, 0.0, 0.0];
    close(float(&[2, 3, 1, 1], &x, &[2, 3, 1, 1], lrn), &want);
    let x = [1.0, -7.5, 3.0, 2.0, 0.0, -0.0, 0.0, 0.0];
    close(float(&[2, 2, 1, 2], &x, &[2, 1, 1, 1], QOp::Peak), &[7.5, 2f32.powi(-100)]);
    let tap = |lo, hi, frac| Tap { lo, hi, frac };
    let linear =
        QOp::ResizeLinear { rows: vec![tap(0, 1, 0.5)], cols: vec![tap(0, 1, 0.25), tap(1, 1, 0.0)] };
    let x = [0.0, 4.0, 8.0, 12.0, 1.0, 1.0, 2.0, 2.0];
    close(float(&[1, 2, 2, 2], &x, &[1, 2, 1, 2], linear), &[5.0, 8.0, 1.5, 1.5]);
    close(float(&[2], &[-1.0, 2.0], &[2], QOp::Unary(Unary::LeakyRelu { alpha: 0.5 })), &[-0.5, 2.0]);
}

/// The plainest integer convolution, with the same arithmetic at the end.
#[test]
fn convolution_is_the_plain_sum() {
    let cases = [
        // channels, outputs, groups, window, input
        (3, 5, 1, window([3, 3], [2, 1], [1, 1], [1, 0, 2, 1]), [7, 6]),
        (8, 20, 2, window([3, 2], [1, 2], [2, 1], [1, 1, 1, 1]), [6, 7]),
        (18, 18, 18, window([5, 3], [1, 1], [1, 1], [2, 1, 2, 1]), [5, 4]),
        (37, 17, 1, window([1, 1], [1, 1], [1, 1], [0; 4]), [1, 1]),
        (2, 3, 1, window([3, 3], [1, 1], [1, 2], [0; 4]), [5, 5]),
    ];
    let mut seed = 1u32;
    let mut random = move || {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        seed >> 16
    };
    for (channels, outputs, groups, w, [h, wd]) in cases {
        let n = 2;
        let rows = w.positions(0, h).unwrap().0;
        let cols = w.positions(1, wd).unwrap().0;
        let x: Vec<u8> = (0..n * channels * h * wd).map(|_| random() as u8).collect();
        let q: Vec<u8> = (0..n * outputs * rows * cols).map(|_| random() as u8).collect();
        let shape = WeightShape::of(true, channels, outputs, groups, &w);
        let (co, ci, [kh, kw]) = (shape.co, shape.ci, w.kernel);
        let plain: Vec<i8> =
            (0..outputs * ci * kh * kw).map(|_| (random() % 255) as i8).map(|x| x.max(-127)).collect();
        let mut stored = vec![0i8; shape.len()];
        let at = |m: usize, c: usize, y: usize, x: usize| ((m * ci + c) * kh + y) * kw + x;
        for m in 0..outputs {
            for c in 0..ci {
                for (y, x) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                    stored[shape.index(m, c, y, x)] = plain[at(m, c, y, x)];
                }
            }
        }
        let bias: Vec<i32> = (0..outputs).map(|_| random() as i32 - 30000).collect();
        let scale: Vec<f32> = (0..outputs).map(|m| (m + 1) as f32 / 1024.0).collect();
        let zero = 77;
        let residual = Residual { scale: 0.5, k: 3.0 };
        let (xs, rs) = ([n, channels, h, wd], [n, outputs, rows, cols]);
        for with_residual in [false, true] {
            let (xd, qd) = (u(&x), u(&q));
            let mut operands: Vec<(&[usize], QType, &Data)> = vec![(&xs, u8_type(1.0, zero), &xd)];
            if with_residual {
                operands.push((&rs, BYTE, &qd));
            }
            let y = run(&operands, &rs, u8_type(1.0, 9), |b| {
                QOp::Conv(QConv {
                    window: w.clone(),
                    groups,
                    weight: b.add_blob_i8("w", &shape.dims(), &stored),
                    bias: b.add_blob_i32("b", &[outputs], &bias),
                    arithmetic: Arithmetic::Integer {
                        scale: b.add_blob_f32("s", &[outputs], &scale),
                        residual: with_residual.then_some(residual),
                        lo: 3,
                        hi: 250,
                    },
                })
            });
            let mut want = Vec::new();
            for i in 0..n * outputs * rows * cols {
                let (n, m, oy, ox) =
                    (i / (outputs * rows * cols), i / (rows * cols) % outputs, i / cols % rows, i % cols);
                let mut sum = bias[m];
                for c in 0..ci {
                    for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                        let iy = (oy * w.strides[0] + ky * w.dilations[0]) as isize - w.pads[0] as isize;
                        let ix = (ox * w.strides[1] + kx * w.dilations[1]) as isize - w.pads[1] as isize;
                        let inside = (0..h as isize).contains(&iy) && (0..wd as isize).contains(&ix);
                        let channel = m / co * ci + c;
                        let q = if inside {
                            x[((n * channels + channel) * h + iy as usize) * wd + ix as usize]
                        } else {
                            zero
                        };
                        sum += i32::from(q) * i32::from(plain[at(m, c, ky, kx)]);
                    }
                }
                let start = if with_residual {
                    // All terms are exact here, so their order does not matter.
                    f32::from(q[i]) * residual.scale + residual.k
                } else {
                    9.0
                };
                want.push(requantize(sum, scale[m], start, 3, 250));
            }
            assert_eq!(y, u(&want), "{channels} {outputs} {groups} {w:?} residual {with_residual}");
        }
    }
}

#[test]
fn float_convolution_keeps_the_order_of_the_sum() {
    // 1e8 + 1 loses the 1 in f32: only the order bias, row, column, channel gives these numbers.
    let x = f(&[1e8, 1.0, -1e8, 1.0]);
    let w = window([1, 2], [1, 1], [1, 1], [0; 4]);
    let shape = WeightShape::of(false, 2, 1, 1, &w);
    let mut stored = vec![0.0; shape.len()];
    for (c, k) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        stored[shape.index(0, c, 0, k)] = 1.0;
    }
    for (bias, residual, want) in [(0.5, None, 2.0), (0.5, Some(-5.0), -2.5)] {
        let r = f(&[residual.unwrap_or_default()]);
        let mut operands: Vec<(&[usize], QType, &Data)> = vec![(&[1, 2, 1, 2], QType::F32, &x)];
        if residual.is_some() {
            operands.push((&[1, 1, 1, 1], QType::F32, &r));
        }
        let y = run(&operands, &[1, 1, 1, 1], QType::F32, |b| {
            QOp::Conv(QConv {
                window: w.clone(),
                groups: 1,
                weight: b.add_blob_f32("w", &shape.dims(), &stored),
                bias: b.add_blob_f32("b", &[1], &[bias]),
                arithmetic: Arithmetic::Float { residual: residual.is_some(), lo: -2.5, hi: INF },
            })
        });
        assert_eq!(y, f(&[want]), "order: (0.5 + 1e8) − 1e8 + 1 + 1");
    }
}

/// What this CPU runs is what every CPU runs.
#[test]
fn the_inner_product_does_not_depend_on_the_cpu() {
    use super::conv::{Element, POSITIONS, sum};
    let k = 37;
    let integer = |i: usize| (i * 7919 % 255) as i32;
    let float = |i: usize| (i * 7919 % 1013) as f32 / 7.0 - 70.0;
    let patch: Vec<[i32; POSITIONS]> = (0..k).map(|i| [0, 1, 2, 3].map(|p| integer(i * 4 + p))).collect();
    let weights: Vec<[i8; 16]> =
        (0..k).map(|i| std::array::from_fn(|m| (integer(i * 16 + m) - 127) as i8)).collect();
    let (mut a, mut b) = ([[5; 16]; POSITIONS], [[5; 16]; POSITIONS]);
    sum::<u8>(&mut a, &patch, &weights);
    <u8 as Element>::sum(&mut b, &patch, &weights);
    assert_eq!(a, b);
    let patch: Vec<[f32; POSITIONS]> = (0..k).map(|i| [0, 1, 2, 3].map(|p| float(i * 4 + p))).collect();
    let weights: Vec<[f32; 16]> = (0..k).map(|i| std::array::from_fn(|m| float(i * 16 + m))).collect();
    let (mut a, mut b) = ([[0.1; 16]; POSITIONS], [[0.1; 16]; POSITIONS]);
    sum::<f32>(&mut a, &patch, &weights);
    <f32 as Element>::sum(&mut b, &patch, &weights);
    assert_eq!(a, b);
}
