//! Pooling over windows and over everything.
//!
//! In: a node. Out: Pool or GlobalPool. Holds: the output extent follows ONNX's rule for ceil mode, in which the last window
//! starts on an element or on padding before it. Not here: pooling of constants.

use super::Outcome;
use super::context::{NodeContext, axes_in};
use super::conv::{AutoPad, auto_pad, pair, spatial, steps, window_pads};
use crate::graph::shape::window_positions;
use crate::graph::{GlobalPool, Op, Pool, PoolKind};

/// MaxPool, AveragePool.
pub(super) fn pool(node: &mut NodeContext) -> Outcome {
    let op = pool_op(node)?;
    let x = node.input(0)?;
    node.finish(op, [x])
}

/// The pooling of operand 0 by the node's attributes: by maxima if the operator says so, else by averages.
pub(super) fn pool_op(node: &NodeContext) -> Outcome<Op> {
    let kind = if node.op_type() == "MaxPool" {
        if node.output_is_read(1) {
            return Err("its second output, the positions of the maxima, is not supported".into());
        }
        PoolKind::Max
    } else {
        PoolKind::Average { count_include_pad: node.int("count_include_pad", 0)? != 0 }
    };
    let input = spatial(node, 0)?;
    let kernel = pair(node, "kernel_shape", None)?;
    let (strides, dilations) = (steps(node, "strides")?, steps(node, "dilations")?);
    let pads = window_pads(node, input, kernel, strides, dilations)?;
    // With auto_pad the output extent is fixed by the formula for it, which ceil mode does not enter.
    let ceil = node.int("ceil_mode", 0)? != 0 && auto_pad(node)? == AutoPad::Explicit;
    let mut output = [0; 2];
    for k in 0..2 {
        let padded = pads[k] + pads[2 + k];
        let positions = window_positions(input[k], kernel[k], strides[k], dilations[k], padded).ok_or_else(|| {
            format!("the window {kernel:?} (dilations {dilations:?}) does not fit {input:?} padded by {pads:?}")
        })?;
        let covered = (positions - 1) * strides[k] + (kernel[k] - 1) * dilations[k] + 1;
        let one_more = ceil && covered < input[k] + padded && positions * strides[k] < input[k] + pads[k];
        output[k] = positions + one_more as usize;
    }
    Ok(Op::Pool(Pool { kind, kernel, strides, dilations, pads, output }))
}

/// GlobalAveragePool, GlobalMaxPool.
pub(super) fn global_pool(node: &mut NodeContext) -> Outcome {
    spatial(node, 0)?;
    let kind = if node.op_type() == "GlobalMaxPool" { GlobalPool::Max } else { GlobalPool::Average };
    let x = node.input(0)?;
    node.finish(Op::GlobalPool(kind), [x])
}

/// ReduceMean and ReduceMax over H and W.
pub(super) fn reduce(node: &mut NodeContext) -> Outcome {
    let mean = node.op_type() == "ReduceMean";
    let kind = if mean { GlobalPool::Average } else { GlobalPool::Max };
    let shape = node.shape(0)?;
    let axes = node.axes(18)?.unwrap_or_default();
    if axes.is_empty() && node.int("noop_with_empty_axes", 0)? != 0 {
        let x = node.input(0)?;
        return node.finish(Op::Identity, [x]);
    }
    let axes = if axes.is_empty() { (0..shape.len()).collect() } else { axes_in(&axes, shape.len())? };
    // Axes of one element do not matter; most models have N = 1.
    let long = |axes: &mut dyn Iterator<Item = usize>| axes.filter(|&a| shape[a] > 1).collect::<Vec<_>>();
    let over_space = shape.len() == 4 && long(&mut axes.iter().copied()) == long(&mut [2, 3].into_iter());
    if !over_space {
        return Err(format!(
            "reduces the axes {axes:?} of {shape:?}; only the two axes H, W of [N,C,H,W] are supported"
        ));
    }
    let x = node.input(0)?;
    if node.int("keepdims", 1)? != 0 {
        return node.finish(Op::GlobalPool(kind), [x]);
    }
    let pooled = node.step("pool", Op::GlobalPool(kind), [x])?;
    let kept = (0..4).filter(|a| !axes.contains(a)).map(|a| if a < 2 { shape[a] } else { 1 });
    node.finish(Op::Reshape(kept.collect()), [pooled])
}
