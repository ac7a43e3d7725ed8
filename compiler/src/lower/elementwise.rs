//! Element-by-element operators, with broadcasting.
//!
//! All are one nest: loops over the output's elements in memory order, the innermost in chunks of registers. Operands that do not move
//! with the innermost loop as registers need (a u8 broadcast, another axis order) are first expanded.

use super::draft::{At, Base, DraftCall, Place};
use super::epilogue::{pack, pack_order};
use super::layout::{Dim, Layout, canonical};
use super::{Lower, Space};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Operand, ParamId, Reg, Regs};
use crate::plan::GridDim;
use crate::qgraph::{BlobId, FloatBinary, QNode};
use crate::target::Target;

/// Loops that stay inside a kernel, around the innermost.
const INNER_LOOPS: usize = 2;

/// Parameters and registers of an element kernel while its body is written.
pub(super) struct Body<'a> {
    pub(super) target: &'a Target,
    pub(super) y: ParamId,
    pub(super) x: Vec<ParamId>,
    /// Bytes per element of the innermost loop: of y, then of each operand; 0 for one value throughout.
    steps: Vec<i64>,
    /// Element from which this body works.
    base: usize,
    /// Table of constant vectors.
    pub(super) c: ParamId,
    /// The first of them, in registers throughout.
    kept: Option<(usize, Regs)>,
    pub(super) t: Regs,
}

impl Body<'_> {
    /// Element `at` of operand `k`.
    pub(super) fn src(&self, k: usize, at: usize) -> Addr {
        Addr::new(self.x[k], self.steps[k + 1] * (self.base + at) as i64)
    }

    /// Element `at` of the result.
    pub(super) fn dst(&self, at: usize) -> Addr {
        Addr::new(self.y, self.steps[0] * (self.base + at) as i64)
    }

    /// Vector `k` of the constant table.
    pub(super) fn constant(&self, k: usize) -> Operand<Reg, Addr> {
        match &self.kept {
            Some((count, kept)) if k < *count => kept.at(k).into(),
            _ => Addr::new(self.c, k * self.target.vector_bytes()).into(),
        }
    }

    /// The same in a register: `spare`, unless it is in one already. Not to be written.
    pub(super) fn constant_register(&self, b: &mut KernelBuilder, k: usize, spare: Reg) -> Reg {
        match self.constant(k) {
            Operand::Reg(r) => r,
            Operand::Mem(src) => {
                b.op(Instr::Load { dst: spare.clone(), src, bytes: self.target.vector_bytes() });
                spare
            }
        }
    }

    /// `count` f32 of operand `k` from element `at`.
    pub(super) fn load_f32(&self, b: &mut KernelBuilder, dst: Reg, k: usize, at: usize, count: usize) {
        let src = self.src(k, at);
        b.op(if self.steps[k + 1] == 0 {
            Instr::Broadcast32 { dst, src }
        } else {
            Instr::Load { dst, src, bytes: 4 * count }
        });
    }

    /// `count` u8 of operand `k` from element `at`, as f32.
    pub(super) fn load_u8(&self, b: &mut KernelBuilder, dst: Reg, k: usize, at: usize, count: usize) {
        b.op(Instr::LoadU8 { dst: dst.clone(), src: self.src(k, at), count });
        b.op(Instr::CvtI32F32 { dst: dst.clone(), src: dst });
    }
}

/// An element-by-element kernel over a nest.
pub(super) struct Elementwise<'a> {
    /// `add_u8`, … The target's name is appended.
    pub(super) name: &'a str,
    /// Where results go.
    pub(super) y: Place,
    /// Operands, broadcast to the output's shape (numpy rules).
    pub(super) x: Vec<Place>,
    /// Vectors of constants, which stay in registers as far as the target has them; or a table of bytes.
    pub(super) constants: Vec<u8>,
    /// The constants are a table of bytes.
    pub(super) table: bool,
    /// Temporary registers of the body.
    pub(super) registers: usize,
    /// Most elements that one body handles: a multiple of the lanes, at most four vectors.
    pub(super) chunk: usize,
}

/// A vector of one value.
pub(super) fn splat(target: &Target, x: f32) -> Vec<u8> {
    x.to_le_bytes().repeat(target.lanes)
}

/// A vector of one byte.
pub(super) fn splat_u8(target: &Target, q: u8) -> Vec<u8> {
    vec![q; target.vector_bytes()]
}

/// The dword order that [`pack`] wants, as a vector.
pub(super) fn order_vector(target: &Target) -> Vec<u8> {
    pack_order(target.lanes).iter().flat_map(|d| d.to_le_bytes()).collect()
}

/// Strides of an operand along the output's axes: 0 where it is broadcast.
fn broadcast(operand: &Layout, shape: &[usize]) -> Vec<usize> {
    let missing = shape.len() - operand.shape.len();
    let stride = |k: usize| match k.checked_sub(missing) {
        Some(j) if operand.shape[j] > 1 => operand.strides[j],
        _ => 0,
    };
    (0..shape.len()).map(stride).collect()
}

/// The loops over all elements of `shape`, outermost first; the last has unit step in the first operand. Channels are rounded up to what all
/// operands pad, so that pixels join.
fn nest(shape: &[usize], operands: &[(&Layout, Vec<usize>)]) -> Vec<Dim> {
    let mut shape = shape.to_vec();
    if shape.len() == 4 {
        let round = if operands.iter().any(|o| o.0.esz == 1) { 16 } else { 4 };
        let padded = shape[1].next_multiple_of(round);
        let fits = |(l, strides): &(&Layout, Vec<usize>)| {
            strides[1] == 0 || (l.strides.len() == 4 && l.shape[1] == shape[1] && l.pixel() >= padded * l.esz)
        };
        if operands.iter().all(fits) {
            shape[1] = padded;
        }
    }
    let esz = operands[0].0.esz as i64;
    let dim = |(k, &extent): (usize, &usize)| Dim {
        extent,
        steps: operands.iter().map(|o| o.1[k] as i64).collect(),
    };
    let mut dims = canonical(shape.iter().enumerate().map(dim));
    if dims.last().is_none_or(|d| d.steps[0] != esz) {
        let steps = operands.iter().map(|o| o.0.esz as i64).collect();
        dims.push(Dim { extent: 1, steps });
    }
    dims
}

impl Lower<'_> {
    /// Emits one step: `body` writes the instructions for `count` elements from element 0.
    pub(super) fn elementwise(
        &mut self,
        node: &QNode,
        what: &'static str,
        mut e: Elementwise,
        body: impl Fn(&mut KernelBuilder, &Body, usize),
    ) {
        let shape = e.y.layout.shape.clone();
        for k in 0..e.x.len() {
            e.x[k] = self.conform(&node.name, &e.x[k], &e.y, &shape);
        }
        let strides = |l: &Layout| broadcast(l, &shape);
        let mut operands = vec![(&e.y.layout, e.y.layout.strides.clone())];
        operands.extend(e.x.iter().map(|p| (&p.layout, strides(&p.layout))));
        let dims = nest(&shape, &operands);
        let (inner, outer) = dims.split_last().expect("a nest has an innermost loop");
        let (grid, loops) = outer.split_at(outer.len().saturating_sub(INNER_LOOPS));
        // The outermost loop stays outside, so that it can be shared by threads.
        let (grid, loops) =
            if grid.is_empty() && loops.len() > 1 { outer.split_at(1) } else { (grid, loops) };
        let kernel = element_kernel(self.target, &e, inner, loops, &body);
        let kernel = self.draft.kernel(kernel);
        let mut args = vec![e.y.first()];
        args.extend(e.x.iter().map(Place::first));
        args.push(self.draft.constant(e.constants.clone()));
        let dim = |d: &Dim| {
            let advance = d.steps.iter().copied().chain([0]).collect();
            GridDim { extent: d.extent, advance }
        };
        let call = DraftCall { kernel, args, grid: grid.iter().map(dim).collect() };
        self.draft.step(&node.name, what, 0, vec![call]);
    }

    /// An operand that registers can read along the output's innermost axis; expanded into temporary memory if it is not.
    fn conform(&mut self, layer: &str, x: &Place, y: &Place, shape: &[usize]) -> Place {
        let strides = broadcast(&x.layout, shape);
        let dims = nest(shape, &[(&y.layout, y.layout.strides.clone()), (&x.layout, strides.clone())]);
        let inner = dims.last().expect("a nest has an innermost loop");
        let esz = x.layout.esz as i64;
        if inner.extent == 1 || inner.steps[1] == esz || (inner.steps[1] == 0 && esz == 4) {
            return x.clone();
        }
        // The output's own strides, so that both move alike.
        let strides_of_y = y.layout.strides.iter().map(|&s| s * x.layout.esz / y.layout.esz);
        let mut layout = Layout { strides: strides_of_y.collect(), ..Layout::dense(shape, x.layout.esz) };
        let reach = shape.iter().zip(&layout.strides).map(|(&n, &s)| (n - 1) * s).sum::<usize>();
        // Channels may be rounded up to 16 elements.
        layout.bytes = reach + 16 * x.layout.esz;
        let full = self.temporary(layout);
        let source = Layout { shape: shape.to_vec(), strides, ..x.layout.clone() };
        self.copy(layer, "expand operand", &Place { base: x.base, layout: source }, &full);
        full
    }

    /// A table of f32 per channel as an operand of a 4-D (or [N, C]) output.
    fn per_channel(&mut self, blob: BlobId, rank: usize) -> Place {
        let values = self.graph.blob_f32(blob);
        let channels = values.len();
        let mut bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        bytes.resize(bytes.len().next_multiple_of(64), 0);
        let at = self.draft.constant(bytes);
        let mut shape = vec![1; rank];
        shape[1] = channels;
        let mut strides = vec![0; rank];
        strides[1] = 4;
        if rank == 4 {
            strides[3] = channels.next_multiple_of(16) * 4;
        }
        let layout = Layout { shape, strides, origin: 0, esz: 4, bytes: 0, halo: Default::default() };
        Place { base: at, layout }
    }

    pub(super) fn affine_node(&mut self, node: &QNode, scale: BlobId, offset: BlobId, lo: f32, hi: f32) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let rank = y.layout.shape.len();
        let (s, k) = (self.per_channel(scale, rank), self.per_channel(offset, rank));
        let target = self.target.clone();
        let lanes = target.lanes;
        if !self.is_u8(node.output) {
            let clamp = lo.is_finite() || hi.is_finite();
            let constants = [splat(&target, lo), splat(&target, hi)].concat();
            let e = Elementwise {
                name: "affine_f32",
                y,
                x: vec![x, s, k],
                constants,
                table: false,
                registers: 2,
                chunk: lanes,
            };
            self.elementwise(node, "affine", e, |b, k, count| {
                let (v, c) = (k.t.at(0), k.t.at(1));
                k.load_f32(b, v.clone(), 0, 0, count);
                k.load_f32(b, c.clone(), 2, 0, count);
                let m = k.t.at(2);
                k.load_f32(b, m.clone(), 1, 0, count);
                b.op(Instr::FmaMul { x: v.clone(), m: m.into(), c });
                store_f32(b, k, v, clamp, count);
            });
            return;
        }
        let order = order_vector(&target);
        // The product may be beyond i32: clamp while it is f32.
        let constants = [splat(&target, lo), splat(&target, hi), order].concat();
        let e = Elementwise {
            name: "affine_u8",
            y,
            x: vec![x, s, k],
            constants,
            table: false,
            registers: 6,
            chunk: 4 * lanes,
        };
        self.elementwise(node, "affine", e, |b, k, count| {
            bytes_out(b, k, count, 2, None, |b, v, at, n| {
                k.load_u8(b, v.clone(), 0, at, n);
                k.load_f32(b, k.t.at(4), 1, at, n);
                k.load_f32(b, k.t.at(5), 2, at, n);
                b.op(Instr::FmaMul { x: v.clone(), m: k.t.at(4).into(), c: k.t.at(5) });
                b.op(Instr::MaxF32 { dst: v.clone(), a: v.clone(), b: k.constant(0) });
                b.op(Instr::MinF32 { dst: v.clone(), a: v.clone(), b: k.constant(1) });
                b.op(Instr::CvtF32I32 { dst: v.clone(), src: v });
            });
        });
    }

    pub(super) fn add(&mut self, node: &QNode, a: f32, b_scale: f32, k: f32, lo: u8, hi: u8) {
        let target = self.target.clone();
        let constants = [
            splat(&target, a),
            splat(&target, b_scale),
            splat(&target, k),
            order_vector(&target),
            splat_u8(&target, lo),
            splat_u8(&target, hi),
        ];
        let e = self.two_operands(node, "add_u8", constants.concat(), 4 * target.lanes);
        let clamp = (lo > 0, hi < 255);
        self.elementwise(node, "add", e, |b, k, count| {
            bytes_out(b, k, count, 3, Some((4, 5, clamp)), |b, v, at, n| {
                let c = k.constant_register(b, 2, k.t.at(5));
                k.load_u8(b, v.clone(), 0, at, n);
                b.op(Instr::FmaMul { x: v.clone(), m: k.constant(0), c });
                k.load_u8(b, k.t.at(4), 1, at, n);
                b.op(Instr::FmaAcc { acc: v.clone(), a: k.t.at(4), b: k.constant(1) });
                b.op(Instr::CvtF32I32 { dst: v.clone(), src: v });
            });
        });
    }

    pub(super) fn mul(&mut self, node: &QNode, scale: f32, lo: u8, hi: u8) {
        let target = self.target.clone();
        let zero = |id| i32::from(self.affine(id).1).to_le_bytes().repeat(target.lanes);
        let constants = [
            splat(&target, scale),
            splat(&target, f32::from(self.affine(node.output).1)),
            zero(node.inputs[0]),
            zero(node.inputs[1]),
            order_vector(&target),
            splat_u8(&target, lo),
            splat_u8(&target, hi),
        ];
        let e = self.two_operands(node, "mul_u8", constants.concat(), 4 * target.lanes);
        let clamp = (lo > 0, hi < 255);
        self.elementwise(node, "mul", e, |b, k, count| {
            bytes_out(b, k, count, 4, Some((5, 6, clamp)), |b, v, at, n| {
                let u = k.t.at(4);
                for (x, dst, zero) in [(0, v.clone(), 2), (1, u.clone(), 3)] {
                    b.op(Instr::LoadU8 { dst: dst.clone(), src: k.src(x, at), count: n });
                    b.op(Instr::SubI32 { dst: dst.clone(), a: dst, b: k.constant(zero) });
                }
                b.op(Instr::MulI32 { dst: v.clone(), a: v.clone(), b: u.into() });
                b.op(Instr::CvtI32F32 { dst: v.clone(), src: v.clone() });
                let c = k.constant_register(b, 1, k.t.at(5));
                b.op(Instr::FmaMul { x: v.clone(), m: k.constant(0), c });
                b.op(Instr::CvtF32I32 { dst: v.clone(), src: v });
            });
        });
    }

    fn two_operands(
        &self,
        node: &QNode,
        name: &'static str,
        constants: Vec<u8>,
        chunk: usize,
    ) -> Elementwise<'static> {
        let place = |k: usize| self.place(node.inputs[k]).clone();
        let y = self.place(node.output).clone();
        Elementwise { name, y, x: vec![place(0), place(1)], constants, table: false, registers: 6, chunk }
    }

    pub(super) fn binary(&mut self, node: &QNode, op: FloatBinary, lo: f32, hi: f32) {
        let target = self.target.clone();
        let clamp = lo.is_finite() || hi.is_finite();
        let name = match op {
            FloatBinary::Add => "add_f32",
            FloatBinary::Sub => "sub_f32",
            FloatBinary::Mul => "mul_f32",
            FloatBinary::Div => "div_f32",
        };
        let constants = [splat(&target, lo), splat(&target, hi)].concat();
        let e = self.two_operands(node, name, constants, target.lanes);
        self.elementwise(node, "binary", e, |b, k, count| {
            let (dst, right) = (k.t.at(0), k.t.at(1));
            k.load_f32(b, dst.clone(), 0, 0, count);
            k.load_f32(b, right.clone(), 1, 0, count);
            let (a, right) = (dst.clone(), right.into());
            b.op(match op {
                FloatBinary::Add => Instr::AddF32 { dst: dst.clone(), a, b: right },
                FloatBinary::Sub => Instr::SubF32 { dst: dst.clone(), a, b: right },
                FloatBinary::Mul => Instr::MulF32 { dst: dst.clone(), a, b: right },
                FloatBinary::Div => Instr::DivF32 { dst: dst.clone(), a, b: right },
            });
            store_f32(b, k, dst, clamp, count);
        });
    }

    pub(super) fn prelu(&mut self, node: &QNode, slope: BlobId) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let slope = self.per_channel(slope, y.layout.shape.len());
        let target = self.target.clone();
        let constants = splat(&target, 0.0);
        let e = Elementwise {
            name: "prelu_f32",
            y,
            x: vec![x, slope],
            constants,
            table: false,
            registers: 3,
            chunk: target.lanes,
        };
        self.elementwise(node, "prelu", e, |b, k, count| {
            // x < 0 ? s·x : x is max(x, 0) + s·min(x, 0): one of the terms is zero.
            let (x, low, s) = (k.t.at(0), k.t.at(1), k.t.at(2));
            k.load_f32(b, x.clone(), 0, 0, count);
            k.load_f32(b, s.clone(), 1, 0, count);
            b.op(Instr::MinF32 { dst: low.clone(), a: x.clone(), b: k.constant(0) });
            b.op(Instr::MaxF32 { dst: x.clone(), a: x.clone(), b: k.constant(0) });
            b.op(Instr::FmaAcc { acc: x.clone(), a: low, b: s.into() });
            store_f32(b, k, x, false, count);
        });
    }

    pub(super) fn table(&mut self, node: &QNode, table: BlobId) {
        if self.graph.blob(table).shape.len() == 2 {
            return self.tables(node, table);
        }
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let target = self.target.clone();
        let constants = self.graph.blob_bytes(table).to_vec();
        let chunk = target.vector_bytes();
        let e = Elementwise { name: "table_u8", y, x: vec![x], constants, table: true, registers: 1, chunk };
        self.elementwise(node, "table", e, |b, k, count| {
            let v = k.t.at(0);
            b.op(Instr::Load { dst: v.clone(), src: k.src(0, 0), bytes: count });
            b.op(Instr::Lookup8 { dst: v.clone(), src: v.clone(), table: Addr::new(k.c, 0) });
            b.op(Instr::Store { dst: k.dst(0), src: v, bytes: count });
        });
    }

    /// x < lo ? lo : x, then x > hi ? hi : x; NaN stays, as in `Unary::eval`.
    pub(super) fn clamp(&mut self, node: &QNode, lo: f32, hi: f32) {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let target = self.target.clone();
        let constants = [splat(&target, lo), splat(&target, hi)].concat();
        let e = Elementwise {
            name: "clamp_f32",
            y,
            x: vec![x],
            constants,
            table: false,
            registers: 2,
            chunk: target.lanes,
        };
        self.elementwise(node, "clamp", e, |b, k, count| {
            let (v, bound) = (k.t.at(0), k.t.at(1));
            k.load_f32(b, v.clone(), 0, 0, count);
            let a = k.constant_register(b, 0, bound.clone());
            b.op(Instr::MaxF32 { dst: v.clone(), a, b: v.clone().into() });
            let a = k.constant_register(b, 1, bound);
            b.op(Instr::MinF32 { dst: v.clone(), a, b: v.clone().into() });
            store_f32(b, k, v, false, count);
        });
    }

    /// A constant is laid out when the plan is made and copied to its place.
    pub(super) fn constant(&mut self, node: &QNode, blob: BlobId) {
        let y = self.place(node.output).clone();
        let from = Place {
            base: At { base: Base::Fixed(Space::Weights), offset: self.graph.blob(blob).offset },
            layout: Layout::dense(&y.layout.shape, y.layout.esz),
        };
        self.copy(&node.name, "constant", &from, &y);
    }
}

/// Clamps by constants 0 and 1 if asked, and stores.
fn store_f32(b: &mut KernelBuilder, k: &Body, v: Reg, clamp: bool, count: usize) {
    if clamp {
        b.op(Instr::MaxF32 { dst: v.clone(), a: v.clone(), b: k.constant(0) });
        b.op(Instr::MinF32 { dst: v.clone(), a: v.clone(), b: k.constant(1) });
    }
    b.op(Instr::Store { dst: k.dst(0), src: v, bytes: 4 * count });
}

/// Computes `count` elements as i32 in up to four vectors `t[0..4]` and stores them as bytes. `t[5]` is free after the vectors; the
/// pack order is constant `order`; `clamp` names the constants of the bounds and which are needed.
pub(super) fn bytes_out(
    b: &mut KernelBuilder,
    k: &Body,
    count: usize,
    order: usize,
    clamp: Option<(usize, usize, (bool, bool))>,
    vector: impl Fn(&mut KernelBuilder, Reg, usize, usize),
) {
    let lanes = k.target.lanes;
    let regs: Vec<Reg> = (0..count.div_ceil(lanes)).map(|v| k.t.at(v)).collect();
    for (v, reg) in regs.iter().enumerate() {
        vector(b, reg.clone(), v * lanes, (count - v * lanes).min(lanes));
    }
    let index = (lanes > 4).then(|| k.constant_register(b, order, k.t.at(5)));
    let (lo, hi) = match clamp {
        Some((lo, hi, (use_lo, use_hi))) => (use_lo.then(|| k.constant(lo)), use_hi.then(|| k.constant(hi))),
        None => (None, None),
    };
    let src = pack(b, &regs, lo, hi, index.as_ref());
    b.op(Instr::Store { dst: k.dst(0), src, bytes: count });
}

fn element_kernel(
    target: &Target,
    e: &Elementwise,
    inner: &Dim,
    loops: &[Dim],
    body: &impl Fn(&mut KernelBuilder, &Body, usize),
) -> Kernel {
    let mut b = KernelBuilder::new(format!("{}_{}", e.name, target.name), target.lanes);
    let y = b.param("y", Access::Write);
    let names = ["a", "b", "s"];
    let x: Vec<ParamId> = (0..e.x.len()).map(|k| b.param(names[k], Access::Read)).collect();
    let c = b.param("c", Access::Read);
    let registers = e.registers.max(3);
    let t = b.array("t", registers);
    let vectors = if e.table { 0 } else { e.constants.len() / target.vector_bytes() };
    let kept = vectors.min(target.registers - registers);
    let kept = (kept > 0).then(|| (kept, b.array("k", kept)));
    if let Some((count, kept)) = &kept {
        let bytes = target.vector_bytes();
        let load = |i| Instr::Load { dst: kept.at(i), src: Addr::new(c, i * bytes), bytes };
        (0..*count).for_each(|i| b.op(load(i)));
    }
    let params: Vec<ParamId> = std::iter::once(y).chain(x.iter().copied()).collect();
    let mut k = Body { target, y, x, steps: inner.steps.clone(), base: 0, c, kept, t };
    let advance = |steps: &[i64], times: usize| -> Vec<(ParamId, i64)> {
        params.iter().zip(steps).map(|(&p, &s)| (p, s * times as i64)).collect()
    };
    around(&mut b, loops, &advance, &mut |b| {
        let (whole, rest) = (inner.extent / e.chunk, inner.extent % e.chunk);
        b.loop_(whole, advance(&inner.steps, e.chunk), |b| body(b, &k, e.chunk));
        if rest > 0 {
            k.base = e.chunk * whole;
            body(b, &k, rest);
        }
    });
    b.finish()
}

/// By how much each parameter moves for a number of steps of a loop.
type Advance<'a> = dyn Fn(&[i64], usize) -> Vec<(ParamId, i64)> + 'a;

/// Nested loops around a body.
fn around(b: &mut KernelBuilder, loops: &[Dim], advance: &Advance, body: &mut dyn FnMut(&mut KernelBuilder)) {
    match loops {
        [] => body(b),
        [d, rest @ ..] => {
            b.loop_(d.extent, advance(&d.steps, 1), |b| around(b, rest, advance, body));
        }
    }
}
