//! Operators that take, join or surround elements: Concat, Slice, Split, Gather, Expand, Pad.
//!
//! In: a node whose indices are constant. Out: one node of the graph per result, or constants. Holds: indices are resolved to
//! non-negative ones inside the tensor. Not here: operators that keep every element ([`super::layout`]).

use super::Outcome;
use super::context::{NodeContext, axis_in};
use super::conv::extent;
use super::literal::{Literal, count};
use crate::graph::shape::{broadcast, infer};
use crate::graph::{Op, SliceAxis};

/// Concat.
pub(super) fn concat(node: &mut NodeContext) -> Outcome {
    let rank = node.shape(0)?.len();
    if !node.has_attribute("axis") {
        return Err("has no axis".into());
    }
    let axis = axis_in(node.int("axis", 0)?, rank)?;
    if let Some(literals) = node.literals() {
        let joined = join(node, &literals, axis)?;
        node.finish_literal(joined);
        return Ok(());
    }
    let inputs = (0..node.input_count()).map(|k| node.input(k)).collect::<Outcome<Vec<_>>>()?;
    node.finish(Op::Concat { axis }, inputs)
}

fn join(node: &mut NodeContext, parts: &[Literal], axis: usize) -> Outcome<Literal> {
    let mut shape = parts[0].shape.clone();
    shape[axis] = 0;
    for part in parts {
        let same = part.shape.len() == shape.len()
            && (0..shape.len()).all(|a| a == axis || part.shape[a] == shape[a]);
        if !same {
            return Err(format!("joins constants of {:?} and {:?}", parts[0].shape, part.shape));
        }
        shape[axis] = shape[axis].checked_add(part.shape[axis]).ok_or("is too large")?;
    }
    node.spend(count(&shape)?)?;
    let outer = count(&shape[..axis])?;
    /// Rows of every part in turn.
    fn weave<T: Copy>(parts: &[&[T]], outer: usize) -> Vec<T> {
        let row = |k: usize, part: &&[T]| {
            let len = part.len() / outer.max(1);
            part[k * len..(k + 1) * len].to_vec()
        };
        (0..outer).flat_map(|k| parts.iter().flat_map(move |p| row(k, p))).collect()
    }
    let floats = parts.iter().map(|p| p.as_floats().map(|x| &x[..])).collect::<Option<Vec<_>>>();
    let ints = parts.iter().map(Literal::as_ints).collect::<Option<Vec<_>>>();
    match (floats, ints) {
        (Some(parts), _) => Ok(Literal::floats(shape, weave(&parts, outer))),
        (_, Some(parts)) => Ok(Literal::ints(shape, weave(&parts, outer))),
        _ => Err("joins integers and floats".into()),
    }
}

/// Indices `start..end` by `step` of an axis of `n`, by numpy's rules.
fn indices(n: usize, start: i64, end: i64, step: i64) -> Outcome<SliceAxis> {
    let length = n as i64;
    let counted = |i: i64| if i < 0 { i.saturating_add(length) } else { i };
    let (start, end) = (counted(start), counted(end));
    let (start, distance) = match step {
        0 => return Err("slices with step 0".into()),
        1.. => {
            let start = start.clamp(0, length);
            (start, end.clamp(0, length) - start)
        }
        _ => {
            // Walking down ends before index −1 at the latest; i64::MIN + length is still below that.
            let start = start.clamp(-1, length - 1);
            (start, start - end.clamp(-1, length - 1))
        }
    };
    let count = (distance.max(0) as u64).div_ceil(step.unsigned_abs()) as usize;
    // A step that is never taken might not fit the tensor.
    let step = if count > 1 { step as isize } else { 1 };
    Ok(SliceAxis { start: start.max(0) as usize, step, count })
}

fn whole(n: usize) -> SliceAxis {
    SliceAxis { start: 0, step: 1, count: n }
}

/// Slice: bounds are attributes before opset 10, operands since.
pub(super) fn slice(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let (starts, ends, axes, steps) = if node.opset() < 10 {
        let list = |name: &str| Ok::<_, String>(node.ints(name)?.map(<[_]>::to_vec));
        (list("starts")?, list("ends")?, list("axes")?, None)
    } else {
        (
            node.int_list(1, "starts")?,
            node.int_list(2, "ends")?,
            node.int_list(3, "axes")?,
            node.int_list(4, "steps")?,
        )
    };
    let (starts, ends) = (starts.ok_or("has no starts")?, ends.ok_or("has no ends")?);
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err("its starts, ends, axes and steps differ in number".into());
    }
    let mut slices: Vec<_> = shape.iter().map(|&n| whole(n)).collect();
    for (k, &axis) in axes.iter().enumerate() {
        let axis = axis_in(axis, shape.len())?;
        slices[axis] = indices(shape[axis], starts[k], ends[k], steps[k])?;
    }
    if slices.iter().any(|s| s.count == 0) && node.literal(0).is_none() {
        return Err(format!("takes nothing from {shape:?}; empty tensors are not supported"));
    }
    node.finish_moved(0, Op::Slice(slices))
}

/// Split: one slice per result.
pub(super) fn split(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let axis = axis_in(node.int("axis", 0)?, shape.len())?;
    let (n, parts) = (shape[axis], node.output_count());
    let given =
        if node.opset() < 13 { node.ints("split")?.map(<[_]>::to_vec) } else { node.int_list(1, "sizes")? };
    let sizes = match given {
        Some(sizes) => sizes.iter().map(|&s| extent(s, "split")).collect::<Outcome<Vec<_>>>()?,
        None if parts == 0 => return Err("has no outputs".into()),
        // Since opset 18 the last part may be smaller.
        None if n % parts == 0 || node.opset() >= 18 => {
            let size = n.div_ceil(parts);
            (0..parts).map(|k| n.saturating_sub(k * size).min(size)).collect()
        }
        None => return Err(format!("{n} elements do not split into {parts} equal parts")),
    };
    if sizes.len() != parts || sizes.iter().sum::<usize>() != n {
        return Err(format!("the sizes {sizes:?} do not split {n} elements into {parts} parts"));
    }
    let mut start = 0;
    for (k, &count) in sizes.iter().enumerate() {
        if node.output_is_read(k) {
            if count == 0 {
                return Err(format!("part {k} is empty; empty tensors are not supported"));
            }
            let mut slices: Vec<_> = shape.iter().map(|&n| whole(n)).collect();
            slices[axis] = SliceAxis { start, step: 1, count };
            node.finish_moved(k, Op::Slice(slices))?;
        }
        start += count;
    }
    Ok(())
}

/// Gather with constant indices: of a constant any, of a computed tensor evenly spaced ones.
pub(super) fn gather(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let axis = axis_in(node.int("axis", 0)?, shape.len())?;
    let chosen = node.required(1, "indices")?;
    let n = shape[axis];
    let chosen_shape = chosen.shape.clone();
    let chosen = chosen.as_ints().ok_or("the indices are not integers")?;
    let resolve = |&i: &i64| {
        let counted = if i < 0 { i.saturating_add(n as i64) } else { i };
        let index = usize::try_from(counted).ok().filter(|&i| i < n);
        index.ok_or_else(|| format!("index {i} is not in an axis of {n} elements"))
    };
    let chosen = chosen.iter().map(resolve).collect::<Outcome<Vec<_>>>()?;
    let result = [&shape[..axis], &chosen_shape, &shape[axis + 1..]].concat();
    let total = count(&result)?;
    if let Some(literal) = node.literal(0).cloned() {
        node.spend(total)?;
        let (outer, inner) = (count(&shape[..axis])?, count(&shape[axis + 1..])?);
        let row = |o: usize, i: usize| (o * n + i) * inner..(o * n + i + 1) * inner;
        let chosen = &chosen;
        let outer = if total == 0 { 0 } else { outer };
        let all = (0..outer).flat_map(|o| chosen.iter().flat_map(move |&i| row(o, i)));
        node.finish_literal(literal.pick(result, all));
        return Ok(());
    }
    let &[start, ref rest @ ..] = &chosen[..] else {
        return Err("takes nothing; empty tensors are not supported".into());
    };
    let step = rest.first().map_or(1, |&second| second as isize - start as isize);
    let even = chosen.windows(2).all(|w| w[1] as isize - w[0] as isize == step);
    if step == 0 || !even {
        return Err("takes unevenly spaced elements of a computed tensor, which is not supported".into());
    }
    let mut slices: Vec<_> = shape.iter().map(|&n| whole(n)).collect();
    slices[axis] = SliceAxis { start, step, count: chosen.len() };
    if chosen_shape.len() == 1 {
        return node.finish_moved(0, Op::Slice(slices));
    }
    let x = node.input(0)?;
    let taken = node.step("taken", Op::Slice(slices), [x])?;
    node.finish(Op::Reshape(result), [taken])
}

/// Expand: of constants, or to the shape that the tensor has.
pub(super) fn expand(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    let wanted = node.int_list(1, "shape")?.ok_or("has no shape (input 1)")?;
    let wanted = wanted.iter().map(|&n| extent(n, "the shape")).collect::<Outcome<Vec<_>>>()?;
    let result = broadcast(&shape, &wanted)?;
    if let Some(literal) = node.literal(0).cloned() {
        let expanded = node.expand(&literal, &result)?;
        node.finish_literal(expanded);
        return Ok(());
    }
    if result != shape {
        return Err(format!("repeats a computed tensor {shape:?} to {result:?}, which is not supported"));
    }
    let x = node.input(0)?;
    node.finish(Op::Identity, [x])
}

/// Pad with a constant: amounts are attributes before opset 11, operands since.
pub(super) fn pad(node: &mut NodeContext) -> Outcome {
    let rank = node.shape(0)?.len();
    let mode = node.string("mode", "constant")?;
    let (amounts, value, axes) = if node.opset() < 11 {
        (node.ints("pads")?.map(<[_]>::to_vec), node.float("value", 0.0)?, None)
    } else {
        let value = node.scalar(2, "value")?.unwrap_or(0.0);
        (node.int_list(1, "pads")?, value, node.int_list(3, "axes")?)
    };
    let amounts = amounts.ok_or("has no pads")?;
    let axes = match axes {
        Some(axes) => axes.iter().map(|&a| axis_in(a, rank)).collect::<Outcome<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    if amounts.len() != 2 * axes.len() {
        return Err(format!("has {} pads for {} axes", amounts.len(), axes.len()));
    }
    if amounts.iter().any(|&n| n < 0) {
        return Err(format!("pads {amounts:?} crop the tensor; only adding elements is supported"));
    }
    let mut pads = vec![(0, 0); rank];
    for (k, &axis) in axes.iter().enumerate() {
        pads[axis] = (extent(amounts[k], "pads")?, extent(amounts[axes.len() + k], "pads")?);
    }
    let x = node.input(0)?;
    if amounts.iter().all(|&n| n == 0) {
        return node.finish(Op::Identity, [x]);
    }
    if mode != "constant" {
        return Err(format!("mode {mode:?} is not supported: only constant padding is"));
    }
    // Of integers, the value is one too.
    let value = node.levels(0).map_or(value, |levels| levels.real(value));
    if !value.is_finite() {
        return Err(format!("pads with {value}"));
    }
    let op = Op::Pad { pads, value };
    infer(&op, &[node.shape_of(x)])?;
    node.finish(op, [x])
}
