//! Inputs of bytes: pixels to what the network takes, with the bits of [`Preprocess::tensor`].
//!
//! f32 are computed as [`Preprocess::normalize`] states, operation by operation. Quantized bytes too, unless one multiply-add per byte is
//! found to give all 256 bytes of every channel, which it nearly always does.

use super::Lower;
use super::draft::{DraftCall, Place};
use super::elementwise::{Elementwise, splat};
use super::epilogue::pack;
use super::input::{axes, join_order, preprocess, quantize_lanes};
use super::layout::Layout;
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Operand, Reg};
use crate::plan::GridDim;
use crate::preprocess::Preprocess;
use crate::qgraph::QNode;
use crate::target::Target;
use qgraph_runtime::requant::{self, Rounding};

/// A number per channel of the network, in lanes that follow each other like the channels of decoded pixels.
fn pattern(p: &Preprocess, c: usize, lanes: usize, of: &dyn Fn(usize) -> f32) -> Vec<u8> {
    (0..lanes).flat_map(|i| of(p.source(i % c, c)).to_le_bytes()).collect()
}

/// The operations of [`Preprocess::normalize`]: `(x·scale − mean) / std`, by constant vectors.
fn normalize(b: &mut KernelBuilder, v: &Reg, [scale, mean, std]: [Operand<Reg, Addr>; 3]) {
    b.op(Instr::MulF32 { dst: v.clone(), a: v.clone(), b: scale });
    b.op(Instr::SubF32 { dst: v.clone(), a: v.clone(), b: mean });
    b.op(Instr::DivF32 { dst: v.clone(), a: v.clone(), b: std });
}

impl Lower<'_> {
    /// Normalizes pixels into dense f32 in temporary memory.
    pub(super) fn normalized(&mut self, layer: &str, x: &Place) -> Place {
        let strides = x.layout.strides.iter().map(|s| 4 * s).collect();
        let to = self.temporary(Layout { strides, ..Layout::dense(&x.layout.shape, 4) });
        let done = self.normalize(layer, x, &to);
        debug_assert!(done, "dense pixels are what it writes");
        to
    }

    /// Normalizes pixels into f32, if those too are pixels: dense, or 16 bytes apart.
    pub(super) fn normalize(&mut self, layer: &str, x: &Place, y: &Place) -> bool {
        let p = preprocess(self.graph).into_owned();
        let [channel, row, column] = axes(self.graph);
        let (c, w) = (x.layout.shape[channel], x.layout.shape[column]);
        let lanes_of_pixel = y.layout.strides[column] / 4;
        if y.layout.strides[channel] != 4 || (lanes_of_pixel != c && lanes_of_pixel != 4) {
            return false;
        }
        let kernels = Normalize { p: &p, c, step: lanes_of_pixel, target: self.target };
        let constants = self.draft.constant(kernels.constants());
        let group = self.target.lanes / lanes_of_pixel;
        let (whole, rest) = (w / group, w % group);
        let mut calls = Vec::new();
        for (first, count, pixels) in [(0, whole, group), (whole * group, usize::from(rest > 0), rest)] {
            if count == 0 {
                continue;
            }
            let kernel = self.draft.kernel(kernels.kernel(pixels, count));
            let args = vec![y.first().plus(first * 4 * lanes_of_pixel), x.first().plus(first * c), constants];
            let grid = [0, row].map(|axis| {
                let advance = vec![y.layout.strides[axis] as i64, x.layout.strides[axis] as i64, 0];
                GridDim { extent: x.layout.shape[axis], advance }
            });
            calls.push(DraftCall { kernel, args, grid: grid.into_iter().filter(|d| d.extent > 1).collect() });
        }
        self.draft.step(layer, "normalize pixels", 0, calls);
        true
    }

    /// Quantizes pixels, if the result too is dense pixels.
    pub(super) fn quantize_pixels(&mut self, node: &QNode, x: &Place, y: &Place) -> bool {
        let p = preprocess(self.graph).into_owned();
        let [channel, _, column] = axes(self.graph);
        let c = x.layout.shape[channel];
        if y.layout.strides[channel] != 1 || y.layout.strides[column] != c {
            return false;
        }
        let target = self.target.clone();
        let lanes = target.lanes;
        // Vectors after which the channels begin anew, and vectors of a body.
        let (period, vectors) = if c == 3 { (3, 3) } else { (1, 4) };
        let pattern = |of: &dyn Fn(usize) -> f32| pattern(&p, c, period * lanes, of);
        let ((scale, zero_point), rounding) = (self.affine(node.output), self.graph.rounding);
        let lines: Option<Vec<(f32, f32)>> =
            (0..c).map(|channel| line(&p, rounding, channel, scale, zero_point)).collect();
        let [quantum, zero, lo, hi, order] = self.quantize_constants(node.output);
        let mut constants = vec![order];
        if p.source(0, c) != 0 {
            let swap = [2, 1, 0, 5, 4, 3, 8, 7, 6, 11, 10, 9, 0x80, 0x80, 0x80, 0x80];
            constants.extend([swap.repeat(lanes / 4), spread(&target), join_order(&target, 3)]);
        }
        let swap = constants.len() > 1;
        let first = constants.iter().map(Vec::len).sum::<usize>() / target.vector_bytes();
        match &lines {
            Some(lines) => constants.extend([pattern(&|c| lines[c].0), pattern(&|c| lines[c].1)]),
            None => {
                let (mean, std) = (pattern(&|c| p.mean_of(c)), pattern(&|c| p.std_of(c)));
                constants.extend([mean, std, splat(&target, p.scale), quantum, zero, lo, hi]);
            }
        }
        let (chunk, x) = (vectors * lanes, vec![x.clone()]);
        let constants = constants.concat();
        let e = Elementwise {
            name: "quantize_u8",
            y: y.clone(),
            x,
            constants,
            table: false,
            registers: 6,
            chunk,
        };
        self.elementwise(node, "quantize", e, |b, k, count| {
            let regs: Vec<Reg> = (0..count.div_ceil(lanes)).map(|v| k.t.at(v)).collect();
            for (i, v) in regs.iter().enumerate() {
                k.load_u8(b, v.clone(), 0, i * lanes, (count - i * lanes).min(lanes));
                let (pattern, spare) = (first + i % period, k.t.at(5));
                if lines.is_some() {
                    let c = k.constant_register(b, pattern + period, spare);
                    b.op(Instr::FmaMul { x: v.clone(), m: k.constant(pattern), c });
                    b.op(Instr::CvtF32I32 { dst: v.clone(), src: v.clone() });
                } else {
                    let splats = first + 2 * period;
                    normalize(b, v, [splats, pattern, pattern + period].map(|at| k.constant(at)));
                    let zero = k.constant_register(b, splats + 2, spare);
                    quantize_lanes(b, rounding, v, zero, [1, 3, 4].map(|at| k.constant(splats + at)));
                }
            }
            let permute = |b: &mut KernelBuilder, v: &Reg, at: usize| {
                if lanes > 4 {
                    let index = k.constant_register(b, at, k.t.at(5));
                    b.op(Instr::Permute32 { dst: v.clone(), src: v.clone(), index });
                }
            };
            let src = pack(b, &regs, None, None, None);
            permute(b, &src, 0);
            if swap {
                permute(b, &src, 2);
                b.op(Instr::Shuffle8 { dst: src.clone(), src: src.clone(), control: k.constant(1) });
                permute(b, &src, 3);
            }
            b.op(Instr::Store { dst: k.dst(0), src, bytes: count });
        });
        true
    }
}

/// Normalization of pixels of `c` channels into f32 pixels of `step` lanes.
struct Normalize<'a> {
    p: &'a Preprocess,
    c: usize,
    step: usize,
    target: &'a Target,
}

impl Normalize<'_> {
    /// The channel of a lane, if it has one, and where among the loaded bytes it comes from.
    fn lane(&self, lane: usize) -> Option<(usize, usize)> {
        let (pixel, channel) = (lane / self.step, lane % self.step);
        let used = channel < self.c && pixel < self.target.lanes / self.step;
        used.then(|| (channel, pixel * self.c + self.p.source(channel, self.c)))
    }

    /// Byte of each lane; lanes without a channel take the last, which is zero if there are any.
    fn index(&self) -> Vec<u32> {
        let lanes = self.target.lanes;
        (0..lanes).map(|i| self.lane(i).map_or(lanes - 1, |l| l.1) as u32).collect()
    }

    /// Vectors: index, scale, mean, std.
    fn constants(&self) -> Vec<u8> {
        let of = |free: f32, of: &dyn Fn(usize) -> f32| -> Vec<u8> {
            let lane = |i| self.lane(i).map_or(free, |l| of(l.0)).to_le_bytes();
            (0..self.target.lanes).flat_map(lane).collect()
        };
        let index = self.index().into_iter().flat_map(u32::to_le_bytes).collect();
        let (mean, std) = (of(0.0, &|c| self.p.mean_of(c)), of(1.0, &|c| self.p.std_of(c)));
        [index, splat(self.target, self.p.scale), mean, std].concat()
    }

    /// `count` times `pixels` pixels.
    fn kernel(&self, pixels: usize, count: usize) -> Kernel {
        let Normalize { c, step, target, .. } = *self;
        let bytes = target.vector_bytes();
        let name = format!("normalize{c}to{step}_{pixels}_{}", target.name);
        let mut b = KernelBuilder::new(name, target.lanes);
        let y = b.param("y", Access::Write);
        let x = b.param("x", Access::Read);
        let table = b.param("c", Access::Read);
        let v = b.array("v", 1).at(0);
        let index = b.array("index", 1).at(0);
        let constant = |k: usize| Addr::new(table, k * bytes);
        let moves = self.index().iter().enumerate().any(|(i, &from)| i != from as usize);
        if moves {
            b.op(Instr::Load { dst: index.clone(), src: constant(0), bytes });
        }
        b.loop_(count, [(y, (4 * step * pixels) as i64), (x, (c * pixels) as i64)], |b| {
            b.op(Instr::LoadU8 { dst: v.clone(), src: Addr::new(x, 0), count: c * pixels });
            if moves {
                b.op(Instr::Permute32 { dst: v.clone(), src: v.clone(), index: index.clone() });
            }
            b.op(Instr::CvtI32F32 { dst: v.clone(), src: v.clone() });
            normalize(b, &v, [1, 2, 3].map(|k| constant(k).into()));
            b.op(Instr::Store { dst: Addr::new(y, 0), src: v.clone(), bytes: 4 * step * pixels });
        });
        b.finish()
    }
}

/// Every 12 bytes to the front of a 16-byte block, as dwords.
fn spread(target: &Target) -> Vec<u8> {
    let dword = |i: usize| if i % 4 < 3 { i / 4 * 3 + i % 4 } else { 0 };
    (0..target.lanes).flat_map(|i| (dword(i) as u32).to_le_bytes()).collect()
}

/// `(a, b)` such that `fma(u, a, b)`, rounded and saturated, is the quantized byte of every pixel value u of a channel, if f32 has such.
fn line(
    p: &Preprocess,
    rounding: Rounding,
    channel: usize,
    scale: f32,
    zero_point: u8,
) -> Option<(f32, f32)> {
    let bytes: [u8; 256] =
        std::array::from_fn(|u| rounding.quantize(p.normalize(u as u8, channel), scale, zero_point));
    let a = (f64::from(p.scale) / f64::from(p.std_of(channel)) / f64::from(scale)) as f32;
    // The b that keep every product within half a step of its byte; beyond the ends any distance will do.
    let (mut least, mut most) = (f64::NEG_INFINITY, f64::INFINITY);
    for (u, &q) in bytes.iter().enumerate() {
        let rest = f64::from(q) - f64::from(a) * u as f64;
        if q > 0 {
            least = least.max(rest - 0.5);
        }
        if q < 255 {
            most = most.min(rest + 0.5);
        }
    }
    // The middle leaves room for the rounding of f32. One of them is infinite where all bytes are 0 or all are 255.
    let b = match (least.is_finite(), most.is_finite()) {
        (true, true) => (least + most) / 2.0,
        (true, false) => least + 0.5,
        (false, _) => most - 0.5,
    } as f32;
    let fits = |(u, &q): (usize, &u8)| {
        let real = requant::fma(u as f32, a, b);
        real.abs() < 1e9 && requant::quantize_value(real, 0, 255) == q
    };
    bytes.iter().enumerate().all(fits).then_some((a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preprocess(scale: f32, mean: f32, std: f32) -> Preprocess {
        Preprocess { scale, mean: vec![mean], std: vec![std], ..Preprocess::default() }
    }

    #[test]
    fn one_multiply_add_gives_the_bytes_of_nearly_all_usual_preprocessing() {
        let mut without = Vec::new();
        for (mean, std) in [(123.675, 58.395), (116.28, 57.12), (103.53, 57.375), (127.5, 127.5), (0.0, 1.0)]
        {
            for (quantum, zero_point) in
                [(0.0187, 114), (1.0, 0), (0.007_843_137, 128), (0.02, 0), (3.7, 255)]
            {
                let p = preprocess(1.0, mean, std);
                if line(&p, Rounding::Fused, 0, quantum, zero_point).is_none() {
                    without.push((mean, std, quantum, zero_point));
                }
            }
        }
        // There, pixels lie so near the middle between two bytes that the roundings of preprocessing decide.
        assert_eq!(without, [(116.28, 57.12, 0.007_843_137, 128), (127.5, 127.5, 0.007_843_137, 128)]);
        // All bytes alike; falling.
        assert!(line(&preprocess(1.0, -1e6, 1.0), Rounding::Fused, 0, 1.0, 0).is_some());
        assert!(line(&preprocess(-1.0, 0.0, 1.0), Rounding::Fused, 0, 1.0, 255).is_some());
    }

    #[test]
    fn a_line_that_is_none_is_not_taken() {
        // x·scale overflows to infinity from u = 2 on.
        assert_eq!(line(&preprocess(2e38, 0.0, 1.0), Rounding::Fused, 0, 1.0, 7), None);
        // All pixels lie in the middle between two bytes but for the roundings of a division and a product.
        assert_eq!(line(&preprocess(1.0, 127.5, 127.5), Rounding::Fused, 0, 0.007_843_137, 128), None);
    }
}
