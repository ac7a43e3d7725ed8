//! Where numbers leave, and the halos around maps.

use super::draft::{DraftCall, Place};
use super::elementwise::{Elementwise, splat};
use super::layout::{Dim, Halo, Layout, canonical};
use super::{At, Lower};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder};
use crate::plan::GridDim;
use crate::qgraph::{QNode, QValueId};
use crate::target::Target;

/// Into how many parts of its rows a box to be filled can be cut, at most.
const PARTS: usize = 8;

impl Lower<'_> {
    /// Fills the halo that windows read around a value, before the value is written.
    pub(super) fn fill_halo(&mut self, layer: &str, id: QValueId) {
        if let Some(bits) = self.memory.fills[id.0 as usize] {
            let place = self.place(id).clone();
            self.fill_around(layer, &place, bits);
        }
    }

    /// Fills the halo of a map: what lies before its first pixel, between its rows and behind its last one, or, where rows do not follow each
    /// other without a gap, rows above and below, then columns beside.
    pub(super) fn fill_around(&mut self, layer: &str, place: &Place, bits: u32) {
        let l = &place.layout;
        let Halo { top, left, bottom, right } = l.halo;
        let [h, w] = [l.shape[2], l.shape[3]];
        let width = left + w + right;
        let corner =
            At { offset: place.base.offset + l.origin - top * l.row() - left * l.pixel(), ..place.base };
        let pixel = |row: usize, col: usize| corner.plus(row * l.row() + col * l.pixel());
        let boxes = if bottom > 0 && l.row() == width * l.pixel() {
            vec![
                (pixel(0, 0), 1, top * width + left),
                (pixel(top, left + w), h, right + left),
                (pixel(top + h, left), 1, bottom * width - left),
            ]
        } else {
            vec![
                (pixel(0, 0), top, width),
                (pixel(top, 0), h, left),
                (pixel(top, left + w), h, right),
                (pixel(top + h, 0), bottom, width),
            ]
        };
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
        // The kernel loops over some runs at once, and the grid over these, so that threads can share them.
        if let Some(rows) = dims.pop() {
            let parts = (1..=PARTS).rev().find(|n| rows.extent.is_multiple_of(*n)).unwrap_or(1);
            let each = rows.extent / parts;
            dims.push(Dim { extent: parts, steps: rows.steps.iter().map(|by| by * each as i64).collect() });
            dims.push(Dim { extent: each, ..rows });
        }
        let kernel = self.draft.kernel(fill_kernel(self.target, dims.last(), run, bits));
        dims.pop();
        let dim = |d: &Dim| GridDim { extent: d.extent, advance: d.steps.clone() };
        let grid = dims.iter().filter(|d| d.extent > 1).map(dim).collect();
        DraftCall { kernel, args: vec![at], grid }
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
