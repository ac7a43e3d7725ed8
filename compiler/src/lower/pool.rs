//! Pooling: maxima of bytes or floats, means by one sum and one multiplier.

use super::draft::{DraftCall, Place};
use super::elementwise::{order_vector, splat};
use super::epilogue::pack;
use super::layout::Layout;
use super::memory::wanted_halo;
use super::{At, Lower};
use crate::error::Result;
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, ParamId, Reg};
use crate::plan::GridDim;
use crate::qgraph::{QNode, Window};
use crate::target::Target;
use qgraph_runtime::requant::Rounding;

/// Windows of at most this many elements are unrolled.
const UNROLL: usize = 9;

/// Positions of outputs along one axis whose windows count equally many elements.
struct Span {
    start: usize,
    len: usize,
    count: usize,
}

impl Lower<'_> {
    /// The input of a pooling with the halo it wants: the value's own, or a padded copy if that is filled otherwise.
    fn padded(&mut self, node: &QNode) -> Place {
        let x = self.place(node.inputs[0]).clone();
        match wanted_halo(self.graph, node) {
            Some((halo, fill)) if self.memory.fills[node.inputs[0].0 as usize] != Some(fill) => {
                let copy = self.temporary(Layout::arena(&x.layout.shape, x.layout.esz, halo));
                self.fill_around(&node.name, &copy, fill);
                self.copy(&node.name, "copy with padding", &x, &copy);
                copy
            }
            _ => x,
        }
    }

    pub(super) fn max_pool(&mut self, node: &QNode, window: &Window) {
        let x = self.padded(node);
        let y = self.place(node.output).clone();
        let spans = [whole(y.layout.shape[2]), whole(y.layout.shape[3])];
        let integer = y.layout.esz == 1;
        let bytes = self.target.vector_bytes();
        let mut calls = Vec::new();
        self.windows(&x, &y, window, &spans, bytes, &mut calls, |_| Vec::new(), &|target, geometry, run| {
            max_kernel(target, geometry, run, integer)
        });
        self.draft.step(&node.name, "max pool", 0, calls);
    }

    pub(super) fn avg_pool(
        &mut self,
        node: &QNode,
        window: &Window,
        include: bool,
        ratio: f64,
    ) -> Result<()> {
        let x = self.padded(node);
        let y = self.place(node.output).clone();
        let spans = [0, 1].map(|k| spans(window, k, x.layout.shape[2 + k], y.layout.shape[2 + k], include));
        let kind = match (x.layout.esz, y.layout.esz) {
            (1, 1) => Average::Integer,
            (1, _) => Average::ToFloat,
            _ => Average::Float,
        };
        let zero = |v| self.affine(v).1;
        let (zx, zy) = (zero(node.inputs[0]), zero(node.output));
        let taps = window.kernel[0] * window.kernel[1];
        let (target, graph) = (self.target.clone(), self.graph);
        let multiplier = |n: usize| graph.average_multiplier(node, ratio, n);
        for (a, b) in spans[0].iter().flat_map(|a| spans[1].iter().map(move |b| (a, b))) {
            if kind == Average::Integer && multiplier(a.count * b.count).is_none() {
                return self.refuse(
                    node,
                    "the average's multiplier is out of range; recalibrate this layer's output",
                );
            }
        }
        let constants = |n: usize| {
            let factor = match kind {
                Average::Integer => multiplier(n).unwrap_or(0.0),
                Average::ToFloat => (ratio / n as f64) as f32,
                Average::Float => n as f32,
            };
            let start = -(taps as i32 * i32::from(zx));
            let zero = f32::from(zy);
            let (offset, lo) = match graph.rounding {
                Rounding::Fused => (zero, 0.0),
                Rounding::ZeroLast => (f32::from_bits(zy.into()), -zero),
            };
            [
                splat(&target, factor),
                splat(&target, offset),
                start.to_le_bytes().repeat(target.lanes),
                splat(&target, lo),
                splat(&target, lo + 255.0),
                order_vector(&target),
            ]
            .concat()
        };
        let run = match kind {
            Average::Integer => 4 * target.lanes,
            Average::ToFloat => target.lanes,
            Average::Float => 4 * target.lanes,
        };
        let mut calls = Vec::new();
        self.windows(&x, &y, window, &spans, run, &mut calls, constants, &|target, geometry, run| {
            average_kernel(target, geometry, run, kind, graph.rounding)
        });
        self.draft.step(&node.name, "average pool", 0, calls);
        Ok(())
    }

    /// Calls over all outputs: spans of equal count, chunks of `run` input bytes of channels.
    #[allow(clippy::too_many_arguments)]
    fn windows(
        &mut self,
        x: &Place,
        y: &Place,
        window: &Window,
        spans: &[Vec<Span>; 2],
        run: usize,
        calls: &mut Vec<DraftCall>,
        constants: impl Fn(usize) -> Vec<u8>,
        kernel: &dyn Fn(&Target, &Geometry, usize) -> Kernel,
    ) {
        let target = self.target.clone();
        let (xl, yl) = (&x.layout, &y.layout);
        // Channels rounded up to what both sides pad.
        let round = if xl.esz == 1 { 16 } else { 4 };
        let padded = xl.shape[1].next_multiple_of(round);
        let fits = |l: &Layout| l.pixel() >= padded * l.esz;
        let channels = if fits(xl) && fits(yl) { padded } else { xl.shape[1] } * xl.esz;
        let geometry = Geometry {
            rows: window.kernel[0],
            cols: window.kernel[1],
            row: window.dilations[0] * xl.row(),
            col: window.dilations[1] * xl.pixel(),
        };
        let corner = |row: usize, col: usize| -> At {
            let at = xl.origin + row * window.strides[0] * xl.row() + col * window.strides[1] * xl.pixel();
            x.base.plus(at - window.pads[0] * xl.row() - window.pads[1] * xl.pixel())
        };
        for (a, b) in spans[0].iter().flat_map(|a| spans[1].iter().map(move |b| (a, b))) {
            let table = constants(a.count * b.count);
            let table = (!table.is_empty()).then(|| self.draft.constant(table));
            let (whole, rest) = (channels / run, channels % run);
            for (first, count, bytes) in [(0, whole, run), (whole, usize::from(rest > 0), rest)] {
                if count == 0 {
                    continue;
                }
                let kernel = self.draft.kernel(kernel(&target, &geometry, bytes));
                let out = |bytes: usize| bytes / xl.esz * yl.esz;
                let skip = first * run;
                let y_at = y.first().plus(a.start * yl.row() + b.start * yl.pixel() + out(skip));
                let mut args = vec![y_at, corner(a.start, b.start).plus(skip)];
                args.extend(table);
                let dim = |extent: usize, y: usize, x: usize| {
                    let mut advance = vec![y as i64, x as i64];
                    advance.extend(table.map(|_| 0));
                    GridDim { extent, advance }
                };
                let grid = [
                    dim(xl.shape[0], yl.image(), xl.image()),
                    dim(a.len, yl.row(), window.strides[0] * xl.row()),
                    dim(b.len, yl.pixel(), window.strides[1] * xl.pixel()),
                    dim(count, out(run), run),
                ];
                let grid = grid.into_iter().filter(|d| d.extent > 1).collect();
                calls.push(DraftCall { kernel, args, grid });
            }
        }
    }
}

/// All outputs alike.
fn whole(len: usize) -> Vec<Span> {
    vec![Span { start: 0, len, count: 1 }]
}

/// Groups the outputs of an axis by how many elements of their window count.
fn spans(w: &Window, axis: usize, input: usize, output: usize, include_pad: bool) -> Vec<Span> {
    let (before, after) = (w.pads[axis] as i64, w.pads[axis + 2] as i64);
    let valid = if include_pad { -before..input as i64 + after } else { 0..input as i64 };
    let count = |o: usize| {
        let first = (o * w.strides[axis]) as i64 - before;
        let tap = |k: usize| first + (k * w.dilations[axis]) as i64;
        (0..w.kernel[axis]).filter(|&k| valid.contains(&tap(k))).count().max(1)
    };
    let mut out: Vec<Span> = Vec::new();
    for o in 0..output {
        let n = count(o);
        match out.last_mut() {
            Some(s) if s.count == n => s.len += 1,
            _ => out.push(Span { start: o, len: 1, count: n }),
        }
    }
    out
}

/// Bytes between the elements of a window.
struct Geometry {
    rows: usize,
    cols: usize,
    row: usize,
    col: usize,
}

impl Geometry {
    /// Writes `tap(offset)` for every element of the window, row by row: straight for small windows, in loops otherwise.
    fn taps(&self, b: &mut KernelBuilder, x: ParamId, tap: &dyn Fn(&mut KernelBuilder, usize)) {
        if self.rows * self.cols <= UNROLL {
            for (r, c) in (0..self.rows).flat_map(|r| (0..self.cols).map(move |c| (r, c))) {
                tap(b, r * self.row + c * self.col);
            }
            return;
        }
        b.loop_(self.rows, [(x, self.row as i64)], |b| {
            b.loop_(self.cols, [(x, self.col as i64)], |b| tap(b, 0));
        });
    }

    fn name(&self, kind: &str, run: usize, target: &Target) -> String {
        format!("{kind}_{}x{}_{run}_{}", self.rows, self.cols, target.name)
    }
}

fn max_kernel(target: &Target, g: &Geometry, run: usize, integer: bool) -> Kernel {
    let kind = if integer { "maxpool_u8" } else { "maxpool_f32" };
    let mut b = KernelBuilder::new(g.name(kind, run, target), target.lanes);
    let y = b.param("y", Access::Write);
    let x = b.param("x", Access::Read);
    let t = b.array("t", 2);
    let (acc, v) = (t.at(0), t.at(1));
    b.op(Instr::Load { dst: acc.clone(), src: Addr::new(x, 0), bytes: run });
    g.taps(&mut b, x, &|b, at| {
        b.op(Instr::Load { dst: v.clone(), src: Addr::new(x, at), bytes: run });
        let (dst, a) = (acc.clone(), acc.clone());
        b.op(if integer {
            Instr::MaxU8 { dst, a, b: v.clone().into() }
        } else {
            Instr::MaxF32 { dst, a, b: v.clone().into() }
        });
    });
    b.op(Instr::Store { dst: Addr::new(y, 0), src: acc, bytes: run });
    b.finish()
}

/// Element types of an average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Average {
    Integer,
    ToFloat,
    Float,
}

/// Constants: factor, zero point (an integer if it comes last), start, bounds, pack order.
fn average_kernel(target: &Target, g: &Geometry, run: usize, kind: Average, rounding: Rounding) -> Kernel {
    let (bytes, lanes) = (target.vector_bytes(), target.lanes);
    let name = match kind {
        Average::Integer => "avgpool_u8",
        Average::ToFloat => "avgpool_u8f32",
        Average::Float => "avgpool_f32",
    };
    let mut b = KernelBuilder::new(g.name(name, run, target), target.lanes);
    let y = b.param("y", Access::Write);
    let x = b.param("x", Access::Read);
    let c = b.param("c", Access::Read);
    // A float run is at most one vector, a byte run at most four.
    let esz = if kind == Average::Float { 4 } else { 1 };
    let elements = run / esz;
    let vectors = elements.div_ceil(lanes);
    let acc = b.array("acc", vectors);
    let t = b.array("t", 2);
    let constant = |k: usize| Addr::new(c, k * bytes);
    let load = |dst: Reg, k: usize| Instr::Load { dst, src: constant(k), bytes };
    let start = if kind == Average::Float { 3 } else { 2 };
    for v in 0..vectors {
        b.op(load(acc.at(v), start));
    }
    g.taps(&mut b, x, &|b, at| {
        for v in 0..vectors {
            let count = (elements - v * lanes).min(lanes);
            let src = Addr::new(x, at + v * lanes * esz);
            let (dst, a, value) = (acc.at(v), acc.at(v), t.at(0));
            if kind == Average::Float {
                b.op(Instr::Load { dst: value.clone(), src, bytes: 4 * count });
                b.op(Instr::AddF32 { dst, a, b: value.into() });
            } else {
                b.op(Instr::LoadU8 { dst: value.clone(), src, count });
                b.op(Instr::AddI32 { dst, a, b: value.into() });
            }
        }
    });
    match kind {
        Average::Integer => {
            b.op(load(t.at(0), 1));
            for v in 0..vectors {
                let a = acc.at(v);
                b.op(Instr::CvtI32F32 { dst: a.clone(), src: a.clone() });
                b.op(match rounding {
                    Rounding::Fused => Instr::FmaMul { x: a.clone(), m: constant(0).into(), c: t.at(0) },
                    Rounding::ZeroLast => {
                        Instr::MulF32 { dst: a.clone(), a: a.clone(), b: constant(0).into() }
                    }
                });
                b.op(Instr::MaxF32 { dst: a.clone(), a: a.clone(), b: constant(3).into() });
                b.op(Instr::MinF32 { dst: a.clone(), a: a.clone(), b: constant(4).into() });
                b.op(Instr::CvtF32I32 { dst: a.clone(), src: a.clone() });
                if rounding == Rounding::ZeroLast {
                    b.op(Instr::AddI32 { dst: a.clone(), a, b: t.at(0).into() });
                }
            }
            if lanes > 4 {
                b.op(load(t.at(1), 5));
            }
            let regs: Vec<Reg> = (0..vectors).map(|v| acc.at(v)).collect();
            let src = pack(&mut b, &regs, None, None, (lanes > 4).then_some(&t.at(1)));
            b.op(Instr::Store { dst: Addr::new(y, 0), src, bytes: run });
        }
        Average::ToFloat | Average::Float => {
            for v in 0..vectors {
                let (a, factor) = (acc.at(v), constant(0).into());
                if kind == Average::Float {
                    b.op(Instr::DivF32 { dst: a.clone(), a: a.clone(), b: factor });
                } else {
                    b.op(Instr::CvtI32F32 { dst: a.clone(), src: a.clone() });
                    b.op(Instr::MulF32 { dst: a.clone(), a: a.clone(), b: factor });
                }
                let count = (elements - v * lanes).min(lanes);
                let dst = Addr::new(y, v * bytes);
                b.op(Instr::Store { dst, src: a, bytes: 4 * count });
            }
        }
    }
    b.finish()
}
