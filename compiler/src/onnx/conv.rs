//! Conv and ConvTranspose; windows and padding in general.
//!
//! In: a node. Out: one node of the graph with a constant weight and bias (zeros if the model has none). Holds: two spatial
//! axes, no negative padding. Not here: whether weight and input fit (shape inference).

use super::Outcome;
use super::context::NodeContext;
use super::literal::Literal;
use crate::graph::shape::MAX_ELEMENTS;
use crate::graph::{Conv, ConvTranspose, Epilogue, Op, ValueId};

/// How padding is stated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AutoPad {
    /// By the attribute `pads`.
    Explicit,
    /// So that the output has ⌈input/stride⌉ elements, the odd one after.
    SameUpper,
    /// The same, the odd one before.
    SameLower,
    /// None.
    Valid,
}

/// The attribute `auto_pad`.
pub(super) fn auto_pad(node: &NodeContext) -> Outcome<AutoPad> {
    match node.string("auto_pad", "NOTSET")? {
        // Exporters exist that write an empty string.
        "NOTSET" | "" => Ok(AutoPad::Explicit),
        "SAME_UPPER" => Ok(AutoPad::SameUpper),
        "SAME_LOWER" => Ok(AutoPad::SameLower),
        "VALID" => Ok(AutoPad::Valid),
        other => Err(format!("auto_pad is {other:?}, which ONNX does not know")),
    }
}

/// A size, distance or padding: not negative, and small enough that sums and products of two fit 64 bits.
pub(super) fn extent(n: i64, what: &str) -> Outcome<usize> {
    usize::try_from(n)
        .ok()
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| format!("{what} holds {n}, which is not supported: it must be in 0..={MAX_ELEMENTS}"))
}

/// An attribute with one entry per spatial axis.
pub(super) fn pair(node: &NodeContext, name: &str, default: Option<usize>) -> Outcome<[usize; 2]> {
    match (node.ints(name)?, default) {
        (Some(&[h, w]), _) => Ok([extent(h, name)?, extent(w, name)?]),
        (None, Some(n)) => Ok([n, n]),
        (None, None) => Err(format!("attribute {name} is missing")),
        (Some(other), _) => {
            Err(format!("attribute {name} is {other:?}: two entries are needed, for H and W"))
        }
    }
}

/// Strides or dilations: 1 if absent, never 0.
pub(super) fn steps(node: &NodeContext, name: &str) -> Outcome<[usize; 2]> {
    let steps = pair(node, name, Some(1))?;
    if steps.contains(&0) { Err(format!("attribute {name} holds 0")) } else { Ok(steps) }
}

/// The attribute `pads`: top, left, bottom, right; zeros if absent.
pub(super) fn pads(node: &NodeContext) -> Outcome<[usize; 4]> {
    match node.ints("pads")? {
        None => Ok([0; 4]),
        Some(&[t, l, b, r]) => {
            Ok([extent(t, "pads")?, extent(l, "pads")?, extent(b, "pads")?, extent(r, "pads")?])
        }
        Some(other) => Err(format!("attribute pads is {other:?}: four entries are needed, for H and W")),
    }
}

/// Refuses inputs that are not `[N,C,H,W]`; returns H and W.
pub(super) fn spatial(node: &NodeContext, k: usize) -> Outcome<[usize; 2]> {
    match node.shape(k)?[..] {
        [n, c, h, w] if n * c > 0 && h * w > 0 => Ok([h, w]),
        ref x @ ([_, _, _] | [_, _, _, _, _]) => Err(format!(
            "{}-dimensional windows (input {x:?}) are not supported, only two-dimensional ones over [N,C,H,W]",
            x.len() - 2
        )),
        ref x => Err(format!("its input is {x:?}; only [N,C,H,W] is supported")),
    }
}

/// Elements that a window covers, from first to last tap.
fn span(kernel: usize, dilation: usize) -> Outcome<usize> {
    let taps = kernel.checked_sub(1).ok_or("the kernel is empty")?;
    // Both are at most MAX_ELEMENTS.
    Ok(taps * dilation + 1)
}

/// Padding of a window over `input` so that it has the positions that `auto` says.
pub(super) fn window_pads(
    node: &NodeContext,
    input: [usize; 2],
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
) -> Outcome<[usize; 4]> {
    let auto = auto_pad(node)?;
    let mut result = [0; 4];
    match auto {
        AutoPad::Explicit => return pads(node),
        AutoPad::Valid => {}
        AutoPad::SameUpper | AutoPad::SameLower => {
            for k in 0..2 {
                let reach = (input[k].div_ceil(strides[k]) - 1) * strides[k] + span(kernel[k], dilations[k])?;
                let total = reach.saturating_sub(input[k]);
                let (less, more) = (total / 2, total - total / 2);
                (result[k], result[2 + k]) =
                    if auto == AutoPad::SameUpper { (less, more) } else { (more, less) };
            }
        }
    }
    Ok(result)
}

/// The last two extents of the weight, checked against `kernel_shape` if the model states it.
fn kernel(node: &NodeContext, weight: &Literal) -> Outcome<[usize; 2]> {
    let [_, _, h, w] = weight.shape[..] else {
        return Err(format!("the weight is {:?}; four axes are needed", weight.shape));
    };
    let stated = pair(node, "kernel_shape", None);
    if node.has_attribute("kernel_shape") && stated != Ok([h, w]) {
        return Err(format!("kernel_shape does not agree with the weight {:?}", weight.shape));
    }
    Ok([h, w])
}

/// Operand `k` as a bias of `channels`, or zeros.
pub(super) fn bias(node: &mut NodeContext, k: usize, channels: usize) -> Outcome<ValueId> {
    if node.has(k) {
        node.required(k, "bias")?;
        return node.input(k);
    }
    node.spend(channels)?;
    node.constant("bias", &Literal::floats([channels], vec![0.0; channels]))
}

fn groups(node: &NodeContext) -> Outcome<usize> {
    match extent(node.int("group", 1)?, "group")? {
        0 => Err("group is 0".into()),
        n => Ok(n),
    }
}

/// The convolution of operand 0 with a weight, by the node's attributes.
pub(super) fn conv_op(node: &NodeContext, weight: &Literal) -> Outcome<Op> {
    let input = spatial(node, 0)?;
    let (strides, dilations) = (steps(node, "strides")?, steps(node, "dilations")?);
    let kernel = kernel(node, weight)?;
    let pads = window_pads(node, input, kernel, strides, dilations)?;
    let groups = groups(node)?;
    Ok(Op::Conv(Conv { kernel, strides, dilations, pads, groups, epilogue: Epilogue::default() }))
}

/// Conv.
pub(super) fn conv(node: &mut NodeContext) -> Outcome {
    let weight = node.required(1, "weight")?;
    let op = conv_op(node, &weight)?;
    let inputs = [node.input(0)?, node.input(1)?, bias(node, 2, weight.shape[0])?];
    node.finish(op, inputs)
}

/// ConvTranspose.
pub(super) fn conv_transpose(node: &mut NodeContext) -> Outcome {
    let input = spatial(node, 0)?;
    let weight = node.required(1, "weight")?;
    let (strides, dilations) = (steps(node, "strides")?, steps(node, "dilations")?);
    let kernel = kernel(node, &weight)?;
    let mut output_padding = pair(node, "output_padding", Some(0))?;
    let groups = groups(node)?;
    let auto = auto_pad(node)?;
    let mut pads = if auto == AutoPad::Explicit { pads(node)? } else { [0; 4] };
    let wanted = match (node.ints("output_shape")?, auto) {
        (None, AutoPad::Explicit | AutoPad::Valid) => None,
        (None, AutoPad::SameUpper | AutoPad::SameLower) => {
            Some([input[0] * strides[0], input[1] * strides[1]])
        }
        // Some models give N and C too.
        (Some(&[.., h, w]), _) => Some([extent(h, "output_shape")?, extent(w, "output_shape")?]),
        (Some(other), _) => {
            return Err(format!("output_shape is {other:?}: two entries are needed, for H and W"));
        }
    };
    if let Some(wanted) = wanted {
        for k in 0..2 {
            let full = (input[k] - 1) * strides[k] + span(kernel[k], dilations[k])? + output_padding[k];
            match full.checked_sub(wanted[k]) {
                Some(total) => {
                    let (less, more) = (total / 2, total - total / 2);
                    (pads[k], pads[2 + k]) =
                        if auto == AutoPad::SameUpper { (less, more) } else { (more, less) };
                }
                // More is wanted than the window reaches: zeros follow.
                None => {
                    (pads[k], pads[2 + k]) = (0, 0);
                    output_padding[k] += wanted[k] - full;
                }
            }
        }
    }
    let channels = weight.shape[1].checked_mul(groups).ok_or("has too many groups")?;
    extent(channels as i64, "the weight's channel axis times group")?;
    let inputs = [node.input(0)?, node.input(1)?, bias(node, 2, channels)?];
    let epilogue = Epilogue::default();
    node.finish(
        Op::ConvTranspose(ConvTranspose {
            kernel,
            strides,
            dilations,
            pads,
            output_padding,
            groups,
            epilogue,
        }),
        inputs,
    )
}
