//! What is kept of the values that are seen: extremes of every value, extremes and moments of channels, and a histogram where the mode wants one.

use super::histogram::Histogram;
use super::{Channels, Collector, Mode, Range, entropy, failure, squares, tails};
use crate::error::Result;
use crate::graph::{Graph, Op, Tensor, ValueId};
use std::collections::{BTreeMap, HashMap};

/// Moments are sums of whole multiples of 2 to this: such sums do not depend on their order.
const UNIT: i32 = -64;

/// The suffix of what stands before an activation.
const PRE: &str = "/pre";

/// The values of a graph, as they are seen.
pub(super) struct Observer {
    layouts: HashMap<String, Layout>,
    histograms: bool,
    seen: BTreeMap<String, Seen>,
}

/// How a value is seen.
#[derive(Clone)]
struct Layout {
    shape: Vec<usize>,
    /// The operator that gives it.
    op: String,
    /// Number of channels, and of elements that follow each other in one. None: (0, 1).
    channels: (usize, usize),
    /// Quantization asks for its channels: see [`super::Profile::channels`].
    recorded: bool,
}

/// What was seen of one value.
struct Seen {
    all: Range,
    channels: Vec<Channel>,
    /// Elements of each channel.
    count: u64,
    histogram: Option<Histogram>,
}

/// What was seen of one channel.
#[derive(Clone, Copy)]
struct Channel {
    range: Range,
    /// In multiples of 2^[`UNIT`].
    sum: i128,
    /// Of the squares, in the same.
    squares: i128,
}

impl Observer {
    /// For the values of a graph.
    pub(super) fn new(graph: &Graph, mode: &Mode<'_>) -> Self {
        let mut layouts = HashMap::new();
        for (k, v) in graph.values.iter().enumerate().filter(|(_, v)| v.data.is_none()) {
            let id = ValueId(k as u32);
            let readers = |layer: fn(&Op) -> bool| {
                graph.nodes.iter().any(|n| layer(&n.op) && n.inputs.first() == Some(&id))
            };
            let dense = readers(|op| matches!(op, Op::Dense(_)));
            let image = matches!(v.shape[..], [_, c, _, _] if c > 1);
            let channels = match v.shape[..] {
                [_, c, h, w] => (c, h * w),
                // A dense layer takes the last axis.
                [.., last] if dense => (last, 1),
                _ => (0, 1),
            };
            let recorded = image || dense || readers(|op| matches!(op, Op::Conv(_) | Op::ConvTranspose(_)));
            let op = graph.producer(id).map_or("input".into(), |n| graph.nodes[n].op.name());
            layouts.insert(v.name.clone(), Layout { shape: v.shape.clone(), op, channels, recorded });
        }
        let histograms = matches!(mode, Mode::Entropy | Mode::Percentile(_) | Mode::Mse);
        Observer { layouts, histograms, seen: BTreeMap::new() }
    }

    /// What stands before an activation has the shape of the value behind it.
    fn layout(&self, name: &str) -> Option<&Layout> {
        self.layouts.get(name).or_else(|| self.layouts.get(name.strip_suffix(PRE)?))
    }

    /// All elements of the value `name` for a sample, row-major; finite, at least one.
    pub(super) fn see(&mut self, name: &str, data: &[f32]) {
        if !self.seen.contains_key(name) {
            let channels = self.layout(name).map_or(0, |l| l.channels.0);
            // Quantization cuts sums before activations itself.
            let histogram = self.histograms && !name.ends_with(PRE);
            let seen = Seen {
                all: Range::EMPTY,
                channels: vec![Channel { range: Range::EMPTY, sum: 0, squares: 0 }; channels],
                count: 0,
                histogram: histogram.then(Histogram::new),
            };
            self.seen.insert(name.to_string(), seen);
        }
        let length = self.layout(name).map_or(1, |l| l.channels.1.max(1));
        let Some(seen) = self.seen.get_mut(name) else { return };
        let mut all = Range::EMPTY;
        if seen.channels.is_empty() {
            widen(&mut all, data);
        }
        let count = seen.channels.len();
        for (k, run) in data.chunks(length).enumerate().filter(|_| count > 0) {
            let channel = &mut seen.channels[k % count];
            let mut range = Range::EMPTY;
            let moments = widen(&mut range, run);
            // What is less than the unit is lost, what is beyond 2^63 saturates: no activation is either.
            let [sum, squares] = moments.map(|m| (m * 2f64.powi(-UNIT)) as i128);
            channel.sum = channel.sum.saturating_add(sum);
            channel.squares = channel.squares.saturating_add(squares);
            channel.range = union(channel.range, range);
            all = union(all, range);
        }
        seen.count += data.len().checked_div(count).unwrap_or(0) as u64;
        seen.all = union(seen.all, all);
        if let Some(h) = &mut seen.histogram {
            h.add(data, all.max.max(-all.min));
        }
    }

    /// Shows a sample's value to a collector that wants it.
    pub(super) fn show(&self, collector: &mut dyn Collector, name: &str, data: &[f32]) {
        if !collector.include(name) {
            return;
        }
        let (shape, op) = match self.layout(name) {
            Some(l) => (l.shape.clone(), &l.op[..]),
            None => (vec![data.len()], ""),
        };
        collector.collect(name, op, &Tensor::new(shape, data));
    }

    /// The ranges of a mode, by value name.
    ///
    /// # Errors
    /// A collector's range is of no value, or not finite and in order.
    pub(super) fn ranges(&self, mode: Mode<'_>) -> Result<BTreeMap<String, Range>> {
        let choose = |seen: &Seen| match (&seen.histogram, &mode) {
            (Some(h), Mode::Entropy) => entropy::range(h, seen.all),
            (Some(h), Mode::Percentile(p)) => tails::range(h, seen.all, *p),
            (Some(h), Mode::Mse) => squares::range(h, seen.all),
            _ => seen.all,
        };
        let mut ranges: BTreeMap<String, Range> =
            self.seen.iter().map(|(name, seen)| (name.clone(), choose(seen))).collect();
        if let Mode::Custom(collector) = mode {
            for (name, range) in collector.finish() {
                let Some(known) = ranges.get_mut(&name) else {
                    let message = "the collector gives a range for it, but calibration saw no such value";
                    return Err(failure(&name, message));
                };
                *known = range;
            }
        }
        Ok(ranges)
    }

    /// The values that have histograms: name, observed range, histogram.
    pub(super) fn histograms(&self) -> impl Iterator<Item = (&str, Range, &Histogram)> {
        self.seen.iter().filter_map(|(name, seen)| Some((&name[..], seen.all, seen.histogram.as_ref()?)))
    }

    /// See [`super::Profile::channels`].
    pub(super) fn channels(&self) -> BTreeMap<String, Channels> {
        let recorded = |name: &str, seen: &Seen| {
            !seen.channels.is_empty() && self.layout(name).is_some_and(|l| l.recorded)
        };
        let of = |seen: &Seen| {
            let each = |f: &dyn Fn(&Channel) -> f32| seen.channels.iter().map(f).collect();
            let mean = |sum: i128| sum as f64 * 2f64.powi(UNIT) / seen.count as f64;
            Channels {
                min: each(&|c| c.range.min),
                max: each(&|c| c.range.max),
                mean: each(&|c| mean(c.sum) as f32),
                rms: each(&|c| mean(c.squares).sqrt() as f32),
            }
        };
        let recorded = self.seen.iter().filter(|(name, seen)| recorded(name, seen));
        recorded.map(|(name, seen)| (name.clone(), of(seen))).collect()
    }
}

/// Elements that are looked at side by side.
const LANES: usize = 16;

/// Widens a range to some elements; gives their sum and that of their squares.
fn widen(range: &mut Range, data: &[f32]) -> [f64; 2] {
    // Lanes, for elements that need not wait for each other.
    let (mut min, mut max) = ([range.min; LANES], [range.max; LANES]);
    let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
    for part in data.chunks(LANES) {
        for (k, &x) in part.iter().enumerate() {
            min[k] = if x < min[k] { x } else { min[k] };
            max[k] = if x > max[k] { x } else { max[k] };
            let x = f64::from(x);
            sum[k] += x;
            squares[k] += x * x;
        }
    }
    let (min, max) =
        (min.into_iter().fold(f32::INFINITY, f32::min), max.into_iter().fold(f32::NEG_INFINITY, f32::max));
    // −0 would make the result depend on which zero came first.
    *range = Range { min: min + 0.0, max: max + 0.0 };
    [sum, squares].map(|lanes| lanes.iter().sum())
}

fn union(a: Range, b: Range) -> Range {
    Range { min: a.min.min(b.min), max: a.max.max(b.max) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Conv, Graph};

    fn after(samples: &[[f32; 6]]) -> Observer {
        let mut graph = Graph::new("g");
        let x = graph.add_input("x", [1, 3, 1, 2]);
        let w = graph.add_constant("w", Tensor::new([1, 3, 1, 1], [1.0; 3]));
        let b = graph.add_constant("b", Tensor::new([1], [0.0]));
        let conv = Conv {
            kernel: [1, 1],
            strides: [1, 1],
            dilations: [1, 1],
            pads: [0; 4],
            groups: 1,
            epilogue: Default::default(),
        };
        graph.add_node("conv", Op::Conv(conv), [x, w, b]).unwrap();
        let mut observer = Observer::new(&graph, &Mode::Naive);
        samples.iter().for_each(|s| observer.see("x", s));
        observer
    }

    #[test]
    fn channels_are_seen_apart() {
        let a = [-1.0, 8.0, 0.5, 0.75, -0.25, 0.0];
        let b = [3.0, 0.0, 0.0, 1.5, -1.5, 0.5];
        let channels = after(&[a, b]).channels();
        assert_eq!(channels["x"].min, [-1.0, 0.0, -1.5]);
        assert_eq!(channels["x"].max, [8.0, 1.5, 0.5]);
        assert_eq!(channels["x"].mean, [2.5, 0.6875, -0.3125]);
        let squares = [74.0f32, 3.0625, 2.5625].map(|sum| (sum / 4.0).sqrt());
        assert_eq!(channels["x"].rms, squares);
        assert_eq!(channels, after(&[b, a]).channels());
    }

    #[test]
    fn moments_do_not_depend_on_order() {
        let samples = [[1e7, 1.0, 0.1, 0.2, -0.3, 1e-9], [-1e7, 2.0, 0.3, 0.4, 0.5, 1e-9], [0.1; 6]];
        let seen = after(&samples).channels()["x"].clone();
        let [a, b, c] = samples;
        for order in [[b, a, c], [c, b, a], [a, c, b]] {
            assert_eq!(after(&order).channels()["x"], seen);
        }
        let near = |found: &[f32], expected: [f32; 3]| {
            let close = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6 * e.max(1.0));
            assert!(close, "{found:?}, not {expected:?}");
        };
        near(&seen.mean, [3.2 / 6.0, 1.2 / 6.0, 0.4 / 6.0]);
        near(&seen.rms, [(2e14f32 / 6.0).sqrt(), (0.32f32 / 6.0).sqrt(), (0.36f32 / 6.0).sqrt()]);
    }
}
