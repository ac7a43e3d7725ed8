//! Where each node of an integer graph runs, and why, for reports: float is never a silent fallback.

use crate::qgraph::{QGraph, QOp, QType};

/// Where a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Name of the node.
    pub node: String,
    /// It reads or gives u8.
    pub integer: bool,
    /// It only converts between u8 and f32.
    pub border: bool,
    /// Why it runs in float, in an otherwise integer network.
    pub reason: Option<String>,
}

/// One entry per node, in order.
pub fn summary(graph: &QGraph) -> Vec<Placement> {
    let is_u8 = |v: &crate::qgraph::QValueId| graph.value(*v).ty != QType::F32;
    graph
        .nodes
        .iter()
        .map(|n| Placement {
            node: n.name.clone(),
            integer: is_u8(&n.output) || n.inputs.iter().any(is_u8),
            border: matches!(n.op, QOp::Quantize | QOp::Dequantize),
            reason: n.float_reason.clone(),
        })
        .collect()
}
