//! Scale and zero point of every value that is ever u8. Graph, profile and decisions in, [`Scales`] out.
//!
//! Values that moves copy into each other (reshapes, slices, maxima, concatenations, …) form a class and share one grid,
//! which spans what was observed of all of them, so that moves stay pure copies. A concatenation may spoil an operand that
//! others read as well and whose range is much narrower: that operand keeps its own grid and is rescaled on the way in.
//!
//! A sum in front of a table gets a grid of its own, which spans only what the table tells apart (see [`told_apart`]).

use super::decide::{Decisions, Run};
use super::elementwise::Channel;
use super::equalize::Multiples;
use super::options::Activations;
use crate::calib::{Profile, Range};
use crate::error::{Error, Problem, Result, Stage};
pub(super) use crate::graph::Grid;
use crate::graph::{Graph, Node, Op, Unary, ValueId};
use crate::qgraph::QType;
use qgraph_runtime::requant::MULTIPLIER_RANGE;
use std::collections::{HashMap, HashSet};

/// An operand of a concatenation that others read too keeps its own grid if its range is this much narrower.
const SPOILED: f64 = 8.0;

impl Grid {
    /// The finest grid that holds `min..=max` and 0 (exactly). A range without extent gets the scale 1.
    pub(super) fn spanning(range: Range, least: f64) -> Grid {
        let (min, max) = (f64::from(range.min).min(0.0), f64::from(range.max).max(0.0));
        // Neither the scale nor what is computed from a few of them may leave the normal numbers.
        let step = ((max - min) / 255.0).max(least).clamp(2f64.powi(-100), 2f64.powi(100));
        let scale = if max > min || least > 0.0 { step as f32 } else { 1.0 };
        let zero = (-min / f64::from(scale)).round_ties_even().clamp(0.0, 255.0) as u8;
        Grid { scale, zero }
    }

    /// The type of a value on this grid.
    pub(super) fn ty(self) -> QType {
        QType::U8 { scale: self.scale, zero_point: self.zero }
    }

    /// The scale in double precision.
    pub(super) fn step(self) -> f64 {
        f64::from(self.scale)
    }

    /// The zero point as a number.
    pub(super) fn offset(self) -> f64 {
        f64::from(self.zero)
    }

    /// A clamp in real numbers as a clamp on the grid.
    pub(super) fn clamp(self, lo: f32, hi: f32) -> (u8, u8) {
        (self.quantize(lo), self.quantize(hi))
    }
}

/// The grids of a graph.
pub(super) struct Scales {
    value: Vec<Option<Grid>>,
    /// Of sums that a table follows, by the node's output.
    pre: Vec<Option<Grid>>,
    multiples: HashMap<ValueId, Multiples>,
    rescaled: HashSet<(usize, usize)>,
}

impl Scales {
    /// For a graph without u8 values.
    pub(super) fn none(graph: &Graph) -> Self {
        let none = vec![None; graph.values.len()];
        Scales { value: none.clone(), pre: none, multiples: HashMap::new(), rescaled: HashSet::new() }
    }

    /// Grids that the model gives, by value, and operands of concatenations that have others.
    pub(super) fn given(value: Vec<Option<Grid>>, rescaled: HashSet<(usize, usize)>) -> Self {
        Scales { pre: vec![None; value.len()], value, multiples: HashMap::new(), rescaled }
    }

    /// Grid of a value.
    pub(super) fn of(&self, v: ValueId) -> std::result::Result<Grid, String> {
        self.value[v.0 as usize].ok_or_else(|| format!("value {} has no range; this is a bug", v.0))
    }

    /// Grid of a value before its fused activation.
    pub(super) fn before_activation(&self, v: ValueId) -> std::result::Result<Grid, String> {
        self.pre[v.0 as usize].ok_or_else(|| format!("value {} has no range before activation", v.0))
    }

    /// The factors of a value's channels, if it holds multiples.
    pub(super) fn multiples(&self, v: ValueId) -> Option<&Multiples> {
        self.multiples.get(&v)
    }

    /// True if operand `position` of concatenation `node` has a grid of its own.
    pub(super) fn is_rescaled(&self, node: usize, position: usize) -> bool {
        self.rescaled.contains(&(node, position))
    }

    /// Grids from what was observed. Names every value whose range is missing or not finite.
    pub(super) fn new(
        graph: &Graph,
        profile: &Profile,
        decisions: &Decisions,
        multiples: HashMap<ValueId, Multiples>,
        activations: Activations,
    ) -> Result<Self> {
        let mut observed = Observed { graph, profile, missing: vec![] };
        let mut sums = Vec::new();
        let mut needed = vec![false; graph.values.len()];
        for (k, node) in graph.nodes.iter().enumerate() {
            let integer = decisions.run[k] == Run::Integer;
            if !integer && decisions.run[k] != Run::IntegerToFloat {
                continue;
            }
            for v in operands(graph, node) {
                needed[v.0 as usize] = true;
            }
            if !integer {
                continue;
            }
            needed[decisions.output(graph, k).0 as usize] = true;
            if let Some(function) = node.op.epilogue().and_then(|e| e.activation)
                && function.as_clamp().is_none()
            {
                let name = format!("{}/pre", graph.value(node.output).name);
                let range = observed.require_named(&name);
                sums.extend(range.map(|range| Sum { node: k, function, range }));
            }
        }

        let mut classes = Classes::new(graph);
        let mut rescaled = HashSet::new();
        let integer = |k: &usize| decisions.run[*k] == Run::Integer;
        for k in (0..graph.nodes.len()).filter(integer) {
            if graph.nodes[k].op.copies() {
                classes.join(graph.nodes[k].inputs[0], graph.nodes[k].output);
            }
        }
        for k in (0..graph.nodes.len()).filter(integer) {
            let node = &graph.nodes[k];
            if !matches!(node.op, Op::Concat { .. }) {
                continue;
            }
            for (position, &v) in node.inputs.iter().enumerate() {
                let shared = decisions.readers[v.0 as usize] > 1 && graph.constant(v).is_none();
                let narrow = shared
                    && observed.width(v) * SPOILED < observed.width(node.output)
                    && !classes.same(v, node.output);
                if narrow {
                    rescaled.insert((k, position));
                } else {
                    classes.join(v, node.output);
                }
            }
        }

        // What a move gives has the range of what it takes: a profile need not know it.
        let mut moved = vec![false; graph.values.len()];
        for node in (0..graph.nodes.len()).filter(integer).map(|k| &graph.nodes[k]) {
            moved[node.output.0 as usize] = node.op.copies() || matches!(node.op, Op::Concat { .. });
        }
        let mut ranges: HashMap<usize, Range> = HashMap::new();
        for v in (0..graph.values.len() as u32).map(ValueId).filter(|v| needed[v.0 as usize]) {
            let known = observed.value(v);
            if let Some(r) = if moved[v.0 as usize] { known.ok() } else { observed.require(v) } {
                let class = ranges.entry(classes.root(v)).or_insert(r);
                *class = Range { min: class.min.min(r.min), max: class.max.max(r.max) };
            }
        }
        for node in (0..graph.nodes.len()).filter(integer).map(|k| &graph.nodes[k]) {
            if let Op::Pad { value, .. } = node.op
                && let Some(r) = ranges.get_mut(&classes.root(node.output))
            {
                *r = Range { min: r.min.min(value), max: r.max.max(value) };
            }
        }
        Error::all(Stage::Quantize, observed.missing)?;
        ranges.values_mut().for_each(|r| *r = centred(*r, activations));

        let none = vec![None; graph.values.len()];
        let mut scales = Scales { value: none.clone(), pre: none, multiples, rescaled };
        scales.settle(graph, decisions, &mut classes, &ranges, &sums);
        Ok(scales)
    }

    /// Gives every class its grid. A class that was observed so narrow that the multiplier into it leaves its range is widened,
    /// which may ask the same of classes behind it: hence the rounds. Then the sums in front of tables.
    fn settle(
        &mut self,
        graph: &Graph,
        decisions: &Decisions,
        classes: &mut Classes,
        ranges: &HashMap<usize, Range>,
        sums: &[Sum],
    ) {
        // With a table behind it, a sum goes to another grid than the node's output.
        let has_table: HashSet<usize> = sums.iter().map(|s| s.node).collect();
        let mut least: HashMap<usize, f64> = HashMap::new();
        for _ in 0..4 {
            for v in (0..graph.values.len() as u32).map(ValueId) {
                let root = classes.root(v);
                let bound = least.get(&root).copied().unwrap_or(0.0);
                self.value[v.0 as usize] = ranges.get(&root).map(|&r| Grid::spanning(r, bound));
            }
            let mut changed = false;
            for (k, node) in graph.nodes.iter().enumerate() {
                if decisions.run[k] != Run::Integer || has_table.contains(&k) {
                    continue;
                }
                let out = decisions.output(graph, k);
                let bound = self.least_step(graph, node);
                if self.value[out.0 as usize].is_some_and(|to| to.step() < bound) {
                    least.insert(classes.root(out), bound);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        for sum in sums {
            let node = &graph.nodes[sum.node];
            let out = node.output.0 as usize;
            let Some(to) = self.value[out] else { continue };
            let range = match self.multiples(node.output).is_some_and(|m| m.before.is_some()) {
                true => sum.range,
                false => told_apart(sum.function, sum.range, to),
            };
            self.pre[out] = Some(Grid::spanning(range, self.least_step(graph, node)));
        }
    }

    /// The smallest scale of a node's result for which its multiplier stays in range.
    fn least_step(&self, graph: &Graph, node: &Node) -> f64 {
        let step = |i: usize| {
            let grid = node.inputs.get(i).and_then(|v| self.value[v.0 as usize]);
            grid.map_or(0.0, Grid::step)
        };
        let sum = match &node.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) => {
                let weight = node.inputs.get(1).and_then(|&w| graph.constant(w));
                let largest = weight.map_or(0.0, |w| w.data.iter().fold(0f32, |m, x| m.max(x.abs())));
                let product = step(0) * f64::from(largest) / 127.0;
                if node.op.epilogue().is_some_and(|e| e.residual) { product.max(step(3)) } else { product }
            }
            Op::Binary(crate::graph::Binary::Mul) => step(0) * step(1),
            Op::Binary(_) => step(0).max(step(1)),
            Op::Pool(_) | Op::GlobalPool(_) => step(0),
            Op::BatchNorm { .. }
            | Op::Unary(_)
            | Op::PRelu
            | Op::Concat { .. }
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Pad { .. }
            | Op::Resize(_)
            | Op::Slice(_)
            | Op::Softmax { .. }
            | Op::Lrn { .. }
            | Op::Identity
            | Op::Dropout
            | Op::Round(_) => 0.0,
        };
        sum / MULTIPLIER_RANGE.1 * (1.0 + 1e-6)
    }
}

/// A sum that an activation in form of a table follows.
struct Sum {
    /// Index of the node.
    node: usize,
    function: Unary,
    /// What was observed of the sum.
    range: Range,
}

/// The part of `range` in which the grid `to` tells values of `f` apart. Beyond it, on either side, what the grid holds of `f` stays within
/// half a step: a sum may saturate there and lose no more than rounding does anyway, while its own steps become finer. Silu, for one, gives almost 0 from −6
/// down, but its sums may reach to −80.
pub(super) fn told_apart(f: Unary, range: Range, to: Grid) -> Range {
    let half = to.scale / 2.0;
    // From the far end towards 0 by equal factors: all these functions bend near 0, few of them further out.
    let end = |far: f32| {
        let (mut least, mut largest) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut end = far;
        for k in 0..1024 {
            let x = far * (-(k as f32) / 48.0).exp2();
            let y = f.eval(x).clamp(to.dequantize(0), to.dequantize(255));
            (least, largest) = (least.min(y), largest.max(y));
            // NaN is never within.
            if !(largest - y <= half && y - least <= half) {
                break;
            }
            end = x;
        }
        end
    };
    Range { min: end(range.min.min(0.0)), max: end(range.max.max(0.0)) }
}

/// A range around `range` (or the part of it that is not negative) whose grid has its zero where `activations` wants it.
fn centred(range: Range, activations: Activations) -> Range {
    let Range { min, max } = range;
    match activations {
        Activations::Affine => range,
        Activations::Auto if min >= 0.0 => range,
        // 128 steps below 0, 127 above.
        Activations::Auto | Activations::Int8 => {
            let most = f64::from(max.max(-min));
            Range { min: (-most / 127.0 * 128.0) as f32, max: most as f32 }
        }
        Activations::Uint8 => Range { min: 0.0, max: max.max(0.0) },
    }
}

/// The values that a node takes as activations: what must be u8 if it runs in integers.
pub(super) fn operands(graph: &Graph, node: &Node) -> Vec<ValueId> {
    let only = |positions: &[usize]| positions.iter().filter_map(|&i| node.inputs.get(i).copied()).collect();
    match &node.op {
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) => {
            if node.op.epilogue().is_some_and(|e| e.residual) { only(&[0, 3]) } else { only(&[0]) }
        }
        Op::BatchNorm { .. } | Op::PRelu => only(&[0]),
        Op::Binary(_) => Channel::of(graph, node).map_or(node.inputs.clone(), |c| vec![c.x]),
        Op::Unary(_)
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
        | Op::Round(_) => node.inputs.clone(),
    }
}

/// Looks up ranges and collects what is missing, each once.
struct Observed<'a> {
    graph: &'a Graph,
    profile: &'a Profile,
    missing: Vec<Problem>,
}

impl Observed<'_> {
    /// The range of a value, or what is wrong with it.
    fn value(&self, v: ValueId) -> std::result::Result<Range, String> {
        match self.graph.constant(v) {
            Some(t) => {
                let fold = |f: fn(f32, f32) -> f32| t.data.iter().copied().fold(0.0, f);
                Ok(Range { min: fold(f32::min), max: fold(f32::max) })
            }
            None => self.named(&self.graph.value(v).name),
        }
    }

    fn named(&self, name: &str) -> std::result::Result<Range, String> {
        match self.profile.ranges.get(name) {
            None => Err("the profile has no range for this value; calibrate this graph again".into()),
            Some(r) if !(r.min.is_finite() && r.max.is_finite() && r.min <= r.max) => Err(format!(
                "the profile's range {}..{} is not finite and ordered; check the calibration samples",
                r.min, r.max
            )),
            Some(&r) => Ok(r),
        }
    }

    /// As [`Observed::value`]; a problem is noted.
    fn require(&mut self, v: ValueId) -> Option<Range> {
        let found = self.value(v);
        self.note(&self.graph.value(v).name.clone(), found)
    }

    /// As [`Observed::require`], for the value of this name.
    fn require_named(&mut self, name: &str) -> Option<Range> {
        let found = self.named(name);
        self.note(name, found)
    }

    fn note(&mut self, name: &str, found: std::result::Result<Range, String>) -> Option<Range> {
        found.map_err(|message| self.missing.push(Problem { subject: name.to_owned(), message })).ok()
    }

    /// Extent of a value's range with 0; 0 if it is not known.
    fn width(&self, v: ValueId) -> f64 {
        self.value(v).map_or(0.0, |r| f64::from(r.max.max(0.0)) - f64::from(r.min.min(0.0)))
    }
}

/// Disjoint sets of values.
pub(super) struct Classes(Vec<usize>);

impl Classes {
    /// Every value by itself.
    pub(super) fn new(graph: &Graph) -> Self {
        Classes((0..graph.values.len()).collect())
    }

    /// The value that stands for the set of `v`.
    pub(super) fn root(&mut self, v: ValueId) -> usize {
        let mut k = v.0 as usize;
        while self.0[k] != k {
            self.0[k] = self.0[self.0[k]];
            k = self.0[k];
        }
        k
    }

    fn same(&mut self, a: ValueId, b: ValueId) -> bool {
        self.root(a) == self.root(b)
    }

    /// Makes one set of two.
    pub(super) fn join(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b)] = a.min(b);
    }
}
