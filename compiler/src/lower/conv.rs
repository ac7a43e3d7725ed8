//! Convolutions: what every way of computing one shares ([`Layer`]), and which way is taken.
//!
//! - `cut`: how a dense one is cut.
//! - `dense`: convolutions and fully connected layers, cut into panels and strips; `kernel` (with `words`): the kernels they call.
//! - `super::depthwise` (with `super::rows`), `super::channelwise`: one input channel per output channel.

mod cut;
mod dense;
mod kernel;
mod words;

pub(super) use cut::TileCosts;

use super::Lower;
use super::draft::{At, Place};
use super::epilogue::{CommonValues, Finish, magic, magic_bias};
use crate::error::Result;
use crate::qgraph::layout::{WeightLayout, WeightShape};
use crate::qgraph::{Arithmetic, QConv, QNode};
use crate::target::{Dots, Target};
use qgraph_runtime::requant::Rounding;
use std::ops::Range;

/// The inner product of a k-step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Dot {
    /// 4 u8 by 4 i8 into i32.
    U8S8,
    /// The same, by two dots of words.
    Words,
    /// One f32.
    F32,
}

impl Dot {
    /// What a target has for integers or floats.
    pub(super) fn of(target: &Target, integer: bool) -> Dot {
        match (integer, target.dots) {
            (true, Dots::Bytes) => Dot::U8S8,
            (true, Dots::Words) => Dot::Words,
            (false, _) => Dot::F32,
        }
    }
}

/// Everything about one convolution that its kernels share.
pub(super) struct Layer<'a> {
    pub(super) node: &'a QNode,
    pub(super) conv: &'a QConv,
    pub(super) shape: WeightShape,
    pub(super) x: Place,
    pub(super) y: Place,
    pub(super) r: Option<Place>,
    pub(super) finish: Finish,
    pub(super) common: CommonValues,
    /// Where accumulators start: b' or b, one per output channel.
    pub(super) bias: Vec<u32>,
    /// Scales, one per output channel; empty for float.
    pub(super) scale: Vec<f32>,
    /// Offsets, one per output channel, if [`Finish::magic`].
    pub(super) offset: Vec<f32>,
    /// Multiply-accumulates.
    pub(super) macs: u64,
}

impl Layer<'_> {
    /// Output channels.
    pub(super) fn outputs(&self) -> usize {
        self.shape.co * self.shape.groups
    }

    /// The pixel that the first tap of the first output reads.
    pub(super) fn x_first(&self) -> At {
        let l = &self.x.layout;
        let [top, left, ..] = self.conv.window.pads;
        self.x.base.plus(l.origin - top * l.row() - left * l.pixel())
    }

    /// Output rows, columns.
    pub(super) fn map(&self) -> [usize; 2] {
        [self.y.layout.shape[2], self.y.layout.shape[3]]
    }

    /// Bias vectors then scale vectors for `channels` (lane order), padding lanes 0.
    pub(super) fn table(&self, channels: impl Iterator<Item = usize> + Clone, outputs: usize) -> Vec<u8> {
        let lane = |c: usize, v: &dyn Fn(usize) -> u32| if c < outputs { v(c) } else { 0 };
        let bias = channels.clone().map(|c| lane(c, &|c| self.bias[c]));
        let mut words: Vec<u32> = bias.collect();
        if self.finish.scaled() {
            words.extend(channels.clone().map(|c| lane(c, &|c| self.scale[c].to_bits())));
        }
        if self.finish.magic() {
            words.extend(channels.map(|c| lane(c, &|c| self.offset[c].to_bits())));
        }
        words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }
}

impl Lower<'_> {
    pub(super) fn conv(&mut self, node: &QNode, conv: &QConv) -> Result<()> {
        let layer = self.layer(node, conv)?;
        match (layer.shape.layout, layer.finish) {
            (WeightLayout::Dense | WeightLayout::Row, _) => self.dense(&layer)?,
            (WeightLayout::Depthwise, Finish::Requantize { .. }) => self.depthwise(&layer),
            (WeightLayout::Depthwise, Finish::Dequantize { .. } | Finish::Float { .. }) => {
                self.channelwise(&layer);
            }
        }
        Ok(())
    }

    fn layer<'n>(&self, node: &'n QNode, conv: &'n QConv) -> Result<Layer<'n>> {
        let (x, y) = (self.place(node.inputs[0]).clone(), self.place(node.output).clone());
        let (channels, outputs) = (x.layout.shape[1], y.layout.shape[1]);
        let integer = self.is_u8(node.inputs[0]);
        let shape = WeightShape::of(integer, channels, outputs, conv.groups, &conv.window);
        let words = |id| -> Vec<u32> {
            let bytes = self.graph.blob_bytes(id);
            bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
        };
        let mut bias = words(conv.bias);
        let mut common = CommonValues { hi: 255, float_lo: -1024.0, float_hi: 1024.0, ..Default::default() };
        let (mut scale, mut offset) = (Vec::new(), Vec::new());
        let finish = match &conv.arithmetic {
            Arithmetic::Integer { scale: id, residual, lo, hi } => {
                scale = self.graph.blob_f32(*id);
                (common.lo, common.hi) = (*lo, *hi);
                let zero = self.affine(node.output).1;
                let zero_last = residual.is_none() && zero > 0 && self.graph.rounding == Rounding::ZeroLast;
                // What joins before rounding.
                let start = if zero_last { 0.0 } else { residual.map_or(f32::from(zero), |r| r.k) };
                common.offset = if zero_last { u32::from(zero) } else { start.to_bits() };
                common.residual_scale = residual.map_or(0.0, |r| r.scale);
                let reach = accumulator_bounds(&shape, self.graph.blob_bytes(conv.weight), &bias);
                let rest = start.abs() as f64 + 255.0 * common.residual_scale as f64;
                let beyond =
                    |acc: i64, s: f32| acc.unsigned_abs() as f64 * s as f64 + rest >= f64::from(1 << 30);
                let guard = reach.iter().zip(&scale).any(|(r, &s)| beyond(r.start, s) || beyond(r.end, s));
                let saturates = start == 0.0 && residual.is_none() && !zero_last;
                let found = magic(start, &scale, &reach, saturates);
                let magic = found.is_some();
                if let Some((magic, offsets)) = found {
                    offset = offsets;
                    bias.iter_mut().for_each(|b| *b = magic_bias(magic, *b));
                }
                let (lo, hi) = (*lo > 0, *hi < 255);
                Finish::Requantize { residual: residual.is_some(), guard, magic, zero_last, lo, hi }
            }
            Arithmetic::IntegerToFloat { scale: id, lo, hi } => {
                scale = self.graph.blob_f32(*id);
                (common.float_lo, common.float_hi) = (*lo, *hi);
                Finish::Dequantize { clamp: lo.is_finite() || hi.is_finite() }
            }
            Arithmetic::Float { residual, lo, hi } => {
                (common.float_lo, common.float_hi) = (*lo, *hi);
                Finish::Float { residual: *residual, clamp: lo.is_finite() || hi.is_finite() }
            }
        };
        let r = finish.residual().then(|| self.place(node.inputs[1]).clone());
        let taps = (conv.window.kernel[0] * conv.window.kernel[1] * shape.ci) as u64;
        let macs = y.layout.shape.iter().map(|&d| d as u64).product::<u64>() * taps;
        Ok(Layer { node, conv, shape, x, y, r, finish, common, bias, scale, offset, macs })
    }
}

/// The accumulators that inputs in 0..=255 can make, per output channel: b' plus 255 times the negative weights, to b' plus 255 times the
/// positive ones (both included).
fn accumulator_bounds(shape: &WeightShape, weights: &[u8], bias: &[u32]) -> Vec<Range<i64>> {
    let mut bounds: Vec<Range<i64>> = bias.iter().map(|&b| i64::from(b as i32)).map(|b| b..b).collect();
    shape.each_line(weights, |m, line| {
        for &w in line {
            let w = 255 * i64::from(w as i8);
            bounds[m].start += w.min(0);
            bounds[m].end += w.max(0);
        }
    });
    bounds
}
