//! Lets the convolution or pooling after a pad do the padding.

use super::event::{Event, left, made};
use super::rewrite::{read_only_by, sweep};
use crate::graph::{Graph, Node, Op, Pool, PoolKind, shape::infer};

pub(super) const PASS: &str = "pad";

/// What exporters write for −∞: nothing in a network is smaller.
const LOWEST: f32 = -3.0e38;

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    sweep(graph, |graph, k| {
        let node = &graph.nodes[k];
        if !matches!(node.op, Op::Conv(_) | Op::Pool(_)) {
            return false;
        }
        let Some(pad) = graph.producer(node.inputs[0]) else { return false };
        let Op::Pad { pads, value } = graph.nodes[pad].op.clone() else { return false };
        let (name, before) = (node.name.clone(), graph.nodes[pad].name.clone());
        match padded(graph, k, &pads, value) {
            Ok(op) => {
                graph.nodes[k].op = op;
                graph.nodes[k].inputs[0] = graph.nodes[pad].inputs[0];
                if graph.consumers(graph.nodes[pad].output).is_empty()
                    && !graph.is_output(graph.nodes[pad].output)
                {
                    graph.nodes.remove(pad);
                }
                made(events, PASS, &name, format!("pads as {before} did"));
                true
            }
            Err(reason) => {
                left(events, PASS, &name, format!("pad {before} stays: {reason}"));
                false
            }
        }
    })
}

/// Node `k` with the padding taken in, if it then computes the same.
fn padded(graph: &Graph, k: usize, pads: &[(usize, usize)], value: f32) -> Result<Op, String> {
    let node = &graph.nodes[k];
    let &[(0, 0), (0, 0), (top, bottom), (left, right)] = pads else {
        return Err("it pads more than height and width".into());
    };
    let more = |own: [usize; 4]| [own[0] + top, own[1] + left, own[2] + bottom, own[3] + right];
    // Several readers may pad for themselves, but then the pad must not stay for another.
    for reader in graph.consumers(node.inputs[0]) {
        if reader != k && !matches!(graph.nodes[reader].op, Op::Conv(_) | Op::Pool(_)) {
            read_only_by(graph, node.inputs[0], k)?;
        }
    }
    let mut op = node.op.clone();
    if let Op::Conv(conv) = &mut op {
        if value != 0.0 {
            return Err(format!("it pads with {value}, a convolution with 0"));
        }
        conv.pads = more(conv.pads);
    }
    if let Op::Pool(pool) = &mut op {
        pool.kind = padded_pooling(graph, k, pool, value)?;
        pool.pads = more(pool.pads);
    }
    same_shape(graph, k, node, &op)?;
    Ok(op)
}

/// The pooling that takes the same from padding of its own, if there is one.
fn padded_pooling(graph: &Graph, k: usize, pool: &Pool, value: f32) -> Result<PoolKind, String> {
    match pool.kind {
        PoolKind::Max if pool.pads != [0; 4] && value > LOWEST => {
            Err("the pooling has padding of its own, of another value".into())
        }
        PoolKind::Max if value > LOWEST && !(value == 0.0 && is_not_negative(graph, k)) => {
            Err(format!("it pads with {value}, which may be the largest of a window"))
        }
        PoolKind::Max => Ok(PoolKind::Max),
        PoolKind::Average { .. } if value != 0.0 => Err(format!("it pads with {value}, an average with 0")),
        PoolKind::Average { count_include_pad: false } if pool.pads != [0; 4] => {
            Err("the pooling has padding of its own, which does not count".into())
        }
        PoolKind::Average { .. } => Ok(PoolKind::Average { count_include_pad: true }),
    }
}

/// True if what the pad before node `k` reads is at least 0, so that zeros around it are never the largest.
fn is_not_negative(graph: &Graph, k: usize) -> bool {
    let producer = |id| graph.producer(id).map(|p: usize| &graph.nodes[p]);
    let Some(source) = producer(graph.nodes[k].inputs[0]).and_then(|pad| producer(pad.inputs[0])) else {
        return false;
    };
    let last = match &source.op {
        Op::Unary(unary) => Some(*unary),
        other => other.epilogue().and_then(|e| e.activation),
    };
    last.is_some_and(|unary| super::clamp::range(unary).0 >= 0.0)
}

fn same_shape(graph: &Graph, k: usize, node: &Node, op: &Op) -> Result<(), String> {
    let pad = graph.producer(node.inputs[0]).ok_or("it has gone")?;
    let mut shapes: Vec<&[usize]> = node.inputs.iter().map(|&i| graph.shape(i)).collect();
    shapes[0] = graph.shape(graph.nodes[pad].inputs[0]);
    match infer(op, &shapes) {
        Ok(shape) if shape == graph.shape(graph.nodes[k].output) => Ok(()),
        Ok(shape) => Err(format!("the output would become {shape:?}")),
        Err(reason) => Err(reason),
    }
}
