//! Element by element: activations, functions, and the arithmetic of two tensors.
//!
//! In: a node. Out: one node of the graph, or a constant if both operands are. Not here: what may later become part of a
//! convolution.

use super::Outcome;
use super::context::NodeContext;
use super::fold::{self, Arithmetic};
use super::literal::Literal;
use crate::graph::{Binary, Op, Unary};

/// Activations: their attributes are all they have.
pub(super) fn activation(node: &mut NodeContext) -> Outcome {
    let unary = match node.op_type() {
        "Relu" => Unary::Relu,
        "LeakyRelu" => Unary::LeakyRelu { alpha: node.finite("alpha", 0.01)? },
        "Elu" => Unary::Elu { alpha: node.finite("alpha", 1.0)? },
        "Sigmoid" => Unary::Sigmoid,
        "HardSigmoid" => {
            Unary::HardSigmoid { alpha: node.finite("alpha", 0.2)?, beta: node.finite("beta", 0.5)? }
        }
        "HardSwish" => Unary::HardSwish,
        "Tanh" => Unary::Tanh,
        "Softplus" => Unary::Softplus,
        "Mish" => Unary::Mish,
        "Gelu" => match node.string("approximate", "none")? {
            "none" => Unary::Gelu,
            "tanh" => Unary::GeluTanh,
            other => return Err(format!("approximates by {other:?}; \"none\" and \"tanh\" are supported")),
        },
        other => return Err(format!("{other} is not an activation")),
    };
    let x = node.input(0)?;
    node.finish(Op::Unary(unary), [x])
}

/// Sqrt, Abs, Exp, Erf, Neg, Reciprocal.
pub(super) fn function(node: &mut NodeContext) -> Outcome {
    if fold::unary(node)? {
        return Ok(());
    }
    let x = node.input(0)?;
    match node.op_type() {
        "Sqrt" => node.finish(Op::Unary(Unary::Sqrt), [x]),
        "Abs" => node.finish(Op::Unary(Unary::Abs), [x]),
        "Exp" => node.finish(Op::Unary(Unary::Exp), [x]),
        "Erf" => node.finish(Op::Unary(Unary::Erf), [x]),
        "Neg" => {
            let minus = node.constant("minus_one", &Literal::floats([], vec![-1.0]))?;
            node.finish(Op::Binary(Binary::Mul), [x, minus])
        }
        "Reciprocal" => {
            let one = node.constant("one", &Literal::floats([], vec![1.0]))?;
            node.finish(Op::Binary(Binary::Div), [one, x])
        }
        other => Err(format!("{other} is not a function of one element")),
    }
}

/// Clip: bounds are attributes before opset 11, operands since.
pub(super) fn clip(node: &mut NodeContext) -> Outcome {
    let (lo, hi) = if node.opset() < 11 {
        (node.float("min", f32::MIN)?, node.float("max", f32::MAX)?)
    } else {
        (
            node.scalar(1, "lower bound")?.unwrap_or(f32::MIN),
            node.scalar(2, "upper bound")?.unwrap_or(f32::MAX),
        )
    };
    clamp(node, lo, hi)
}

fn clamp(node: &mut NodeContext, lo: f32, hi: f32) -> Outcome {
    if lo.is_nan() || hi.is_nan() {
        return Err("a bound is not a number".into());
    }
    // No finite f32 lies beyond these: they mean "no bound".
    let lo = if lo == f32::MIN { f32::NEG_INFINITY } else { lo };
    let hi = if hi == f32::MAX { f32::INFINITY } else { hi };
    let x = node.input(0)?;
    // With the bounds crossed, ONNX gives the upper one everywhere.
    node.finish(Op::Unary(Unary::Clip { lo: lo.min(hi), hi }), [x])
}

/// PRelu.
pub(super) fn prelu(node: &mut NodeContext) -> Outcome {
    node.required(1, "slope")?;
    let inputs = [node.input(0)?, node.input(1)?];
    node.finish(Op::PRelu, inputs)
}

/// Pow with exponent 0.5, 1, 2 or 3.
pub(super) fn pow(node: &mut NodeContext) -> Outcome {
    if fold::binary(node, Arithmetic::Pow)? {
        return Ok(());
    }
    let exponent = node.required(1, "exponent")?;
    // An exponent with more axes than x would widen the result; such models do not occur.
    let one = exponent.data.len() == 1 && exponent.shape.len() <= node.shape(0)?.len();
    let op = match node.scalar(1, "exponent").ok().flatten().filter(|_| one) {
        Some(2.0) => Op::Unary(Unary::Square),
        Some(0.5) => Op::Unary(Unary::Sqrt),
        Some(1.0) => Op::Identity,
        Some(3.0) => {
            let x = node.input(0)?;
            let square = node.step("square", Op::Unary(Unary::Square), [x])?;
            return node.finish(Op::Binary(Binary::Mul), [x, square]);
        }
        Some(other) => return Err(format!("raises to the power {other}; 0.5, 1, 2 and 3 are supported")),
        None => return Err("raises to several powers; one constant 0.5, 1, 2 or 3 is supported".into()),
    };
    let x = node.input(0)?;
    node.finish(op, [x])
}

/// Add, Sub, Mul, Div.
pub(super) fn binary(node: &mut NodeContext) -> Outcome {
    let (fold, op) = match node.op_type() {
        "Add" => (Arithmetic::Add, Binary::Add),
        "Sub" => (Arithmetic::Sub, Binary::Sub),
        "Mul" => (Arithmetic::Mul, Binary::Mul),
        _ => (Arithmetic::Div, Binary::Div),
    };
    if fold::binary(node, fold)? {
        return Ok(());
    }
    let inputs = [node.input(0)?, node.input(1)?];
    node.finish(Op::Binary(op), inputs)
}

/// Sum of any number of tensors.
pub(super) fn sum(node: &mut NodeContext) -> Outcome {
    let mut total = node.input(0)?;
    let last = node.input_count() - 1;
    if last == 0 {
        return node.finish(Op::Identity, [total]);
    }
    for k in 1..last {
        let x = node.input(k)?;
        total = node.step(&format!("sum{k}"), Op::Binary(Binary::Add), [total, x])?;
    }
    let x = node.input(last)?;
    node.finish(Op::Binary(Binary::Add), [total, x])
}

/// Min and Max with one number: a clip.
pub(super) fn bound(node: &mut NodeContext) -> Outcome {
    let min = node.op_type() == "Min";
    if fold::binary(node, if min { Arithmetic::Min } else { Arithmetic::Max })? {
        return Ok(());
    }
    let scalar = node.input_count() == 2 && node.shape(1)?.iter().all(|&n| n == 1);
    if !scalar || node.literal(1).is_none() || node.shape(1)?.len() > node.shape(0)?.len() {
        return Err("only a tensor with one constant number as second input is supported".into());
    }
    let x = node.scalar(1, "bound")?.ok_or("has no bound")?;
    if min { clamp(node, f32::MIN, x) } else { clamp(node, x, f32::MAX) }
}
