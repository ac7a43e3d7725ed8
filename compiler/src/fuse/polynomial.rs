//! Reads arithmetic as a polynomial: what a value is in terms of two others, whatever the order and place of its factors.
//!
//! In: a node, a value x and perhaps a gate h. Out: `Σ c[i][j]·hⁱ·xʲ` with i ≤ 1 and j ≤ 3, and the values that were passed on the way.
//! Not here: which polynomials mean something.

use super::affine::Affine;
use crate::graph::{Binary, Graph, Op, Unary, ValueId};

/// `c[i][j]` belongs to hⁱ·xʲ.
pub(super) type Polynomial = [[f64; 4]; 2];

/// No spelling is longer.
const MAX_NODES: usize = 10;

/// A walk back from a node to x and h.
pub(super) struct Reading<'a> {
    graph: &'a Graph,
    x: ValueId,
    h: Option<ValueId>,
    /// The values passed: h too, not x.
    pub(super) passed: Vec<ValueId>,
    nodes: usize,
}

impl Reading<'_> {
    pub(super) fn new(graph: &Graph, x: ValueId, h: Option<ValueId>) -> Reading<'_> {
        Reading { graph, x, h, passed: vec![], nodes: 0 }
    }

    /// What the value is. `None` if it is no such polynomial.
    pub(super) fn value(&mut self, id: ValueId) -> Option<Polynomial> {
        if id == self.x {
            return Some([[0.0, 1.0, 0.0, 0.0], [0.0; 4]]);
        }
        self.passed.push(id);
        if Some(id) == self.h {
            return Some([[0.0; 4], [1.0, 0.0, 0.0, 0.0]]);
        }
        self.node(self.graph.producer(id)?)
    }

    /// What node `k` computes.
    pub(super) fn node(&mut self, k: usize) -> Option<Polynomial> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return None;
        }
        let operands = operands(self.graph, k)?;
        let mut p = [[[0.0; 4]; 2]; 2];
        for (p, &id) in p.iter_mut().zip(&operands) {
            *p = self.value(id)?;
        }
        let node = &self.graph.nodes[k];
        if let Some((_, affine)) = Affine::of(self.graph, node) {
            let mut y = p[0].map(|row| row.map(|c| c * affine.scale[0]));
            y[0][0] += affine.shift[0];
            return Some(y);
        }
        match node.op {
            Op::Unary(_) => product(&p[0], &p[0]),
            Op::Binary(Binary::Mul) => product(&p[0], &p[1]),
            Op::Binary(Binary::Add) => Some(sum(&p[0], &p[1], 1.0)),
            _ => Some(sum(&p[0], &p[1], -1.0)),
        }
    }
}

/// The operands of node `k` that are not constant, if it is arithmetic by which a polynomial grows: a number added, subtracted or
/// multiplied, two values of one shape added, subtracted or multiplied, a square.
pub(super) fn operands(graph: &Graph, k: usize) -> Option<Vec<ValueId>> {
    let node = &graph.nodes[k];
    if let Some((x, affine)) = Affine::of(graph, node) {
        return affine.axis.is_none().then(|| vec![x]);
    }
    match node.op {
        Op::Unary(Unary::Square) => Some(node.inputs.clone()),
        Op::Binary(Binary::Add | Binary::Sub | Binary::Mul) => {
            let plain =
                |&id: &ValueId| graph.constant(id).is_none() && graph.shape(id) == graph.shape(node.output);
            node.inputs.iter().all(plain).then(|| node.inputs.clone())
        }
        _ => None,
    }
}

fn sum(a: &Polynomial, b: &Polynomial, sign: f64) -> Polynomial {
    let mut y = *a;
    for (y, b) in y.as_flattened_mut().iter_mut().zip(b.as_flattened()) {
        *y += sign * b;
    }
    y
}

/// `None` if a power is beyond the polynomial's.
fn product(a: &Polynomial, b: &Polynomial) -> Option<Polynomial> {
    let mut y = [[0.0; 4]; 2];
    for (i, j, c) in terms(a) {
        for (k, l, d) in terms(b) {
            *y.get_mut(i + k)?.get_mut(j + l)? += c * d;
        }
    }
    Some(y)
}

fn terms(p: &Polynomial) -> impl Iterator<Item = (usize, usize, f64)> {
    let all = p.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, &c)| (i, j, c)));
    all.filter(|t| t.2 != 0.0)
}
