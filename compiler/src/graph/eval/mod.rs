//! The definition of what a float graph computes: plain loops, f32, one operator at a time, row-major tensors.
//!
//! - this file: the walk over nodes.
//! - `conv`: convolutions and dense layers. `pool`: windows. `elementwise`: functions of one or two elements, normalizations.
//! - `movement`: everything that only moves elements, and resize.

mod conv;
mod elementwise;
mod movement;
mod pool;
#[cfg(test)]
mod tests;

use super::{Epilogue, Graph, Node, Op, Tensor, ValueId};
use crate::error::{Error, Result, Stage};
use elementwise::{binary, map};

/// Runs the graph. `inputs` in the order of [`Graph::inputs`]; gives the outputs in order. `observe(name, value)` sees every computed
/// value, and, for a convolution or dense layer whose fused activation is not a clamp, the value before
/// the activation under the name `{value}/pre`.
///
/// # Errors
/// Inputs whose number or shape differs from the graph's. The graph itself must be valid ([`super::verify`]).
pub fn eval(graph: &Graph, inputs: &[Tensor], observe: &mut dyn FnMut(&str, &Tensor)) -> Result<Vec<Tensor>> {
    if inputs.len() != graph.inputs.len() {
        let message = format!("the graph has {} inputs, {} were given", graph.inputs.len(), inputs.len());
        return Err(Error::new(Stage::Run, &graph.name, message));
    }
    let mut values: Vec<Option<Tensor>> = graph.values.iter().map(|v| v.data.clone()).collect();
    for (&id, given) in graph.inputs.iter().zip(inputs) {
        let value = graph.value(id);
        if value.shape != given.shape {
            let message = format!("the input has shape {:?}, {:?} was given", value.shape, given.shape);
            return Err(Error::new(Stage::Run, &value.name, message));
        }
        values[id.0 as usize] = Some(given.clone());
    }
    // Values are dropped after their last use: big networks must fit in memory.
    let mut last = vec![0; graph.values.len()];
    for (k, n) in graph.nodes.iter().enumerate() {
        n.inputs.iter().for_each(|i| last[i.0 as usize] = k);
    }
    for (k, node) in graph.nodes.iter().enumerate() {
        let operands: Option<Vec<&Tensor>> = node.inputs.iter().map(|&i| value(&values, i)).collect();
        let Some(operands) = operands else {
            return Err(Error::new(
                Stage::Run,
                &node.name,
                "an operand is not computed before it: the graph is not valid",
            ));
        };
        let name = &graph.value(node.output).name;
        let mut observe_pre = |t: &Tensor| observe(&format!("{name}/pre"), t);
        let result = compute(graph, node, &operands, &mut observe_pre);
        observe(name, &result);
        values[node.output.0 as usize] = Some(result);
        for &i in node.inputs.iter().filter(|&&i| last[i.0 as usize] == k && !graph.is_output(i)) {
            values[i.0 as usize] = None;
        }
    }
    let output = |&id: &ValueId| {
        let missing = || Error::new(Stage::Run, &graph.value(id).name, "the output is never computed");
        value(&values, id).cloned().ok_or_else(missing)
    };
    graph.outputs.iter().map(output).collect()
}

fn value(values: &[Option<Tensor>], id: ValueId) -> Option<&Tensor> {
    values[id.0 as usize].as_ref()
}

fn compute(graph: &Graph, node: &Node, x: &[&Tensor], observe_pre: &mut dyn FnMut(&Tensor)) -> Tensor {
    let shape = graph.shape(node.output);
    match &node.op {
        Op::Conv(c) => finish(conv::conv(c, x, shape), &c.epilogue, x, observe_pre),
        Op::ConvTranspose(c) => finish(conv::transposed(c, x, shape), &c.epilogue, x, observe_pre),
        Op::Dense(epilogue) => finish(conv::dense(x, shape), epilogue, x, observe_pre),
        Op::BatchNorm { epsilon } => elementwise::batch_norm(x, *epsilon),
        Op::Unary(f) => map(x[0], |v| f.eval(v)),
        Op::PRelu => elementwise::zip(x[0], x[1], shape, |v, slope| if v < 0.0 { slope * v } else { v }),
        Op::Binary(op) => binary(*op, x[0], x[1], shape),
        Op::Concat { axis } => movement::concat(x, *axis, shape),
        Op::Pool(p) => pool::pool(p, x[0], shape),
        Op::GlobalPool(kind) => pool::global(*kind, x[0], shape),
        Op::Reshape(_) | Op::Identity | Op::Dropout => Tensor::new(shape, x[0].data.clone()),
        Op::Round(grid) => map(x[0], |v| grid.round(v)),
        Op::Transpose(perm) => movement::transpose(x[0], perm, shape),
        Op::Pad { pads, value } => movement::pad(x[0], pads, *value, shape),
        Op::Resize(r) => movement::resize(r, x[0], shape),
        Op::Slice(axes) => movement::slice(x[0], axes, shape),
        Op::Softmax { axis } => elementwise::softmax(x[0], *axis),
        Op::Lrn { size, alpha, beta, bias } => elementwise::lrn(x[0], *size, [*alpha, *beta, *bias]),
    }
}

/// Adds the residual (the last operand), shows the sum if a table-like activation follows, and applies the activation.
fn finish(sum: Tensor, epilogue: &Epilogue, x: &[&Tensor], observe_pre: &mut dyn FnMut(&Tensor)) -> Tensor {
    let sum = if epilogue.residual {
        let residual = x[x.len() - 1];
        binary(super::Binary::Add, &sum, residual, &sum.shape)
    } else {
        sum
    };
    let Some(activation) = epilogue.activation else { return sum };
    if activation.as_clamp().is_none() {
        observe_pre(&sum);
    }
    map(&sum, |v| activation.eval(v))
}
