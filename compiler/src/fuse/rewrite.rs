//! The steps that rewrites are made of. Each keeps the graph valid: topological order, names, one origin per value.

use super::event::{Event, left, made};
use crate::graph::{Graph, Op, Tensor, ValueId};

/// Calls `rewrite` at every node in order; when it says that it changed the graph, at the same index again.
pub(super) fn sweep(graph: &mut Graph, mut rewrite: impl FnMut(&mut Graph, usize) -> bool) -> bool {
    let (mut changed, mut k) = (false, 0);
    while k < graph.nodes.len() {
        if rewrite(graph, k) {
            changed = true;
        } else {
            k += 1;
        }
    }
    changed
}

/// `%name`, as the printed graph has it.
pub(super) fn shown(graph: &Graph, id: ValueId) -> String {
    format!("%{}", graph.value(id).name)
}

/// `Ok` if node `reader` alone sees the value; else who else does, as a reason.
pub(super) fn read_only_by(graph: &Graph, id: ValueId, reader: usize) -> Result<(), String> {
    read_only_within(graph, id, &[reader])?;
    if graph.consumers(id).len() > 1 {
        return Err(format!("{} reads {} twice", graph.nodes[reader].name, shown(graph, id)));
    }
    Ok(())
}

/// `Ok` if only these nodes see the value, however often; else who else does, as a reason.
pub(super) fn read_only_within(graph: &Graph, id: ValueId, readers: &[usize]) -> Result<(), String> {
    if graph.is_output(id) {
        return Err(format!("{} is an output of the graph", shown(graph, id)));
    }
    match graph.consumers(id).into_iter().find(|k| !readers.contains(k)) {
        Some(k) => Err(format!("{} has a second consumer, {}", shown(graph, id), graph.nodes[k].name)),
        None => Ok(()),
    }
}

/// Removes node `k`, whose output equals its first operand. The surviving value keeps the output's name if the caller
/// sees it. `Err`: why the node must stay.
pub(super) fn bypass(graph: &mut Graph, k: usize) -> Result<(), String> {
    let (x, y) = (graph.nodes[k].inputs[0], graph.nodes[k].output);
    if !graph.is_output(y) {
        graph.nodes.remove(k);
        graph.replace_uses(y, x);
        return Ok(());
    }
    let reason =
        |what| Err(format!("{} is an output of the graph and {} {what}", shown(graph, y), shown(graph, x)));
    if graph.is_output(x) {
        return reason("is another");
    }
    let Some(producer) = graph.producer(x) else {
        return reason("is not computed by a node");
    };
    graph.nodes.remove(k);
    graph.replace_uses(x, y);
    graph.nodes[producer].output = y;
    Ok(())
}

/// [`bypass`], with a report of why node `k` went or why it stays; true if it went.
pub(super) fn remove(
    graph: &mut Graph,
    k: usize,
    pass: &'static str,
    why: &str,
    events: &mut Vec<Event>,
) -> bool {
    let name = graph.nodes[k].name.clone();
    let done = bypass(graph, k);
    match &done {
        Ok(()) => made(events, pass, &name, format!("removed: {why}")),
        Err(reason) => left(events, pass, &name, reason),
    }
    done.is_ok()
}

/// Node `producer` takes over the output of node `last`, its only reader, which goes.
pub(super) fn absorb_reader(graph: &mut Graph, producer: usize, last: usize) {
    graph.nodes[producer].output = graph.nodes[last].output;
    graph.nodes.remove(last);
}

/// Gives operand `position` of node `k` a new content, called `{node}.{role}` if other readers keep the old constant.
pub(super) fn set_constant(graph: &mut Graph, k: usize, position: usize, role: &str, tensor: Tensor) {
    let id = graph.nodes[k].inputs[position];
    if graph.consumers(id).len() == 1 && !graph.is_output(id) {
        let value = graph.value_mut(id);
        value.shape = tensor.shape.clone();
        value.data = Some(tensor);
    } else {
        let name = format!("{}.{role}", graph.nodes[k].name);
        graph.nodes[k].inputs[position] = graph.add_constant(name, tensor);
    }
}

/// The one number that a constant holds, however often.
pub(super) fn uniform(graph: &Graph, id: ValueId) -> Option<f32> {
    let data = &graph.constant(id)?.data;
    let first = *data.first()?;
    data.iter().all(|&x| x == first).then_some(first)
}

/// Convolutions and dense layers: what has weights, a bias and an epilogue.
pub(super) fn is_weighted(op: &Op) -> bool {
    op.epilogue().is_some()
}

/// Drops every node whose result nobody reads; their names.
pub(super) fn remove_dead(graph: &mut Graph) -> Vec<String> {
    let mut live = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|o| live[o.0 as usize] = true);
    for node in graph.nodes.iter().rev() {
        if live[node.output.0 as usize] {
            node.inputs.iter().for_each(|i| live[i.0 as usize] = true);
        }
    }
    let (keep, dead): (Vec<_>, Vec<_>) =
        std::mem::take(&mut graph.nodes).into_iter().partition(|n| live[n.output.0 as usize]);
    graph.nodes = keep;
    dead.into_iter().map(|n| n.name).collect()
}
