//! Operators that only move elements: the same in u8 and f32.

use super::elementwise::rescale;
use super::emit::Emit;
use crate::graph::Op;
use crate::qgraph::{QOp, QSlice};

/// Emits a Concat, Reshape, Transpose, Pad, Slice, Identity or Dropout.
pub(super) fn emit(e: &mut Emit<'_>, k: usize) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let grid = e.grid(k)?;
    let op = match &node.op {
        Op::Concat { axis } => QOp::Concat { axis: *axis },
        Op::Reshape(_) => QOp::Reshape,
        Op::Transpose(perm) => QOp::Transpose(perm.clone()),
        Op::Slice(axes) => {
            QOp::Slice(axes.iter().map(|a| QSlice { start: a.start, step: a.step, count: a.count }).collect())
        }
        Op::Pad { pads, value } => {
            let fill = grid.map_or(*value, |g| f32::from(g.quantize(*value)));
            QOp::Pad { pads: pads.clone(), fill }
        }
        Op::Identity | Op::Dropout => {
            // What the caller sees needs a value of its own; anything else is only another name.
            if !e.graph.is_output(node.output) {
                e.alias(node.output, node.inputs[0]);
                return Ok(());
            }
            QOp::Reshape
        }
        _ => return Err("is not a move; this is a bug".into()),
    };
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for (position, &v) in node.inputs.iter().enumerate() {
        let mut q = e.operand(k, v)?;
        if let (Some(to), true) = (grid, e.scales.is_rescaled(k, position)) {
            let name = format!("{}/rescale", e.graph.value(v).name);
            q = rescale(e, q, &name, e.scales.of(v)?, to);
        }
        inputs.push(q);
    }
    let y = e.define(node.output, grid);
    e.main(k, op, &inputs, y);
    Ok(())
}
