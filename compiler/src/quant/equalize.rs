//! Makes channels of unequal range equal before quantization, where that costs nothing. Fused graph and profile in and out.
//!
//! A value has one grid for all its channels: one that fills an eighth of the value's range keeps five of the eight bits. So channels are
//! multiplied by factors that make them fill the range ([`Profile::channels`]), by what computes them, and divided again by what reads them:
//! all of these have weights for each channel. A layer that reads channels one by one (a depthwise convolution, a batch normalization) only gains.
//! One that adds channels up shares a scale between its weights for them, which become less equal: there part of the way may be the best.
//!
//! Holds: within the observed ranges the new graph computes what the old one did, but for the last bits of its weights; beyond them it saturates, as
//! grids do. Values that anything else reads or computes are left as they are. Those that now hold multiples say so ([`Multiples`]), for
//! reports show what they stand for.

use super::decide::{Decisions, Run};
use super::options::{Equalize, Options};
use super::ranges::{Classes, Grid, told_apart};
use crate::calib::{Profile, Range};
use crate::graph::{Binary, Graph, Node, Op, Tensor, Unary, ValueId};
use std::collections::HashMap;

/// The largest factor: what was observed of a channel that needs more is hardly all that it may hold.
const LARGEST: f64 = 64.0;

/// Few samples do not show all that a channel may hold: with s of them, it is taken to reach 1 + `UNSEEN`/s times as far as was observed, but at
/// most twice. By measurement: of 100 pictures no slack at all would be best for MobileNetV2 (by 0.5 dB), of 24 half as much again for DeepLabV3 (by 2.5 dB).
const UNSEEN: f32 = 16.0;

/// Parts of the way to equal channels that are tried, as exponents of the factors.
const PARTS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];

/// Layers whose activation is a table get one for each channel if at least half of the channels fill no more than this part of the range:
/// such tables cost some time, and channels that are nearly equal gain little.
const UNEVEN: f64 = 1.0 / 8.0;

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
    let factors = factors(&graph, &profile, decisions, options.equalize);
    let mut sums = HashMap::new();
    for k in 0..graph.nodes.len() {
        let node = &graph.nodes[k];
        let of = |v: Option<&ValueId>| v.and_then(|v| factors[v.0 as usize].as_deref());
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
    for (v, after) in factors.into_iter().enumerate() {
        let (v, Some(after)) = (ValueId(v as u32), after) else { continue };
        let name = &graph.value(v).name;
        let spread = Spread::of(&profile, name, after.len()).map(|s| s.times(&after));
        if let (Some(range), Some(spread)) = (profile.ranges.get_mut(name), spread) {
            *range = spread;
        }
        if let Some(c) = profile.channels.get_mut(name) {
            for list in [&mut c.min, &mut c.max, &mut c.mean, &mut c.rms] {
                list.iter_mut().zip(&after).for_each(|(x, factor)| *x *= factor);
            }
        }
        multiples.insert(v, Multiples { before: sums.remove(&v), after });
    }
    Equalized { graph, profile, multiples }
}

/// The factors of the sum of a node that has a table for each channel; its range in `profile` becomes that of the multiples.
fn sum(graph: &Graph, profile: &mut Profile, node: &Node, after: &[f32]) -> Option<Vec<f32>> {
    let f = node.op.epilogue()?.activation.filter(|f| is_gated(*f))?;
    let name = &graph.value(node.output).name;
    let to = Grid::spanning(Spread::of(profile, name, after.len())?.times(after), 0.0);
    let name = format!("{name}/pre");
    let known = Spread::of(profile, &name, after.len());
    let sum = profile.ranges.get_mut(&name)?;
    let channels = known.map_or_else(|| vec![*sum; after.len()], |spread| spread.channels);
    let mut before = after.to_vec();
    let mut all = Range { min: 0.0, max: 0.0 };
    for (factor, channel) in before.iter_mut().zip(channels) {
        let fine = Grid { scale: to.scale / *factor, zero: to.zero };
        let needed = told_apart(f, channel, fine);
        // The sum goes further than the result: up to twice as far above 0, and any way below.
        while *factor > 1.0 && needed.max.max(-needed.min) * *factor > sum.max {
            *factor /= 2.0;
        }
        all = Range { min: all.min.min(needed.min * *factor), max: all.max.max(needed.max * *factor) };
    }
    *sum = all;
    Some(before)
}

/// The range of a value and what its channels may hold of it ([`UNSEEN`]), all with 0.
struct Spread {
    range: Range,
    channels: Vec<Range>,
}

impl Spread {
    /// Of a value with so many channels, if calibration knows them.
    fn of(profile: &Profile, name: &str, count: usize) -> Option<Spread> {
        let slack = (1.0 + UNSEEN / profile.samples as f32).min(2.0);
        Spread::with(profile, name, count, slack)
    }

    /// The same, but just what was observed of the channels.
    fn observed(profile: &Profile, name: &str, count: usize) -> Option<Spread> {
        Spread::with(profile, name, count, 1.0)
    }

    fn with(profile: &Profile, name: &str, count: usize, slack: f32) -> Option<Spread> {
        let with_zero = |r: Range| Range { min: r.min.min(0.0), max: r.max.max(0.0) };
        let range = with_zero(*profile.ranges.get(name)?);
        let seen = profile.channels.get(name).filter(|c| c.len() == count)?;
        let channel = |(&min, &max): (&f32, &f32)| {
            with_zero(Range { min: min * slack, max: max * slack }).within(range)
        };
        Some(Spread { range, channels: seen.min.iter().zip(&seen.max).map(channel).collect() })
    }

    /// The range of the value when its channels have been multiplied.
    fn times(&self, factors: &[f32]) -> Range {
        let reach = |end: fn(&Range) -> f32, factor: &dyn Fn(usize) -> f32| {
            self.channels.iter().enumerate().fold(0f32, |m, (c, r)| m.max(end(r).abs() * factor(c)))
        };
        // Whoever chose a range beyond what was observed keeps it beyond.
        let side = |end: fn(&Range) -> f32| {
            let (seen, now) = (reach(end, &|_| 1.0), reach(end, &|c| factors[c]));
            if seen > 0.0 { end(&self.range) * (now / seen) } else { end(&self.range) }
        };
        Range { min: side(|r| r.min), max: side(|r| r.max) }
    }

    /// What makes the channels fill the range on either side, or an extent as large as the range's: by the mode of filling, for each channel.
    fn room(&self) -> [Vec<f64>; 2] {
        let bounded = |room: f64| if room.is_nan() { LARGEST } else { room.clamp(1.0, LARGEST) };
        let side = |end: fn(&Range) -> f32, c: &Range| f64::from(end(&self.range)) / f64::from(end(c));
        // 0 of 0 is NaN, and leaves the other side to decide.
        let sides = |c: &Range| bounded(side(|r| r.min, c).min(side(|r| r.max, c)));
        let extents = |c: &Range| bounded(extent(self.range) / extent(*c));
        [self.channels.iter().map(sides).collect(), self.channels.iter().map(extents).collect()]
    }
}

fn extent(r: Range) -> f64 {
    f64::from(r.max) - f64::from(r.min)
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
        let inner = (t.data.len() / outputs).max(1);
        let data: Vec<f32> = t.data.iter().enumerate().map(|(i, x)| x * factor(i / inner)).collect();
        Tensor::new(t.shape.clone(), data)
    };
    let of = |f: Option<&[f32]>, channel: usize| f.map_or(1.0, |f| f[channel]);
    match &node.op {
        Op::Conv(conv) => {
            let (Some(weight), Some(bias)) = (constant(1), constant(2)) else { return vec![] };
            let (outputs, inputs) = (bias.data.len(), weight.shape[1]);
            let factor = |kernel: usize| {
                let (o, c) = kernel_channels(kernel, conv.groups, outputs, inputs);
                of(after, o) / of(before, c)
            };
            vec![
                (1, scaled(weight, outputs * inputs, &factor)),
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

/// The output and input channel of a kernel: those of an output channel read the `inputs` channels of its group in turn.
fn kernel_channels(kernel: usize, groups: usize, outputs: usize, inputs: usize) -> (usize, usize) {
    let o = kernel / inputs;
    (o, o * groups / outputs * inputs + kernel % inputs)
}

/// The factors of every value that gets some.
fn factors(
    graph: &Graph,
    profile: &Profile,
    decisions: &Decisions,
    equalize: Equalize,
) -> Vec<Option<Vec<f32>>> {
    let mut classes = Classes::new(graph);
    let (mut fixed, mut inner) = (vec![false; graph.values.len()], vec![false; graph.values.len()]);
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
    // What a merged clamp reads is never rounded.
    for (node, _) in graph.nodes.iter().zip(&decisions.clamp).filter(|(_, clamp)| clamp.is_some()) {
        inner[node.output.0 as usize] = true;
    }
    // Values of a class have the same factors.
    let mut members: HashMap<usize, Option<Vec<Member>>> = HashMap::new();
    for v in (0..graph.values.len() as u32).map(ValueId) {
        let class = members.entry(classes.root(v)).or_insert_with(|| Some(vec![]));
        if inner[v.0 as usize] && !fixed[v.0 as usize] {
            continue;
        }
        let member = (!fixed[v.0 as usize]).then(|| Member::new(graph, profile, v)).flatten();
        match (class.as_mut(), member) {
            (Some(members), Some(member)) => members.push(member),
            _ => *class = None,
        }
    }
    let chosen: HashMap<usize, Option<Vec<f32>>> = members
        .into_iter()
        .map(|(root, members)| (root, members.and_then(|m| choose(&m, equalize))))
        .collect();
    (0..graph.values.len() as u32).map(|v| chosen[&classes.root(ValueId(v))].clone()).collect()
}

/// A value whose channels may get factors.
struct Member {
    spread: Spread,
    /// Roots of the channels' mean squares.
    rms: Vec<f32>,
    readers: Vec<Reader>,
}

impl Member {
    fn new(graph: &Graph, profile: &Profile, v: ValueId) -> Option<Member> {
        let value = graph.value(v);
        let &[_, channels, _, _] = &value.shape[..] else { return None };
        let spread = Spread::of(profile, &value.name, channels)?;
        let rms = profile.channels.get(&value.name)?.rms.clone();
        let reads = |n: &&Node| n.inputs.first() == Some(&v);
        let readers =
            graph.nodes.iter().filter(reads).filter_map(|n| Reader::of(graph, profile, n)).collect();
        Some(Member { spread, rms, readers })
    }
}

/// The factors of a class: those with the least error of rounding, values and weights together; or all that there is room for.
fn choose(members: &[Member], equalize: Equalize) -> Option<Vec<f32>> {
    // What all have room for, in either mode.
    let rooms = members.iter().map(|m| m.spread.room()).reduce(|mut all, more| {
        for (room, more) in all.iter_mut().zip(more) {
            room.iter_mut().zip(more).for_each(|(room, more)| *room = room.min(more));
        }
        all
    })?;
    let part = |room: &[f64], part: f64| room.iter().map(|r| r.powf(part) as f32).collect::<Vec<f32>>();
    let error = |factors: &[f32]| -> f64 {
        let of = |m: &Member| -> f64 {
            let extent = extent(m.spread.times(factors));
            m.readers.iter().map(|r| r.error(extent, factors, &m.rms)).sum()
        };
        members.iter().map(of).sum()
    };
    let factors = match equalize {
        Equalize::Off => return None,
        Equalize::On => part(&rooms[1], 1.0),
        Equalize::Auto => {
            let none = vec![1.0; rooms[0].len()];
            let tried = rooms.iter().flat_map(|room| PARTS.map(|p| part(room, p)));
            let mut best = (error(&none), none);
            for factors in tried {
                let error = error(&factors);
                if error < best.0 {
                    best = (error, factors);
                }
            }
            best.1
        }
    };
    factors.iter().any(|f| *f != 1.0).then_some(factors)
}

/// Of a node that takes factors back: what errors of its operand, and of its weights, do to its results.
struct Reader {
    /// By how much it multiplies the square of an error in each channel of its operand.
    gains: Vec<f64>,
    /// By output channel, if its weights for several channels share a scale: each channel and its largest weight.
    kernels: Vec<Vec<(usize, f64)>>,
    /// Weights for one channel.
    taps: f64,
    /// Square of the extent of its results.
    scale: f64,
}

impl Reader {
    fn of(graph: &Graph, profile: &Profile, node: &Node) -> Option<Reader> {
        let constant = |i: usize| node.inputs.get(i).and_then(|&v| graph.constant(v));
        let square = |x: f32| f64::from(x).powi(2);
        let range = profile.ranges.get(&graph.value(node.output).name)?;
        let scale = extent(*range).max(f64::from(f32::MIN_POSITIVE)).powi(2);
        match &node.op {
            Op::Conv(conv) => {
                let (weight, channels) = (constant(1)?, graph.shape(node.inputs[0])[1]);
                let (outputs, inputs) = (weight.shape[0], weight.shape[1]);
                let taps = (weight.data.len() / (outputs * inputs).max(1)).max(1);
                let (mut gains, mut kernels) = (vec![0.0; channels], vec![vec![]; outputs]);
                for (k, kernel) in weight.data.chunks(taps).enumerate() {
                    let (o, c) = kernel_channels(k, conv.groups, outputs, inputs);
                    gains[c] += kernel.iter().map(|&w| square(w)).sum::<f64>();
                    if inputs > 1 {
                        kernels[o].push((c, f64::from(kernel.iter().fold(0f32, |m, w| m.max(w.abs())))));
                    }
                }
                Some(Reader { gains, kernels, taps: taps as f64, scale })
            }
            Op::BatchNorm { epsilon } => {
                let (gamma, variance) = (constant(1)?, constant(4)?);
                let gain = |(&g, &v): (&f32, &f32)| square(g) / (f64::from(v) + f64::from(*epsilon));
                let gains = gamma.data.iter().zip(variance.data.iter()).map(gain).collect();
                Some(Reader { gains, kernels: vec![], taps: 1.0, scale })
            }
            _ => None,
        }
    }

    /// The mean square of its results' errors, but for a constant, if its operand, whose channels have these roots of mean squares, is multiplied
    /// by these factors and then has a range of this extent.
    fn error(&self, extent: f64, factors: &[f32], rms: &[f32]) -> f64 {
        let factor = |c: usize| f64::from(factors[c]);
        let step = extent / 255.0;
        let rounding: f64 =
            self.gains.iter().enumerate().map(|(c, gain)| gain * (step / factor(c)).powi(2)).sum();
        let weights = self.kernels.iter().map(|kernels| {
            let largest = kernels.iter().fold(0f64, |m, &(c, w)| m.max(w / factor(c)));
            let read: f64 = kernels.iter().map(|&(c, _)| (f64::from(rms[c]) * factor(c)).powi(2)).sum();
            (largest / 127.0).powi(2) * read * self.taps
        });
        (rounding + weights.sum::<f64>()) / self.scale
    }
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
            // Tables for each channel cost time, which rounding by channels that are added up is not worth.
            if !is_channelwise(graph, node) && is_behind_gate(graph, x) {
                role.fixed.push(x);
            }
            if c.epilogue.residual {
                role.joined.push(node.inputs[3]);
            }
            let free = match c.epilogue.activation {
                None => true,
                Some(f) if is_homogeneous(f) => true,
                Some(f) => is_gated(f) && !c.epilogue.residual && is_uneven(graph, profile, node.output),
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

/// True if a layer with a gated activation gives the value.
fn is_behind_gate(graph: &Graph, v: ValueId) -> bool {
    let epilogue = graph.producer(v).and_then(|k| graph.nodes[k].op.epilogue());
    epilogue.and_then(|e| e.activation).is_some_and(is_gated)
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

/// True if at least half of the channels of a value fill little of its range.
fn is_uneven(graph: &Graph, profile: &Profile, v: ValueId) -> bool {
    let value = graph.value(v);
    let count = value.shape.get(1).copied().unwrap_or(0);
    let Some(spread) = Spread::observed(profile, &value.name, count) else { return false };
    let little = |c: &&Range| extent(**c) <= UNEVEN * extent(spread.range);
    2 * spread.channels.iter().filter(little).count() >= count
}
