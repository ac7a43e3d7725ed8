//! Arithmetic on constants, which makes computed shapes disappear: Shape, Gather, Mul, Concat, Reshape and the like.
//!
//! In: a node. Out: a constant. Holds: integer arithmetic is checked; a computed operand is an error that says so, except
//! for [`binary`] and [`unary`], which leave such nodes to their callers. Not here: moving elements
//! ([`super::layout`], [`super::select`]), which constants and computed tensors share.

use super::Outcome;
use super::context::{NodeContext, axes_in};
use super::conv::extent;
use super::literal::{Elements, Literal, count};
use crate::graph::shape::broadcast;
use qgraph_runtime::math;

/// A function of two elements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    Mod,
    Equal,
    Less,
    Greater,
}

impl Arithmetic {
    fn floats(self, a: f32, b: f32) -> Option<f32> {
        Some(match self {
            Arithmetic::Add => a + b,
            Arithmetic::Sub => a - b,
            Arithmetic::Mul => a * b,
            Arithmetic::Div => a / b,
            Arithmetic::Pow => a.powf(b),
            Arithmetic::Min => a.min(b),
            Arithmetic::Max => a.max(b),
            Arithmetic::Mod => return None,
            Arithmetic::Equal | Arithmetic::Less | Arithmetic::Greater => return None,
        })
    }

    /// `None` on overflow and division by zero. Division is towards zero; Mod has the divisor's sign.
    fn ints(self, a: i64, b: i64) -> Option<i64> {
        match self {
            Arithmetic::Add => a.checked_add(b),
            Arithmetic::Sub => a.checked_sub(b),
            Arithmetic::Mul => a.checked_mul(b),
            Arithmetic::Div => a.checked_div(b),
            Arithmetic::Pow => a.checked_pow(u32::try_from(b).ok()?),
            Arithmetic::Min => Some(a.min(b)),
            Arithmetic::Max => Some(a.max(b)),
            Arithmetic::Mod => {
                let r = a.checked_rem(b)?;
                Some(if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
            }
            Arithmetic::Equal => Some((a == b) as i64),
            Arithmetic::Less => Some((a < b) as i64),
            Arithmetic::Greater => Some((a > b) as i64),
        }
    }
}

/// True, with the result given, if both operands (and there are two) are constant.
pub(super) fn binary(node: &mut NodeContext, f: Arithmetic) -> Outcome<bool> {
    let Some(operands) = node.literals() else { return Ok(false) };
    let [a, b] = &operands[..] else { return Ok(false) };
    let shape = broadcast(&a.shape, &b.shape)?;
    let (a, b) = (node.expand(a, &shape)?, node.expand(b, &shape)?);
    let result = match (&a.data, &b.data) {
        (Elements::Float(a), Elements::Float(b)) => {
            let data = a.iter().zip(b.iter()).map(|(&a, &b)| f.floats(a, b)).collect::<Option<Vec<_>>>();
            Literal::floats(shape, data.ok_or("this function of float constants is not supported")?)
        }
        (Elements::Int(a), Elements::Int(b)) => {
            let data = a.iter().zip(b.iter()).map(|(&a, &b)| {
                f.ints(a, b).ok_or_else(|| format!("{a} and {b}: the result does not exist or overflows"))
            });
            Literal::ints(shape, data.collect::<Outcome<Vec<_>>>()?)
        }
        _ => return Err("mixes integers and floats".into()),
    };
    node.finish_literal(result);
    Ok(true)
}

/// True, with the result given, if the operand is constant.
pub(super) fn unary(node: &mut NodeContext) -> Outcome<bool> {
    let Some(x) = node.literal(0).cloned() else { return Ok(false) };
    node.spend(x.data.len())?;
    let data = match &x.data {
        Elements::Float(x) => {
            let f: fn(f32) -> f32 = match node.op_type() {
                "Sqrt" => f32::sqrt,
                "Abs" => f32::abs,
                // Not the platform's: the same model gives the same constants everywhere.
                "Exp" => math::exp,
                "Erf" => math::erf,
                "Neg" => |x| -x,
                "Reciprocal" => |x| 1.0 / x,
                "Floor" => f32::floor,
                "Ceil" => f32::ceil,
                other => return Err(format!("{other} of a constant is not supported")),
            };
            Elements::Float(x.iter().map(|&x| f(x)).collect())
        }
        Elements::Int(x) => {
            let f: fn(i64) -> Option<i64> = match node.op_type() {
                "Abs" => i64::checked_abs,
                "Neg" => i64::checked_neg,
                other => return Err(format!("{other} of integers is not supported")),
            };
            Elements::Int(x.iter().map(|&x| f(x)).collect::<Option<_>>().ok_or("overflows")?)
        }
    };
    node.finish_literal(Literal::new(x.shape, data));
    Ok(true)
}

const COMPUTED: &str = "is supported between constants only (in the computation of shapes), but an operand is \
                        computed at run time";

/// Floor, Ceil.
pub(super) fn rounding(node: &mut NodeContext) -> Outcome {
    if unary(node)? { Ok(()) } else { Err(COMPUTED.into()) }
}

/// Mod, Equal, Less, Greater.
pub(super) fn integer_binary(node: &mut NodeContext) -> Outcome {
    let f = match node.op_type() {
        "Mod" => Arithmetic::Mod,
        "Equal" => Arithmetic::Equal,
        "Less" => Arithmetic::Less,
        _ => Arithmetic::Greater,
    };
    if binary(node, f)? { Ok(()) } else { Err(COMPUTED.into()) }
}

/// Where.
pub(super) fn select(node: &mut NodeContext) -> Outcome {
    let operands = node.literals().ok_or(COMPUTED)?;
    let [condition, a, b] = &operands[..] else { return Err("needs three operands".into()) };
    let shape = broadcast(&condition.shape, &broadcast(&a.shape, &b.shape)?)?;
    let condition = node.expand(condition, &shape)?;
    let (a, b) = (node.expand(a, &shape)?, node.expand(b, &shape)?);
    let condition = condition.as_ints().ok_or("the condition is not boolean")?;
    fn choose<T: Copy>(condition: &[i64], a: &[T], b: &[T]) -> Vec<T> {
        condition.iter().zip(a.iter().zip(b)).map(|(&c, (&a, &b))| if c != 0 { a } else { b }).collect()
    }
    let result = match (&a.data, &b.data) {
        (Elements::Float(a), Elements::Float(b)) => Literal::floats(shape, choose(condition, a, b)),
        (Elements::Int(a), Elements::Int(b)) => Literal::ints(shape, choose(condition, a, b)),
        _ => return Err("mixes integers and floats".into()),
    };
    node.finish_literal(result);
    Ok(())
}

/// ReduceProd, ReduceSum of integers.
pub(super) fn reduce(node: &mut NodeContext) -> Outcome {
    let x = node.literal(0).cloned().ok_or(COMPUTED)?;
    let product = node.op_type() == "ReduceProd";
    let axes = node.axes(if product { 18 } else { 13 })?.unwrap_or_default();
    let rank = x.shape.len();
    let axes = if axes.is_empty() { (0..rank).collect() } else { axes_in(&axes, rank)? };
    if axes.len() != rank {
        return Err("reduces some axes of a constant; only all of them are supported".into());
    }
    let x = x.as_ints().ok_or("reduces a float constant, which is not supported")?;
    let result = if product {
        x.iter().try_fold(1i64, |a, &b| a.checked_mul(b))
    } else {
        x.iter().try_fold(0i64, |a, &b| a.checked_add(b))
    };
    let shape = if node.int("keepdims", 1)? != 0 { vec![1; rank] } else { vec![] };
    node.finish_literal(Literal::ints(shape, vec![result.ok_or("overflows")?]));
    Ok(())
}

/// Shape, Size: known for every tensor.
pub(super) fn shape(node: &mut NodeContext) -> Outcome {
    let shape = node.shape(0)?;
    if node.op_type() == "Size" {
        let size = count(&shape)? as i64;
        node.finish_literal(Literal::ints([], vec![size]));
        return Ok(());
    }
    let rank = shape.len() as i64;
    let counted = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
    let (start, end) = (counted(node.int("start", 0)?), counted(node.int("end", rank)?));
    node.finish_literal(Literal::extents(shape.get(start..end).unwrap_or_default()));
    Ok(())
}

/// Constant.
pub(super) fn constant(node: &mut NodeContext) -> Outcome {
    let literal = if let Some(tensor) = node.tensor("value")? {
        tensor
    } else if node.has_attribute("value_float") {
        Literal::floats([], vec![node.float("value_float", 0.0)?])
    } else if node.has_attribute("value_int") {
        Literal::ints([], vec![node.int("value_int", 0)?])
    } else if let Some(list) = node.floats("value_floats")? {
        Literal::floats([list.len()], list)
    } else if let Some(list) = node.ints("value_ints")? {
        Literal::ints([list.len()], list)
    } else {
        return Err("holds neither a dense tensor nor numbers, which is not supported".into());
    };
    node.finish_literal(literal);
    Ok(())
}

/// ConstantOfShape.
pub(super) fn constant_of_shape(node: &mut NodeContext) -> Outcome {
    let shape = node.int_list(0, "shape")?.ok_or("has no shape (input 0)")?;
    let shape = shape.iter().map(|&n| extent(n, "the shape")).collect::<Outcome<Vec<_>>>()?;
    let value = node.tensor("value")?.unwrap_or_else(|| Literal::floats([1], vec![0.0]));
    if value.data.len() != 1 {
        return Err("its value is not one number".into());
    }
    let value = Literal { shape: vec![], ..value };
    let filled = node.expand(&value, &shape)?;
    node.finish_literal(filled);
    Ok(())
}

/// Range of integers.
pub(super) fn range(node: &mut NodeContext) -> Outcome {
    let operands = node.literals().ok_or(COMPUTED)?;
    let [start, limit, delta] = &operands[..] else { return Err("needs three operands".into()) };
    let one = |l: &Literal| match l.as_ints() {
        Some(&[x]) => Ok(x),
        _ => Err("only ranges of integers are supported".to_owned()),
    };
    let (start, limit, delta) = (one(start)?, one(limit)?, one(delta)?);
    // In 128 bits nothing overflows.
    let distance = if delta < 0 { start as i128 - limit as i128 } else { limit as i128 - start as i128 };
    if delta == 0 {
        return Err("has step 0".into());
    }
    let length = (distance.max(0) as u128).div_ceil(delta.unsigned_abs() as u128);
    let length = usize::try_from(length).map_err(|_| "is too long")?;
    node.spend(length)?;
    let data: Vec<i64> = (0..length).map(|k| (start as i128 + k as i128 * delta as i128) as i64).collect();
    node.finish_literal(Literal::ints([length], data));
    Ok(())
}
