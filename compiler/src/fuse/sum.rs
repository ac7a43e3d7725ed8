//! Takes the rounding away that a quantized model makes between a layer and the addition that alone reads it, if the sum is rounded to steps at
//! least as large and cut off at 0: the layer can then add in its epilogue. The sum keeps the fraction that the model drops, so it differs by at
//! most one of its steps (a sum that saturated before it was added to may differ by more).
//!
//! This is the one place where a model that is quantized already is not followed to the letter, so not in one that `export-onnx` wrote. It is
//! worth 4 to 8 % of the time of a ResNet, and 2 % of MobileNetV2's, whose sums keep both signs and add up: there it would double the elements that
//! are off by more than one step.

use super::event::{Event, left};
use super::rewrite::{is_weighted, read_only_by, remove, sweep};
use super::round::reader;
use crate::graph::{Binary, Epilogue, Graph, Grid, Op};

pub(super) const PASS: &str = "sum";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    if graph.rounding.is_some() {
        return false;
    }
    sweep(graph, |graph, k| {
        let Op::Round(grid) = graph.nodes[k].op else { return false };
        match added(graph, k, grid) {
            Some(Ok(layer)) => remove(graph, k, PASS, &format!("{layer} adds before it rounds"), events),
            Some(Err(reason)) => {
                let name = graph.nodes[k].name.clone();
                left(events, PASS, &name, format!("stays before the addition: {reason}"));
                false
            }
            None => false,
        }
    })
}

/// The name of the layer that can add what it gives to another operand once rounding `k` is gone. `None` if there is no such addition,
/// `Err` if rounding it first matters.
fn added(graph: &Graph, k: usize, grid: Grid) -> Option<Result<String, String>> {
    let layer = layer_before(graph, k)?;
    let add = reader(graph, k).filter(|&a| graph.nodes[a].op == Op::Binary(Binary::Add))?;
    let own = graph.nodes[k].output;
    let other = *graph.nodes[add].inputs.iter().find(|&&v| v != own)?;
    let shape = graph.shape(graph.nodes[add].output);
    if graph.shape(own) != shape || graph.shape(other) != shape || graph.constant(other).is_some() {
        return None;
    }
    // One layer adds: the later one, as the pass `residual` has it, or the one that does already.
    if let Some(p) = graph.producer(other)
        && (is_weighted(&graph.nodes[p].op)
            || matches!(graph.nodes[p].op, Op::Round(_))
                && reader(graph, p) == Some(add)
                && layer_before(graph, p).is_some_and(|rival| rival > layer))
    {
        return None;
    }
    let mut next = reader(graph, add)?;
    let mut cut = false;
    if let Op::Unary(f) = graph.nodes[next].op {
        cut = f.as_clamp()?.0 >= 0.0;
        next = reader(graph, next)?;
    }
    let Op::Round(sum) = graph.nodes[next].op else { return None };
    Some(if !cut && sum.zero > 0 {
        Err("the sum may be negative".into())
    } else if grid.scale > sum.scale {
        Err(format!("its steps {:e} are larger than {:e}, those of the sum", grid.scale, sum.scale))
    } else {
        Ok(graph.nodes[layer].name.clone())
    })
}

/// The layer without an epilogue that rounding `k` alone reads.
fn layer_before(graph: &Graph, k: usize) -> Option<usize> {
    let x = graph.nodes[k].inputs[0];
    let layer = graph.producer(x)?;
    let op = &graph.nodes[layer].op;
    let free = op.epilogue() == Some(&Epilogue::default()) && !matches!(op, Op::ConvTranspose(_));
    (free && read_only_by(graph, x, k).is_ok()).then_some(layer)
}
