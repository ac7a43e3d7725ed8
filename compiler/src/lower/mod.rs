//! Scheduling: operators become kernels over a planned arena. Operators end here.

use crate::error::Result;
use crate::plan::Plan;
use crate::qgraph::QGraph;
use crate::target::Target;

/// What the caller decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Images per run.
    pub batch: usize,
    /// Give every value memory of its own, so that all can be read after a run (probes).
    pub keep_values: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { batch: 1, keep_values: false }
    }
}

/// Schedules a network for a target.
pub fn schedule(graph: &QGraph, target: &Target, options: &Options) -> Result<Plan> {
    let _ = (graph, target, options);
    panic!("stub")
}
