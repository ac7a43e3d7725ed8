//! Functions of single elements, of two, and of neighbours.
//!
//! A table of bytes is written as the function that it was made from, if that is known to give these bytes, else as a look-up (Gather).

use super::layer::bounds;
use super::levels;
use super::writer::{Writer, float, int, text};
use crate::onnx::proto::{AttributeProto, data_type};
use crate::qgraph::{BlobId, FloatBinary, QNode, QOp};
use qgraph_runtime::functions::Unary;
use qgraph_runtime::requant::{Rounding, dequantize};

/// Functions that a table may hold.
const KNOWN: [Unary; 14] = [
    Unary::Relu,
    Unary::Clip { lo: 0.0, hi: 6.0 },
    Unary::Sigmoid,
    Unary::HardSigmoid { alpha: 0.2, beta: 0.5 },
    Unary::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
    Unary::HardSwish,
    Unary::Tanh,
    Unary::Softplus,
    Unary::Mish,
    Unary::Gelu,
    Unary::GeluTanh,
    Unary::Silu,
    Unary::Square,
    Unary::Abs,
];

pub(super) fn write(w: &mut Writer<'_>, node: &QNode) -> Result<(), String> {
    let graph = w.graph;
    let y = node.output;
    let (name, value) = (&node.name[..], graph.value(y).name.clone());
    let operands: Vec<String> = node.inputs.iter().map(|&v| w.real(v)).collect();
    let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
    match &node.op {
        QOp::Affine { scale, offset, lo, hi } => {
            affine(w, node, *scale, *offset, [*lo, *hi])?;
        }
        QOp::Add { b, lo, hi, .. } => {
            let (lo, hi) = bounds(w, y, *lo, *hi);
            let (op, mut operands) = if *b < 0.0 { ("Sub", operands) } else { ("Add", operands) };
            if op == "Add" && graph.rounding == Rounding::ZeroLast {
                operands.reverse(); // As the model had them: see `quant`.
            }
            clamped(w, node, op, &operands, vec![], [lo, hi]);
        }
        QOp::Mul { lo, hi, .. } => {
            let (lo, hi) = bounds(w, y, *lo, *hi);
            clamped(w, node, "Mul", &operands, vec![], [lo, hi]);
        }
        QOp::Binary { op, lo, hi } => {
            let op = match op {
                FloatBinary::Add => "Add",
                FloatBinary::Sub => "Sub",
                FloatBinary::Mul => "Mul",
                FloatBinary::Div => "Div",
            };
            clamped(w, node, op, &operands, vec![], [*lo, *hi]);
        }
        QOp::Table(blob) => return table(w, node, *blob),
        QOp::Unary(f) => unary(w, name, operands[0], *f, &value),
        QOp::PRelu(blob) => {
            let shape = &graph.value(y).shape;
            let extents = [&[shape[1]][..], &vec![1; shape.len() - 2]].concat();
            let slope = w.floats(&format!("{name}/slope"), &extents, &graph.blob_f32(*blob));
            w.named(name, "PRelu", &[operands[0], &slope], &value, vec![]);
        }
        QOp::Softmax { axis } => w.named(name, "Softmax", &operands, &value, vec![int("axis", *axis)]),
        QOp::Lrn { size, alpha, beta, bias } => {
            let attributes =
                vec![int("size", *size), float("alpha", *alpha), float("beta", *beta), float("bias", *bias)];
            w.named(name, "LRN", &operands, &value, attributes);
        }
        QOp::Peak => {
            let [abs, most] = ["abs", "most"].map(|part| w.fresh(&format!("{value}/{part}")));
            w.helper(&format!("{name}/abs"), "Abs", &operands, &abs);
            let axes = w.ints(&format!("{name}/axes"), &[1, 2, 3]);
            w.helper(&format!("{name}/most"), "ReduceMax", &[&abs, &axes], &most);
            let least = w.floats(&format!("{name}/least"), &[], &[2f32.powi(-100)]);
            w.named(name, "Max", &[&most, &least], &value, vec![]);
        }
        _ => return Err("is not a function of elements; this is a bug".into()),
    }
    w.finish(y);
    Ok(())
}

/// `op`, then a clamp if there is one.
fn clamped(
    w: &mut Writer<'_>,
    node: &QNode,
    op: &str,
    operands: &[&str],
    attributes: Vec<AttributeProto>,
    [lo, hi]: [f32; 2],
) {
    let (name, output) = (&node.name, w.graph.value(node.output).name.clone());
    if lo == f32::NEG_INFINITY && hi == f32::INFINITY {
        return w.named(name, op, operands, &output, attributes);
    }
    let sum = w.fresh(&format!("{output}/sum"));
    w.named(name, op, operands, &sum, attributes);
    let sum = w.apart(sum, node.output);
    clamp(w, name, &sum, lo, hi, &output);
}

/// Relu or Clip of a tensor, behind the node `node`.
pub(super) fn clamp(w: &mut Writer<'_>, node: &str, x: &str, lo: f32, hi: f32, output: &str) {
    let name = format!("{node}/clamp");
    if (lo, hi) == (0.0, f32::INFINITY) {
        return w.helper(&name, "Relu", &[x], output);
    }
    let [lo, hi] = clip_bounds(w, &name, lo, hi);
    w.helper(&name, "Clip", &[x, &lo, &hi], output);
}

/// The operands of a Clip; an open end is left out.
fn clip_bounds(w: &mut Writer<'_>, name: &str, lo: f32, hi: f32) -> [String; 2] {
    let mut bound = |role: &str, x: f32, open: bool| {
        if open { String::new() } else { w.floats(&format!("{name}/{role}"), &[], &[x]) }
    };
    [bound("min", lo, lo <= f32::MIN), bound("max", hi, hi >= f32::MAX)]
}

/// Per channel `a·x + b`, as a batch normalization.
fn affine(
    w: &mut Writer<'_>,
    node: &QNode,
    scale: BlobId,
    offset: BlobId,
    clamp_to: [f32; 2],
) -> Result<(), String> {
    let graph = w.graph;
    let (scale, offset) = (graph.blob_f32(scale), graph.blob_f32(offset));
    let (x, y) = (levels(graph.value(node.inputs[0]).ty), levels(graph.value(node.output).ty));
    let channels = scale.len();
    let (mut gamma, mut beta, mut mean) = (scale.clone(), offset.clone(), vec![0.0f32; channels]);
    let mut bounds_real = clamp_to;
    if let (Some((step_x, zero_x)), Some((step_y, zero_y))) = (x, y) {
        for c in 0..channels {
            gamma[c] = (f64::from(scale[c]) * step_y / step_x) as f32;
            let a = f64::from(gamma[c]);
            let b = (f64::from(offset[c]) - f64::from(zero_y)) * step_y + a * step_x * f64::from(zero_x);
            beta[c] = b as f32;
            // What f32 drops of the shift goes into the mean.
            let rest = b - f64::from(beta[c]);
            mean[c] = if a == 0.0 { 0.0 } else { (-rest / a) as f32 };
        }
        let (lo, hi) = bounds(w, node.output, clamp_to[0] as u8, clamp_to[1] as u8);
        bounds_real = [lo, hi];
    }
    if gamma.iter().chain(&beta).chain(&mean).any(|x| !x.is_finite()) {
        return Err("its factors leave the range of f32 in real numbers".into());
    }
    let mut constant =
        |role: &str, data: &[f32]| w.floats(&format!("{}/{role}", node.name), &[channels], data);
    let parameters = [
        constant("gamma", &gamma),
        constant("beta", &beta),
        constant("mean", &mean),
        constant("variance", &vec![1.0; channels]),
    ];
    let operand = w.real(node.inputs[0]);
    let operands = [&operand[..], &parameters[0], &parameters[1], &parameters[2], &parameters[3]];
    let epsilon = vec![float("epsilon", 0.0)];
    clamped(w, node, "BatchNormalization", &operands, epsilon, bounds_real);
    Ok(())
}

fn table(w: &mut Writer<'_>, node: &QNode, blob: BlobId) -> Result<(), String> {
    let graph = w.graph;
    let (x, y) = (node.inputs[0], node.output);
    let value = graph.value(y).name.clone();
    let (Some((from, zero_from)), Some((to, zero_to))) =
        (levels(graph.value(x).ty), levels(graph.value(y).ty))
    else {
        return Err("is a table of floats; this is a bug".into());
    };
    let (from, to) = (from as f32, to as f32);
    let bytes = graph.blob_bytes(blob).to_vec();
    let holds = |f: &dyn Fn(f32) -> f32| {
        let byte = |q| graph.rounding.quantize(f(dequantize(q, from, zero_from)), to, zero_to);
        bytes.len() == 256 && (0..=255).zip(&bytes).all(|(q, &b)| byte(q) == b)
    };
    if holds(&|x| x) {
        let operand = w.real(x);
        w.quantize(&node.name, &operand, y);
    } else if let Some(&f) = KNOWN.iter().find(|f| holds(&|x| f.eval(x))) {
        let operand = w.real(x);
        unary(w, &node.name, &operand, f, &value);
        w.finish(y);
    } else {
        let indices = w.integers(x);
        let to_int32 = vec![int("to", data_type::INT32 as usize)];
        let mut indices = w.step(&format!("{}/index", node.name), "Cast", &[&indices], to_int32);
        let tables = bytes.len() / 256;
        if tables > 1 {
            let shape = &graph.value(x).shape;
            let extents = [&[tables][..], &vec![1; shape.len() - 2]].concat();
            let raw = (0..tables as i32).flat_map(|c| (256 * c).to_le_bytes()).collect();
            let starts = w.constant(&format!("{}/start", node.name), data_type::INT32, &extents, raw);
            indices = w.step(&format!("{}/entry", node.name), "Add", &[&indices, &starts], vec![]);
        }
        let entries = [bytes.len()];
        let table = w.constant(&format!("{}/table", node.name), data_type::UINT8, &entries, bytes);
        w.named(&node.name, "Gather", &[&table, &indices], &value, vec![]);
        w.integers_are(y, value);
    }
    Ok(())
}

/// A function of f32.
fn unary(w: &mut Writer<'_>, node: &str, x: &str, f: Unary, output: &str) {
    let plain = |op: &str, attributes| (op.to_owned(), attributes);
    let (op, attributes) = match f {
        Unary::Clip { lo, hi } => {
            let [lo, hi] = clip_bounds(w, node, lo, hi);
            return w.named(node, "Clip", &[x, &lo, &hi], output, vec![]);
        }
        Unary::Silu => {
            let gate = w.step(&format!("{node}/sigmoid"), "Sigmoid", &[x], vec![]);
            return w.named(node, "Mul", &[x, &gate], output, vec![]);
        }
        Unary::Square => return w.named(node, "Mul", &[x, x], output, vec![]),
        Unary::Relu => plain("Relu", vec![]),
        Unary::LeakyRelu { alpha } => plain("LeakyRelu", vec![float("alpha", alpha)]),
        Unary::Elu { alpha } => plain("Elu", vec![float("alpha", alpha)]),
        Unary::HardSigmoid { alpha, beta } => {
            plain("HardSigmoid", vec![float("alpha", alpha), float("beta", beta)])
        }
        Unary::Sigmoid => plain("Sigmoid", vec![]),
        Unary::HardSwish => plain("HardSwish", vec![]),
        Unary::Tanh => plain("Tanh", vec![]),
        Unary::Softplus => plain("Softplus", vec![]),
        Unary::Mish => plain("Mish", vec![]),
        Unary::Gelu => plain("Gelu", vec![]),
        Unary::GeluTanh => plain("Gelu", vec![text("approximate", "tanh")]),
        Unary::Sqrt => plain("Sqrt", vec![]),
        Unary::Abs => plain("Abs", vec![]),
        Unary::Exp => plain("Exp", vec![]),
        Unary::Erf => plain("Erf", vec![]),
    };
    w.named(node, &op, &[x], output, attributes);
}
