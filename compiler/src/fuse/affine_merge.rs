//! Merges an affine function (batch normalization, arithmetic by constants) with the one before it.

use super::affine::{Affine, rewrite_as};
use super::event::{Event, left, made};
use super::rewrite::{read_only_by, sweep};
use crate::graph::Graph;

pub(super) const PASS: &str = "affine-merge";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Some((middle, second)) = Affine::of(graph, &graph.nodes[k]) else { return false };
        let Some(producer) = graph.producer(middle) else { return false };
        let Some((x, first)) = Affine::of(graph, &graph.nodes[producer]) else { return false };
        let (node, before) = (graph.nodes[k].name.clone(), graph.nodes[producer].name.clone());
        if let Err(reason) = read_only_by(graph, middle, k) {
            left(events, PASS, &node, reason);
            return false;
        }
        if !first.then(&second).is_some_and(|both| rewrite_as(graph, k, x, &both)) {
            left(events, PASS, &node, format!("no single operator does both {before} and this"));
            return false;
        }
        graph.nodes.remove(producer);
        made(events, PASS, &node, format!("does {before} as well"));
        true
    })
}
