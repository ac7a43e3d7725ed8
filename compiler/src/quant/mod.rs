//! Quantization: fused float graph and profile → integer graph. Float ends here, but for what is kept.

mod summary;

pub use summary::{Placement, summary};

use crate::calib::Profile;
use crate::error::Result;
use crate::graph::Graph;
use crate::qgraph::QGraph;

/// Quantizes with the ranges of a profile.
pub fn quantize(graph: &Graph, profile: &Profile) -> Result<QGraph> {
    let _ = (graph, profile);
    panic!("stub")
}

/// The same network in f32 throughout, so that naive and fused float run on the same road.
pub fn float(graph: &Graph) -> Result<QGraph> {
    let _ = graph;
    panic!("stub")
}
