//! Folds an affine function (batch normalization, arithmetic by constants) into the weights and bias of the layer before it.

use super::affine::Affine;
use super::event::{Event, left, made};
use super::rewrite::{absorb_reader, is_weighted, read_only_by, shown, sweep};
use super::weights::{output_axis, scale_outputs};
use crate::graph::{Epilogue, Graph};

pub(super) const PASS: &str = "affine-after";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Some((middle, affine)) = Affine::of(graph, &graph.nodes[k]) else { return false };
        let Some(layer) = graph.producer(middle).filter(|&p| is_weighted(&graph.nodes[p].op)) else {
            return false;
        };
        let (name, what) = (graph.nodes[layer].name.clone(), graph.nodes[k].op.name());
        match fold(graph, layer, k, &affine) {
            Ok(()) => made(events, PASS, &name, format!("weights and bias do {what}")),
            Err(reason) => {
                left(events, PASS, &name, format!("{what} {} stays: {reason}", graph.nodes[k].name));
                return false;
            }
        }
        true
    })
}

fn fold(graph: &mut Graph, layer: usize, k: usize, affine: &Affine) -> Result<(), String> {
    let middle = graph.nodes[layer].output;
    read_only_by(graph, middle, k)?;
    if graph.nodes[layer].op.epilogue().is_some_and(|e| *e != Epilogue::default()) {
        return Err(format!("{} has been through a residual or activation", shown(graph, middle)));
    }
    let shape = graph.shape(middle);
    let axis = output_axis(&graph.nodes[layer].op, shape.len());
    let (scale, shift) = affine
        .along(axis, shape[axis])
        .ok_or_else(|| format!("its constants run along another axis than the channels (axis {axis})"))?;
    scale_outputs(graph, layer, &scale, &shift)?;
    absorb_reader(graph, layer, k);
    Ok(())
}
