//! Folds an affine function (batch normalization, arithmetic by constants) into the layer after it, where padding allows: the
//! padding would have to be the value that the function gives −shift/scale, but it is 0.

use super::affine::Affine;
use super::event::{Event, left, made};
use super::rewrite::{is_weighted, read_only_by, sweep};
use super::weights::{input_axis, scale_inputs};
use crate::graph::{Graph, Op};

pub(super) const PASS: &str = "affine-before";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Some((x, affine)) = Affine::of(graph, &graph.nodes[k]) else { return false };
        let middle = graph.nodes[k].output;
        let reads = |&n: &usize| is_weighted(&graph.nodes[n].op) && graph.nodes[n].inputs[0] == middle;
        let Some(layer) = graph.consumers(middle).into_iter().find(reads) else { return false };
        let (name, what) = (graph.nodes[layer].name.clone(), graph.nodes[k].op.name());
        match fold(graph, layer, k, &affine) {
            Ok(()) => {
                graph.nodes[layer].inputs[0] = x;
                graph.nodes.remove(k);
                made(events, PASS, &name, format!("weights and bias do {what} of the input"));
                true
            }
            Err(reason) => {
                left(events, PASS, &name, format!("{what} {} stays: {reason}", graph.nodes[k].name));
                false
            }
        }
    })
}

fn fold(graph: &mut Graph, layer: usize, k: usize, affine: &Affine) -> Result<(), String> {
    let middle = graph.nodes[k].output;
    read_only_by(graph, middle, layer)?;
    let op = &graph.nodes[layer].op;
    if affine.shift.iter().any(|&t| t != 0.0) {
        if matches!(op, Op::Conv(conv) if conv.pads != [0; 4]) {
            return Err("the convolution pads with 0, which the function would shift".into());
        }
        if matches!(op, Op::ConvTranspose(_)) {
            return Err("the shift would differ at the borders of a transposed convolution".into());
        }
    }
    let shape = graph.shape(middle);
    let axis = input_axis(op, shape.len());
    let (scale, shift) = affine
        .along(axis, shape[axis])
        .ok_or_else(|| format!("its constants run along another axis than the channels (axis {axis})"))?;
    scale_inputs(graph, layer, &scale, &shift)
}
