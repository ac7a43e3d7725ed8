//! The bytes that calls touch, and proofs that two of them have none in common.
//!
//! In: verified kernels, and calls whose arguments have been proven inside their spaces. An access moves with the loops of its kernel and of
//! the call's grid, all of constant stride. Bytes are looked at modulo the stride of a loop: loops that move by a multiple of it vanish, all
//! others widen the access to the range they sweep. Disjoint residues are disjoint bytes; one such stride is a proof. Not found is not a
//! proof of the opposite, so every answer of "apart" is certain and its opposite may be too careful.

use super::{Call, GridDim, Ptr, Space};
use crate::kernel::expand::expand;
use crate::kernel::parts::Part;
use crate::kernel::{FlatStmt, Kernel, ParamId};

/// Accesses of a kernel through one parameter, relative to it: a range of bytes and the loops (bytes, extent) that move it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Access {
    loops: Vec<(i128, i128)>,
    start: i128,
    end: i128,
}

impl Access {
    /// Bytes from the first to the last that is touched, if only loops that `counts` says count.
    fn sweep(&self, counts: impl Fn(i128) -> bool) -> (i128, i128) {
        sweep((self.start, self.end), &self.loops, counts)
    }
}

fn sweep(from: (i128, i128), loops: &[(i128, i128)], counts: impl Fn(i128) -> bool) -> (i128, i128) {
    loops.iter().filter(|l| counts(l.0)).fold(from, |(start, end), &(by, extent)| {
        let reach = by * (extent - 1);
        (start + reach.min(0), end + reach.max(0))
    })
}

/// All accesses through one parameter.
#[derive(Clone, Debug, Default)]
struct Accesses {
    all: Vec<Access>,
    /// From the first to the last byte.
    hull: (i128, i128),
}

impl Accesses {
    /// Joins accesses that touch and move together.
    fn new(mut found: Vec<Access>) -> Accesses {
        found.sort_unstable();
        let mut all: Vec<Access> = Vec::new();
        for a in found {
            match all.last_mut() {
                Some(l) if l.loops == a.loops && a.start <= l.end => l.end = l.end.max(a.end),
                _ => all.push(a),
            }
        }
        let hull = all.iter().map(|a| a.sweep(|_| true)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        Accesses { all, hull: hull.unwrap_or_default() }
    }
}

/// What a kernel does to memory, per parameter.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    writes: Vec<Accesses>,
    /// Reads and writes.
    touches: Vec<Accesses>,
}

/// What happens to the bytes of an area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Written,
    /// Read or written.
    Touched,
}

impl Reach {
    pub(super) fn of(kernel: &Kernel) -> Reach {
        let mut found: Vec<[Vec<Access>; 2]> = vec![Default::default(); kernel.params.len()];
        let mut open: Vec<(usize, Vec<(ParamId, i64)>)> = Vec::new();
        for stmt in expand(kernel).body {
            match stmt {
                FlatStmt::Begin { extent, advance } => open.push((extent, advance)),
                FlatStmt::End => drop(open.pop()),
                FlatStmt::Op(instr) => {
                    for part in instr.parts(kernel.lanes).1 {
                        let (&(param, at), bytes, written) = match part {
                            Part::Store(a, bytes) => (a, bytes, true),
                            Part::Load(a, bytes) => (a, bytes, false),
                            Part::Def(_) | Part::Use(_) | Part::Hint(_) | Part::Imm(_) => continue,
                        };
                        let by = |a: &[(ParamId, i64)]| a.iter().find(|a| a.0 == param).map_or(0, |a| a.1);
                        let loops = open.iter().map(|(n, a)| (i128::from(by(a)), *n as i128));
                        let loops: Vec<_> = loops.filter(|l| l.0 != 0 && l.1 > 1).collect();
                        let (start, end) = (i128::from(at), i128::from(at) + bytes as i128);
                        let access = Access { loops, start, end };
                        if written {
                            found[param][0].push(access.clone());
                        }
                        found[param][1].push(access);
                    }
                }
            }
        }
        let (writes, touches) =
            found.into_iter().map(|[w, t]| (Accesses::new(w), Accesses::new(t))).collect();
        Reach { writes, touches }
    }

    /// What a call of this kernel does to memory through a parameter; `None` if nothing.
    pub(super) fn area(&self, call: &Call, param: ParamId, deed: Deed) -> Option<Area<'_>> {
        let grid = call.grid.iter().map(|d| (i128::from(d.advance[param]), d.extent as i128));
        self.over(call, param, deed, grid.collect())
    }

    /// The same over some loops of the grid.
    fn over(&self, call: &Call, param: ParamId, deed: Deed, mut grid: Vec<(i128, i128)>) -> Option<Area<'_>> {
        let accesses = match deed {
            Deed::Written => &self.writes[param],
            Deed::Touched => &self.touches[param],
        };
        if accesses.all.is_empty() {
            return None;
        }
        grid.retain(|l| l.0 != 0 && l.1 > 1);
        // A part of a grid may start at an argument before its space, of which nothing is touched.
        let at = call.args[param].offset as i64 as i128;
        let (start, end) = sweep(accesses.hull, &grid, |_| true);
        Some(Area {
            space: call.args[param].space,
            at,
            accesses: &accesses.all,
            grid,
            hull: (at + start, at + end),
        })
    }

    /// Whether a call reads nothing, neither activations nor constants, so that it always writes the same.
    pub(super) fn only_writes(&self, call: &Call) -> bool {
        (0..call.args.len()).all(|p| self.area(call, p, Deed::Touched) == self.area(call, p, Deed::Written))
    }

    /// Whether points of a call that differ along one dimension of its grid never touch what the other writes.
    pub(super) fn parallel(&self, call: &Call, dim: usize) -> bool {
        let n = call.args.len();
        let rest = |p: ParamId, deed| {
            let others = call.grid.iter().enumerate().filter(|d| d.0 != dim);
            let others = others.map(|(_, d)| (i128::from(d.advance[p]), d.extent as i128));
            self.over(call, p, deed, others.collect())
        };
        let GridDim { extent, advance } = &call.grid[dim];
        (0..n).flat_map(|w| (0..n).map(move |t| (w, t))).all(|(w, t)| {
            let (Some(written), Some(touched)) = (rest(w, Deed::Written), rest(t, Deed::Touched)) else {
                return true;
            };
            let whole =
                || Some(self.area(call, w, Deed::Written)?.apart(&self.area(call, t, Deed::Touched)?));
            written.space != touched.space
                || (advance[w] == advance[t]
                    && written.steps_over(&touched, advance[w].into(), *extent as i128))
                || (w != t && whole() == Some(true))
        })
    }
}

/// The bytes that one argument of a call touches over the call's grid.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Area<'a> {
    pub(super) space: Space,
    /// Where the argument points.
    at: i128,
    /// Relative to it; none if only the hull is known.
    accesses: &'a [Access],
    grid: Vec<(i128, i128)>,
    /// From the first to the last byte.
    hull: (i128, i128),
}

impl Area<'_> {
    /// `bytes` bytes from a pointer, each of which may be touched.
    pub(super) fn range(ptr: Ptr, bytes: usize) -> Area<'static> {
        let at = ptr.offset as i128;
        Area { space: ptr.space, at, accesses: &[], grid: Vec::new(), hull: (at, at + bytes as i128) }
    }

    /// Bytes from the first to the last.
    pub(super) fn len(&self) -> usize {
        (self.hull.1 - self.hull.0) as usize
    }

    /// The first byte, and the one behind the last.
    pub(super) fn hull(&self) -> (i128, i128) {
        self.hull
    }

    /// Bytes that are touched, if no two iterations touch the same; never more than [`Area::len`].
    pub(super) fn bytes(&self) -> i128 {
        let times =
            |from: i128, loops: &[(i128, i128)]| loops.iter().fold(from, |n, l| n.saturating_mul(l.1));
        let each = self.accesses.iter().map(|a| times(a.end - a.start, &a.loops));
        times(each.fold(0, i128::saturating_add), &self.grid).min(self.hull.1 - self.hull.0)
    }

    /// Calls `each` with ranges of bytes, from the first to the one behind the last, that together cover the area, and of what is not touched
    /// at most gaps of `gap` bytes. Bytes may lie in several.
    pub(super) fn ranges(&self, gap: i128, each: &mut dyn FnMut(i128, i128)) {
        if self.accesses.is_empty() {
            return each(self.hull.0, self.hull.1);
        }
        for access in self.accesses {
            let mut loops: Vec<(i128, i128)> = access.loops.iter().chain(&self.grid).copied().collect();
            loops.sort_unstable_by_key(|l| l.0.abs());
            let mut range = (self.at + access.start, self.at + access.end);
            loops.retain(|&(by, extent)| {
                let apart = by.abs() > range.1 - range.0 + gap;
                if !apart {
                    range = sweep(range, &[(by, extent)], |_| true);
                }
                apart
            });
            repeat(&loops, range, each);
        }
    }

    /// Whether two areas have no byte in common.
    pub(super) fn apart(&self, other: &Area) -> bool {
        if self.space != other.space || self.hull.1 <= other.hull.0 || other.hull.1 <= self.hull.0 {
            return true;
        }
        if self.accesses.is_empty() || other.accesses.is_empty() {
            return false;
        }
        self.moduli(other).into_iter().any(|m| match (self.residues(m), other.residues(m)) {
            (Some(a), Some(b)) => a.iter().all(|x| b.iter().all(|y| x.1 <= y.0 || y.1 <= x.0)),
            _ => false,
        })
    }

    /// Whether the areas stay apart when they are moved by different multiples, below `extent`, of `by`.
    fn steps_over(&self, other: &Area, by: i128, extent: i128) -> bool {
        let by = by.abs();
        let base = self.hull.0.min(other.hull.0);
        [i128::MAX].into_iter().chain(self.moduli(other)).any(|m| {
            let (a, b) = (self.swept(m, base), other.swept(m, base));
            let whole = a.1.max(b.1) - a.0.min(b.0);
            a.1 - b.0 <= by && b.1 - a.0 <= by && whole.saturating_add((extent - 1).saturating_mul(by)) <= m
        })
    }

    /// What bytes are looked at modulo of: strides of loops, and of what kernels unroll instead.
    fn moduli(&self, other: &Area) -> Vec<i128> {
        let loops = |a: &Area| -> Vec<i128> {
            a.grid.iter().chain(a.accesses.iter().flat_map(|x| &x.loops)).map(|l| l.0.abs()).collect()
        };
        let mut moduli = loops(self);
        moduli.extend(loops(other));
        let starts = || self.accesses.iter().map(|a| (a.start - self.accesses[0].start).abs());
        moduli.extend(starts());
        moduli.push(starts().fold(0, gcd));
        let grid = self.grid.iter().chain(&other.grid).fold(0, |g, l| gcd(g, l.0));
        moduli.push(grid);
        moduli.sort_unstable();
        moduli.dedup();
        moduli.retain(|&m| m > 0);
        moduli
    }

    /// Every access, widened by the loops that do not move by a multiple of `m`.
    fn modulo(&self, m: i128) -> impl Iterator<Item = (i128, i128)> {
        self.accesses.iter().map(move |a| {
            let (start, end) = sweep(a.sweep(|by| by % m != 0), &self.grid, |by| by % m != 0);
            (self.at + start, self.at + end)
        })
    }

    /// The hull of all accesses after each is moved by a multiple of `m` to start within `m` bytes from `base`.
    fn swept(&self, m: i128, base: i128) -> (i128, i128) {
        let near = self.modulo(m).map(|(start, end)| {
            let at = (start - base).rem_euclid(m);
            (at, at + end - start)
        });
        near.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or_default()
    }

    /// Residues modulo `m`, as intervals within `0..m`; `None` if one access covers everything.
    fn residues(&self, m: i128) -> Option<Vec<(i128, i128)>> {
        let mut out = Vec::new();
        for (start, end) in self.modulo(m) {
            let length = end - start;
            if length >= m {
                return None;
            }
            let start = start.rem_euclid(m);
            out.push((start, m.min(start + length)));
            if start + length > m {
                out.push((0, start + length - m));
            }
        }
        out.sort_unstable();
        out.dedup();
        Some(out)
    }
}

/// Calls `each` with a range at every point of some loops.
fn repeat(loops: &[(i128, i128)], range: (i128, i128), each: &mut dyn FnMut(i128, i128)) {
    match loops.split_first() {
        None => each(range.0, range.1),
        Some((&(by, extent), rest)) => {
            (0..extent).for_each(|k| repeat(rest, (range.0 + k * by, range.1 + k * by), each));
        }
    }
}

fn gcd(mut a: i128, b: i128) -> i128 {
    let mut b = b.abs();
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
