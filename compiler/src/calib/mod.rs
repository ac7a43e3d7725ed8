//! Calibration: samples through the fused graph, ranges of every value out.

use crate::preprocess::Preprocess;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Observed range of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest value.
    pub min: f32,
    /// Largest value.
    pub max: f32,
}

/// What calibration found: a readable, reusable file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Format version.
    pub version: u32,
    /// Name of the model.
    pub model: String,
    /// Hash of the fused graph it belongs to.
    pub graph: String,
    /// `naive`, …
    pub mode: String,
    /// Number of samples seen.
    pub samples: usize,
    /// How images became inputs, if they were images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocess: Option<Preprocess>,
    /// Ranges by value name; pre-activation values are named `{value}/pre`.
    pub ranges: BTreeMap<String, Range>,
}
