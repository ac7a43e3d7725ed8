//! Adds the other operand of an addition in the epilogue of the convolution or dense layer that computes the one.

use super::activation::epilogue_mut;
use super::event::{Event, left, made};
use super::rewrite::{is_weighted, read_only_by, shown, sweep};
use crate::graph::{Binary, Graph, Op, ValueId};

pub(super) const PASS: &str = "residual";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Op::Binary(Binary::Add) = graph.nodes[k].op else { return false };
        let (a, b) = (graph.nodes[k].inputs[0], graph.nodes[k].inputs[1]);
        // If both operands come from a layer, the later one takes the addition: the other is then ready.
        let mut candidates: Vec<(usize, ValueId)> = [(a, b), (b, a)]
            .into_iter()
            .filter_map(|(own, other)| Some((graph.producer(own)?, other)))
            .filter(|&(p, _)| is_weighted(&graph.nodes[p].op))
            .collect();
        candidates.sort_by_key(|&(p, _)| std::cmp::Reverse(p));
        for (layer, other) in candidates {
            let name = graph.nodes[layer].name.clone();
            match check(graph, layer, other, k) {
                Ok(()) => {
                    made(events, PASS, &name, format!("adds {}", shown(graph, other)));
                    fuse(graph, layer, other, k);
                    return true;
                }
                Err(reason) => {
                    left(events, PASS, &name, format!("add {} stays: {reason}", graph.nodes[k].name))
                }
            }
        }
        false
    })
}

fn check(graph: &Graph, layer: usize, other: ValueId, k: usize) -> Result<(), String> {
    let node = &graph.nodes[layer];
    let (own, out) = (graph.shape(node.output), graph.shape(graph.nodes[k].output));
    read_only_by(graph, node.output, k)?;
    if matches!(node.op, Op::ConvTranspose(_)) {
        return Err("a transposed convolution adds no residual".into());
    }
    if own != out || graph.shape(other) != out {
        return Err(format!("{} {:?} and {own:?} broadcast", shown(graph, other), graph.shape(other)));
    }
    if graph.constant(other).is_some() {
        return Err(format!("{} is a constant", shown(graph, other)));
    }
    match node.op.epilogue() {
        Some(e) if e.residual => Err("the layer already adds a residual".into()),
        Some(e) => match e.activation {
            Some(first) => {
                Err(format!("the layer already applies {first}, which would come after the addition"))
            }
            None => Ok(()),
        },
        None => Err("it has no epilogue".into()),
    }
}

/// The layer moves to the place of the addition, where the other operand is ready, and gives its value.
fn fuse(graph: &mut Graph, layer: usize, other: ValueId, k: usize) {
    let output = graph.nodes[k].output;
    let mut node = graph.nodes[layer].clone();
    if let Some(epilogue) = epilogue_mut(&mut node.op) {
        epilogue.residual = true;
    }
    node.inputs.push(other);
    node.output = output;
    graph.nodes[k] = node;
    graph.nodes.remove(layer);
}
