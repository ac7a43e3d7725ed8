//! Operators that keep every element: Identity, Cast, the reshapes, Transpose, SpaceToDepth.
//!
//! In: a node. Out: Reshape, Transpose or Identity; a constant if the operand is one. Not here: operators that take some
//! elements ([`super::select`]).

use super::Outcome;
use super::context::{NodeContext, axes_in, axis_in};
use super::literal::{Elements, Literal, count};
use super::proto::data_type;
use crate::graph::Op;

/// Identity.
pub(super) fn identity(node: &mut NodeContext) -> Outcome {
    if let Some(literal) = node.literal(0).cloned() {
        node.finish_literal(literal);
        return Ok(());
    }
    let x = node.input(0)?;
    node.finish(Op::Identity, [x])
}

/// Cast. All float types are f32 here and all integer types i64.
pub(super) fn cast(node: &mut NodeContext) -> Outcome {
    use data_type::*;
    let to = node.int("to", 0)?;
    let to = i32::try_from(to).map_err(|_| format!("casts to the unknown type {to}"))?;
    let to_float = matches!(to, FLOAT | FLOAT16 | BFLOAT16 | DOUBLE);
    if let Some(literal) = node.literal(0).cloned() {
        node.spend(literal.data.len())?;
        let data = match (&literal.data, to) {
            (Elements::Float(_), _) if to_float => literal.data.clone(),
            (Elements::Int(x), _) if to_float => Elements::Float(x.iter().map(|&x| x as f32).collect()),
            (Elements::Float(x), BOOL) => Elements::Int(x.iter().map(|&x| (x != 0.0) as i64).collect()),
            (Elements::Int(x), BOOL) => Elements::Int(x.iter().map(|&x| (x != 0) as i64).collect()),
            // As in C: towards zero.
            (Elements::Float(x), INT32 | INT64) => Elements::Int(x.iter().map(|&x| x as i64).collect()),
            (Elements::Int(_), INT32 | INT64) => literal.data.clone(),
            _ => return Err(format!("casts a constant to {}, which is not supported", name(to))),
        };
        node.finish_literal(Literal::new(literal.shape, data));
        return Ok(());
    }
    if !to_float {
        return Err(format!("casts a computed tensor to {}; only float types are supported", name(to)));
    }
    let x = node.input(0)?;
    node.finish(Op::Identity, [x])
}

/// Flatten.
pub(super) fn flatten(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    // The axis may lie behind the last one.
    let axis = match node.int("axis", 1)? {
        n if n == shape.len() as i64 => shape.len(),
        n => axis_in(n, shape.len())?,
    };
    node.finish_moved(0, Op::Reshape(vec![count(&shape[..axis])?, count(&shape[axis..])?]))
}

/// Reshape.
pub(super) fn reshape(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let wanted = node.int_list(1, "shape")?.ok_or("has no shape (input 1)")?;
    let allow_zero = node.int("allowzero", 0)? != 0;
    let mut result = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (axis, &n) in wanted.iter().enumerate() {
        result.push(match n {
            0 if !allow_zero => *shape.get(axis).ok_or_else(|| {
                format!("the shape {wanted:?} copies axis {axis}, which the input {shape:?} does not have")
            })?,
            -1 if free.is_none() => {
                free = Some(axis);
                1
            }
            n => usize::try_from(n).map_err(|_| format!("the shape {wanted:?} makes no sense"))?,
        });
    }
    let (from, to) = (count(&shape)?, count(&result)?);
    if let Some(axis) = free {
        if to == 0 || from % to != 0 {
            return Err(format!("cannot reshape {shape:?} to {wanted:?}: the elements do not divide"));
        }
        result[axis] = from / to;
    } else if from != to {
        return Err(format!(
            "cannot reshape {shape:?} to {wanted:?}: the number of elements differs (if the batch was changed by \
             --shape, the model was exported for one batch only)"
        ));
    }
    node.finish_moved(0, Op::Reshape(result))
}

/// Squeeze.
pub(super) fn squeeze(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let axes = match node.axes(13)? {
        Some(axes) => axes_in(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&a| shape[a] == 1).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&a| shape[a] != 1) {
        return Err(format!("cannot squeeze axis {axis} of {shape:?}: it has {} elements", shape[axis]));
    }
    let kept = (0..shape.len()).filter(|a| !axes.contains(a)).map(|a| shape[a]);
    node.finish_moved(0, Op::Reshape(kept.collect()))
}

/// Unsqueeze.
pub(super) fn unsqueeze(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let axes = node.axes(13)?.ok_or("has no axes")?;
    let rank = shape.len() + axes.len();
    let axes = axes_in(&axes, rank)?;
    let mut rest = shape.into_iter();
    let mut result = Vec::with_capacity(rank);
    let mut inserted = axes.iter().peekable();
    for axis in 0..rank {
        if inserted.next_if_eq(&&axis).is_some() {
            result.push(1);
        } else {
            result.extend(rest.next());
        }
    }
    node.finish_moved(0, Op::Reshape(result))
}

/// Transpose.
pub(super) fn transpose(node: &mut NodeContext) -> Outcome {
    let rank = node.shape(0)?.len();
    let perm = match node.ints("perm")? {
        Some(perm) => perm.iter().map(|&p| axis_in(p, rank)).collect::<Outcome<Vec<_>>>()?,
        None => (0..rank).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(format!("perm {perm:?} is not a permutation of {rank} axes"));
    }
    node.finish_moved(0, Op::Transpose(perm))
}

/// N, C, H, W and the block size.
fn blocks(node: &NodeContext) -> Outcome<([usize; 4], usize)> {
    let shape = node.shape(0)?;
    let size = usize::try_from(node.int("blocksize", 0)?).unwrap_or(0);
    match shape[..] {
        [n, c, h, w] if size > 0 => Ok(([n, c, h, w], size)),
        _ => Err(format!("a block size of {size} on {shape:?} is not supported: [N,C,H,W] is needed")),
    }
}

/// SpaceToDepth.
pub(super) fn space_to_depth(node: &mut NodeContext) -> Outcome {
    let ([n, c, h, w], b) = blocks(node)?;
    if h % b != 0 || w % b != 0 {
        return Err(format!("{h}x{w} is not a multiple of the block size {b}"));
    }
    let x = node.input(0)?;
    let (rows, columns) = (h / b, w / b);
    let split = node.step("split", Op::Reshape(vec![n, c, rows, b, columns, b]), [x])?;
    let turned = node.step("turned", Op::Transpose(vec![0, 3, 5, 1, 2, 4]), [split])?;
    // b divides two extents of a tensor in the graph, so the product fits.
    node.finish(Op::Reshape(vec![n, c * b * b, rows, columns]), [turned])
}

/// DepthToSpace.
pub(super) fn depth_to_space(node: &mut NodeContext) -> Outcome {
    let ([n, c, h, w], b) = blocks(node)?;
    let depth = b.checked_mul(b).filter(|bb| c % bb == 0).map(|bb| c / bb);
    let depth =
        depth.ok_or_else(|| format!("{c} channels are not a multiple of the block size {b} squared"))?;
    let (split, perm) = match node.string("mode", "DCR")? {
        "DCR" => (vec![n, b, b, depth, h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n, depth, b, b, h, w], vec![0, 1, 4, 2, 5, 3]),
        other => return Err(format!("mode {other:?} is not supported: DCR and CRD are")),
    };
    let x = node.input(0)?;
    let split = node.step("split", Op::Reshape(split), [x])?;
    let turned = node.step("turned", Op::Transpose(perm), [split])?;
    node.finish(Op::Reshape(vec![n, depth, h * b, w * b]), [turned])
}
