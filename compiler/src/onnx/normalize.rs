//! BatchNormalization, LRN, Softmax, Dropout: as at inference.
//!
//! In: a node. Out: one node of the graph; Softmax before opset 13 may need two reshapes. Not here: training.

use super::Outcome;
use super::context::{NodeContext, axis_in};
use super::conv::extent;
use crate::graph::Op;

/// BatchNormalization.
pub(super) fn batch_normalization(node: &mut NodeContext) -> Outcome {
    if node.int("training_mode", 0)? != 0 {
        return Err("is in training mode: export the model for inference (model.eval())".into());
    }
    if node.int("spatial", 1)? == 0 {
        return Err("normalizes every element by itself (spatial = 0), which is not supported".into());
    }
    let epsilon = node.finite("epsilon", 1e-5)?;
    let mut inputs = vec![node.input(0)?];
    for (k, what) in [(1, "scale"), (2, "shift"), (3, "mean"), (4, "variance")] {
        let parameter = node.required(k, what)?;
        if what == "variance" {
            let negative = parameter.as_floats().and_then(|v| v.iter().find(|x| **x + epsilon <= 0.0));
            if let Some(x) = negative {
                return Err(format!("the variance holds {x}: the weights are damaged"));
            }
        }
        inputs.push(node.input(k)?);
    }
    node.finish(Op::BatchNorm { epsilon }, inputs)
}

/// LRN.
pub(super) fn lrn(node: &mut NodeContext) -> Outcome {
    let size = extent(node.int("size", 0)?, "size")?;
    let (alpha, beta) = (node.finite("alpha", 1e-4)?, node.finite("beta", 0.75)?);
    let bias = node.finite("bias", 1.0)?;
    let x = node.input(0)?;
    node.finish(Op::Lrn { size, alpha, beta, bias }, [x])
}

/// Softmax.
pub(super) fn softmax(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let old = node.opset() < 13;
    let axis = axis_in(node.int("axis", if old { 1 } else { -1 })?, shape.len())?;
    let x = node.input(0)?;
    if !old {
        return node.finish(Op::Softmax { axis }, [x]);
    }
    // The old definition runs over all axes from `axis` on, taken together.
    let mut long = (axis..shape.len()).filter(|&a| shape[a] > 1);
    match (long.next(), long.next()) {
        (None, _) => node.finish(Op::Softmax { axis }, [x]),
        (Some(one), None) => node.finish(Op::Softmax { axis: one }, [x]),
        (Some(_), Some(_)) => {
            let rows = shape[..axis].iter().product();
            let flat = vec![rows, shape[axis..].iter().product()];
            let flat = node.step("flat", Op::Reshape(flat), [x])?;
            let softmax = node.step("softmax", Op::Softmax { axis: 1 }, [flat])?;
            node.finish(Op::Reshape(shape), [softmax])
        }
    }
}

/// Dropout.
pub(super) fn dropout(node: &mut NodeContext) -> Outcome {
    if node.scalar(2, "training mode")?.is_some_and(|x| x != 0.0) {
        return Err("is in training mode: export the model for inference (model.eval())".into());
    }
    let x = node.input(0)?;
    node.finish(Op::Dropout, [x])
}
