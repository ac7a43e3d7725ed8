//! Where numbers leave, and the halos around maps.

use super::draft::{DraftCall, Place};
use super::elementwise::{Elementwise, splat};
use super::layout::{Dim, Halo, Layout, canonical};
use super::{At, Lower};
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

    pub(super) fn dequantize(&mut self, node: &QNode) {
        let (scale, zero_point) = self.affine(node.inputs[0]);
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let target = self.target.clone();
        let zero = i32::from(zero_point).to_le_bytes().repeat(target.lanes);
        let constants = [splat(&target, scale), zero].concat();
        let e = Elementwise {
            name: "dequantize",
            y,
            x: vec![x],
            constants,
            table: false,
            registers: 1,
            chunk: target.lanes,
        };
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
