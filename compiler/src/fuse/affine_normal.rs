//! Writes arithmetic by constants that folds nowhere as one batch normalization (gamma, beta, mean 0, variance 1, epsilon 0), so that
//! later stages know a single affine operator on images.

use super::affine::{Affine, rewrite_as};
use super::event::{Event, left, made};
use super::rewrite::{shown, sweep};
use crate::graph::{Graph, Op};

pub(super) const PASS: &str = "affine-normal";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let node = &graph.nodes[k];
        let Some((x, affine)) = Affine::of(graph, node) else { return false };
        let (name, what) = (node.name.clone(), node.op.name());
        if matches!(node.op, Op::BatchNorm { .. }) {
            let around = neighbours(graph, k);
            left(
                events,
                PASS,
                &name,
                format!("stays a node of its own: {} {around}", shown(graph, node.output)),
            );
            return false;
        }
        let image = graph.shape(x).len() == 4 && affine.axis.is_none_or(|axis| axis == 1);
        if !image || !rewrite_as(graph, k, x, &affine) {
            return false;
        }
        made(events, PASS, &name, format!("{what} by constants written as batch_norm"));
        true
    })
}

/// `is computed from %a (add) and read by relu2, conv3`
fn neighbours(graph: &Graph, k: usize) -> String {
    let node = &graph.nodes[k];
    let from = match graph.producer(node.inputs[0]) {
        Some(p) => graph.nodes[p].op.name(),
        None => "an input".into(),
    };
    let readers: Vec<&str> =
        graph.consumers(node.output).into_iter().map(|n| &graph.nodes[n].name[..]).collect();
    let readers = if readers.is_empty() { "nobody but the caller".into() } else { readers.join(", ") };
    format!("is computed from {} ({from}) and read by {readers}", shown(graph, node.inputs[0]))
}
