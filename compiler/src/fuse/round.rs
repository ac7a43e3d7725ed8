//! Takes roundings away that a quantized model makes and that nobody would miss:
//!
//! - of what lies on the grid already, because it was only moved or clamped since it was rounded to it;
//! - before a clamp whose result is rounded to the same grid: rounding keeps order, so both ways give the same.
//!
//! Every other rounding stays (but for those that [`super::sum`] takes) and keeps the nodes around it apart.

use super::event::Event;
use super::rewrite::{read_only_by, remove, shown, sweep};
use crate::graph::{Graph, Grid, Op, ValueId};

pub(super) const PASS: &str = "round";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let Op::Round(grid) = graph.nodes[k].op else { return false };
        let why = if on_grid(graph, graph.nodes[k].inputs[0], grid) {
            format!("{} lies on the grid already", shown(graph, graph.nodes[k].inputs[0]))
        } else if clamped(graph, k, grid) {
            "it is clamped and rounded to the same grid again".into()
        } else {
            return false;
        };
        remove(graph, k, PASS, &why, events)
    })
}

/// True if every element of a value is known to lie on the grid.
fn on_grid(graph: &Graph, v: ValueId, grid: Grid) -> bool {
    let Some(k) = graph.producer(v) else { return false };
    let node = &graph.nodes[k];
    match &node.op {
        Op::Round(own) => *own == grid,
        Op::Concat { .. } => node.inputs.iter().all(|&v| on_grid(graph, v, grid)),
        Op::Pad { value, .. } if grid.round(*value) != *value => false,
        op => op.copies() && on_grid(graph, node.inputs[0], grid),
    }
}

/// The one reader of what node `k` gives.
pub(super) fn reader(graph: &Graph, k: usize) -> Option<usize> {
    let v = graph.nodes[k].output;
    let &first = graph.consumers(v).first()?;
    read_only_by(graph, v, first).is_ok().then_some(first)
}

/// True if nothing but a clamp reads rounding `k`, and nothing but a rounding to the same grid reads that.
fn clamped(graph: &Graph, k: usize, grid: Grid) -> bool {
    let clamp = reader(graph, k).filter(|&c| is_clamp(&graph.nodes[c].op));
    let second = clamp.and_then(|c| reader(graph, c));
    second.is_some_and(|s| graph.nodes[s].op == Op::Round(grid))
}

fn is_clamp(op: &Op) -> bool {
    matches!(op, Op::Unary(f) if f.as_clamp().is_some())
}
