//! Applies the activation that follows a convolution or dense layer in its epilogue.

use super::clamp::merged;
use super::event::{Event, left, made};
use super::rewrite::{absorb_reader, read_only_by, sweep};
use crate::graph::{Epilogue, Graph, Op, Unary};

pub(super) const PASS: &str = "activation";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        if let Op::PRelu = graph.nodes[k].op {
            decline_prelu(graph, k, events);
        }
        let Op::Unary(unary) = graph.nodes[k].op else { return false };
        let x = graph.nodes[k].inputs[0];
        let Some(layer) = graph.producer(x) else { return false };
        let Some(epilogue) = graph.nodes[layer].op.epilogue() else { return false };
        let (name, first) = (graph.nodes[layer].name.clone(), epilogue.activation);
        let activation = read_only_by(graph, x, k).and_then(|()| combined(first, unary));
        match activation {
            Ok(activation) => {
                set_activation(&mut graph.nodes[layer].op, activation);
                absorb_reader(graph, layer, k);
                made(events, PASS, &name, format!("applies {activation}"));
                true
            }
            Err(reason) => {
                left(events, PASS, &name, format!("{unary} {} stays: {reason}", graph.nodes[k].name));
                false
            }
        }
    })
}

fn combined(first: Option<Unary>, second: Unary) -> Result<Unary, String> {
    let Some(first) = first else { return Ok(second) };
    match (first.as_clamp(), second.as_clamp()) {
        (Some(inner), Some(outer)) => Ok(merged(inner, outer)),
        _ => Err(format!("the layer already applies {first}")),
    }
}

fn decline_prelu(graph: &Graph, k: usize, events: &mut Vec<Event>) {
    let node = &graph.nodes[k];
    if let Some(layer) = graph.producer(node.inputs[0]).filter(|&p| graph.nodes[p].op.epilogue().is_some()) {
        let reason =
            format!("prelu {} stays: an epilogue has one slope, this one differs by channel", node.name);
        left(events, PASS, &graph.nodes[layer].name, reason);
    }
}

fn set_activation(op: &mut Op, activation: Unary) {
    if let Some(epilogue) = epilogue_mut(op) {
        epilogue.activation = Some(activation);
    }
}

/// The epilogue, of the operators that have one.
pub(super) fn epilogue_mut(op: &mut Op) -> Option<&mut Epilogue> {
    match op {
        Op::Conv(conv) => Some(&mut conv.epilogue),
        Op::ConvTranspose(conv) => Some(&mut conv.epilogue),
        Op::Dense(epilogue) => Some(epilogue),
        Op::BatchNorm { .. }
        | Op::Unary(_)
        | Op::PRelu
        | Op::Binary(_)
        | Op::Concat { .. }
        | Op::Pool(_)
        | Op::GlobalPool(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Pad { .. }
        | Op::Resize(_)
        | Op::Slice(_)
        | Op::Softmax { .. }
        | Op::Lrn { .. }
        | Op::Identity
        | Op::Dropout
        | Op::Round(_) => None,
    }
}
