//! Common subexpressions: constants with equal content become one, then nodes with equal operator and operands.

use super::event::{Event, left, made};
use super::rewrite::{shown, sweep};
use crate::graph::{Graph, ValueId};
use std::collections::HashMap;

pub(super) const PASS: &str = "common";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    let merged = merge_constants(graph);
    let changed = sweep(graph, |graph, k| {
        let node = &graph.nodes[k];
        let twin = |n: &&crate::graph::Node| n.op == node.op && n.inputs == node.inputs;
        let Some(first) = graph.nodes[..k].iter().position(|n| twin(&n)) else { return false };
        let (kept, gone) = (graph.nodes[first].output, node.output);
        let (name, of) = (node.name.clone(), graph.nodes[first].name.clone());
        if graph.is_output(gone) && graph.is_output(kept) {
            left(
                events,
                PASS,
                &name,
                format!("computes the same as {of}, but both are outputs of the graph"),
            );
            return false;
        }
        made(events, PASS, &name, format!("computes the same as {of}: {} serves both", shown(graph, kept)));
        graph.nodes.remove(k);
        if graph.is_output(gone) {
            graph.replace_uses(kept, gone);
            graph.nodes[first].output = gone;
        } else {
            graph.replace_uses(gone, kept);
        }
        true
    });
    merged || changed
}

/// Makes readers of equal constants read the first. Compared by bits: 0 and −0 differ.
fn merge_constants(graph: &mut Graph) -> bool {
    let mut by_size: HashMap<(Vec<usize>, u32), Vec<ValueId>> = HashMap::new();
    let mut twins = Vec::new();
    for (k, value) in graph.values.iter().enumerate() {
        let (id, Some(tensor)) = (ValueId(k as u32), &value.data) else { continue };
        // A cheap key is enough: unequal content differs within a few elements.
        let key = tensor.data.iter().take(16).fold(0u32, |h, x| h.rotate_left(5) ^ x.to_bits());
        let alike = by_size.entry((tensor.shape.clone(), key)).or_default();
        let equal = |other: &&ValueId| {
            graph.constant(**other).is_some_and(|o| {
                std::sync::Arc::ptr_eq(&o.data, &tensor.data)
                    || o.data.iter().zip(tensor.data.iter()).all(|(a, b)| a.to_bits() == b.to_bits())
            })
        };
        match alike.iter().find(equal) {
            Some(&first) => twins.push((id, first)),
            None => alike.push(id),
        }
    }
    let mut changed = false;
    for (id, first) in twins {
        for input in graph.nodes.iter_mut().flat_map(|n| &mut n.inputs).filter(|i| **i == id) {
            *input = first;
            changed = true;
        }
    }
    changed
}
