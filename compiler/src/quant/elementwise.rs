//! Functions of single elements: BatchNorm, arithmetic with constants and tensors, unary functions, PRelu; and the two
//! float-only functions over neighbours, Softmax and Lrn.
//!
//! What is `a·x + b` per channel becomes Affine in either form. Unary functions are tables in u8.

use super::conv::{channelwise, ratio};
use super::decide::{Run, scalar_slope};
use super::emit::Emit;
use super::ranges::Grid;
use crate::graph::{Binary, Graph, Node, Op, Unary, ValueId};
use crate::qgraph::{BlobId, FloatBinary, QOp, QValueId};
use qgraph_runtime::requant::{Rounding, fma, round_bits};

/// Offsets of requantizations stay below this.
const OFFSET: f64 = (1u32 << 24) as f64;

/// A binary operation with a constant that is the same along all axes but the channels.
pub(super) struct Channel {
    /// The operand that is not constant; it has the result's shape.
    pub(super) x: ValueId,
    /// The constant is the first operand.
    pub(super) first: bool,
    /// The constant, one entry per channel.
    pub(super) constant: Vec<f64>,
}

impl Channel {
    /// `None` if the node is none.
    pub(super) fn of(graph: &Graph, node: &Node) -> Option<Channel> {
        let &[a, b] = &node.inputs[..] else { return None };
        let (x, constant, first) = match (graph.constant(a), graph.constant(b)) {
            (None, Some(c)) => (a, c, false),
            (Some(c), None) => (b, c, true),
            (None, None) | (Some(_), Some(_)) => return None,
        };
        let shape = graph.shape(x);
        if shape.len() < 2 || constant.shape.len() > shape.len() || graph.shape(node.output) != shape {
            return None;
        }
        let lead = shape.len() - constant.shape.len();
        if constant.shape.iter().enumerate().any(|(i, &n)| n != 1 && i + lead != 1) {
            return None;
        }
        let data: Vec<f64> = constant.data.iter().map(|&x| f64::from(x)).collect();
        let constant = if data.len() == 1 { vec![data[0]; shape[1]] } else { data };
        Some(Channel { x, first, constant })
    }
}

/// The operation as `a·x + b`: (a, b) per channel. `None` if it is not of that form.
pub(super) fn affine(op: Binary, channel: &Channel) -> Option<(Vec<f64>, Vec<f64>)> {
    let c = &channel.constant;
    let all = |x: f64| vec![x; c.len()];
    match (op, channel.first) {
        (Binary::Add, _) => Some((all(1.0), c.clone())),
        (Binary::Sub, false) => Some((all(1.0), c.iter().map(|c| -c).collect())),
        (Binary::Sub, true) => Some((all(-1.0), c.clone())),
        (Binary::Mul, _) => Some((c.clone(), all(0.0))),
        (Binary::Div, false) => {
            let inverse: Vec<f64> = c.iter().map(|c| 1.0 / c).collect();
            inverse.iter().all(|&x| (x as f32).is_finite()).then(|| (inverse, all(0.0)))
        }
        (Binary::Div, true) => None,
    }
}

/// Emits one of the operators of this room.
pub(super) fn emit(e: &mut Emit<'_>, k: usize) -> Result<(), String> {
    let graph = e.graph;
    let node = &graph.nodes[k];
    let float = matches!(e.decisions.run[k], Run::Float(_));
    match &node.op {
        Op::BatchNorm { epsilon } => {
            let constant = |i: usize| {
                let id = node.inputs.get(i).copied();
                id.and_then(|id| graph.constant(id)).ok_or("its parameters must be constants")
            };
            let (gamma, beta, mean, var) = (constant(1)?, constant(2)?, constant(3)?, constant(4)?);
            let parameter = |t: &crate::graph::Tensor, c: usize| f64::from(t.data[c]);
            let (a, b) = (0..gamma.data.len())
                .map(|c| {
                    let a = parameter(gamma, c) / (parameter(var, c) + f64::from(*epsilon)).sqrt();
                    (a, parameter(beta, c) - parameter(mean, c) * a)
                })
                .unzip();
            emit_affine(e, k, node.inputs[0], a, b)
        }
        Op::Binary(op) => {
            let channel = Channel::of(graph, node);
            let form = channel.as_ref().and_then(|c| affine(*op, c));
            match (form, channel) {
                (Some((a, b)), Some(c)) => emit_affine(e, k, c.x, a, b),
                _ => emit_binary(e, k, *op),
            }
        }
        Op::Unary(f) => emit_unary(e, k, *f),
        Op::PRelu => match scalar_slope(graph, node) {
            Some(f) if !float => emit_unary(e, k, f),
            _ => emit_prelu(e, k),
        },
        Op::Softmax { axis } => emit_float(e, k, QOp::Softmax { axis: *axis }),
        &Op::Round(to) => emit_round(e, k, to),
        &Op::Lrn { size, alpha, beta, bias } => emit_float(e, k, QOp::Lrn { size, alpha, beta, bias }),
        _ => Err("is not an elementwise function; this is a bug".into()),
    }
}

/// The clamp merged into node `k`, or none.
fn bounds(e: &Emit<'_>, k: usize) -> (f32, f32) {
    e.decisions.clamp[k].map_or((f32::NEG_INFINITY, f32::INFINITY), |c| (c.lo, c.hi))
}

fn emit_float(e: &mut Emit<'_>, k: usize, op: QOp) -> Result<(), String> {
    let x = e.f32(e.graph.nodes[k].inputs[0])?;
    let y = e.define(e.graph.nodes[k].output, None);
    e.main(k, op, &[x], y);
    Ok(())
}

/// `a·x + b` per channel. ONNX Runtime has no integers for that but those of a convolution, channel by channel.
fn emit_affine(e: &mut Emit<'_>, k: usize, x: ValueId, a: Vec<f64>, b: Vec<f64>) -> Result<(), String> {
    let output = e.decisions.output(e.graph, k);
    let grid = e.grid(k)?;
    let as_there = e.numbers.rounding == Rounding::ZeroLast && !e.numbers.given;
    if as_there && grid.is_some() && e.graph.shape(x).len() == 4 {
        let [a, b] = [a, b].map(|list| list.iter().map(|&x| x as f32).collect::<Vec<f32>>());
        return channelwise(e, k, x, &a, &b);
    }
    let input = e.operand(k, x)?;
    let (lo, hi) = bounds(e, k);
    let (scale, offset, lo, hi) = match grid {
        None => {
            let round = |x: &f64| *x as f32;
            (a.iter().map(round).collect(), b.iter().map(round).collect(), lo, hi)
        }
        Some(y) => {
            let x = e.scales.of(x)?;
            let scale: Vec<f32> = a.iter().map(|a| round_bits(a * x.step() / y.step(), 21) as f32).collect();
            let offset: Vec<f32> = a
                .iter()
                .zip(&b)
                .map(|(a, b)| (y.offset() + (b - a * x.step() * x.offset()) / y.step()) as f32)
                .collect();
            let (lo, hi) = y.clamp(lo, hi);
            (scale, offset, f32::from(lo), f32::from(hi))
        }
    };
    let large = |x: &&f32| grid.is_some() && f64::from(x.abs()) >= OFFSET || !x.is_finite();
    if let Some(x) = scale.iter().chain(&offset).find(large) {
        return Err(format!(
            "its scale or offset {x:e} is beyond what the result's range can show; calibrate with samples that \
             exercise this layer, or keep it in float"
        ));
    }
    let name = &e.graph.nodes[k].name;
    let (names, channels) = ([format!("{name}/scale"), format!("{name}/offset")], [scale.len()]);
    let scale = e.builder.add_blob_f32(&names[0], &channels, &scale);
    let offset = e.builder.add_blob_f32(&names[1], &channels, &offset);
    let y = e.define(output, grid);
    e.main(k, QOp::Affine { scale, offset, lo, hi }, &[input], y);
    Ok(())
}

/// Two tensors, or a tensor and a constant that is no channel's.
fn emit_binary(e: &mut Emit<'_>, k: usize, op: Binary) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let output = e.decisions.output(e.graph, k);
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let mut operands = [e.operand(k, a)?, e.operand(k, b)?];
    let (lo, hi) = bounds(e, k);
    let Some(y) = e.grid(k)? else {
        let op = match op {
            Binary::Add => FloatBinary::Add,
            Binary::Sub => FloatBinary::Sub,
            Binary::Mul => FloatBinary::Mul,
            Binary::Div => FloatBinary::Div,
        };
        let y = e.define(output, None);
        e.main(k, QOp::Binary { op, lo, hi }, &operands, y);
        return Ok(());
    };
    let (lo, hi) = y.clamp(lo, hi);
    let (a, b) = (e.scales.of(a)?, e.scales.of(b)?);
    let (s_a, s_b) = (ratio(e, a.scale, 1.0, y.scale), ratio(e, b.scale, 1.0, y.scale));
    let op = match op {
        Binary::Add if e.numbers.rounding == Rounding::ZeroLast => {
            // As ONNX Runtime adds: the second operand first, all constants in f32, their products not rounded where they are added.
            operands.reverse();
            let (s_a, s_b) = (s_a?, s_b?);
            let zeros = fma(s_a, f32::from(a.zero), s_b * f32::from(b.zero));
            QOp::Add { a: s_b, b: s_a, k: f32::from(y.zero) - zeros, lo, hi }
        }
        Binary::Add | Binary::Sub => {
            let (s_a, s_b) = (s_a?, if op == Binary::Add { s_b? } else { -s_b? });
            let k = y.offset() - a.offset() * f64::from(s_a) - b.offset() * f64::from(s_b);
            QOp::Add { a: s_a, b: s_b, k: k as f32, lo, hi }
        }
        Binary::Mul => QOp::Mul { scale: ratio(e, a.scale, b.scale, y.scale)?, lo, hi },
        Binary::Div => return Err("division by a tensor has no integer form; this is a bug".into()),
    };
    let y = e.define(output, Some(y));
    e.main(k, op, &operands, y);
    Ok(())
}

fn emit_unary(e: &mut Emit<'_>, k: usize, f: Unary) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let x = e.operand(k, node.inputs[0])?;
    let grid = e.grid(k)?;
    let op = match grid {
        None => QOp::Unary(finite_clip(f)),
        Some(to) => {
            let from = e.scales.of(node.inputs[0])?;
            QOp::Table(table(e, &format!("{}/table", node.name), from, to, f))
        }
    };
    let y = e.define(node.output, grid);
    e.main(k, op, &[x], y);
    Ok(())
}

/// A rounding that no other node makes: from f32 or from another grid; in a float network there and back.
fn emit_round(e: &mut Emit<'_>, k: usize, to: Grid) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let x = e.resolve(node.inputs[0]);
    if let Run::Float(_) = e.decisions.run[k] {
        let x = e.f32(x)?;
        let q =
            e.value(&format!("{}/u8", e.graph.value(node.output).name), e.graph.shape(node.output), to.ty());
        e.helper(&format!("{}/quantize", node.name), QOp::Quantize, &[x], q);
        let y = e.define(node.output, None);
        e.main(k, QOp::Dequantize, &[q], y);
        return Ok(());
    }
    let (op, input) = match e.scales.of(x) {
        Err(_) => (QOp::Quantize, e.f32(x)?),
        Ok(from) if from == to => (QOp::Reshape, e.u8(x)?),
        Ok(from) => {
            let table = rescaling(e, &format!("{}/table", node.name), from, to);
            (QOp::Table(table), e.u8(x)?)
        }
    };
    let y = e.define(node.output, Some(to));
    e.main(k, op, &[input], y);
    Ok(())
}

fn emit_prelu(e: &mut Emit<'_>, k: usize) -> Result<(), String> {
    let node = &e.graph.nodes[k];
    let shape = e.graph.shape(node.inputs[0]);
    let slope =
        node.inputs.get(1).and_then(|&s| e.graph.constant(s)).ok_or("its slope must be a constant")?;
    if shape.len() < 2 {
        return Err(format!("its input of shape {shape:?} has no channels (axis 1)"));
    }
    let lead = shape.len().saturating_sub(slope.shape.len());
    let slopes = match slope.data.len() {
        1 => vec![slope.data[0]; shape[1]],
        // Per channel: one entry along axis 1 of x, aligned from the right; older exporters give [C] alone.
        n if n == shape[1] => {
            let fits = slope.shape.iter().enumerate().all(|(i, &n)| n == 1 || i + lead == 1);
            if !fits {
                return Err(format!("slopes of shape {:?} are neither one nor per channel", slope.shape));
            }
            slope.data.to_vec()
        }
        _ => return Err(format!("slopes of shape {:?} are neither one nor per channel", slope.shape)),
    };
    let blob = e.builder.add_blob_f32(&format!("{}/slope", node.name), &[shape[1]], &slopes);
    emit_float(e, k, QOp::PRelu(blob))
}

/// The function as a table from grid to grid.
pub(super) fn table(e: &mut Emit<'_>, name: &str, from: Grid, to: Grid, f: Unary) -> BlobId {
    let bytes: Vec<u8> = (0..=255).map(|q| e.quantized(f.eval(from.dequantize(q)), to)).collect();
    e.builder.add_blob_u8(name, &[256], &bytes)
}

/// The function as a table for each channel, between multiples of what it takes and gives, by these factors.
pub(super) fn tables(
    e: &mut Emit<'_>,
    name: &str,
    from: Grid,
    to: Grid,
    f: Unary,
    [before, after]: [&[f32]; 2],
) -> BlobId {
    let entry = |q: u8, before: f32, after: f32| e.quantized(f.eval(from.dequantize(q) / before) * after, to);
    let channel = |(&before, &after): (&f32, &f32)| (0..=255).map(move |q| (q, before, after));
    let entries = before.iter().zip(after).flat_map(channel);
    let bytes: Vec<u8> = entries.map(|(q, before, after)| entry(q, before, after)).collect();
    e.builder.add_blob_u8(name, &[before.len(), 256], &bytes)
}

/// A table that moves a value to another grid.
pub(super) fn rescale(e: &mut Emit<'_>, q: QValueId, name: &str, from: Grid, to: Grid) -> QValueId {
    let blob = rescaling(e, &format!("{name}/table"), from, to);
    let shape = e.builder.value(q).shape.clone();
    let id = e.value(name, &shape, to.ty());
    e.helper(name, QOp::Table(blob), &[q], id);
    id
}

/// The table that moves a value from grid to grid.
fn rescaling(e: &mut Emit<'_>, name: &str, from: Grid, to: Grid) -> BlobId {
    let bytes: Vec<u8> = (0..=255).map(|q| e.quantized(from.dequantize(q), to)).collect();
    e.builder.add_blob_u8(name, &[256], &bytes)
}

/// Clips with one open side in numbers that a file can hold; no f32 lies beyond them.
pub(super) fn finite_clip(f: Unary) -> Unary {
    match f {
        Unary::Clip { lo, hi } => Unary::Clip { lo: lo.max(f32::MIN), hi: hi.min(f32::MAX) },
        other => other,
    }
}
