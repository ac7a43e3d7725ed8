//! Removes nodes that give their operand back: identity, dropout at inference, and moves that move nothing.

use super::event::Event;
use super::rewrite::{remove, sweep};
use crate::graph::{Graph, Op, Unary};

pub(super) const PASS: &str = "identity";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Some(what) = gives_operand_back(graph, k) else { return false };
        remove(graph, k, PASS, what, events)
    })
}

/// Why node `k` changes nothing, if so.
fn gives_operand_back(graph: &Graph, k: usize) -> Option<&'static str> {
    let node = &graph.nodes[k];
    let x = graph.shape(*node.inputs.first()?);
    let same = x == graph.shape(node.output);
    match &node.op {
        Op::Identity => Some("an identity"),
        Op::Dropout => Some("a dropout, which does nothing at inference"),
        Op::Concat { .. } => (node.inputs.len() == 1).then_some("a concatenation of one"),
        Op::Reshape(_) => same.then_some("a reshape to the same shape"),
        Op::Transpose(perm) => {
            perm.iter().copied().eq(0..x.len()).then_some("a transpose that moves no axis")
        }
        Op::Pad { pads, .. } => pads.iter().all(|&p| p == (0, 0)).then_some("a pad by nothing"),
        // The output has the input's shape and no axis runs backwards: nothing can be left out.
        Op::Slice(axes) => (same && axes.iter().all(|a| a.step > 0 || a.count == 1))
            .then_some("a slice that takes everything"),
        Op::Resize(r) => (same && r.scales == [1.0; 2]).then_some("a resize by 1"),
        Op::Pool(p) => {
            (p.kernel == [1; 2] && p.strides == [1; 2] && same).then_some("a pooling of single elements")
        }
        Op::GlobalPool(_) => (x[2..] == [1, 1]).then_some("a pooling of a single element"),
        Op::Unary(Unary::Clip { lo, hi }) => {
            (*lo == f32::NEG_INFINITY && *hi == f32::INFINITY).then_some("a clip without bounds")
        }
        Op::Unary(_)
        | Op::Conv(_)
        | Op::ConvTranspose(_)
        | Op::Dense(_)
        | Op::BatchNorm { .. }
        | Op::PRelu
        | Op::Binary(_)
        | Op::Softmax { .. }
        | Op::Lrn { .. }
        | Op::Round(_) => None,
    }
}
