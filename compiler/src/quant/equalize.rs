//! Makes channels of unequal range equal before quantization, where that costs nothing. Fused graph and profile in and out.
//!
//! A value has one grid for all its channels. A channel that fills an eighth of the value's range keeps five of the eight bits, and a
//! layer that reads channels one by one (a depthwise convolution, a batch normalization) shows that at its full size. So such a channel is
//! doubled as often as it fits ([`Profile::headroom`]), by what computes it, and halved again by what reads it: all of these have
//! weights for each channel. Factors are powers of two: weights keep their bits.
//!
//! Holds: within the observed ranges the new graph computes what the old one did; beyond them it saturates, as grids do. Values that anything
//! else reads or computes are left as they are. Those that now hold multiples say so ([`Multiples`]), for reports show what they stand for.

use super::decide::{Decisions, Run};
use super::options::{Equalize, Options};
use super::ranges::{Classes, Grid, told_apart};
use crate::calib::{Profile, Range};
use crate::graph::{Binary, Graph, Node, Op, Tensor, Unary, ValueId};
use std::collections::HashMap;

/// Doublings of a channel's headroom that are left free: samples of later may go beyond those of calibration, and a channel that
/// saturates loses more than one that has half its resolution.
const SPARE: u8 = 1;

/// Layers whose activation is a table get one for each channel if at least half of the channels have this much headroom: such tables cost
/// some time, and channels that are nearly equal gain little.
const UNEVEN: u8 = 3;

/// What quantization goes on with.
pub(super) struct Equalized {
    pub(super) graph: Graph,
    pub(super) profile: Profile,
    pub(super) multiples: HashMap<ValueId, Multiples>,
}

/// The factors of a value's channels.
pub(super) struct Multiples {
    /// Of the sum before the activation, if a table for each channel turns these into those of the value.
    pub(super) before: Option<Vec<f32>>,
    /// Of the value itself.
    pub(super) after: Vec<f32>,
}

/// See the module.
pub(super) fn equalize(
    graph: &Graph,
    profile: &Profile,
    decisions: &Decisions,
    options: &Options,
) -> Equalized {
    if options.equalize == Equalize::Off {
        return Equalized { graph: graph.clone(), profile: profile.clone(), multiples: HashMap::new() };
    }
    let (mut graph, mut profile) = (graph.clone(), profile.clone());
    let mut factors = factors(&graph, &profile, decisions);
    if options.equalize == Equalize::Auto {
        keep_what_pays(&graph, &profile, &mut factors);
    }
    let mut sums = HashMap::new();
    for k in 0..graph.nodes.len() {
        let node = &graph.nodes[k];
        let of =
            |v: Option<&ValueId>| v.and_then(|v| factors[v.0 as usize].as_ref()).map(|f| &f.channels[..]);
        let (before, after) = (of(node.inputs.first()), of(Some(&node.output)));
        if before.is_none() && after.is_none() {
            continue;
        }
        let sum = after.and_then(|after| sum(&graph, &mut profile, node, after));
        for (position, tensor) in rescaled(&graph, node, before, sum.as_deref().or(after)) {
            let name = graph.value(graph.nodes[k].inputs[position]).name.clone();
            let id = graph.add_constant(format!("{name}/equalized"), tensor);
            graph.nodes[k].inputs[position] = id;
        }
        sums.extend(sum.map(|factors| (graph.nodes[k].output, factors)));
    }
    let mut multiples = HashMap::new();
    for (v, factors) in factors.into_iter().enumerate() {
        let (v, Some(Factors { channels: after, .. })) = (ValueId(v as u32), factors) else { continue };
        if let Some(range) = profile.ranges.get_mut(&graph.value(v).name) {
            *range = spread(*range, &after);
        }
        if let Some(means) = profile.means.get_mut(&graph.value(v).name) {
            means.iter_mut().zip(&after).for_each(|(mean, factor)| *mean *= factor);
        }
        multiples.insert(v, Multiples { before: sums.remove(&v), after });
    }
    Equalized { graph, profile, multiples }
}

/// The factors of the sum of a node that has a table for each channel; its range in `profile` becomes that of the multiples.
fn sum(graph: &Graph, profile: &mut Profile, node: &Node, after: &[f32]) -> Option<Vec<f32>> {
    let f = node.op.epilogue()?.activation.filter(|f| is_gated(*f))?;
    let name = &graph.value(node.output).name;
    let to = Grid::spanning(spread(*profile.ranges.get(name)?, after), 0.0);
    let name = format!("{name}/pre");
    let digits = profile.headroom.get(&name).map(String::as_bytes).unwrap_or_default();
    let sum = profile.ranges.get_mut(&name)?;
    let mut before = after.to_vec();
    let mut least = 0f32;
    for (c, factor) in before.iter_mut().enumerate() {
        // On the positive side the sum is at most twice the result, and a doubling is to spare. On the negative side it may go further.
        let extent = (sum.max - sum.min) / f32::from(1u16 << digits.get(c).map_or(0, |d| d - b'0'));
        let channel = Range { min: sum.min.max(-extent), max: sum.max };
        let fine = Grid { scale: to.scale / *factor, zero: to.zero };
        let end = told_apart(f, channel, fine).min;
        while *factor > 1.0 && end * *factor < -sum.max {
            *factor /= 2.0;
        }
        least = least.min(end * *factor);
    }
    *sum = Range { min: least, max: sum.max };
    Some(before)
}

/// The range of a value whose channels have been multiplied until they fill half its extent. If it has both signs, any channel may be the
/// one that does so on the shorter side.
fn spread(Range { min, max }: Range, factors: &[f32]) -> Range {
    let (half, largest) = ((max - min) / 2.0, factors.iter().fold(1f32, |m, f| m.max(*f)));
    let side = |end: f32| {
        if end < 0.0 { end.min((end * largest).max(-half)) } else { end.max((end * largest).min(half)) }
    };
    Range { min: side(min), max: side(max) }
}

/// The constants of a node whose operand or result has factors, by position.
fn rescaled(
    graph: &Graph,
    node: &Node,
    before: Option<&[f32]>,
    after: Option<&[f32]>,
) -> Vec<(usize, Tensor)> {
    let constant = |i: usize| node.inputs.get(i).and_then(|&v| graph.constant(v));
    // Element by element, times what `factor` says for its channel of the node's result.
    let scaled = |t: &Tensor, outputs: usize, factor: &dyn Fn(usize) -> f32| {
        let inner = t.data.len() / outputs;
        let data: Vec<f32> = t.data.iter().enumerate().map(|(i, x)| x * factor(i / inner)).collect();
        Tensor::new(t.shape.clone(), data)
    };
    let of = |f: Option<&[f32]>, channel: usize| f.map_or(1.0, |f| f[channel]);
    match &node.op {
        Op::Conv(c) => {
            let (Some(weight), Some(bias)) = (constant(1), constant(2)) else { return vec![] };
            let outputs = bias.data.len();
            // One input channel each, or no factors before.
            let source = |o: usize| of(before, o * c.groups / outputs);
            vec![
                (1, scaled(weight, outputs, &|o| of(after, o) / source(o))),
                (2, scaled(bias, outputs, &|o| of(after, o))),
            ]
        }
        Op::BatchNorm { .. } => {
            let (Some(gamma), Some(beta), Some(mean)) = (constant(1), constant(2), constant(3)) else {
                return vec![];
            };
            let n = gamma.data.len();
            vec![
                (1, scaled(gamma, n, &|c| of(after, c) / of(before, c))),
                (2, scaled(beta, n, &|c| of(after, c))),
                (3, scaled(mean, n, &|c| of(before, c))),
            ]
        }
        // What is left passes multiples through.
        _ => vec![],
    }
}

/// Takes factors away from values whose errors of rounding do not become less by them. Values that share factors also share the decision.
fn keep_what_pays(graph: &Graph, profile: &Profile, factors: &mut [Option<Factors>]) {
    // By class: errors without and with factors, as mean squares behind the nodes that take factors back, over the square of what these give.
    let mut errors: HashMap<usize, [f64; 2]> = HashMap::new();
    let extent = |r: Range| f64::from(r.max.max(0.0)) - f64::from(r.min.min(0.0));
    let range = |v: ValueId| profile.ranges.get(&graph.value(v).name);
    for node in &graph.nodes {
        let Some(Factors { class, channels }) = &factors[node.inputs[0].0 as usize] else { continue };
        let (Some(gains), Some(from), Some(to)) =
            (gains(graph, node), range(node.inputs[0]), range(node.output))
        else {
            continue;
        };
        let to = extent(*to).max(f64::from(f32::MIN_POSITIVE));
        let steps = [extent(*from), extent(spread(*from, channels))].map(|e| e / to);
        let errors = errors.entry(*class).or_default();
        for (gain, factor) in gains.iter().zip(channels) {
            errors[0] += gain * steps[0].powi(2);
            errors[1] += gain * (steps[1] / f64::from(*factor)).powi(2);
        }
    }
    let pays = |f: &Factors| errors.get(&f.class).is_some_and(|[without, with]| with < without);
    factors.iter_mut().for_each(|f| *f = f.take().filter(pays));
}

/// By how much a node that reads channels one by one multiplies the square of an error in each; of those that take factors back.
fn gains(graph: &Graph, node: &Node) -> Option<Vec<f64>> {
    let constant = |i: usize| node.inputs.get(i).and_then(|&v| graph.constant(v));
    let square = |x: f32| f64::from(x).powi(2);
    match &node.op {
        Op::Conv(_) if is_channelwise(graph, node) => {
            let (weight, channels) = (constant(1)?, graph.shape(node.inputs[0])[1]);
            let sum = |w: &[f32]| w.iter().map(|&w| square(w)).sum();
            Some(weight.data.chunks(weight.data.len() / channels).map(sum).collect())
        }
        Op::BatchNorm { epsilon } => {
            let (gamma, variance) = (constant(1)?, constant(4)?);
            let gain = |(&g, &v): (&f32, &f32)| square(g) / (f64::from(v) + f64::from(*epsilon));
            Some(gamma.data.iter().zip(variance.data.iter()).map(gain).collect())
        }
        _ => None,
    }
}

/// The factors of a value's channels.
#[derive(Clone)]
struct Factors {
    /// Values of the same class have the same.
    class: usize,
    channels: Vec<f32>,
}

/// The factors of every value that gets some.
fn factors(graph: &Graph, profile: &Profile, decisions: &Decisions) -> Vec<Option<Factors>> {
    let mut classes = Classes::new(graph);
    let mut fixed = vec![false; graph.values.len()];
    for &v in graph.inputs.iter().chain(&graph.outputs) {
        fixed[v.0 as usize] = true;
    }
    for (node, run) in graph.nodes.iter().zip(&decisions.run) {
        let mut role = role(graph, profile, node);
        match run {
            // Also a clamp that its producer takes over.
            Run::Integer | Run::Skip => {}
            Run::IntegerToFloat => role.fixed.push(node.output),
            Run::Float(_) | Run::Dynamic => {
                role.fixed = node.inputs.iter().copied().chain([node.output]).collect()
            }
        }
        role.fixed.iter().for_each(|v| fixed[v.0 as usize] = true);
        role.joined.iter().for_each(|&v| classes.join(v, node.output));
    }
    // Doublings of a class: what all its values have room for.
    let mut room: Vec<Option<Vec<u8>>> = vec![None; graph.values.len()];
    for (v, value) in graph.values.iter().enumerate() {
        let root = classes.root(ValueId(v as u32));
        let digits =
            profile.headroom.get(&value.name).map(|d| d.bytes().map(|b| b - b'0').collect::<Vec<_>>());
        // Without headroom, or with that of another shape: none.
        let digits = digits.filter(|d| value.shape.len() == 4 && d.len() == value.shape[1] && !fixed[v]);
        let digits = digits.unwrap_or_default();
        room[root] = Some(match room[root].take() {
            None => digits,
            Some(least) => least.iter().zip(&digits).map(|(a, b)| *a.min(b)).collect(),
        });
    }
    (0..graph.values.len() as u32)
        .map(|v| {
            let class = classes.root(ValueId(v));
            let spared = room[class].as_ref()?.iter().map(|e| e.saturating_sub(SPARE));
            let uneven = spared.clone().any(|e| e > 0);
            uneven.then(|| Factors { class, channels: spared.map(|e| f32::from(1u16 << e)).collect() })
        })
        .collect()
}

/// What a node asks of its operands and its result.
#[derive(Default)]
struct Role {
    /// Must stay as they are.
    fixed: Vec<ValueId>,
    /// Operands that must have the result's factors.
    joined: Vec<ValueId>,
}

fn role(graph: &Graph, profile: &Profile, node: &Node) -> Role {
    let mut role = Role::default();
    let shape = graph.shape(node.output);
    let x = node.inputs[0];
    let passes = match &node.op {
        Op::Conv(c) => {
            if !is_channelwise(graph, node) {
                role.fixed.push(x);
            }
            if c.epilogue.residual {
                role.joined.push(node.inputs[3]);
            }
            let free = match c.epilogue.activation {
                None => true,
                Some(f) if is_homogeneous(f) => true,
                Some(f) => {
                    is_gated(f) && !c.epilogue.residual && is_uneven(profile, &graph.value(node.output).name)
                }
            };
            if !free {
                role.fixed.push(node.output);
            }
            return role;
        }
        Op::BatchNorm { .. } => return role,
        Op::Unary(f) => is_homogeneous(*f),
        Op::Binary(Binary::Add | Binary::Sub) => node.inputs.iter().all(|&v| graph.shape(v) == shape),
        Op::Pool(_) | Op::GlobalPool(_) | Op::Resize(_) | Op::Identity | Op::Dropout => true,
        Op::Concat { axis } => *axis != 1,
        Op::Pad { pads, value } => *value == 0.0 && pads.get(1) == Some(&(0, 0)),
        Op::Slice(axes) => {
            axes.get(1).is_some_and(|a| (a.start, a.step, a.count) == (0, 1, graph.shape(x)[1]))
        }
        Op::ConvTranspose(_)
        | Op::Dense(_)
        | Op::PRelu
        | Op::Binary(Binary::Mul | Binary::Div)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Softmax { .. }
        | Op::Lrn { .. }
        | Op::Round(_) => false,
    };
    if passes {
        role.joined = node.inputs.clone();
        role.fixed = node.inputs.iter().copied().filter(|&v| graph.constant(v).is_some()).collect();
    } else {
        role.fixed = node.inputs.iter().copied().chain([node.output]).collect();
    }
    role
}

/// True if every output channel of a convolution reads one input channel.
fn is_channelwise(graph: &Graph, node: &Node) -> bool {
    matches!(&node.op, Op::Conv(c) if c.groups == graph.shape(node.inputs[0])[1])
}

/// f(a·x) = a·f(x) for a > 0. An upper bound breaks that, but no observed value is above it, and no grid reaches further.
fn is_homogeneous(f: Unary) -> bool {
    f.as_clamp().is_some_and(|(lo, hi)| lo == 0.0 && hi > 0.0)
}

/// f(x) = x·g(x) with ½ ≤ g ≤ 1 for x ≥ 0, and near 0 for x far below.
fn is_gated(f: Unary) -> bool {
    matches!(f, Unary::Silu | Unary::HardSwish | Unary::Mish | Unary::Gelu | Unary::GeluTanh)
}

/// True if at least half of the channels of a value have much headroom.
fn is_uneven(profile: &Profile, name: &str) -> bool {
    let Some(digits) = profile.headroom.get(name) else { return false };
    2 * digits.bytes().filter(|b| b - b'0' >= UNEVEN).count() >= digits.len()
}
