//! Resize: the coordinate formulas of ONNX, worked out into one source index (nearest) or two with a weight (linear) per output
//! row and column.

use super::emit::Emit;
use crate::graph::{Coordinates, Interpolation, NearestRounding, Op, Resize};
use crate::qgraph::QOp;
use qgraph_runtime::functions::Tap;

/// Emits a Resize.
pub(super) fn emit(e: &mut Emit<'_>, k: usize) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let Op::Resize(r) = &node.op else { return Err("is not a resize; this is a bug".into()) };
    let &[_, _, h, w] = e.graph.shape(node.inputs[0]) else {
        return Err(format!("the input {:?} is not [N, C, H, W]", e.graph.shape(node.inputs[0])));
    };
    let op = match r.interpolation {
        Interpolation::Nearest(rounding) => {
            QOp::ResizeNearest { rows: nearest(r, 0, h, rounding), cols: nearest(r, 1, w, rounding) }
        }
        Interpolation::Linear => QOp::ResizeLinear { rows: linear(r, 0, h), cols: linear(r, 1, w) },
    };
    let x = e.operand(k, node.inputs[0])?;
    let grid = e.grid(k)?;
    let y = e.define(node.output, grid);
    e.main(k, op, &[x], y);
    Ok(())
}

/// Input coordinate of output index `i` along an axis of `extent` input elements. In f32, as ONNX Runtime computes it: a half
/// rounds up or down by the last bit.
fn source(r: &Resize, axis: usize, extent: usize, i: usize) -> f32 {
    let (i, scale, out) = (i as f32, r.scales[axis], r.output[axis]);
    match r.coordinates {
        Coordinates::HalfPixel => (i + 0.5) / scale - 0.5,
        Coordinates::PytorchHalfPixel if out > 1 => (i + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if out > 1 => i * (extent - 1) as f32 / (out - 1) as f32,
        Coordinates::PytorchHalfPixel | Coordinates::AlignCorners => 0.0,
        Coordinates::Asymmetric => i / scale,
    }
}

fn nearest(r: &Resize, axis: usize, extent: usize, rounding: NearestRounding) -> Vec<u32> {
    (0..r.output[axis])
        .map(|i| {
            let x = source(r, axis, extent, i);
            let x = match rounding {
                NearestRounding::RoundPreferFloor => (x - 0.5).ceil(),
                NearestRounding::RoundPreferCeil => (x + 0.5).floor(),
                NearestRounding::Floor => x.floor(),
                NearestRounding::Ceil => x.ceil(),
            };
            (x as usize).min(extent - 1) as u32
        })
        .collect()
}

fn linear(r: &Resize, axis: usize, extent: usize) -> Vec<Tap> {
    (0..r.output[axis])
        .map(|i| {
            let x = source(r, axis, extent, i).clamp(0.0, (extent - 1) as f32);
            let lo = x as usize;
            Tap { lo: lo as u32, hi: (lo + 1).min(extent - 1) as u32, frac: x - lo as f32 }
        })
        .collect()
}
