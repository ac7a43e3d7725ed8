//! Where numbers enter and leave: quantization of inputs, dequantization, and the halos around maps.

use super::draft::{DraftCall, Place};
use super::elementwise::{Elementwise, bytes_out, order_vector, splat};
use super::layout::{Dim, Halo, Layout, canonical};
use super::{At, Base, Lower, Space};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder};
use crate::plan::GridDim;
use crate::qgraph::{QNode, QValueId};
use crate::target::Target;

impl Lower<'_> {
    /// Fills the halo that windows read around a value, before the value is written.
    pub(super) fn fill_halo(&mut self, layer: &str, id: QValueId) {
        if let Some(bits) = self.memory.fills[id.0 as usize] {
            let place = self.place(id).clone();
            self.fill_around(layer, &place, bits);
        }
    }

    /// Fills the halo of a map: rows above and below, then columns beside.
    pub(super) fn fill_around(&mut self, layer: &str, place: &Place, bits: u32) {
        let l = &place.layout;
        let Halo { top, left, bottom, right } = l.halo;
        let [h, w] = [l.shape[2], l.shape[3]];
        let corner =
            At { offset: place.base.offset + l.origin - top * l.row() - left * l.pixel(), ..place.base };
        let boxes = [
            (corner, top, left + w + right),
            (corner.plus((top + h) * l.row()), bottom, left + w + right),
            (corner.plus(top * l.row()), h, left),
            (corner.plus(top * l.row() + (left + w) * l.pixel()), h, right),
        ];
        let mut calls = Vec::new();
        for (at, rows, cols) in boxes.into_iter().filter(|b| b.1 * b.2 > 0) {
            calls.push(self.fill_call(at, l, &[l.shape[0], l.shape[1], rows, cols], bits));
        }
        self.draft.step(layer, "fill halo", 0, calls);
    }

    /// Fills a box of a layout's elements with one value; padding lanes of whole pixels may be filled too.
    pub(super) fn fill_call(&mut self, at: At, l: &Layout, shape: &[usize], bits: u32) -> DraftCall {
        let mut shape = shape.to_vec();
        if shape.len() == 4 {
            let padded = shape[1].next_multiple_of(16 / l.esz);
            if l.pixel() >= padded * l.esz {
                shape[1] = padded;
            }
        }
        let dim = |(k, &extent): (usize, &usize)| Dim { extent, steps: vec![l.strides[k] as i64] };
        let mut dims = canonical(shape.iter().enumerate().map(dim));
        let mut run = l.esz;
        if let Some(d) = dims.last()
            && d.steps == [l.esz as i64]
        {
            run = d.extent * l.esz;
            dims.pop();
        }
        let kernel = self.draft.kernel(fill_kernel(self.target, dims.last(), run, bits));
        dims.pop();
        let dim = |d: &Dim| GridDim { extent: d.extent, advance: d.steps.clone() };
        DraftCall { kernel, args: vec![at], grid: dims.iter().map(dim).collect() }
    }

    pub(super) fn quantize(&mut self, node: &QNode) {
        let (scale, zero_point) = self.affine(node.output);
        let y = self.place(node.output).clone();
        let input = self.graph.inputs.iter().position(|&i| i == node.inputs[0]);
        let staged = self.memory.staged[node.inputs[0].0 as usize];
        let x = match input {
            Some(k) if !staged => Place {
                base: At { base: Base::Fixed(Space::Input(k)), offset: 0 },
                layout: Layout::dense(&y.layout.shape, 4),
            },
            _ => self.place(node.inputs[0]).clone(),
        };
        let constants = |t: &Target| {
            [
                splat(t, 1.0 / scale),
                splat(t, f32::from(zero_point)),
                splat(t, 0.0),
                splat(t, 255.0),
                order_vector(t),
            ]
        };
        let image = y.layout.shape.len() == 4 && y.layout.shape[2] * y.layout.shape[3] > 1;
        if input.is_some() && !staged && image {
            self.quantize_planes(node, &x, &y, constants(self.target).concat());
            return;
        }
        let target = self.target.clone();
        let e = Elementwise {
            name: "quantize",
            y,
            x: vec![x],
            constants: constants(&target).concat(),
            registers: 6,
            chunk: 4 * target.lanes,
        };
        self.elementwise(node, "quantize", e, |b, k, count| {
            bytes_out(b, k, count, 4, None, |b, v, at, n| {
                k.load_f32(b, v.clone(), 0, at, n);
                k.load_constant(b, k.t.at(5), 1);
                b.op(Instr::FmaMul { x: v.clone(), m: k.constant(0), c: k.t.at(5) });
                b.op(Instr::MaxF32 { dst: v.clone(), a: v.clone(), b: k.constant(2) });
                b.op(Instr::MinF32 { dst: v.clone(), a: v.clone(), b: k.constant(3) });
                b.op(Instr::CvtF32I32 { dst: v.clone(), src: v });
            });
        });
    }

    /// f32 planes (N, C, H, W) to u8 pixels (N, H, W, C): up to three channels at once, joined in the dwords of a register.
    fn quantize_planes(&mut self, node: &QNode, x: &Place, y: &Place, mut constants: Vec<u8>) {
        let target = self.target.clone();
        let [n, c, h, w] = [0, 1, 2, 3].map(|k| y.layout.shape[k]);
        if c > 3 {
            // Many planes: quantize in their own order, then move bytes.
            let planes = self.temporary(Layout::dense(&x.layout.shape, 1));
            let flat =
                |p: &Place| Place { layout: Layout::dense(&[n * c * h * w], p.layout.esz), ..p.clone() };
            let (from, to) = (flat(x), flat(&planes));
            let e = Elementwise {
                name: "quantize",
                y: to,
                x: vec![from],
                constants,
                registers: 6,
                chunk: 4 * target.lanes,
            };
            self.elementwise(node, "quantize", e, |b, k, count| {
                bytes_out(b, k, count, 4, None, |b, v, at, n| {
                    k.load_f32(b, v.clone(), 0, at, n);
                    k.load_constant(b, k.t.at(5), 1);
                    b.op(Instr::FmaMul { x: v.clone(), m: k.constant(0), c: k.t.at(5) });
                    b.op(Instr::MaxF32 { dst: v.clone(), a: v.clone(), b: k.constant(2) });
                    b.op(Instr::MinF32 { dst: v.clone(), a: v.clone(), b: k.constant(3) });
                    b.op(Instr::CvtF32I32 { dst: v.clone(), src: v });
                });
            });
            self.copy(&node.name, "planes to pixels", &planes, y);
            return;
        }
        constants.extend(join_control(&target, c));
        constants.extend(join_order(&target, c));
        let constants = self.draft.constant(constants);
        let (lanes, plane) = (target.lanes, h * w * 4);
        let (whole, rest) = (w / lanes, w % lanes);
        let mut calls = Vec::new();
        for (first, count, pixels) in [(0, whole, lanes), (whole, usize::from(rest > 0), rest)] {
            if count == 0 {
                continue;
            }
            let kernel = self.draft.kernel(planes_kernel(&target, c, plane, pixels, count, y.layout.pixel()));
            let skip = first * lanes;
            let args = vec![y.first().plus(skip * y.layout.pixel()), x.first().plus(skip * 4), constants];
            let grid = [
                GridDim { extent: n, advance: vec![y.layout.image() as i64, (c * plane) as i64, 0] },
                GridDim { extent: h, advance: vec![y.layout.row() as i64, (w * 4) as i64, 0] },
            ];
            calls.push(DraftCall { kernel, args, grid: grid.into_iter().filter(|d| d.extent > 1).collect() });
        }
        self.draft.step(&node.name, "quantize", 0, calls);
    }

    pub(super) fn dequantize(&mut self, node: &QNode) {
        let (scale, zero_point) = self.affine(node.inputs[0]);
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let target = self.target.clone();
        let zero = i32::from(zero_point).to_le_bytes().repeat(target.lanes);
        let constants = [splat(&target, scale), zero].concat();
        let e =
            Elementwise { name: "dequantize", y, x: vec![x], constants, registers: 1, chunk: target.lanes };
        self.elementwise(node, "dequantize", e, |b, k, count| {
            let v = k.t.at(0);
            b.op(Instr::LoadU8 { dst: v.clone(), src: k.src(0, 0), count });
            b.op(Instr::SubI32 { dst: v.clone(), a: v.clone(), b: k.constant(1) });
            b.op(Instr::CvtI32F32 { dst: v.clone(), src: v.clone() });
            b.op(Instr::MulF32 { dst: v.clone(), a: v.clone(), b: k.constant(0) });
            b.op(Instr::Store { dst: k.dst(0), src: v, bytes: 4 * count });
        });
    }
}

/// Bytes 0..c of every dword of a 16-byte block, moved to its front.
fn join_control(target: &Target, c: usize) -> Vec<u8> {
    let mut block: Vec<u8> = (0..4).flat_map(|d| (0..c).map(move |k| (4 * d + k) as u8)).collect();
    block.resize(16, 0x80);
    block.repeat(target.lanes / 4)
}

/// The `c` leading dwords of every 16-byte block, moved to the front.
fn join_order(target: &Target, c: usize) -> Vec<u8> {
    let mut order: Vec<u32> =
        (0..target.lanes / 4).flat_map(|block| (0..c).map(move |k| (4 * block + k) as u32)).collect();
    order.resize(target.lanes, 3);
    order.iter().flat_map(|d| d.to_le_bytes()).collect()
}

fn planes_kernel(
    target: &Target,
    c: usize,
    plane: usize,
    pixels: usize,
    count: usize,
    pixel: usize,
) -> Kernel {
    let bytes = target.vector_bytes();
    let mut b = KernelBuilder::new(format!("quantize_nchw{c}_{pixels}_{}", target.name), target.lanes);
    let y = b.param("y", Access::Write);
    let x = b.param("x", Access::Read);
    let table = b.param("c", Access::Read);
    let v = b.array("v", c);
    let offset = b.array("offset", 1).at(0);
    let order = b.array("order", 1).at(0);
    let constant = |k: usize| Addr::new(table, k * bytes);
    b.op(Instr::Load { dst: offset.clone(), src: constant(1), bytes });
    b.op(Instr::Load { dst: order.clone(), src: constant(6), bytes });
    b.loop_(count, [(y, (target.lanes * pixel) as i64), (x, bytes as i64)], |b| {
        for k in 0..c {
            let r = v.at(k);
            b.op(Instr::Load { dst: r.clone(), src: Addr::new(x, k * plane), bytes: 4 * pixels });
            b.op(Instr::FmaMul { x: r.clone(), m: constant(0).into(), c: offset.clone() });
            b.op(Instr::MaxF32 { dst: r.clone(), a: r.clone(), b: constant(2).into() });
            b.op(Instr::MinF32 { dst: r.clone(), a: r.clone(), b: constant(3).into() });
            b.op(Instr::CvtF32I32 { dst: r.clone(), src: r.clone() });
            if k > 0 {
                b.op(Instr::ShlI32 { dst: r.clone(), a: r.clone(), by: 8 * k as u32 });
                b.op(Instr::Or { dst: v.at(0), a: v.at(0), b: r.into() });
            }
        }
        let out = v.at(0);
        b.op(Instr::Shuffle8 { dst: out.clone(), src: out.clone(), control: constant(5).into() });
        if target.lanes > 4 {
            b.op(Instr::Permute32 { dst: out.clone(), src: out.clone(), index: order.clone() });
        }
        b.op(Instr::Store { dst: Addr::new(y, 0), src: out, bytes: pixels * c });
    });
    b.finish()
}

fn fill_kernel(target: &Target, outer: Option<&Dim>, run: usize, bits: u32) -> Kernel {
    let bytes = target.vector_bytes();
    let mut b = KernelBuilder::new(format!("fill_{run}_{}", target.name), target.lanes);
    let y = b.param("y", Access::Write);
    let v = b.array("v", 1).at(0);
    b.op(Instr::Splat { dst: v.clone(), bits });
    let outer = outer.cloned().unwrap_or(Dim { extent: 1, steps: vec![0] });
    b.loop_(outer.extent, [(y, outer.steps[0])], |b| {
        let (whole, rest) = (run / bytes, run % bytes);
        b.loop_(whole, [(y, bytes as i64)], |b| {
            b.op(Instr::Store { dst: Addr::new(y, 0), src: v.clone(), bytes });
        });
        if rest > 0 {
            b.op(Instr::Store { dst: Addr::new(y, whole * bytes), src: v.clone(), bytes: rest });
        }
    });
    b.finish()
}
