//! Two graphs: a small integer network, and one with every operation.

use qgraph_compiler::preprocess::Preprocess;
use qgraph_compiler::qgraph::builder::Builder;
use qgraph_compiler::qgraph::layout::WeightShape;
use qgraph_compiler::qgraph::{
    Arithmetic, FloatBinary, QConv, QGraph, QOp, QSlice, QType, QValueId, Residual, Window,
};
use qgraph_runtime::functions::{Tap, Unary};

/// Small numbers that look random and are the same everywhere.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 16
    }
}

/// An input for a graph with one: the multiples of 1/16 between −2 and 2, in some order.
pub(super) fn input(graph: &QGraph) -> Vec<f32> {
    let mut numbers = Numbers(7);
    let n: usize = graph.value(graph.inputs[0]).shape.iter().product();
    (0..n).map(|_| (numbers.next() % 65) as f32 / 16.0 - 2.0).collect()
}

fn window(kernel: [usize; 2], strides: [usize; 2], pads: [usize; 4]) -> Window {
    Window { kernel, strides, dilations: [1, 1], pads }
}

/// Adds the constants of a convolution with made-up numbers.
fn conv(b: &mut Builder, window: Window, [channels, outputs, groups]: [usize; 3], arithmetic: Kind) -> QOp {
    let integer = !matches!(arithmetic, Kind::Float { .. });
    let shape = WeightShape::of(integer, channels, outputs, groups, &window);
    let mut numbers = Numbers((channels * 100 + outputs) as u32);
    let mut weights = vec![0i32; shape.len()];
    for m in 0..outputs {
        for c in 0..shape.ci {
            for (y, x) in (0..window.kernel[0]).flat_map(|y| (0..window.kernel[1]).map(move |x| (y, x))) {
                weights[shape.index(m, c, y, x)] = (numbers.next() % 255) as i32 - 127;
            }
        }
    }
    let biases: Vec<i32> = (0..outputs).map(|_| (numbers.next() % 4000) as i32 - 2000).collect();
    let scales = (0..outputs).map(|m| (m + 3) as f32 / 8192.0).collect::<Vec<_>>();
    let dims = shape.dims();
    let (weight, bias) = if integer {
        let w: Vec<i8> = weights.iter().map(|&w| w as i8).collect();
        (b.add_blob_i8("weight", &dims, &w), b.add_blob_i32("bias", &[outputs], &biases))
    } else {
        let w: Vec<f32> = weights.iter().map(|&w| w as f32 / 256.0).collect();
        let biases: Vec<f32> = biases.iter().map(|&b| b as f32 / 1024.0).collect();
        (b.add_blob_f32("weight", &dims, &w), b.add_blob_f32("bias", &[outputs], &biases))
    };
    let mut scale = || b.add_blob_f32("scale", &[outputs], &scales);
    let arithmetic = match arithmetic {
        Kind::Integer(residual) => Arithmetic::Integer { scale: scale(), residual, lo: 2, hi: 240 },
        Kind::ToFloat => {
            Arithmetic::IntegerToFloat { scale: scale(), lo: f32::NEG_INFINITY, hi: f32::INFINITY }
        }
        Kind::Float { residual } => Arithmetic::Float { residual, lo: 0.0, hi: 6.0 },
    };
    QOp::Conv(QConv { window, groups, weight, bias, arithmetic })
}

enum Kind {
    Integer(Option<Residual>),
    ToFloat,
    Float { residual: bool },
}

fn byte(scale: f32, zero_point: u8) -> QType {
    QType::U8 { scale, zero_point }
}

/// Image → quantize → conv → depthwise → conv + residual → average → fully connected → logits.
pub(super) fn tiny() -> QGraph {
    let mut b = Builder::new("tiny");
    let x = b.add_input("image", &[1, 3, 6, 6]);
    let q = b.add_op("q", QOp::Quantize, &[x], &[1, 3, 6, 6], byte(1.0 / 64.0, 128));
    let same = || window([3, 3], [1, 1], [1, 1, 1, 1]);
    let op = conv(&mut b, same(), [3, 6, 1], Kind::Integer(None));
    let c1 = b.add_op("conv1", op, &[q], &[1, 6, 6, 6], byte(0.05, 10));
    let op = conv(&mut b, same(), [6, 6, 6], Kind::Integer(None));
    let c2 = b.add_op("conv2", op, &[c1], &[1, 6, 6, 6], byte(0.1, 100));
    let op = conv(&mut b, same(), [6, 6, 1], Kind::Integer(Some(Residual { scale: 0.5, k: 15.0 })));
    let c3 = b.add_op("conv3", op, &[c2, c1], &[1, 6, 6, 6], byte(0.1, 20));
    let average =
        QOp::AvgPool { window: window([6, 6], [1, 1], [0; 4]), count_include_pad: false, ratio: 2.0 };
    let p = b.add_op("pool", average, &[c3], &[1, 6, 1, 1], byte(0.05, 30));
    let op = conv(&mut b, window([1, 1], [1, 1], [0; 4]), [6, 5, 1], Kind::ToFloat);
    let fc = b.add_op("fc", op, &[p], &[1, 5, 1, 1], QType::F32);
    let logits = b.add_op("logits", QOp::Reshape, &[fc], &[1, 5], QType::F32);
    b.add_output(logits);
    b.set_preprocess(Some(Preprocess {
        mean: vec![0.5, 0.25, 0.125],
        crop: Some(6),
        ..Preprocess::default()
    }));
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

/// Every operation at least once; u8 and f32 where both are possible.
pub(crate) fn everything() -> QGraph {
    let mut b = Builder::new("every \"thing\"\n");
    let image = [1, 4, 6, 6];
    let x = b.add_input("image", &image);
    let u = byte(0.1, 7);
    let q = b.add_op("quantize", QOp::Quantize, &[x], &image, u);
    let back = b.add_op("dequantize", QOp::Dequantize, &[q], &image, QType::F32);
    let mut outputs = vec![back];
    let same = || window([3, 3], [1, 1], [1, 1, 1, 1]);

    let op = conv(&mut b, same(), [4, 4, 2], Kind::Integer(Some(Residual { scale: 0.25, k: -3.5 })));
    let c = b.add_op("integer", op, &[q, q], &image, u);
    let op = conv(&mut b, same(), [4, 3, 1], Kind::ToFloat);
    outputs.push(b.add_op("to float", op, &[c], &[1, 3, 6, 6], QType::F32));
    let op = conv(&mut b, same(), [4, 4, 1], Kind::Float { residual: true });
    outputs.push(b.add_op("float", op, &[x, back], &image, QType::F32));
    let op = conv(&mut b, same(), [4, 4, 4], Kind::Float { residual: false });
    let f = b.add_op("float depthwise", op, &[x], &image, QType::F32);

    let affine = |b: &mut Builder, lo, hi| QOp::Affine {
        scale: b.add_blob_f32("affine scale", &[4], &[0.5, -1.0, 0.0, 2.0]),
        offset: b.add_blob_f32("affine offset", &[4], &[0.0, 255.0, 3.0, 0.1]),
        lo,
        hi,
    };
    let op = affine(&mut b, 0.0, 200.0);
    let mut quantized = vec![b.add_op("affine u8", op, &[q], &image, u)];
    let op = affine(&mut b, f32::NEG_INFINITY, 1e30);
    outputs.push(b.add_op("affine f32", op, &[f], &image, QType::F32));
    let slope = b.add_blob_f32("slope", &[4], &[0.1, 0.2, -0.3, 1.0]);
    outputs.push(b.add_op("prelu", QOp::PRelu(slope), &[f], &image, QType::F32));
    let table: Vec<u8> = (0..=255u8).map(|q| q.wrapping_mul(7)).collect();
    let table = b.add_blob_u8("table", &[256], &table);
    quantized.push(b.add_op("table", QOp::Table(table), &[q], &image, u));
    let tables: Vec<u8> = (0..1024).map(|k| (k * 5 / 4) as u8).collect();
    let tables = b.add_blob_u8("tables", &[4, 256], &tables);
    quantized.push(b.add_op("tables", QOp::Table(tables), &[q], &image, u));

    b.set_factors(quantized[quantized.len() - 1], &[1.0, 4.0, 0.5, 1.0]);

    let constant = b.add_blob_u8("constant", &[4, 1, 6], &[9; 24]);
    let k = b.add_op("constant", QOp::Constant(constant), &[], &[4, 1, 6], byte(0.2, 3));
    let add = QOp::Add { a: 0.5, b: -0.25, k: 12.5, lo: 1, hi: 254 };
    quantized.push(b.add_op("add", add, &[q, k], &image, u));
    quantized.push(b.add_op("mul", QOp::Mul { scale: 0.125, lo: 0, hi: 255 }, &[k, q], &image, u));
    let constant = b.add_blob_f32("__constant", &[], &[0.3]);
    let half = b.add_op("scalar", QOp::Constant(constant), &[], &[], QType::F32);
    for op in [FloatBinary::Add, FloatBinary::Sub, FloatBinary::Mul, FloatBinary::Div] {
        let binary = QOp::Binary { op, lo: -1.5, hi: f32::INFINITY };
        outputs.push(b.add_op(format!("{op:?}"), binary, &[f, half], &image, QType::F32));
    }
    for unary in unaries() {
        outputs.push(b.add_op(format!("unary {unary}"), QOp::Unary(unary), &[f], &image, QType::F32));
    }
    pools_and_moves(&mut b, "u8", q, u, 7.0, &mut quantized);
    pools_and_moves(&mut b, "f32", f, QType::F32, f32::NEG_INFINITY, &mut outputs);
    let average =
        |ratio| QOp::AvgPool { window: window([3, 2], [2, 1], [1, 0, 1, 1]), count_include_pad: true, ratio };
    quantized.push(b.add_op("average u8", average(0.5), &[q], &[1, 4, 3, 6], byte(0.2, 0)));
    outputs.push(b.add_op("average to f32", average(f64::from(0.1f32)), &[q], &[1, 4, 3, 6], QType::F32));
    outputs.push(b.add_op("average f32", average(1.0), &[f], &[1, 4, 3, 6], QType::F32));

    let tap = |lo, frac| Tap { lo, hi: lo + 1, frac };
    let linear = QOp::ResizeLinear { rows: vec![tap(0, 0.25), tap(4, 1.0)], cols: vec![tap(2, 0.1); 3] };
    outputs.push(b.add_op("linear", linear, &[f], &[1, 4, 2, 3], QType::F32));
    outputs.push(b.add_op("softmax", QOp::Softmax { axis: 1 }, &[f], &image, QType::F32));
    outputs.push(b.add_op("peak", QOp::Peak, &[f], &[1, 1, 1, 1], QType::F32));
    let lrn = QOp::Lrn { size: 3, alpha: 1e-4, beta: 0.75, bias: 1.0 };
    let last = b.add_value("lrn", &image, QType::F32);
    b.add_node("normalize", lrn, &[f], last).float_reason = Some("sensitive".into());
    outputs.push(last);

    for (i, q) in quantized.into_iter().enumerate() {
        let shape = b.value(q).shape.clone();
        outputs.push(b.add_op(format!("out{i}"), QOp::Dequantize, &[q], &shape, QType::F32));
    }
    outputs.into_iter().for_each(|id| b.add_output(id));
    b.finish().unwrap_or_else(|e| panic!("{e}"))
}

fn unaries() -> Vec<Unary> {
    vec![
        Unary::Relu,
        Unary::Clip { lo: -0.5, hi: 0.7 },
        Unary::LeakyRelu { alpha: 0.01 },
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
    ]
}

/// What takes either type, on [1, 4, 6, 6].
fn pools_and_moves(b: &mut Builder, name: &str, x: QValueId, ty: QType, fill: f32, made: &mut Vec<QValueId>) {
    let slice = |start, step, count| QSlice { start, step, count };
    let ops = [
        ("max", QOp::MaxPool(window([3, 3], [2, 2], [0, 1, 1, 1])), vec![1, 4, 3, 3]),
        (
            "slice",
            QOp::Slice(vec![slice(0, 1, 1), slice(3, -2, 2), slice(1, 2, 3), slice(5, -1, 6)]),
            vec![1, 2, 3, 6],
        ),
        ("pad", QOp::Pad { pads: vec![(0, 0), (1, 0), (0, 2), (1, 1)], fill }, vec![1, 5, 8, 8]),
        ("transpose", QOp::Transpose(vec![0, 2, 3, 1]), vec![1, 6, 6, 4]),
        ("reshape", QOp::Reshape, vec![4, 36]),
        ("depth to space", QOp::DepthToSpace { block: [2, 1], crop: [1, 0] }, vec![1, 2, 11, 5]),
        ("nearest", QOp::ResizeNearest { rows: vec![5, 0, 0], cols: vec![1, 2] }, vec![1, 4, 3, 2]),
    ];
    for (op_name, op, shape) in ops {
        made.push(b.add_op(format!("{op_name} {name}"), op, &[x], &shape, ty));
    }
    made.push(b.add_op(format!("concat {name}"), QOp::Concat { axis: 2 }, &[x, x], &[1, 4, 12, 6], ty));
}
