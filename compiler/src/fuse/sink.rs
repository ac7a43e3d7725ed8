//! Moves an activation before the reshape or transpose that stands between it and a convolution or dense layer: element by element
//! it gives the same, and the layer can then apply it.

use super::event::{Event, left, made};
use super::rewrite::{is_weighted, read_only_by, shown, sweep};
use crate::graph::{Epilogue, Graph, Op};

pub(super) const PASS: &str = "sink";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Op::Unary(unary) = graph.nodes[k].op else { return false };
        let Some(moved) = graph.producer(graph.nodes[k].inputs[0]).filter(|&n| is_move(&graph.nodes[n].op))
        else {
            return false;
        };
        let Some(layer) = layer_behind(graph, moved) else { return false };
        let (node, across) = (graph.nodes[k].name.clone(), graph.nodes[moved].name.clone());
        if let Err(reason) = free(graph, layer, k) {
            left(events, PASS, &node, format!("{unary} stays behind {across}: {reason}"));
            return false;
        }
        let (before, after) = (graph.nodes[moved].inputs[0], graph.nodes[k].output);
        let name = format!("{}/{}", graph.value(before).name, node);
        let between = graph.add_value(name, graph.shape(before).to_vec());
        let (first, second) = (graph.nodes[moved].op.clone(), graph.nodes[k].op.clone());
        // The two swap operators and names; the last value keeps its own.
        graph.nodes[moved].op = second;
        graph.nodes[moved].name = node.clone();
        graph.nodes[moved].output = between;
        graph.nodes[k].op = first;
        graph.nodes[k].name = across.clone();
        graph.nodes[k].inputs = vec![between];
        graph.nodes[k].output = after;
        made(events, PASS, &node, format!("moved before {across}, towards {}", graph.nodes[layer].name));
        true
    })
}

fn is_move(op: &Op) -> bool {
    matches!(op, Op::Reshape(_) | Op::Transpose(_))
}

/// The layer whose output the chain of moves that ends in node `k` rearranges.
fn layer_behind(graph: &Graph, mut k: usize) -> Option<usize> {
    while is_move(&graph.nodes[k].op) {
        k = graph.producer(graph.nodes[k].inputs[0])?;
    }
    is_weighted(&graph.nodes[k].op).then_some(k)
}

/// `Ok` if nothing else reads the values from `layer` to the activation `k`, and the layer has none yet.
fn free(graph: &Graph, layer: usize, k: usize) -> Result<(), String> {
    let mut reader = k;
    while reader != layer {
        let x = graph.nodes[reader].inputs[0];
        read_only_by(graph, x, reader)?;
        reader = graph.producer(x).ok_or_else(|| format!("{} is an input", shown(graph, x)))?;
    }
    match graph.nodes[layer].op.epilogue() {
        Some(Epilogue { activation: Some(first), .. }) => {
            Err(format!("{} already applies {first}", graph.nodes[layer].name))
        }
        _ => Ok(()),
    }
}
