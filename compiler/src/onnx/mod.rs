//! ONNX to graph. ONNX words end here.

use crate::error::Result;
use crate::graph::Graph;
use std::path::Path;

/// What the caller decides at import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Shapes of inputs by name, replacing symbolic or other dimensions. Symbolic dimensions not named become 1 if they are the
    /// first axis, and are an error otherwise.
    pub shapes: Vec<(String, Vec<usize>)>,
}

/// Reads a model file. External data is read from the model's folder only.
pub fn import(path: &Path, options: &Options) -> Result<Graph> {
    let _ = (path, options);
    panic!("stub")
}

/// Reads a model from memory; external data is refused.
pub fn import_bytes(bytes: &[u8], options: &Options) -> Result<Graph> {
    let _ = (bytes, options);
    panic!("stub")
}
