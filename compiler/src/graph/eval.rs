//! The definition of what a float graph computes: plain loops, f32, one operator at a time.

use super::{Graph, Tensor};
use crate::error::Result;

/// Runs the graph. `inputs` in the order of [`Graph::inputs`]; gives the outputs in order. `observe(name, value)` sees every computed
/// value, and, for a convolution or dense layer whose fused activation is not a clamp, the value before
/// the activation under the name `{value}/pre`.
pub fn eval(graph: &Graph, inputs: &[Tensor], observe: &mut dyn FnMut(&str, &Tensor)) -> Result<Vec<Tensor>> {
    let _ = (graph, inputs, observe);
    panic!("stub")
}
