//! Gemm and MatMul with a constant.
//!
//! In: a node. Out: Dense with weight `[M,K]` and bias `[M]`, around it what the constant on the left or a wide addend needs. Holds:
//! scale factors are folded into the constants. Not here: products of two computed tensors, which are refused.

use super::Outcome;
use super::context::NodeContext;
use super::literal::{Literal, count, walk};
use crate::graph::shape::broadcast;
use crate::graph::{Binary, Epilogue, Op, ValueId};

const TWO_COMPUTED: &str =
    "multiplies two tensors that are both computed at run time; one must be a constant";

/// Rows and columns swapped.
pub(super) fn turned(node: &mut NodeContext, matrix: &Literal) -> Outcome<Literal> {
    prepare(node, matrix, true, 1.0)
}

/// Rows and columns swapped if `swap` says so, times `factor`.
fn prepare(node: &mut NodeContext, matrix: &Literal, swap: bool, factor: f32) -> Outcome<Literal> {
    let [rows, columns] = matrix.shape[..] else {
        return Err(format!("a matrix is needed, but a constant is {:?}", matrix.shape));
    };
    let data = matrix.as_floats().ok_or("a constant holds integers")?;
    node.spend(data.len())?;
    let scaled = match factor {
        // Keeps the integers behind a weight that is quantized.
        1.0 => matrix.clone(),
        _ => Literal::floats([rows, columns], data.iter().map(|x| x * factor).collect::<Vec<_>>()),
    };
    let turned = [columns, rows];
    Ok(if swap { scaled.pick(turned.to_vec(), walk(&turned, 0, &[1, columns as isize])) } else { scaled })
}

fn zeros(node: &mut NodeContext, channels: usize) -> Outcome<ValueId> {
    node.spend(channels)?;
    node.constant("bias", &Literal::floats([channels], vec![0.0; channels]))
}

/// The constant matrix `[M,K]` as a value of the graph, under its own name if it is used as it stands.
fn weight(node: &mut NodeContext, k: usize, swap: bool, factor: f32) -> Outcome<(ValueId, usize)> {
    let matrix = node.required(k, "matrix")?;
    if matrix.shape.len() == 2 && !swap && factor == 1.0 {
        return Ok((node.input(k)?, matrix.shape[0]));
    }
    let prepared = prepare(node, &matrix, swap, factor)?;
    Ok((node.constant("weight", &prepared)?, prepared.shape[0]))
}

/// Gemm: alpha·A'·B' + beta·C.
pub(super) fn gemm(node: &mut NodeContext) -> Outcome {
    let (alpha, beta) = (node.finite("alpha", 1.0)?, node.finite("beta", 1.0)?);
    let (turn_a, turn_b) = (node.int("transA", 0)? != 0, node.int("transB", 0)? != 0);
    if node.literal(1).is_none() {
        return Err(TWO_COMPUTED.into());
    }
    let (a, b) = (node.shape(0)?, node.shape(1)?);
    if a.len() != 2 || b.len() != 2 {
        return Err(format!("multiplies {a:?} by {b:?}; two matrices are needed"));
    }
    let mut x = node.input(0)?;
    if turn_a {
        x = node.step("transposed", Op::Transpose(vec![1, 0]), [x])?;
    }
    let (w, channels) = weight(node, 1, !turn_b, alpha)?;
    let dense = Op::Dense(Epilogue::default());
    if !node.has(2) || beta == 0.0 {
        let bias = zeros(node, channels)?;
        return node.finish(dense, [x, w, bias]);
    }
    let shape = [node.shape_of(x)[0], channels];
    let c = node.shape(2)?;
    if broadcast(&c, &shape).as_deref() != Ok(&shape[..]) {
        return Err(format!("its addend C is {c:?}, which does not broadcast to {shape:?}"));
    }
    let constant = node.literal(2).cloned();
    // One row for all: a bias.
    if let Some(constant) = constant.as_ref().filter(|_| c.len() < 2 || c[0] == 1) {
        if c == [channels] && beta == 1.0 {
            let bias = node.input(2)?;
            return node.finish(dense, [x, w, bias]);
        }
        let row = Literal { shape: c[c.len().saturating_sub(1)..].to_vec(), ..constant.clone() };
        let row = node.expand(&row, &[channels])?;
        let row = scale(node, &row, beta)?;
        let bias = node.constant("bias", &row)?;
        return node.finish(dense, [x, w, bias]);
    }
    let bias = zeros(node, channels)?;
    let product = node.step("product", dense, [x, w, bias])?;
    let addend = match constant {
        Some(constant) => {
            let scaled = scale(node, &constant, beta)?;
            node.constant("addend", &scaled)?
        }
        None if beta == 1.0 => node.input(2)?,
        None => {
            let (c, beta) = (node.input(2)?, node.constant("beta", &Literal::floats([], vec![beta]))?);
            node.step("addend", Op::Binary(Binary::Mul), [c, beta])?
        }
    };
    node.finish(Op::Binary(Binary::Add), [product, addend])
}

fn scale(node: &mut NodeContext, literal: &Literal, factor: f32) -> Outcome<Literal> {
    let data = literal.as_floats().ok_or("a constant holds integers")?;
    node.spend(data.len())?;
    Ok(Literal::floats(literal.shape.clone(), data.iter().map(|x| x * factor).collect::<Vec<_>>()))
}

/// MatMul.
pub(super) fn matmul(node: &mut NodeContext) -> Outcome {
    let dense = Op::Dense(Epilogue::default());
    let (a, b) = (node.shape(0)?, node.shape(1)?);
    if a.is_empty() || b.is_empty() {
        return Err("multiplies a scalar; ONNX has Mul for that".into());
    }
    if let Some(constant) = node.literal(1).cloned() {
        // [K,M], possibly inside axes of one element; a vector is a matrix of one column that disappears.
        let (outer, matrix) = match b[..] {
            [k] => (&b[..0], vec![k, 1]),
            [ref outer @ .., k, m] => (outer, vec![k, m]),
            [] => return Err("multiplies by a scalar".into()),
        };
        if outer.iter().any(|&n| n != 1) {
            return Err(format!("multiplies by a stack of matrices {b:?}; only one matrix is supported"));
        }
        if count(&matrix)? != constant.data.len() {
            return Err(format!("multiplies by an empty matrix {b:?}"));
        }
        let prepared = prepare(node, &Literal { shape: matrix, ..constant }, true, 1.0)?;
        let x = node.input(0)?;
        let weight = node.constant("weight", &prepared)?;
        let bias = zeros(node, prepared.shape[0])?;
        let product_shape = [&a[..a.len() - 1], &[prepared.shape[0]]].concat();
        // A vector on either side loses its axis; axes of one element around the constant widen the result.
        let (stack, rows) = a[..a.len() - 1].split_at(a.len().saturating_sub(2));
        let widened = vec![1; outer.len().saturating_sub(stack.len())];
        let columns = if b.len() == 1 { &[][..] } else { &prepared.shape[..1] };
        let shape = [&widened, stack, rows, columns].concat();
        if shape == product_shape {
            return node.finish(dense, [x, weight, bias]);
        }
        let product = node.step("product", dense, [x, weight, bias])?;
        return node.finish(Op::Reshape(shape), [product]);
    }
    if node.literal(0).is_none() {
        return Err(TWO_COMPUTED.into());
    }
    // A·x = (xᵀ·Aᵀ)ᵀ
    if a.len() != 2 || b.len() != 2 {
        return Err(format!(
            "multiplies a constant {a:?} by a computed {b:?}; a constant on the left is supported for matrices only"
        ));
    }
    let x = node.input(1)?;
    let (w, channels) = weight(node, 0, false, 1.0)?;
    let bias = zeros(node, channels)?;
    let turned = node.step("transposed", Op::Transpose(vec![1, 0]), [x])?;
    let product = node.step("product", dense, [turned, w, bias])?;
    node.finish(Op::Transpose(vec![1, 0]), [product])
}
