//! Which integer nodes do not pay: those that no layer with weights is joined to. Graph and decisions in, a reason for each such node out.
//!
//! Layers with weights are what integers make faster. Everything else runs in integers only because it stands between such layers, where staying
//! in bytes saves two conversions; by itself it would be two conversions around an operator that float does as well.

use super::decide::{Decisions, Run};
use crate::graph::Graph;

/// Why a node stays in float.
const ALONE: &str = "smart: no integer layer with weights is joined to it";

/// The reasons, by node; `None` for nodes that pay, or that do not run in integers.
pub(super) fn alone(graph: &Graph, decisions: &Decisions) -> Vec<Option<String>> {
    let integer: Vec<bool> =
        decisions.run.iter().map(|r| matches!(r, Run::Integer | Run::IntegerToFloat)).collect();
    // Layers with weights are those that have an epilogue.
    let mut pays: Vec<bool> =
        graph.nodes.iter().zip(&integer).map(|(n, &i)| i && n.op.epilogue().is_some()).collect();
    let mut producer = vec![None; graph.values.len()];
    for k in 0..graph.nodes.len() {
        producer[decisions.output(graph, k).0 as usize] = Some(k);
    }
    // What stands beside a node that pays does too, in either direction, until nothing changes.
    loop {
        let mut changed = false;
        for (k, node) in graph.nodes.iter().enumerate().filter(|(k, _)| integer[*k]) {
            for p in node.inputs.iter().filter_map(|v| producer[v.0 as usize]).filter(|&p| integer[p]) {
                if pays[k] != pays[p] {
                    (pays[k], pays[p], changed) = (true, true, true);
                }
            }
        }
        if !changed {
            break;
        }
    }
    integer.iter().zip(pays).map(|(&integer, pays)| (integer && !pays).then(|| ALONE.into())).collect()
}
