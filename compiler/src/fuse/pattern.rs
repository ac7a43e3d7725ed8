//! Recognises activations that exporters spell as several nodes; factors in any order and place:
//!
//! | spelling | becomes |
//! |---|---|
//! | x · sigmoid(x) | silu |
//! | x · tanh(softplus(x)) | mish |
//! | x · clip(x + 3, 0, 6) / 6; x · hard_sigmoid(x) | hard_swish |
//! | clip(x + 3, 0, 6) / 6 and any clip(a·x + b, 0, t) / t | hard_sigmoid |
//! | x/2 · (1 + erf(x/√2)) | gelu |
//! | x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³))) | gelu_tanh |
//! | x · x | square |
//! | prelu with one slope | leaky_relu |
//!
//! All but the last two are a polynomial in x and a gate h = f(y), where y is a polynomial in x. A value inside a spelling that
//! somebody else reads keeps the spelling.

use super::event::{Event, left, made};
use super::polynomial::{Polynomial, Reading, operands};
use super::rewrite::{read_only_within, remove_dead, shown, sweep, uniform};
use crate::graph::{Binary, Graph, Op, Unary, ValueId};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

pub(super) const PASS: &str = "pattern";

pub(super) fn run(graph: &mut Graph, events: &mut Vec<Event>) -> bool {
    let changed = sweep(graph, |graph, k| {
        let Some(found) = find(graph, k) else { return false };
        let node = graph.nodes[k].name.clone();
        // Values inside: each may be read only from within the spelling, or removing it would not save the work.
        let within: Vec<usize> = found.inside.iter().filter_map(|&v| graph.producer(v)).chain([k]).collect();
        for &value in &found.inside {
            if let Err(reason) = read_only_within(graph, value, &within) {
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

/// A spelling: what it computes of which value, and the values inside.
struct Found {
    unary: Unary,
    x: ValueId,
    inside: Vec<ValueId>,
}

/// The spelling that ends in node `k`.
fn find(graph: &Graph, k: usize) -> Option<Found> {
    let node = &graph.nodes[k];
    match node.op {
        Op::PRelu => {
            let alpha = uniform(graph, node.inputs[1])?;
            Some(Found { unary: Unary::LeakyRelu { alpha }, x: node.inputs[0], inside: vec![] })
        }
        Op::Binary(Binary::Mul) if node.inputs[0] == node.inputs[1] => {
            let x = node.inputs[0];
            graph.constant(x).is_none().then_some(Found { unary: Unary::Square, x, inside: vec![] })
        }
        // A batch normalization may be arithmetic by numbers, written so in an earlier round.
        Op::Binary(_) | Op::BatchNorm { .. } => {
            behind(graph, operands(graph, k)?).into_iter().find_map(|h| gated(graph, k, h))
        }
        _ => None,
    }
}

/// The values from which arithmetic makes the given ones, these first.
fn behind(graph: &Graph, mut values: Vec<ValueId>) -> Vec<ValueId> {
    let mut at = 0;
    while at < values.len() && values.len() < 16 {
        let more = graph.producer(values[at]).and_then(|k| operands(graph, k)).unwrap_or_default();
        for id in more {
            if !values.contains(&id) {
                values.push(id);
            }
        }
        at += 1;
    }
    values
}

/// The value as a function of another.
fn function(graph: &Graph, id: ValueId) -> Option<(Unary, ValueId)> {
    let node = &graph.nodes[graph.producer(id)?];
    let Op::Unary(f) = node.op else { return None };
    Some((f, node.inputs[0]))
}

/// Node `k` as a spelling with the gate h.
fn gated(graph: &Graph, k: usize, h: ValueId) -> Option<Found> {
    let (f, y) = function(graph, h)?;
    if f == Unary::Tanh
        && let Some((Unary::Softplus, x)) = function(graph, y)
    {
        let mut outer = Reading::new(graph, x, Some(h));
        let mish = is(outer.node(k)?, X_H);
        return mish.then(|| Found { unary: Unary::Mish, x, inside: [outer.passed, vec![y]].concat() });
    }
    behind(graph, vec![y]).into_iter().find_map(|x| {
        let (mut inner, mut outer) = (Reading::new(graph, x, None), Reading::new(graph, x, Some(h)));
        let ([of_x, _], of_both) = (inner.value(y)?, outer.node(k)?);
        // A scaled clip of x itself stays one: the clip may become an epilogue.
        let unary = meaning(f, of_x, of_both).filter(|_| y != x || is(of_both, X_H))?;
        Some(Found { unary, x, inside: [inner.passed, outer.passed].concat() })
    })
}

/// The polynomial x.
const X: [f64; 4] = [0.0, 1.0, 0.0, 0.0];

/// x·h
const X_H: Polynomial = [[0.0; 4], X];

/// x/2 + x·h/2
const HALF_X_ONE_AND_H: Polynomial = [[0.0, 0.5, 0.0, 0.0]; 2];

/// What `outer` of x and h = f(`inner` of x) is.
fn meaning(f: Unary, inner: [f64; 4], outer: Polynomial) -> Option<Unary> {
    let of_x = |p: [f64; 4]| is([inner, [0.0; 4]], [p, [0.0; 4]]);
    let sixth = |alpha, beta| near(alpha, 1.0 / 6.0) && near(beta, 0.5);
    match f {
        Unary::Sigmoid => (of_x(X) && is(outer, X_H)).then_some(Unary::Silu),
        Unary::HardSigmoid { alpha, beta } => {
            (of_x(X) && is(outer, X_H) && sixth(alpha.into(), beta.into())).then_some(Unary::HardSwish)
        }
        Unary::Clip { lo: 0.0, hi } => {
            let [b, a, ..] = inner;
            let [by_h, by_x_h, ..] = outer[1];
            // Divided by its top, the gate is a hard_sigmoid.
            let is_gate = |c: f64| of_x([b, a, 0.0, 0.0]) && near(c * f64::from(hi), 1.0);
            if is(outer, [[0.0; 4], [by_h, 0.0, 0.0, 0.0]]) && is_gate(by_h) {
                return Some(Unary::HardSigmoid { alpha: (by_h * a) as f32, beta: (by_h * b) as f32 });
            }
            let product = is(outer, [[0.0; 4], [0.0, by_x_h, 0.0, 0.0]]) && is_gate(by_x_h);
            (product && sixth(by_x_h * a, by_x_h * b)).then_some(Unary::HardSwish)
        }
        Unary::Erf => {
            (of_x([0.0, FRAC_1_SQRT_2, 0.0, 0.0]) && is(outer, HALF_X_ONE_AND_H)).then_some(Unary::Gelu)
        }
        Unary::Tanh => {
            let slope = FRAC_2_SQRT_PI / SQRT_2;
            let cubic = of_x([0.0, slope, 0.0, 0.044715 * slope]);
            (cubic && is(outer, HALF_X_ONE_AND_H)).then_some(Unary::GeluTanh)
        }
        _ => None,
    }
}

fn is(a: Polynomial, b: Polynomial) -> bool {
    a.as_flattened().iter().zip(b.as_flattened()).all(|(&a, &b)| near(a, b))
}

/// Equal up to the rounding of constants in f32.
fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-5 * b.abs()
}
