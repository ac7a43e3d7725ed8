//! The rules of the integer graph, as prose and as checks.

use super::QGraph;
use crate::error::Problem;

/// All violations; empty for a valid graph.
pub fn verify(graph: &QGraph) -> Vec<Problem> {
    let _ = graph;
    Vec::new()
}
