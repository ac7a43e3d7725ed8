//! Cutting the calls of one step.

use crate::plan::area::{Deed, Reach};
use crate::plan::cost;
use crate::plan::{Call, Space};

/// A coarser cut is taken if its slowest thread is slower by at most one part in so many.
const CLOSE: f64 = 64.0;

/// Ways to share the calls of a step among threads, each a list of calls per thread; of ways that are as good the first is likely better. None
/// if calls are not proven independent. `cycles`: of a call of each kernel.
pub(super) fn ways(calls: &[Call], reach: &[Reach], cycles: &[f64], threads: usize) -> Vec<Vec<Vec<Call>>> {
    if !independent(calls, reach) {
        return Vec::new();
    }
    let mut order: Vec<&Call> = calls.iter().collect();
    order.sort_by(|a, b| cost::call(b, cycles).total_cmp(&cost::call(a, cycles)));
    let constants_first = order.first().is_some_and(|c| constants_outweigh(c, &reach[c.kernel]));
    let mut ways = vec![cut(&order, reach, cycles, threads, constants_first)];
    let other = cut(&order, reach, cycles, threads, !constants_first);
    if other != ways[0] {
        ways.push(other);
    }
    ways
}

/// The calls, the longest first, cut evenly.
fn cut(
    calls: &[&Call],
    reach: &[Reach],
    cycles: &[f64],
    threads: usize,
    constants_first: bool,
) -> Vec<Vec<Call>> {
    let mut parts = vec![Vec::new(); threads];
    let mut load = vec![0.0; threads];
    for call in calls {
        let axes = axes(call, &reach[call.kernel], constants_first);
        let cost = cost::call(call, cycles);
        let cuts: Vec<Cut> =
            (0..=axes.len()).map(|depth| Cut::new(call, &axes[..depth], cost, &load)).collect();
        let best = cuts.iter().map(Cut::slowest).fold(f64::INFINITY, f64::min);
        let cut = cuts.iter().find(|c| c.slowest() <= best * (1.0 + 1.0 / CLOSE)).expect("the best is one");
        for (t, part) in parts.iter_mut().enumerate() {
            boxes(call, cut.axes, cut.bounds[t], cut.bounds[t + 1], part);
        }
        load.clone_from(&cut.load);
    }
    parts
}

/// Whether no call writes what another touches.
pub(super) fn independent(calls: &[Call], reach: &[Reach]) -> bool {
    let areas = |c: &Call, deed| -> Vec<_> {
        (0..c.args.len()).filter_map(|p| reach[c.kernel].area(c, p, deed)).collect()
    };
    let written: Vec<_> = calls.iter().map(|c| areas(c, Deed::Written)).collect();
    let touched: Vec<_> = calls.iter().map(|c| areas(c, Deed::Touched)).collect();
    (0..calls.len()).all(|i| {
        let others = (0..calls.len()).filter(|&j| j != i);
        others.flat_map(|j| &touched[j]).all(|t| written[i].iter().all(|w| w.apart(t)))
    })
}

/// Whether calls only fill memory, reading nothing.
pub(super) fn fills(calls: &[Call], reach: &[Reach]) -> bool {
    calls.iter().all(|call| reach[call.kernel].only_writes(call))
}

/// Whether a call reads more constants than it reads and writes activations.
fn constants_outweigh(call: &Call, reach: &Reach) -> bool {
    let (mut constants, mut activations) = (0, 0);
    for area in (0..call.args.len()).filter_map(|p| reach.area(call, p, Deed::Touched)) {
        match area.space {
            Space::Weights | Space::Consts => constants += area.len(),
            Space::Arena | Space::Carried | Space::Input(_) | Space::Output(_) => activations += area.len(),
        }
    }
    constants > activations
}

/// The dimensions along which a call may be cut, in the order in which to try: of one kind the grid's own order.
pub(super) fn axes(call: &Call, reach: &Reach, constants_first: bool) -> Vec<usize> {
    let mut axes: Vec<usize> =
        (0..call.grid.len()).filter(|&d| call.grid[d].extent > 1 && reach.parallel(call, d)).collect();
    axes.sort_by_key(|&d| moves_constants(call, reach, d) != constants_first);
    axes
}

/// Whether points of a call that differ along a dimension of its grid read other constants.
pub(super) fn moves_constants(call: &Call, reach: &Reach, dim: usize) -> bool {
    // What is only asked for ahead does not count.
    let read = |p: usize| reach.area(call, p, Deed::Touched).is_some();
    let fixed = |p: &usize| matches!(call.args[*p].space, Space::Weights | Space::Consts) && read(*p);
    (0..call.args.len()).filter(fixed).any(|p| call.grid[dim].advance[p] != 0)
}

/// A way to cut a call.
struct Cut<'a> {
    /// The points of these dimensions, taken as one sequence, the last running fastest, are cut.
    axes: &'a [usize],
    /// Where in the sequence each thread starts, and the end.
    bounds: Vec<usize>,
    /// Cycles of each thread so far and with this.
    load: Vec<f64>,
}

impl Cut<'_> {
    /// Gives to each thread what brings all to the same level, as nearly as whole points can; a call that is not cut to the least loaded.
    fn new<'a>(call: &Call, axes: &'a [usize], cost: f64, load: &[f64]) -> Cut<'a> {
        let points: usize = axes.iter().map(|&d| call.grid[d].extent).product();
        let level = level(load, cost);
        let least = load.iter().enumerate().min_by(|a, b| a.1.total_cmp(b.1)).map(|l| l.0);
        let (mut bounds, mut wanted) = (vec![0], 0.0);
        for (t, l) in load.iter().enumerate() {
            wanted += (level - l).max(0.0) / cost * points as f64;
            bounds.push(match points {
                1 => usize::from(Some(t) >= least),
                _ => (wanted.round() as usize).min(points),
            });
        }
        bounds[load.len()] = points;
        let each = cost / points as f64;
        let load = load.iter().zip(bounds.windows(2)).map(|(l, b)| l + (b[1] - b[0]) as f64 * each).collect();
        Cut { axes, bounds, load }
    }

    fn slowest(&self) -> f64 {
        self.load.iter().copied().fold(0.0, f64::max)
    }
}

/// How high loads stand after `more` has been poured over the lowest.
fn level(load: &[f64], more: f64) -> f64 {
    let mut load = load.to_vec();
    load.sort_by(f64::total_cmp);
    let (mut level, mut sum) = (f64::INFINITY, 0.0);
    for (n, l) in load.iter().enumerate() {
        if *l >= level {
            break;
        }
        sum += l;
        level = (sum + more) / (n + 1) as f64;
    }
    level
}

/// Points `from..to` of the sequence that `axes` make, as few calls.
fn boxes(call: &Call, axes: &[usize], from: usize, to: usize, out: &mut Vec<Call>) {
    let Some((&axis, rest)) = axes.split_first() else {
        out.extend((from < to).then(|| call.clone()));
        return;
    };
    let inner: usize = rest.iter().map(|&d| call.grid[d].extent).product();
    // Whole points of this axis, and what lies before and after them.
    let (first, last) = (from.div_ceil(inner), to / inner);
    let mut partial = |at: usize, from: usize, to: usize| {
        if from < to {
            boxes(&narrow(call, axis, at, 1), rest, from, to, out);
        }
    };
    if first > last {
        return partial(last, from - last * inner, to - last * inner);
    }
    partial(first.saturating_sub(1), inner - (first * inner - from), inner);
    partial(last, 0, to - last * inner);
    if first < last {
        out.push(narrow(call, axis, first, last - first));
    }
}

/// The part of a call with `extent` points from `start` along a dimension of its grid.
pub(super) fn narrow(call: &Call, dim: usize, start: usize, extent: usize) -> Call {
    let mut call = call.clone();
    let dim = &mut call.grid[dim];
    dim.extent = extent;
    for (arg, by) in call.args.iter_mut().zip(&dim.advance) {
        arg.offset = arg.offset.wrapping_add_signed((*by as isize).wrapping_mul(start as isize));
    }
    call
}

/// Independent calls, cut by the addresses that they write into `bands` bands of equal size, of which those from each of `starts` to the next are
/// one part.
pub(super) fn bands(calls: &[Call], reach: &[Reach], bands: usize, starts: &[usize]) -> Vec<Vec<Call>> {
    let hull = |call: &Call| {
        let areas = (0..call.args.len()).filter_map(|p| reach[call.kernel].area(call, p, Deed::Written));
        areas.map(|a| a.hull()).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default()
    };
    let all = calls.iter().map(hull).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default();
    let part = |call: &Call| {
        let band = ((hull(call).0 - all.0) * bands as i128 / (all.1 - all.0).max(1)) as usize;
        starts.partition_point(|&start| start <= band).saturating_sub(1)
    };
    let mut parts = vec![Vec::new(); starts.len()];
    for call in calls {
        let Some(axis) = rows(call, &reach[call.kernel]) else {
            parts[part(call)].push(call.clone());
            continue;
        };
        let parts_of: Vec<usize> =
            (0..call.grid[axis].extent).map(|k| part(&narrow(call, axis, k, 1))).collect();
        let mut at = 0;
        for run in parts_of.chunk_by(|a, b| a == b) {
            parts[run[0]].push(narrow(call, axis, at, run.len()));
            at += run.len();
        }
    }
    parts
}

/// The dimension of a call's grid that moves furthest through what it writes, of those along which it may be cut and that read the same constants.
fn rows(call: &Call, reach: &Reach) -> Option<usize> {
    let written = |p: &usize| reach.area(call, *p, Deed::Written).is_some();
    let stride = |d: &usize| {
        let by = |p: usize| call.grid[*d].advance[p].unsigned_abs();
        (0..call.args.len()).filter(written).map(by).max()
    };
    let axes = axes(call, reach, false).into_iter().filter(|&d| !moves_constants(call, reach, d));
    axes.max_by_key(stride)
}
