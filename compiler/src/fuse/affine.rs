//! What batch normalization and arithmetic by constants have in common: y = scale·x + shift, per channel of one axis, in f64.
//!
//! Four passes stand on it: merge chains, fold into the layer before, fold into the layer after, write what remains.

use super::rewrite::uniform;
use crate::graph::{Binary, Graph, Node, Op, Tensor, ValueId};

/// y = scale·x + shift. One element each (`axis` is `None`), or one per index of `axis`.
#[derive(Clone, Debug)]
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
    pub(super) axis: Option<usize>,
}

impl Affine {
    /// The function that the node applies to its one operand that is not constant, if it is such a function.
    pub(super) fn of(graph: &Graph, node: &Node) -> Option<(ValueId, Affine)> {
        let (x, affine) = match node.op {
            Op::BatchNorm { epsilon } => (node.inputs[0], Affine::batch_norm(graph, node, epsilon)?),
            Op::Binary(binary) => {
                let (a, b) = (node.inputs[0], node.inputs[1]);
                let (x, c, swapped) = match (graph.constant(a), graph.constant(b)) {
                    (None, Some(_)) => (a, b, false),
                    (Some(_), None) => (b, a, true),
                    (None, None) | (Some(_), Some(_)) => return None,
                };
                if graph.shape(x) != graph.shape(node.output) {
                    return None; // The constant widens x.
                }
                (x, Affine::arithmetic(graph, binary, x, c, swapped)?)
            }
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Dense(_)
            | Op::Unary(_)
            | Op::PRelu
            | Op::Concat { .. }
            | Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Pad { .. }
            | Op::Resize(_)
            | Op::Slice(_)
            | Op::Softmax { .. }
            | Op::Lrn { .. }
            | Op::Identity
            | Op::Dropout
            | Op::Round(_) => return None,
        };
        let finite = affine.scale.iter().chain(&affine.shift).all(|v| v.is_finite());
        finite.then(|| (x, affine.narrowed()))
    }

    /// Without an axis if all indices have the same numbers.
    fn narrowed(mut self) -> Affine {
        let same = |v: &[f64]| v.iter().all(|&x| x == v[0]);
        if self.axis.is_some() && same(&self.scale) && same(&self.shift) {
            self.scale.truncate(1);
            self.shift.truncate(1);
            self.axis = None;
        }
        self
    }

    fn batch_norm(graph: &Graph, node: &Node, epsilon: f32) -> Option<Affine> {
        let parameter = |k: usize| graph.constant(node.inputs[k]).map(|t| t.data.iter().map(|&v| v as f64));
        let (gamma, beta) = (parameter(1)?, parameter(2)?);
        let (mean, var) = (parameter(3)?, parameter(4)?);
        let scale: Vec<f64> = gamma.zip(var).map(|(g, v)| g / (v + epsilon as f64).sqrt()).collect();
        let shift = beta.zip(mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Some(Affine { scale, shift, axis: Some(1) })
    }

    /// x ∘ c, or c ∘ x if `swapped`.
    fn arithmetic(graph: &Graph, binary: Binary, x: ValueId, c: ValueId, swapped: bool) -> Option<Affine> {
        let (rank, constant) = (graph.shape(x).len(), graph.constant(c)?);
        let (axis, data) = match uniform(graph, c) {
            Some(value) => (None, vec![value as f64]),
            None => {
                // Aligned at the right, all extents but one are 1.
                let skipped = rank.checked_sub(constant.shape.len())?;
                let axis = constant.shape.iter().position(|&n| n > 1)?;
                if constant.shape[axis] != constant.data.len() {
                    return None;
                }
                (Some(axis + skipped), constant.data.iter().map(|&v| v as f64).collect())
            }
        };
        let all = |v: f64| vec![v; data.len()];
        let (scale, shift) = match (binary, swapped) {
            (Binary::Add, _) => (all(1.0), data),
            (Binary::Sub, false) => (all(1.0), data.iter().map(|v| -v).collect()),
            (Binary::Sub, true) => (all(-1.0), data),
            (Binary::Mul, _) => (data.clone(), all(0.0)),
            (Binary::Div, false) => (data.iter().map(|v| 1.0 / v).collect(), all(0.0)),
            (Binary::Div, true) => return None,
        };
        Some(Affine { scale, shift, axis })
    }

    /// The numbers per index of `axis`, which has `n`. `None` if the function is along another axis.
    pub(super) fn along(&self, axis: usize, n: usize) -> Option<(Vec<f64>, Vec<f64>)> {
        match self.axis {
            None => Some((vec![self.scale[0]; n], vec![self.shift[0]; n])),
            Some(own) => {
                (own == axis && self.scale.len() == n).then(|| (self.scale.clone(), self.shift.clone()))
            }
        }
    }

    /// First this, then `next`. `None` if they run along different axes.
    pub(super) fn then(&self, next: &Affine) -> Option<Affine> {
        if self.axis.is_some() && next.axis.is_some() && self.axis != next.axis {
            return None;
        }
        let n = self.scale.len().max(next.scale.len());
        let at = |v: &[f64], k: usize| v[k.min(v.len() - 1)];
        let scale = (0..n).map(|k| at(&self.scale, k) * at(&next.scale, k)).collect();
        let shift = (0..n).map(|k| at(&self.shift, k) * at(&next.scale, k) + at(&next.shift, k)).collect();
        Some(Affine { scale, shift, axis: self.axis.or(next.axis) })
    }

    /// One operator and its constant operands that compute this on an x of `shape`: a batch normalization (images), else a
    /// multiplication or addition; `None` if it takes two.
    pub(super) fn to_op(&self, shape: &[usize]) -> Option<(Op, Vec<Tensor>)> {
        let narrow = |v: &[f64]| -> Option<Vec<f32>> {
            v.iter().map(|&v| Some(v as f32).filter(|v| v.is_finite())).collect()
        };
        if let &[_, channels, _, _] = shape
            && let Some((scale, shift)) = self.along(1, channels)
        {
            let parameter = |v: Vec<f32>| Tensor::new([channels], v);
            let (zeros, ones) = (vec![0.0; channels], vec![1.0; channels]);
            let parameters = [narrow(&scale)?, narrow(&shift)?, zeros, ones].map(parameter);
            return Some((Op::BatchNorm { epsilon: 0.0 }, parameters.into()));
        }
        let (binary, numbers) = if self.shift.iter().all(|&t| t == 0.0) {
            (Binary::Mul, narrow(&self.scale)?)
        } else if self.scale.iter().all(|&s| s == 1.0) {
            (Binary::Add, narrow(&self.shift)?)
        } else {
            return None;
        };
        // [n, 1, 1, …]: broadcasting aligns at the right.
        let ones = self.axis.map_or(0, |axis| shape.len() - 1 - axis);
        let extents =
            if self.axis.is_some() { [&[numbers.len()][..], &vec![1; ones]].concat() } else { vec![] };
        Some((Op::Binary(binary), vec![Tensor::new(extents, numbers)]))
    }
}

/// Makes node `k` compute `affine` of `x`. False (nothing changed) if that takes more than one operator.
pub(super) fn rewrite_as(graph: &mut Graph, k: usize, x: ValueId, affine: &Affine) -> bool {
    let Some((op, parameters)) = affine.to_op(graph.shape(x)) else { return false };
    let name = graph.nodes[k].name.clone();
    let roles: &[&str] =
        if parameters.len() == 1 { &["constant"] } else { &["gamma", "beta", "mean", "var"] };
    let mut inputs = vec![x];
    for (role, tensor) in roles.iter().zip(parameters) {
        inputs.push(graph.add_constant(format!("{name}.{role}"), tensor));
    }
    graph.nodes[k].op = op;
    graph.nodes[k].inputs = inputs;
    true
}
