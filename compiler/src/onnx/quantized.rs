//! Operators of models that are quantized already: QuantizeLinear, DequantizeLinear, and ONNX Runtime's QLinear operators.
//!
//! In: a node, with scales and zero points that must be constants. Out: the operator on real numbers, and a [`Round`](Op::Round) wherever
//! the model rounds to integers; constants that keep their integers. Holds: a tensor of integers is known by the real numbers it stands
//! for and by its [`Levels`]; nobody reads it with others. Signed activations become unsigned by adding 128. Not here: what runs in
//! integers (`quant`).

use super::Outcome;
use super::context::{NodeContext, axis_in};
use super::conv::conv_op;
use super::dense::turned;
use super::literal::{Literal, count};
use super::pool::pool_op;
use super::proto::data_type;
use crate::graph::{Binary, Epilogue, GlobalPool, Grid, Integers, Op, Unary, ValueId};

/// How a tensor of 8-bit integers stands for real numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Levels {
    /// The same numbers as u8.
    pub(super) grid: Grid,
    /// They are i8 in the model.
    signed: bool,
}

impl Levels {
    /// The real number of an integer of the model.
    pub(super) fn real(self, q: f32) -> f32 {
        (q - (f32::from(self.grid.zero) - self.shift())) * self.grid.scale
    }

    fn shift(self) -> f32 {
        if self.signed { 128.0 } else { 0.0 }
    }

    fn text(self) -> String {
        let ty = if self.signed { data_type::INT8 } else { data_type::UINT8 };
        let zero = f32::from(self.grid.zero) - self.shift();
        format!("scale {:?}, zero point {zero} ({})", self.grid.scale, data_type::name(ty))
    }
}

/// What an operator makes of tensors of integers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// It is about them, and its handler knows.
    Integers,
    /// It moves them: its result has the levels of what it takes.
    Moves,
    /// It computes with real numbers.
    Real,
}

/// By the operator's name.
pub(super) fn reads(op_type: &str) -> Reads {
    match op_type {
        "QuantizeLinear" | "DequantizeLinear" | "Shape" | "Size" => Reads::Integers,
        op if op.starts_with("QLinear") || op == "QGemm" => Reads::Integers,
        "MaxPool" | "GlobalMaxPool" | "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Transpose"
        | "Identity" | "Concat" | "Slice" | "Split" | "Pad" | "SpaceToDepth" | "DepthToSpace" => Reads::Moves,
        _ => Reads::Real,
    }
}

/// Scales and zero points as the model has them, one or several.
struct Parameters {
    scales: Vec<f32>,
    zeros: Vec<i64>,
    /// ONNX type of the integers.
    ty: i32,
}

/// Reads scale and zero point at these positions; a zero point that is left out is 0 of type `ty`.
fn parameters(node: &NodeContext, scale: usize, zero: usize, ty: i32) -> Outcome<Parameters> {
    let literal = node.required(scale, "scale")?;
    let scales = literal.as_floats().ok_or("the scale holds integers")?.to_vec();
    if let Some(bad) = scales.iter().find(|s| !(s.is_normal() && **s > 0.0)) {
        return Err(format!("its scale {bad:?} is not a positive normal number: quantize the model again"));
    }
    if !node.has(zero) {
        let zeros = vec![0; scales.len()];
        return Ok(Parameters { scales, zeros, ty });
    }
    let literal = node.required(zero, "zero point")?;
    let zeros =
        literal.as_ints().ok_or("its zero point holds floats: it must be of the type of the integers")?;
    if zeros.len() != scales.len() {
        return Err(format!("has {} scales but {} zero points", scales.len(), zeros.len()));
    }
    Ok(Parameters { zeros: zeros.to_vec(), scales, ty: literal.ty })
}

/// Scale and zero point of a tensor that is computed: one each, of 8 bits.
fn levels(node: &NodeContext, scale: usize, zero: usize) -> Outcome<Levels> {
    let p = parameters(node, scale, zero, data_type::UINT8)?;
    let (&[scale], &[zero]) = (&p.scales[..], &p.zeros[..]) else {
        return Err(format!(
            "has {} scales for a tensor that is computed: only weights may have one per channel",
            p.scales.len()
        ));
    };
    let signed = match p.ty {
        data_type::UINT8 => false,
        data_type::INT8 => true,
        ty => {
            return Err(format!(
                "quantizes to {} (the type of its zero point): activations of 8 bits are supported, uint8 and int8",
                data_type::name(ty)
            ));
        }
    };
    let zero = u8::try_from(zero + if signed { 128 } else { 0 });
    let zero = zero.map_err(|_| "its zero point does not fit its type".to_owned())?;
    Ok(Levels { grid: Grid { scale, zero }, signed })
}

/// Operand `k`, which must be a tensor of integers of exactly the levels that stand at `scale` and `zero`.
fn operand(node: &mut NodeContext, k: usize, scale: usize, zero: usize) -> Outcome<ValueId> {
    let stated = levels(node, scale, zero)?;
    match node.levels(k) {
        Some(found) if found == stated => node.input(k),
        Some(found) => Err(format!(
            "reads input {k} with {}, but it was quantized with {}: quantize the model again",
            stated.text(),
            found.text()
        )),
        None => Err(format!("its input {k} is not a tensor of integers that an earlier node computes")),
    }
}

/// The axis of scales and zero points, as the number of elements behind it.
fn inner(node: &NodeContext, p: &Parameters, shape: &[usize], axis: i64) -> Outcome<usize> {
    if node.int("block_size", 0)? != 0 {
        return Err("scales per block are not supported: quantize per channel or per tensor".into());
    }
    if p.scales.len() == 1 {
        return Ok(1);
    }
    let axis = axis_in(axis, shape.len())?;
    if shape[axis] != p.scales.len() {
        return Err(format!(
            "has {} scales for axis {axis} of {shape:?}, which has {} indices",
            p.scales.len(),
            shape[axis]
        ));
    }
    count(&shape[axis + 1..])
}

/// A constant of integers as real numbers that remember them.
fn real(node: &mut NodeContext, literal: &Literal, p: &Parameters, axis: i64) -> Outcome<Literal> {
    let q = literal.as_ints().ok_or("reads floats where integers are needed")?;
    if !matches!(literal.ty, data_type::UINT8 | data_type::INT8 | data_type::INT32) {
        let ty = data_type::name(literal.ty);
        return Err(format!("reads constants of {ty}: uint8, int8 and int32 are supported"));
    }
    if literal.ty != p.ty {
        let (own, zero) = (data_type::name(literal.ty), data_type::name(p.ty));
        return Err(format!("its integers are {own}, but their zero point is {zero}"));
    }
    let inner = inner(node, p, &literal.shape, axis)?;
    node.spend(q.len())?;
    let of = |i: usize| i / inner % p.scales.len();
    let q: Vec<i32> = q
        .iter()
        .enumerate()
        .map(|(i, &q)| i32::try_from(q - p.zeros[of(i)]))
        .collect::<Result<_, _>>()
        .map_err(|_| "an integer less its zero point does not fit 32 bits")?;
    let data: Vec<f32> = q.iter().enumerate().map(|(i, &q)| q as f32 * p.scales[of(i)]).collect();
    let mut real = Literal::floats(literal.shape.clone(), data);
    real.integers = Some(Integers::new(q, p.scales.clone(), inner));
    Ok(real)
}

/// QuantizeLinear: of a constant at once.
pub(super) fn quantize(node: &mut NodeContext) -> Outcome {
    let stated = node.int("output_dtype", 0)?;
    let ty = if stated == 0 { data_type::UINT8 } else { stated as i32 };
    let Some(literal) = node.literal(0).cloned() else {
        if node.levels(0).is_some() {
            return Err("quantizes a tensor of integers".into());
        }
        if stated != 0 && !node.has(2) && ty != data_type::UINT8 {
            return Err("has an output type but no zero point: give it one of that type".into());
        }
        let levels = levels(node, 1, 2)?;
        let x = node.input(0)?;
        return node.finish_integers(Op::Round(levels.grid), [x], levels);
    };
    let p = parameters(node, 1, 2, ty)?;
    let (lo, hi) = match p.ty {
        data_type::UINT8 => (0, 255),
        data_type::INT8 => (-128, 127),
        ty => return Err(format!("quantizes a constant to {}", data_type::name(ty))),
    };
    let inner = inner(node, &p, &literal.shape, node.int("axis", 1)?)?;
    let data = literal.as_floats().ok_or("quantizes integers")?;
    if data.iter().any(|x| x.is_nan()) {
        return Err("quantizes a constant that holds NaN".into());
    }
    node.spend(data.len())?;
    let of = |i: usize| i / inner % p.scales.len();
    let round = |(i, &x): (usize, &f32)| {
        ((x / p.scales[of(i)]).round_ties_even() as i64).saturating_add(p.zeros[of(i)]).clamp(lo, hi)
    };
    let q: Vec<i64> = data.iter().enumerate().map(round).collect();
    node.finish_literal(Literal { ty: p.ty, ..Literal::ints(literal.shape, q) });
    Ok(())
}

/// DequantizeLinear: of constants, and of tensors with their own levels.
pub(super) fn dequantize(node: &mut NodeContext) -> Outcome {
    if let Some(literal) = node.literal(0).cloned() {
        let p = parameters(node, 1, 2, literal.ty)?;
        let real = real(node, &literal, &p, node.int("axis", 1)?)?;
        node.finish_literal(real);
        return Ok(());
    }
    let x = operand(node, 0, 1, 2)?;
    node.finish(Op::Identity, [x])
}

/// A weight whose scales run along `axis`, and its scales.
fn weight(node: &mut NodeContext, k: usize, axis: i64) -> Outcome<(Literal, Vec<f32>)> {
    let literal = node.required(k, "weight")?;
    let p = parameters(node, k + 1, k + 2, literal.ty)?;
    Ok((real(node, &literal, &p, axis)?, p.scales))
}

/// An i32 bias in operand `k`, in steps of input times weight; zeros if it is left out.
fn bias(node: &mut NodeContext, k: usize, channels: usize, input: f32, weights: &[f32]) -> Outcome<ValueId> {
    node.spend(channels)?;
    let scales: Vec<f32> = weights.iter().map(|w| w * input).collect();
    let q = match node.has(k) {
        true => node.required(k, "bias")?,
        false => Literal { ty: data_type::INT32, ..Literal::ints([channels], vec![0; channels]) },
    };
    if q.ty != data_type::INT32 || q.data.len() != channels {
        return Err(format!("its bias is not {channels} integers of int32"));
    }
    if let Some(bad) = scales.iter().find(|s| !s.is_normal()) {
        return Err(format!("the scale of input times weight is {bad:?}, which is not a normal number"));
    }
    let p = Parameters { zeros: vec![0; scales.len()], scales, ty: data_type::INT32 };
    let real = real(node, &Literal { shape: vec![channels], ..q }, &p, 0)?;
    node.constant("bias", &real)
}

/// QLinearConv: x, scale, zero, w, scale, zero, y scale, y zero, bias.
pub(super) fn conv(node: &mut NodeContext) -> Outcome {
    if node.int("channels_last", 0)? != 0 {
        return Err(CHANNELS_LAST.into());
    }
    let (from, to) = (levels(node, 1, 2)?, levels(node, 6, 7)?);
    let x = operand(node, 0, 1, 2)?;
    let (weight, scales) = weight(node, 3, 0)?;
    let op = conv_op(node, &weight)?;
    let bias = bias(node, 8, weight.shape[0], from.grid.scale, &scales)?;
    let weight = node.constant("weight", &weight)?;
    node.finish_rounded(op, [x, weight, bias], to)
}

const CHANNELS_LAST: &str =
    "channels_last is not supported: export the model without ONNX Runtime's layout optimizations";

/// QLinearMatMul: a, scale, zero, b, scale, zero, y scale, y zero. b is a constant matrix.
pub(super) fn matmul(node: &mut NodeContext) -> Outcome {
    let to = levels(node, 6, 7)?;
    dense(node, true, 1.0, None, Some(to))
}

/// QGemm: a, scale, zero, b, scale, zero, bias, y scale, y zero; without the last two it gives floats.
pub(super) fn gemm(node: &mut NodeContext) -> Outcome {
    if node.int("transA", 0)? != 0 {
        return Err("transA is not supported: transpose the tensor before".into());
    }
    let to = if node.has(7) { Some(levels(node, 7, 8)?) } else { None };
    dense(node, node.int("transB", 0)? == 0, node.finite("alpha", 1.0)?, Some(6), to)
}

fn dense(
    node: &mut NodeContext,
    swap: bool,
    alpha: f32,
    bias_at: Option<usize>,
    to: Option<Levels>,
) -> Outcome {
    if alpha != 1.0 {
        return Err(format!("alpha is {alpha}: only 1 is supported"));
    }
    let from = levels(node, 1, 2)?;
    let x = operand(node, 0, 1, 2)?;
    let (matrix, scales) = weight(node, 3, if swap { 1 } else { 0 })?;
    let matrix = if swap { turned(node, &matrix)? } else { matrix };
    let &[channels, _] = &matrix.shape[..] else {
        return Err(format!("multiplies by {:?}; a constant matrix is needed", matrix.shape));
    };
    let bias = bias(node, bias_at.unwrap_or(usize::MAX), channels, from.grid.scale, &scales)?;
    let weight = node.constant("weight", &matrix)?;
    let op = Op::Dense(Epilogue::default());
    match to {
        Some(to) => node.finish_rounded(op, [x, weight, bias], to),
        None => node.finish(op, [x, weight, bias]),
    }
}

/// QLinearAdd, QLinearMul: a, scale, zero, b, scale, zero, y scale, y zero. One of a, b may be constant.
pub(super) fn binary(node: &mut NodeContext) -> Outcome {
    let op = if node.op_type() == "QLinearAdd" { Binary::Add } else { Binary::Mul };
    let to = levels(node, 6, 7)?;
    let mut inputs = Vec::new();
    for k in [0, 3] {
        inputs.push(match node.literal(k).cloned() {
            Some(literal) => {
                let p = parameters(node, k + 1, k + 2, literal.ty)?;
                let real = real(node, &literal, &p, 0)?;
                node.constant(if k == 0 { "a" } else { "b" }, &real)?
            }
            None => operand(node, k, k + 1, k + 2)?,
        });
    }
    node.finish_rounded(Op::Binary(op), inputs, to)
}

/// QLinearConcat: y scale, y zero, then x, scale, zero of each operand.
pub(super) fn concat(node: &mut NodeContext) -> Outcome {
    let to = levels(node, 0, 1)?;
    let inputs: Vec<ValueId> =
        (2..node.input_count()).step_by(3).map(|k| operand(node, k, k + 1, k + 2)).collect::<Outcome<_>>()?;
    let rank = inputs.first().map(|&x| node.shape_of(x).len()).ok_or("has no operands")?;
    if !node.has_attribute("axis") {
        return Err("has no axis".into());
    }
    let axis = axis_in(node.int("axis", 0)?, rank)?;
    node.finish_rounded(Op::Concat { axis }, inputs, to)
}

/// QLinearAveragePool, QLinearGlobalAveragePool, QLinearSigmoid, QLinearLeakyRelu: x, scale, zero, y scale, y zero.
pub(super) fn unary(node: &mut NodeContext) -> Outcome {
    if node.int("channels_last", 0)? != 0 {
        return Err(CHANNELS_LAST.into());
    }
    let to = levels(node, 3, 4)?;
    let x = operand(node, 0, 1, 2)?;
    let op = match node.op_type() {
        "QLinearAveragePool" => pool_op(node)?,
        "QLinearGlobalAveragePool" => Op::GlobalPool(GlobalPool::Average),
        "QLinearSigmoid" => Op::Unary(Unary::Sigmoid),
        "QLinearLeakyRelu" => Op::Unary(Unary::LeakyRelu { alpha: node.finite("alpha", 0.01)? }),
        other => return Err(format!("{other} is not supported")),
    };
    node.finish_rounded(op, [x], to)
}
