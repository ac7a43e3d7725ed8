//! Recognises activations that exporters spell as several nodes:
//!
//! | spelling, operands in either order | becomes |
//! |---|---|
//! | x · sigmoid(x) | silu |
//! | x · tanh(softplus(x)) | mish |
//! | x · clip(x + 3, 0, 6) / 6, the division anywhere or a multiplication by 1/6; x · hard_sigmoid(x) | hard_swish |
//! | clip(x + 3, 0, 6) / 6 and any clip(a·x + b, 0, t) / t | hard_sigmoid |
//! | x · x | square |
//! | prelu with one slope | leaky_relu |
//!
//! A value inside a spelling that somebody else reads keeps the spelling.

use super::affine::Affine;
use super::event::{Event, left, made};
use super::rewrite::{read_only_by, remove_dead, shown, sweep, uniform};
use crate::graph::{Binary, Graph, Op, Unary, ValueId};

pub(super) const PASS: &str = "pattern";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    let changed = sweep(graph, |graph, k| {
        let Some(found) = find(graph, k) else { return false };
        let node = graph.nodes[k].name.clone();
        // Values inside: each may be read only from within the spelling, or removing it would not save the work.
        for &(value, reader) in &found.inside {
            if let Err(reason) = read_only_by(graph, value, reader) {
                left(
                    events,
                    PASS,
                    &node,
                    format!("spells {} of {}, but {reason}", found.unary, shown(graph, found.x)),
                );
                return false;
            }
        }
        graph.nodes[k].op = Op::Unary(found.unary);
        graph.nodes[k].inputs = vec![found.x];
        made(events, PASS, &node, format!("recognised {} of {}", found.unary, shown(graph, found.x)));
        true
    });
    if changed {
        remove_dead(graph);
    }
    changed
}

/// A spelling: what it computes of which value, and the values inside, each with the one node that may read it.
struct Found {
    unary: Unary,
    x: ValueId,
    inside: Vec<(ValueId, usize)>,
}

/// The spelling that ends in node `k`.
fn find(graph: &Graph, k: usize) -> Option<Found> {
    let node = &graph.nodes[k];
    if let Op::PRelu = node.op {
        let alpha = uniform(graph, node.inputs[1])?;
        return Some(Found { unary: Unary::LeakyRelu { alpha }, x: node.inputs[0], inside: vec![] });
    }
    if let Some((value, factor)) = scaled(graph, k) {
        return scaled_product(graph, k, value, factor).or_else(|| {
            let gate = Gate::find(graph, value)?;
            let inside = gate.inside(k);
            near(factor * gate.top, 1.0).then(|| Found { unary: gate.hard_sigmoid(), x: gate.x, inside })
        });
    }
    let (a, b) = product(graph, k)?;
    if a == b {
        return Some(Found { unary: Unary::Square, x: a, inside: vec![] });
    }
    gated(graph, k, a, b).or_else(|| gated(graph, k, b, a))
}

/// Node `k` = x · gate, where the gate is a function of x.
fn gated(graph: &Graph, k: usize, x: ValueId, gate: ValueId) -> Option<Found> {
    let producer = graph.producer(gate)?;
    let node = &graph.nodes[producer];
    let of = *node.inputs.first()?;
    let mut inside = vec![(gate, k)];
    let hard_swish = |inside| Some(Found { unary: Unary::HardSwish, x, inside });
    if let Op::Unary(unary) = node.op {
        if of == x && unary == Unary::Sigmoid {
            return Some(Found { unary: Unary::Silu, x, inside });
        }
        if of == x && is_sixth_gate(unary) {
            return hard_swish(inside);
        }
        if unary == Unary::Tanh
            && let Some(softplus) = graph.producer(of)
            && graph.nodes[softplus].op == Op::Unary(Unary::Softplus)
            && graph.nodes[softplus].inputs[0] == x
        {
            inside.push((of, producer));
            return Some(Found { unary: Unary::Mish, x, inside });
        }
    }
    // x · clip(x/6 + 1/2, 0, 1), and (x/6) · clip(x + 3, 0, 6).
    let gate = Gate::find(graph, gate)?;
    if !is_sixth_gate(gate.hard_sigmoid()) {
        return None;
    }
    let mut inside = gate.inside(k);
    if gate.x == x && near(gate.top, 1.0) {
        return hard_swish(inside);
    }
    let division = graph.producer(x)?;
    let (whole, factor) = scaled(graph, division)?;
    inside.push((x, k));
    (whole == gate.x && near(factor * gate.top, 1.0)).then_some(Found {
        unary: Unary::HardSwish,
        x: whole,
        inside,
    })
}

/// Node `k` = factor · value, where value = x · clip(x + 3, 0, 6).
fn scaled_product(graph: &Graph, k: usize, value: ValueId, factor: f64) -> Option<Found> {
    let middle = graph.producer(value)?;
    let (a, b) = product(graph, middle)?;
    [(a, b), (b, a)].into_iter().find_map(|(x, clipped)| {
        let gate = Gate::find(graph, clipped)?;
        let fits = gate.x == x && near(factor * gate.top, 1.0) && is_sixth_gate(gate.hard_sigmoid());
        let mut inside = gate.inside(middle);
        inside.push((value, k));
        fits.then_some(Found { unary: Unary::HardSwish, x, inside })
    })
}

/// clip(slope·x + offset, 0, top)
struct Gate {
    x: ValueId,
    slope: f64,
    offset: f64,
    top: f64,
    /// slope·x + offset.
    sum: ValueId,
    /// The gate itself and its node.
    clip: (ValueId, usize),
}

impl Gate {
    fn find(graph: &Graph, value: ValueId) -> Option<Gate> {
        let clip = graph.producer(value)?;
        let Op::Unary(Unary::Clip { lo: 0.0, hi }) = graph.nodes[clip].op else { return None };
        let sum = graph.nodes[clip].inputs[0];
        let (x, affine) = Affine::of(graph, &graph.nodes[graph.producer(sum)?])?;
        let scalar = affine.axis.is_none() && hi.is_finite() && hi > 0.0;
        let (slope, offset) = (affine.scale[0], affine.shift[0]);
        scalar.then_some(Gate { x, slope, offset, top: hi as f64, sum, clip: (value, clip) })
    }

    /// The gate divided by its top.
    fn hard_sigmoid(&self) -> Unary {
        let (alpha, beta) = (self.slope / self.top, self.offset / self.top);
        Unary::HardSigmoid { alpha: alpha as f32, beta: beta as f32 }
    }

    /// The values inside, when node `k` reads the gate.
    fn inside(&self, k: usize) -> Vec<(ValueId, usize)> {
        vec![(self.sum, self.clip.1), (self.clip.0, k)]
    }
}

/// The gate of hard-swish.
fn is_sixth_gate(unary: Unary) -> bool {
    matches!(unary, Unary::HardSigmoid { alpha, beta } if near(alpha as f64, 1.0 / 6.0) && near(beta as f64, 0.5))
}

/// Node `k` as a product of two computed values.
fn product(graph: &Graph, k: usize) -> Option<(ValueId, ValueId)> {
    let node = &graph.nodes[k];
    let Op::Binary(Binary::Mul) = node.op else { return None };
    let (a, b) = (node.inputs[0], node.inputs[1]);
    let computed = graph.constant(a).is_none() && graph.constant(b).is_none();
    (computed && graph.shape(a) == graph.shape(b)).then_some((a, b))
}

/// Node `k` as one number times a value.
fn scaled(graph: &Graph, k: usize) -> Option<(ValueId, f64)> {
    let (x, affine) = Affine::of(graph, &graph.nodes[k])?;
    (affine.axis.is_none() && affine.shift == [0.0]).then(|| (x, affine.scale[0]))
}

/// Equal up to the rounding of constants in f32.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs()
}
