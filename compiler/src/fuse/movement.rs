//! Merges data movement: reshape of reshape, transpose of transpose, a transpose that is only a reshape, concat of concat,
//! and bilinear resizing of a single pixel, which only repeats it.

use super::event::{Event, made};
use super::rewrite::{read_only_by, shown, sweep};
use crate::graph::{Coordinates, Graph, Interpolation, NearestRounding, Op, Resize};

pub(super) const PASS: &str = "movement";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let message = reshape_of_reshape(graph, k)
            .or_else(|| transpose_of_transpose(graph, k))
            .or_else(|| transpose_as_reshape(graph, k))
            .or_else(|| concat_of_concat(graph, k))
            .or_else(|| resize_of_pixel(graph, k));
        let Some(message) = message else { return false };
        made(events, PASS, &graph.nodes[k].name, message);
        true
    })
}

fn reshape_of_reshape(graph: &mut Graph, k: usize) -> Option<String> {
    let Op::Reshape(_) = &graph.nodes[k].op else { return None };
    let inner = &graph.nodes[graph.producer(graph.nodes[k].inputs[0])?];
    let Op::Reshape(_) = &inner.op else { return None };
    let (x, message) = (inner.inputs[0], format!("looks through reshape {}", inner.name));
    graph.nodes[k].inputs[0] = x;
    Some(message)
}

fn transpose_of_transpose(graph: &mut Graph, k: usize) -> Option<String> {
    let Op::Transpose(outer) = &graph.nodes[k].op else { return None };
    let inner = &graph.nodes[graph.producer(graph.nodes[k].inputs[0])?];
    let Op::Transpose(perm) = &inner.op else { return None };
    let both = outer.iter().map(|&axis| perm[axis]).collect();
    let (x, message) = (inner.inputs[0], format!("takes transpose {} in", inner.name));
    graph.nodes[k].op = Op::Transpose(both);
    graph.nodes[k].inputs[0] = x;
    Some(message)
}

/// Axes of extent 1 may move freely: no element changes its place.
fn transpose_as_reshape(graph: &mut Graph, k: usize) -> Option<String> {
    let Op::Transpose(perm) = &graph.nodes[k].op else { return None };
    let x = graph.shape(graph.nodes[k].inputs[0]);
    if perm.iter().copied().eq(0..x.len()) || !perm.iter().filter(|&&axis| x[axis] > 1).is_sorted() {
        return None;
    }
    graph.nodes[k].op = Op::Reshape(graph.shape(graph.nodes[k].output).to_vec());
    Some("moves only axes of extent 1: a reshape".into())
}

fn concat_of_concat(graph: &mut Graph, k: usize) -> Option<String> {
    let Op::Concat { axis } = graph.nodes[k].op else { return None };
    let (position, inner) = graph.nodes[k].inputs.iter().enumerate().find_map(|(position, &id)| {
        let inner = graph.producer(id)?;
        let fits = graph.nodes[inner].op == Op::Concat { axis } && read_only_by(graph, id, k).is_ok();
        fits.then_some((position, inner))
    })?;
    let message = format!("takes the operands of {}", graph.nodes[inner].name);
    let operands = graph.nodes[inner].inputs.clone();
    graph.nodes[k].inputs.splice(position..=position, operands);
    Some(message)
}

fn resize_of_pixel(graph: &mut Graph, k: usize) -> Option<String> {
    let node = &graph.nodes[k];
    let Op::Resize(Resize { interpolation: Interpolation::Linear, scales, output, .. }) = node.op else {
        return None;
    };
    let x = graph.shape(node.inputs[0]);
    if x[2..] != [1, 1] {
        return None;
    }
    let message = format!("{} is a single pixel: bilinear resizing repeats it", shown(graph, node.inputs[0]));
    graph.nodes[k].op = Op::Resize(Resize {
        interpolation: Interpolation::Nearest(NearestRounding::Floor),
        coordinates: Coordinates::Asymmetric,
        scales,
        output,
    });
    Some(message)
}
