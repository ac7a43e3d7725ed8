//! Pooling: maxima move elements; averages have a form from u8 to u8, to f32, and in f32.

use super::decide::Run;
use super::emit::Emit;
use crate::graph::{GlobalPool, Op, PoolKind};
use crate::qgraph::{QOp, Window};

/// Emits a Pool or GlobalPool.
pub(super) fn emit(e: &mut Emit<'_>, k: usize) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let (x, output) = (node.inputs[0], node.output);
    let (window, kind) = match &node.op {
        Op::Pool(p) => {
            (Window { kernel: p.kernel, strides: p.strides, dilations: p.dilations, pads: p.pads }, p.kind)
        }
        Op::GlobalPool(p) => {
            let &[_, _, h, w] = e.graph.shape(x) else {
                return Err(format!("the input {:?} is not [N, C, H, W]", e.graph.shape(x)));
            };
            let kind = match p {
                GlobalPool::Max => PoolKind::Max,
                GlobalPool::Average => PoolKind::Average { count_include_pad: false },
            };
            (Window { kernel: [h, w], strides: [1, 1], dilations: [1, 1], pads: [0; 4] }, kind)
        }
        _ => return Err("is not a pooling; this is a bug".into()),
    };
    let input = e.operand(k, x)?;
    let grid = e.grid(k)?;
    let op = match kind {
        PoolKind::Max => QOp::MaxPool(window),
        PoolKind::Average { count_include_pad } => {
            let ratio = match (&e.decisions.run[k], grid) {
                (Run::Float(_), _) => 1.0,
                (_, None) => e.scales.of(x)?.step(),
                (_, Some(y)) => e.scales.of(x)?.step() / y.step(),
            };
            QOp::AvgPool { window, count_include_pad, ratio }
        }
    };
    let y = e.define(output, grid);
    e.main(k, op, &[input], y);
    Ok(())
}
