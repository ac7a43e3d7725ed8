//! Convolutions, as a product of patches and weights.
//!
//! For four output positions at a time the inputs under the window are gathered into a patch, in the order kernel row, kernel
//! column, input channel; then each block of 16 output channels sums over it. In integers the order of the sum is free; in
//! f32 this is the order the definition asks for.

use super::super::layout::{BLOCK, WeightShape};
use super::super::{Arithmetic, QConv, Window};
use super::{Data, Site, clamp};
use qgraph_runtime::requant::{fma, quantize_value};
use std::ops::Range;

/// Output positions that are computed together.
pub(super) const POSITIONS: usize = 4;

/// The sums of 16 output channels at four positions.
pub(super) type Tile<T> = [[T; BLOCK]; POSITIONS];

/// The multiply-accumulate of an element type.
pub(super) trait Element: Copy + Default {
    /// An input as it is multiplied; also the sum.
    type Sum: Copy + Default;
    /// A weight as it is kept.
    type Weight: Copy + Default;
    /// The input.
    fn widen(self) -> Self::Sum;
    /// acc + x·w.
    fn mac(acc: Self::Sum, x: Self::Sum, w: Self::Weight) -> Self::Sum;
    /// [`sum`], by whatever is fastest here: the instruction set changes the speed, never the bits.
    fn sum(acc: &mut Tile<Self::Sum>, patch: &[[Self::Sum; POSITIONS]], weights: &[[Self::Weight; BLOCK]]);
}

impl Element for u8 {
    type Sum = i32;
    type Weight = i8;
    #[inline(always)]
    fn widen(self) -> i32 {
        i32::from(self)
    }
    #[inline(always)]
    fn mac(acc: i32, x: i32, w: i8) -> i32 {
        acc + x * i32::from(w)
    }
    fn sum(acc: &mut Tile<i32>, patch: &[[i32; POSITIONS]], weights: &[[i8; BLOCK]]) {
        #[cfg(target_arch = "x86_64")]
        if super::x86::available() {
            // SAFETY: the CPU has what the function needs.
            return unsafe { super::x86::sum_i32(acc, patch, weights) };
        }
        sum::<Self>(acc, patch, weights);
    }
}

impl Element for f32 {
    type Sum = f32;
    type Weight = f32;
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn mac(acc: f32, x: f32, w: f32) -> f32 {
        fma(x, w, acc)
    }
    fn sum(acc: &mut Tile<f32>, patch: &[[f32; POSITIONS]], weights: &[[f32; BLOCK]]) {
        #[cfg(target_arch = "x86_64")]
        if super::x86::available() {
            // SAFETY: the CPU has what the function needs.
            return unsafe { super::x86::sum_f32(acc, patch, weights) };
        }
        sum::<Self>(acc, patch, weights);
    }
}

/// `acc[p][m] += Σ_k patch[k][p] · weights[k][m]`, for k in order.
pub(super) fn sum<E: Element>(
    acc: &mut Tile<E::Sum>,
    patch: &[[E::Sum; POSITIONS]],
    weights: &[[E::Weight; BLOCK]],
) {
    for (xs, ws) in patch.iter().zip(weights) {
        for (sums, &x) in acc.iter_mut().zip(xs) {
            for (sum, &w) in sums.iter_mut().zip(ws) {
                *sum = E::mac(*sum, x, w);
            }
        }
    }
}

/// Extents of a convolution.
struct Geometry<'a> {
    window: &'a Window,
    /// Batch, channels, rows, columns.
    input: [usize; 4],
    output: [usize; 4],
    weights: WeightShape,
}

impl Geometry<'_> {
    /// Weights of one position of one block: kernel row, column, input channel.
    fn taps(&self) -> usize {
        self.weights.kernel[0] * self.weights.kernel[1] * self.weights.ci
    }

    /// Blocks of 16 output channels in a group.
    fn blocks(&self) -> usize {
        self.weights.co.div_ceil(BLOCK)
    }

    /// Output channels of block `b` of group `g`.
    fn channels(&self, g: usize, b: usize) -> Range<usize> {
        let first = g * self.weights.co;
        first + b * BLOCK..first + self.weights.co.min((b + 1) * BLOCK)
    }

    /// The stored weights in the order of the sum: `[groups · blocks][taps][16]`.
    fn unpack<W: Copy + Default>(&self, stored: &[W]) -> Vec<[W; BLOCK]> {
        let WeightShape { groups, kernel: [kh, kw], ci, .. } = self.weights;
        let mut out = vec![[W::default(); BLOCK]; groups * self.blocks() * self.taps()];
        let mut lines = out.iter_mut();
        // In every layout the 16 channels of a block lie side by side, 4 bytes each.
        let lane = 4 / size_of::<W>();
        for (g, b) in (0..groups).flat_map(|g| (0..self.blocks()).map(move |b| (g, b))) {
            let channels = self.channels(g, b);
            for (y, x) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                for (c, line) in (0..ci).zip(&mut lines) {
                    let first = self.weights.index(channels.start, c, y, x);
                    let lanes = stored[first..].iter().step_by(lane);
                    for (w, &s) in line[..channels.len()].iter_mut().zip(lanes) {
                        *w = s;
                    }
                }
            }
        }
        out
    }

    /// Inputs of group `g` of image `n` under the window at the output positions from `first` on; `outside` in the padding.
    fn gather<E: Element>(
        &self,
        x: &[E],
        n: usize,
        g: usize,
        first: usize,
        outside: E,
        patch: &mut [[E::Sum; POSITIONS]],
    ) {
        let [_, channels, h, w] = self.input;
        let [_, _, rows, cols] = self.output;
        let [kh, kw] = self.weights.kernel;
        let ci = self.weights.ci;
        let base = (n * channels + g * ci) * h * w;
        for p in 0..POSITIONS {
            // Positions beyond the last repeat it; their sums are not used.
            let position = (first + p).min(rows * cols - 1);
            let origin = [position / cols, position % cols];
            let at = |axis: usize, k: usize, extent: usize| {
                let start =
                    (origin[axis] * self.window.strides[axis]) as isize - self.window.pads[axis] as isize;
                let i = start + (k * self.window.dilations[axis]) as isize;
                usize::try_from(i).ok().filter(|&i| i < extent)
            };
            for (ky, kx) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
                let part = &mut patch[(ky * kw + kx) * ci..][..ci];
                if let (Some(i), Some(j)) = (at(0, ky, h), at(1, kx, w)) {
                    let source = x[base + i * w + j..].iter().step_by(h * w);
                    for (xs, &x) in part.iter_mut().zip(source) {
                        xs[p] = x.widen();
                    }
                } else {
                    part.iter_mut().for_each(|xs| xs[p] = outside.widen());
                }
            }
        }
    }

    /// Calls `give(output index, channel, sum)` for every output.
    fn run<E: Element>(
        &self,
        x: &[E],
        outside: E,
        weights: &[[E::Weight; BLOCK]],
        bias: &[E::Sum],
        mut give: impl FnMut(usize, usize, E::Sum),
    ) {
        let [batch, outputs, rows, cols] = self.output;
        let (taps, blocks, area) = (self.taps(), self.blocks(), rows * cols);
        let mut patch = vec![[E::Sum::default(); POSITIONS]; taps];
        for (n, g) in (0..batch).flat_map(|n| (0..self.weights.groups).map(move |g| (n, g))) {
            for first in (0..area).step_by(POSITIONS) {
                self.gather(x, n, g, first, outside, &mut patch);
                for b in 0..blocks {
                    let channels = self.channels(g, b);
                    let mut start = [E::Sum::default(); BLOCK];
                    start[..channels.len()].copy_from_slice(&bias[channels.clone()]);
                    let mut acc = [start; POSITIONS];
                    E::sum(&mut acc, &patch, &weights[(g * blocks + b) * taps..][..taps]);
                    for (sums, position) in acc.iter().zip(first..area) {
                        for (&sum, m) in sums.iter().zip(channels.clone()) {
                            give((n * outputs + m) * area + position, m, sum);
                        }
                    }
                }
            }
        }
    }
}

/// A convolution node.
pub(super) fn conv(site: &Site, conv: &QConv) -> Data {
    let extents = |s: &[usize]| [s[0], s[1], s[2], s[3]];
    let (input, output) = (extents(site.shape(0)), extents(site.result()));
    let integer = !matches!(conv.arithmetic, Arithmetic::Float { .. });
    let weights = WeightShape::of(integer, input[1], output[1], conv.groups, &conv.window);
    let geometry = Geometry { window: &conv.window, input, output, weights };
    let len = output.iter().product();
    if let Arithmetic::Float { residual, lo, hi } = conv.arithmetic {
        let weights = geometry.unpack(&site.graph.blob_f32(conv.weight));
        let mut y = vec![0.0; len];
        let residual = residual.then(|| site.data(1).f32());
        geometry.run(site.data(0).f32(), 0.0, &weights, &site.graph.blob_f32(conv.bias), |i, _, sum| {
            y[i] = clamp(residual.map_or(sum, |r| sum + r[i]), lo, hi);
        });
        return Data::F32(y);
    }
    let stored: Vec<i8> = site.graph.blob_bytes(conv.weight).iter().map(|&w| w as i8).collect();
    let weights = geometry.unpack(&stored);
    let bias = site.graph.blob_i32(conv.bias);
    let (x, zero) = (site.data(0).u8(), site.scale(0).1);
    match conv.arithmetic {
        Arithmetic::Integer { scale, residual, lo, hi } => {
            let scale = site.graph.blob_f32(scale);
            let (rounding, z) = (site.graph.rounding, site.result_scale().1);
            let mut y = vec![0; len];
            match residual {
                None => geometry.run(x, zero, &weights, &bias, |i, m, sum| {
                    y[i] = rounding.requantize(sum, scale[m], z, lo, hi);
                }),
                Some(r) => {
                    let q = site.data(1).u8();
                    geometry.run(x, zero, &weights, &bias, |i, m, sum| {
                        let scaled = fma(sum as f32, scale[m], r.k);
                        y[i] = quantize_value(fma(q[i] as f32, r.scale, scaled), lo, hi);
                    });
                }
            }
            Data::U8(y)
        }
        Arithmetic::IntegerToFloat { scale, lo, hi } => {
            let scale = site.graph.blob_f32(scale);
            let mut y = vec![0.0; len];
            geometry.run(x, zero, &weights, &bias, |i, m, sum| {
                y[i] = clamp(sum as f32 * scale[m], lo, hi);
            });
            Data::F32(y)
        }
        Arithmetic::Float { .. } => unreachable!("returned above"),
    }
}
