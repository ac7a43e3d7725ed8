//! Merges clamps that follow each other, and drops those that cannot change what they read.

use super::event::{Event, left, made};
use super::rewrite::{bypass, read_only_by, sweep};
use crate::graph::{Graph, Op, Unary};

pub(super) const PASS: &str = "clamp";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Op::Unary(second) = graph.nodes[k].op else { return false };
        let Some(bounds) = second.as_clamp() else { return false };
        let x = graph.nodes[k].inputs[0];
        let Some(producer) = graph.producer(x) else { return false };
        let (node, before) = (graph.nodes[k].name.clone(), graph.nodes[producer].name.clone());
        let Op::Unary(first) = graph.nodes[producer].op else { return false };
        let range = range(first);
        if bounds.0 <= range.0 && range.1 <= bounds.1 && bypass(graph, k).is_ok() {
            made(events, PASS, &node, format!("removed: {before} ({first}) already stays within {second}"));
            return true;
        }
        let Some(inner) = first.as_clamp() else { return false };
        if let Err(reason) = read_only_by(graph, x, k) {
            left(events, PASS, &node, reason);
            return false;
        }
        let both = merged(inner, bounds);
        graph.nodes[k].inputs = graph.nodes[producer].inputs.clone();
        graph.nodes[k].op = Op::Unary(both);
        graph.nodes.remove(producer);
        made(events, PASS, &node, format!("{first} of {before} and {second} become {both}"));
        true
    })
}

/// One clamp that does the first and then the second.
pub(super) fn merged(first: (f32, f32), second: (f32, f32)) -> Unary {
    let bound = |v: f32| v.max(second.0).min(second.1);
    match (bound(first.0), bound(first.1)) {
        (0.0, f32::INFINITY) => Unary::Relu,
        (lo, hi) => Unary::Clip { lo, hi },
    }
}

/// What the results lie between, as far as that is exact in f32.
pub(super) fn range(unary: Unary) -> (f32, f32) {
    match unary {
        Unary::Relu | Unary::Softplus | Unary::Square | Unary::Sqrt | Unary::Abs | Unary::Exp => {
            (0.0, f32::INFINITY)
        }
        Unary::Clip { lo, hi } => (lo, hi),
        Unary::Sigmoid | Unary::HardSigmoid { .. } => (0.0, 1.0),
        Unary::Tanh | Unary::Erf => (-1.0, 1.0),
        Unary::LeakyRelu { .. }
        | Unary::Elu { .. }
        | Unary::HardSwish
        | Unary::Mish
        | Unary::Gelu
        | Unary::GeluTanh
        | Unary::Silu => (f32::NEG_INFINITY, f32::INFINITY),
    }
}
