//! Operators that move elements: all become strided copies, and disappear where memory was shared.

use super::draft::{DraftCall, Place};
use super::layout::{Dim, Layout, canonical};
use super::{At, Lower};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, ParamId};
use crate::plan::GridDim;
use crate::qgraph::{QNode, QSlice};

/// Longest run copied by one instruction.
const RUN: usize = 512;
/// Loops of a copy that stay inside its kernel.
const INNER_LOOPS: usize = 3;

/// One axis of a move: how many elements, and how far apart they lie in the target and the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) extent: usize,
    pub(super) to: i64,
    pub(super) from: i64,
}

impl Lower<'_> {
    /// Copies a value of one shape between two places.
    pub(super) fn copy(&mut self, layer: &str, what: &'static str, from: &Place, to: &Place) {
        let axis = |(k, &extent): (usize, &usize)| Axis {
            extent,
            to: to.layout.strides[k] as i64,
            from: from.layout.strides[k] as i64,
        };
        let axes: Vec<Axis> = to.layout.shape.iter().enumerate().map(axis).collect();
        let call = self.move_call(to.first(), from.first(), &axes, to.layout.esz);
        self.draft.step(layer, what, 0, vec![call]);
    }

    /// A strided copy. Where both sides are contiguous innermost, whole runs move at once.
    pub(super) fn move_call(&mut self, to: At, from: At, axes: &[Axis], esz: usize) -> DraftCall {
        let dim = |a: &Axis| Dim { extent: a.extent, steps: vec![a.to, a.from] };
        let mut dims = canonical(axes.iter().map(dim));
        let mut run = esz;
        if let Some(d) = dims.last()
            && d.steps == [esz as i64, esz as i64]
        {
            run = d.extent * esz;
            dims.pop();
        }
        let outside = dims.len().saturating_sub(INNER_LOOPS);
        // The outermost loop stays outside, so that it can be shared by threads.
        let (grid, loops) = dims.split_at(outside.max(usize::from(dims.len() > 1)));
        let kernel = self.draft.kernel(copy_kernel(self.target, loops, run));
        let dim = |d: &Dim| GridDim { extent: d.extent, advance: d.steps.clone() };
        DraftCall { kernel, args: vec![to, from], grid: grid.iter().map(dim).collect() }
    }

    pub(super) fn concat(&mut self, node: &QNode, axis: usize) {
        let y = self.place(node.output).clone();
        let mut calls = Vec::new();
        let mut at = 0;
        for &x in &node.inputs {
            let x = self.place(x).clone();
            let first = y.first().plus(at * y.layout.strides[axis]);
            at += x.layout.shape[axis];
            if first == x.first() {
                continue;
            }
            let to = Layout { shape: x.layout.shape.clone(), ..y.layout.clone() };
            let axes = axes(&to, &x.layout);
            calls.push(self.move_call(first, x.first(), &axes, y.layout.esz));
        }
        self.draft.step(&node.name, "concat", 0, calls);
    }

    pub(super) fn slice(&mut self, node: &QNode, slices: &[QSlice]) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let skip = slices.iter().zip(&x.layout.strides).map(|(s, &stride)| s.start * stride).sum();
        let axis = |(k, s): (usize, &QSlice)| Axis {
            extent: s.count,
            to: y.layout.strides[k] as i64,
            from: s.step as i64 * x.layout.strides[k] as i64,
        };
        let axes: Vec<Axis> = slices.iter().enumerate().map(axis).collect();
        let call = self.move_call(y.first(), x.first().plus(skip), &axes, y.layout.esz);
        self.draft.step(&node.name, "slice", 0, vec![call]);
    }

    pub(super) fn pad(&mut self, node: &QNode, pads: &[(usize, usize)], fill: f32) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let bits = if y.layout.esz == 1 { u32::from_ne_bytes([fill as u8; 4]) } else { fill.to_bits() };
        let call = self.fill_call(y.first(), &y.layout, &y.layout.shape, bits);
        self.draft.step(&node.name, "pad", 0, vec![call]);
        let skip = pads.iter().zip(&y.layout.strides).map(|(p, &stride)| p.0 * stride).sum();
        let to = Layout { shape: x.layout.shape.clone(), ..y.layout.clone() };
        let axes = axes(&to, &x.layout);
        let call = self.move_call(y.first().plus(skip), x.first(), &axes, y.layout.esz);
        self.draft.step(&node.name, "copy", 0, vec![call]);
    }

    pub(super) fn transpose(&mut self, node: &QNode, perm: &[usize]) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let axis = |(k, &p): (usize, &usize)| Axis {
            extent: y.layout.shape[k],
            to: y.layout.strides[k] as i64,
            from: x.layout.strides[p] as i64,
        };
        let axes: Vec<Axis> = perm.iter().enumerate().map(axis).collect();
        let call = self.move_call(y.first(), x.first(), &axes, y.layout.esz);
        self.draft.step(&node.name, "transpose", 0, vec![call]);
    }

    pub(super) fn reshape(&mut self, node: &QNode) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        if x.first() == y.first() {
            return; // A view: memory::assign found that nothing moves.
        }
        // Where both shapes split into common factors, one copy; else by way of dense row-major order.
        if let Some(axes) = common_axes(&x.layout, &y.layout) {
            let call = self.move_call(y.first(), x.first(), &axes, y.layout.esz);
            self.draft.step(&node.name, "reshape", 0, vec![call]);
            return;
        }
        let dense = self.temporary(Layout::dense(&x.layout.shape, x.layout.esz));
        self.copy(&node.name, "reshape", &x, &dense);
        let dense = Place { layout: Layout::dense(&y.layout.shape, y.layout.esz), ..dense };
        self.copy(&node.name, "reshape", &dense, &y);
    }

    pub(super) fn depth_to_space(&mut self, node: &QNode, block: [usize; 2], crop: [usize; 2]) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let [n, c, h, w] = [0, 1, 2, 3].map(|k| y.layout.shape[k]);
        let (xs, ys) = (&x.layout.strides, &y.layout.strides);
        let mut calls = Vec::new();
        for phase in 0..block[0] * block[1] {
            let phase = [phase / block[1], phase % block[1]];
            // First output row (column) of this phase, its row (column) in x, and how many there are.
            let axis = |k: usize, extent: usize| {
                let first = (phase[k] + block[k] - crop[k] % block[k]) % block[k];
                (first, (first + crop[k]) / block[k], extent.saturating_sub(first).div_ceil(block[k]))
            };
            let ((row, x_row, rows), (col, x_col, cols)) = (axis(0, h), axis(1, w));
            if rows == 0 || cols == 0 {
                continue;
            }
            let skip_x = (phase[0] * block[1] + phase[1]) * c * xs[1] + x_row * xs[2] + x_col * xs[3];
            let axes = [
                Axis { extent: n, to: ys[0] as i64, from: xs[0] as i64 },
                Axis { extent: c, to: ys[1] as i64, from: xs[1] as i64 },
                Axis { extent: rows, to: (block[0] * ys[2]) as i64, from: xs[2] as i64 },
                Axis { extent: cols, to: (block[1] * ys[3]) as i64, from: xs[3] as i64 },
            ];
            let to = y.first().plus(row * ys[2] + col * ys[3]);
            calls.push(self.move_call(to, x.first().plus(skip_x), &axes, y.layout.esz));
        }
        self.draft.step(&node.name, "depth to space", 0, calls);
    }

    pub(super) fn resize_nearest(&mut self, node: &QNode, rows: &[u32], cols: &[u32]) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let (xs, ys) = (&x.layout.strides, &y.layout.strides);
        let mut calls = Vec::new();
        for r in runs(rows) {
            for c in runs(cols) {
                let mut axes = vec![
                    Axis { extent: y.layout.shape[0], to: ys[0] as i64, from: xs[0] as i64 },
                    Axis { extent: y.layout.shape[1], to: ys[1] as i64, from: xs[1] as i64 },
                ];
                axes.extend(r.axes(ys[2], xs[2]));
                axes.extend(c.axes(ys[3], xs[3]));
                let to = y.first().plus(r.start * ys[2] + c.start * ys[3]);
                let from = x.first().plus(r.source * xs[2] + c.source * xs[3]);
                calls.push(self.move_call(to, from, &axes, y.layout.esz));
            }
        }
        self.draft.step(&node.name, "resize", 0, calls);
    }
}

/// The axes of a copy between two layouts of one shape (the target's).
fn axes(to: &Layout, from: &Layout) -> Vec<Axis> {
    let axis = |(k, &extent): (usize, &usize)| Axis {
        extent,
        to: to.strides[k] as i64,
        from: from.strides[k] as i64,
    };
    to.shape.iter().enumerate().map(axis).collect()
}

/// Axes along which a reshape moves at constant strides on both sides, if the extents have common factors.
fn common_axes(x: &Layout, y: &Layout) -> Option<Vec<Axis>> {
    // Walk both shapes from the innermost axis, splitting off the smaller of the two open extents.
    let open = |l: &Layout| -> Vec<(usize, usize)> {
        l.shape.iter().copied().zip(l.strides.iter().copied()).filter(|a| a.0 > 1).collect()
    };
    let (mut a, mut b) = (open(x), open(y));
    let mut axes = Vec::new();
    while let (Some((xe, xs)), Some((ye, ys))) = (a.pop(), b.pop()) {
        let extent = xe.min(ye);
        if xe % extent != 0 || ye % extent != 0 {
            return None;
        }
        axes.push(Axis { extent, to: ys as i64, from: xs as i64 });
        if xe > extent {
            a.push((xe / extent, xs * extent));
        }
        if ye > extent {
            b.push((ye / extent, ys * extent));
        }
    }
    Some(axes)
}

/// A stretch of a nearest-neighbour index table: `groups` source indices `step` apart, each repeated `repeat` times.
struct Run {
    start: usize,
    source: usize,
    groups: usize,
    step: i64,
    repeat: usize,
}

impl Run {
    fn axes(&self, to: usize, from: usize) -> [Axis; 2] {
        [
            Axis { extent: self.groups, to: (self.repeat * to) as i64, from: self.step * from as i64 },
            Axis { extent: self.repeat, to: to as i64, from: 0 },
        ]
    }
}

/// Cuts an index table into stretches.
fn runs(table: &[u32]) -> Vec<Run> {
    let mut out = Vec::new();
    let mut start = 0;
    while start < table.len() {
        let source = table[start];
        let repeat = table[start..].iter().take_while(|&&s| s == source).count();
        let at = |g: usize| -> Option<u32> {
            let group = table.get(start + g * repeat..start + (g + 1) * repeat)?;
            group.iter().all(|&s| s == group[0]).then_some(group[0])
        };
        let step = at(1).map_or(0, |next| i64::from(next) - i64::from(source));
        let follows = |&g: &usize| at(g).map(i64::from) == Some(i64::from(source) + step * g as i64);
        let groups = if step == 0 { 1 } else { (1..).take_while(follows).count() + 1 };
        out.push(Run { start, source: source as usize, groups, step, repeat });
        start += groups * repeat;
    }
    out
}

fn copy_kernel(target: &crate::target::Target, loops: &[Dim], run: usize) -> Kernel {
    let mut b = KernelBuilder::new(format!("copy_{run}_{}", target.name), target.lanes);
    let y = b.param("y", Access::Write);
    let x = b.param("x", Access::Read);
    nested(&mut b, loops, [y, x], &|b| {
        let (whole, rest) = (run / RUN, run % RUN);
        b.loop_(whole, [(y, RUN as i64), (x, RUN as i64)], |b| {
            b.op(Instr::Copy { dst: Addr::new(y, 0), src: Addr::new(x, 0), bytes: RUN });
        });
        if rest > 0 {
            let at = whole * RUN;
            b.op(Instr::Copy { dst: Addr::new(y, at), src: Addr::new(x, at), bytes: rest });
        }
    });
    b.finish()
}

fn nested(b: &mut KernelBuilder, loops: &[Dim], params: [ParamId; 2], body: &dyn Fn(&mut KernelBuilder)) {
    match loops {
        [] => body(b),
        [d, rest @ ..] => {
            let by: Vec<(ParamId, i64)> = params.into_iter().zip(d.steps.iter().copied()).collect();
            b.loop_(d.extent, by, |b| nested(b, rest, params, body));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_rebuild_their_table() {
        let tables: [&[u32]; 6] =
            [&[0, 0, 1, 1, 2, 2], &[0, 1, 2, 3], &[0, 0, 0], &[0, 0, 1, 1, 1, 2], &[5], &[3, 2, 1, 1, 0]];
        for table in tables {
            let mut rebuilt = vec![None; table.len()];
            for r in runs(table) {
                for g in 0..r.groups {
                    for k in 0..r.repeat {
                        let at = r.start + g * r.repeat + k;
                        assert_eq!(rebuilt[at].replace((r.source as i64 + r.step * g as i64) as u32), None);
                    }
                }
            }
            assert_eq!(rebuilt, table.iter().map(|&s| Some(s)).collect::<Vec<_>>());
        }
        assert_eq!(runs(&[0, 0, 1, 1, 2, 2]).len(), 1, "an upsampling is one run");
    }

    #[test]
    fn reshapes_split_into_common_factors() {
        let l = |shape: &[usize]| Layout::dense(shape, 1);
        assert_eq!(common_axes(&l(&[6, 4]), &l(&[2, 3, 4])).map(|a| a.len()), Some(3));
        assert!(common_axes(&l(&[6, 4]), &l(&[8, 3])).is_none());
    }
}
