//! Integer graph → ONNX in QDQ form: a float operator between DequantizeLinear and QuantizeLinear for every integer node.
//!
//! In: a verified [`QGraph`]. Out: the bytes of an ONNX model (opset 20) that any runtime reads, with the integers, scales and zero points
//! of the graph. Holds: computed in exact arithmetic and rounded half to even, the model gives the graph's integers; imported again, it has the
//! graph's constants, bit for bit. Where zero points do not come last, as ONNX defines it, metadata of the model say so. A value keeps its
//! name, on the real numbers before they are rounded.
//!
//! - `writer`: names, constants and nodes of the model. `layer`: convolutions. `function`: single elements. `moves`: windows and moves.

mod function;
mod layer;
mod moves;
mod writer;

use crate::error::{Error, Problem, Result, Stage};
use crate::qgraph::{QGraph, QNode, QOp, QType};
use qgraph_runtime::requant::Rounding;
use writer::Writer;

/// The model as the content of an `.onnx` file.
///
/// # Errors
/// Scales that f32 cannot hold apart, operators without a form in ONNX: all are named at once.
pub fn onnx(graph: &QGraph) -> Result<Vec<u8>> {
    let mut writer = Writer::new(graph);
    let mut problems = Vec::new();
    for k in 0..graph.nodes.len() {
        if let Err(message) = node(&mut writer, k) {
            problems.push(Problem { subject: graph.nodes[k].name.clone(), message });
        }
    }
    Error::all(Stage::Export, problems)?;
    Ok(writer.bytes())
}

/// True if ONNX Runtime computes the graph's integers, bit for bit, from what [`onnx`] writes: zero points come last, and each operation on
/// integers is one that it has, too, on integers and not on rounded floats. Else its integers may differ by single steps.
pub fn is_exact(graph: &QGraph) -> bool {
    let there = |n: &QNode| match &n.op {
        QOp::Affine { .. } => false,
        QOp::Add { b, .. } => *b >= 0.0,
        QOp::Quantize => graph.inputs.contains(&n.inputs[0]),
        _ => true,
    };
    let integer = |n: &&QNode| matches!(graph.value(n.output).ty, QType::U8 { .. });
    graph.rounding == Rounding::ZeroLast
        && !graph.adds_residuals()
        && graph.nodes.iter().filter(integer).all(there)
}

/// Writes node `k`. The error is a message about the node.
fn node(w: &mut Writer<'_>, k: usize) -> std::result::Result<(), String> {
    let graph = w.graph;
    let node = &graph.nodes[k];
    match &node.op {
        QOp::Quantize => {
            let x = w.real(node.inputs[0]);
            w.quantize(&node.name, &x, node.output);
        }
        QOp::Dequantize => w.dequantize(&node.name, node.inputs[0], node.output),
        QOp::Constant(blob) => w.constant_value(*blob, node.output),
        QOp::Conv(conv) => layer::conv(w, node, conv)?,
        QOp::Affine { .. }
        | QOp::Add { .. }
        | QOp::Mul { .. }
        | QOp::Binary { .. }
        | QOp::Table(_)
        | QOp::Unary(_)
        | QOp::PRelu(_)
        | QOp::Softmax { .. }
        | QOp::Lrn { .. }
        | QOp::Peak => function::write(w, node)?,
        QOp::MaxPool(_)
        | QOp::AvgPool { .. }
        | QOp::Concat { .. }
        | QOp::Slice(_)
        | QOp::Pad { .. }
        | QOp::Transpose(_)
        | QOp::Reshape
        | QOp::DepthToSpace { .. }
        | QOp::ResizeNearest { .. }
        | QOp::ResizeLinear { .. } => moves::write(w, node),
    }
    Ok(())
}

/// Scale and zero point of a u8 value.
fn levels(ty: QType) -> Option<(f64, u8)> {
    match ty {
        QType::U8 { scale, zero_point } => Some((f64::from(scale), zero_point)),
        QType::F32 => None,
    }
}
