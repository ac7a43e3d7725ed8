//! Dense convolutions, fully connected layers among them: direct, no lowering to a matrix.
//!
//! A kernel computes a tile of `pixels × vectors` accumulators. A k-step takes 4 bytes of each pixel (4 u8 channels or one f32) by
//! broadcast, and one vector per 16 bytes of a weight line. Kernel rows, columns and channels are loops with constant strides, merged where
//! memory is contiguous, so padding (the halo of the input) needs no case of its own.

mod words;

use super::draft::{At, DraftCall, Place};
use super::epilogue::{CommonValues, Finish, Outputs, Params, common_table, magic_bias, magic_offset};
use super::prefetch::{self, Ahead};
use super::tile::{self, Panel, Strip};
use super::{Layout, Lower};
use crate::error::Result;
use crate::kernel::{Access, Addr, Affine, Instr, KernelBuilder, Operand, ParamId, Reg, Regs};
use crate::plan::GridDim;
use crate::qgraph::layout::{BLOCK, WeightLayout, WeightShape};
use crate::qgraph::{Arithmetic, QConv, QNode};
use crate::target::{Dots, Target};
use std::ops::Range;

/// The inner product of a k-step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// Most k-steps that are unrolled in one loop body.
const UNROLL: usize = 16;
/// K-steps of a body that loops over more than [`UNROLL`].
const BODY: usize = 8;

/// A loop over k-steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KLoop {
    extent: usize,
    x: usize,
    w: usize,
}

/// Whether all k-steps of these loops stand in one straight run.
fn straight(k: &[KLoop]) -> bool {
    k.iter().map(|l| l.extent).product::<usize>() <= UNROLL
}

/// Straight runs of k-steps that a kernel over these loops executes, but for the remainder of an innermost loop.
fn leaves(k: &[KLoop]) -> usize {
    match k {
        _ if straight(k) => 1,
        [l] => l.extent / BODY,
        [l, rest @ ..] => l.extent * leaves(rest),
        [] => 1,
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
            (WeightLayout::Dense | WeightLayout::Row, _) => self.dense(&layer),
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
                common.offset = residual.map_or(self.affine(node.output).1 as f32, |r| r.k);
                common.residual_scale = residual.map_or(0.0, |r| r.scale);
                let reach = accumulator_bounds(&shape, self.graph.blob_bytes(conv.weight), &bias);
                let rest = common.offset.abs() as f64 + 255.0 * common.residual_scale as f64;
                let beyond =
                    |acc: i64, s: f32| acc.unsigned_abs() as f64 * s as f64 + rest >= f64::from(1 << 30);
                let guard = reach.iter().zip(&scale).any(|(r, &s)| beyond(r.start, s) || beyond(r.end, s));
                let small = reach.iter().all(|r| r.start >= -(1 << 22) && r.end < 1 << 22);
                let exact =
                    || scale.iter().map(|&s| magic_offset(common.offset, s)).collect::<Option<Vec<f32>>>();
                offset = if small { exact().unwrap_or_default() } else { Vec::new() };
                let magic = !offset.is_empty();
                if magic {
                    bias.iter_mut().for_each(|b| *b = magic_bias(*b));
                }
                Finish::Requantize { residual: residual.is_some(), guard, magic, lo: *lo > 0, hi: *hi < 255 }
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

    /// Splits one convolution into panels of output channels and strips of pixels; one kernel each.
    fn dense(&mut self, layer: &Layer) {
        let target = self.target.clone();
        let (shape, window) = (&layer.shape, &layer.conv.window);
        let (x, y) = (&layer.x.layout, &layer.y.layout);
        let dot = Dot::of(&target, shape.integer);
        let q = if shape.integer { 4 } else { 1 };
        let ([kh, kw], [dh, dw]) = (window.kernel, window.dilations);
        let steps = match shape.layout {
            WeightLayout::Row => (kw * shape.ci).div_ceil(4),
            WeightLayout::Dense | WeightLayout::Depthwise => shape.ci.div_ceil(q),
        };
        let line = BLOCK * 4;
        let taps = match shape.layout {
            WeightLayout::Row => kh,
            WeightLayout::Dense | WeightLayout::Depthwise => kh * kw,
        };
        let block_bytes = taps * steps * line;
        let rows = KLoop { extent: kh, x: dh * x.row(), w: taps / kh * steps * line };
        let cols = KLoop { extent: taps / kh, x: dw * x.pixel(), w: steps * line };
        let k = merge([rows, cols, KLoop { extent: steps, x: 4, w: line }]);

        // Consecutive pixels of all rows form one row if nothing lies between rows.
        let [oh, ow] = layer.map();
        let flat = |l: &Layout| l.row() == l.shape[3] * l.pixel();
        let point = window.kernel == [1, 1] && window.strides == [1, 1] && window.pads == [0; 4];
        let together = point && flat(x) && flat(y) && layer.r.as_ref().is_none_or(|r| flat(&r.layout));
        // Of maps of one pixel, the images of a batch form the row.
        let of_images = oh * ow == 1;
        let (rows, width) = match (of_images, together) {
            (true, _) => (1, x.shape[0]),
            (false, true) => (1, oh * ow),
            (false, false) => (oh, ow),
        };
        let step = |l: &Layout, by: usize| if of_images { l.image() } else { by * l.pixel() };

        let blocks = shape.co.div_ceil(BLOCK);
        let out = layer.finish.output_size();
        let common_at = common_table(&target, &mut self.draft, &layer.common);
        let weights = self.weights(layer.conv.weight);
        // Small weights stay in the first caches while pixels pass; large ones are walked once per panel.
        let weights_first = blocks * block_bytes > target.l2 / 2;
        // Where weights are walked once, each panel asks for the next; else the layer asks for the next layer's first ones.
        let after = self.graph.data.len() - weights.offset - blocks * shape.groups * block_bytes;
        let weights_after = after.min(target.l2 / 4);
        let mut calls = Vec::new();
        for panel in tile::panels(&target, dot, blocks, rows * width) {
            let vectors = panel.blocks * BLOCK / target.lanes;
            let most = tile::most_pixels(&target, dot, vectors);
            for strip in tile::strips(dot, width, most, vectors, taps * steps) {
                for part in split_tail(shape, panel) {
                    let channels = (part.blocks * BLOCK).min(shape.co - part.block * BLOCK);
                    let spec = Spec {
                        target: &target,
                        dot,
                        finish: layer.finish,
                        k: &k,
                        pixels: strip.pixels,
                        vectors,
                        channels,
                        store: if shape.groups == 1 && out == 1 && x_padded(y, shape.co) {
                            channels.next_multiple_of(16)
                        } else {
                            channels
                        },
                        block_bytes,
                        x_step: step(x, window.strides[1]),
                        y_step: step(y, 1),
                        r_step: layer.r.as_ref().map_or(0, |r| step(&r.layout, 1)),
                        ahead: prefetch::ahead(
                            &target,
                            if weights_first { part.blocks * block_bytes } else { weights_after },
                            leaves(&k),
                            strip.count,
                            rows,
                        ),
                    };
                    let kernel = self.draft.kernel(spec.kernel());
                    calls.push(self.dense_call(
                        layer,
                        &spec,
                        kernel,
                        part,
                        strip,
                        rows,
                        weights,
                        common_at,
                        weights_first,
                    ));
                }
            }
        }
        self.draft.step(&layer.node.name, "conv", layer.macs, calls);
    }

    #[allow(clippy::too_many_arguments)]
    fn dense_call(
        &mut self,
        layer: &Layer,
        spec: &Spec,
        kernel: usize,
        part: Panel,
        strip: Strip,
        rows: usize,
        weights: At,
        common_at: At,
        weights_first: bool,
    ) -> DraftCall {
        let shape = &layer.shape;
        let (x, y) = (&layer.x.layout, &layer.y.layout);
        let out = layer.finish.output_size();
        let width = spec.vectors * spec.target.lanes;
        // One table per group and panel, one after the other.
        let channels = |g: usize, p: usize| {
            let first = g * shape.co + (part.block + p * part.blocks) * BLOCK;
            first..first + width
        };
        let mut table = Vec::new();
        for g in 0..shape.groups {
            for p in 0..part.count {
                table.extend(layer.table(channels(g, p), (g + 1) * shape.co));
            }
        }
        let table_bytes = table.len() / (shape.groups * part.count);
        let table = self.draft.constant(table);
        let group_bytes = shape.co.div_ceil(BLOCK) * spec.block_bytes;
        let sy = layer.conv.window.strides[0];
        let first = part.block * BLOCK * out;
        let mut args = vec![
            layer.x_first().plus(strip.start * spec.x_step),
            weights.plus(part.block * spec.block_bytes),
            table,
            common_at,
            layer.y.first().plus(strip.start * spec.y_step + first),
        ];
        // Bytes per point of x, w, t, c, y, r, and of what is asked for ahead.
        let dim = |extent: usize, by: [usize; 6], ahead: usize| {
            let n = if layer.r.is_some() { 6 } else { 5 };
            let mut advance: Vec<i64> = by[..n].iter().map(|&b| b as i64).collect();
            advance.extend((spec.ahead.lines > 0).then_some(ahead as i64));
            GridDim { extent, advance }
        };
        let r = layer.r.as_ref().map(|r| r.layout.clone());
        let rs = |f: &dyn Fn(&Layout) -> usize| r.as_ref().map_or(0, f);
        if let Some(r) = &layer.r {
            args.push(r.first().plus(strip.start * spec.r_step + first));
        }
        if spec.ahead.lines > 0 {
            let own = if weights_first { part.blocks } else { shape.co.div_ceil(BLOCK) * shape.groups };
            args.push(weights.plus((part.block + own) * spec.block_bytes));
        }
        let count = if layer.map() == [1, 1] { 1 } else { x.shape[0] };
        let images = dim(count, [x.image(), 0, 0, 0, y.image(), rs(&|r| r.image())], 0);
        let groups = dim(
            shape.groups,
            [shape.ci * x.esz, group_bytes, part.count * table_bytes, 0, shape.co * out, shape.co * out],
            if weights_first { group_bytes } else { 0 },
        );
        let bytes = part.blocks * BLOCK * out;
        let panel = part.blocks * spec.block_bytes;
        let next = if weights_first { panel } else { 0 };
        let panels = dim(part.count, [0, panel, table_bytes, 0, bytes, bytes], next);
        let lines = dim(rows, [sy * x.row(), 0, 0, 0, y.row(), rs(&|r| r.row())], spec.ahead.row);
        let by = [spec.x_step, 0, 0, 0, spec.y_step, spec.r_step].map(|b| strip.pixels * b);
        let tiles = dim(strip.count, by, spec.ahead.tile);
        let order = if weights_first {
            [groups, panels, images, lines, tiles]
        } else {
            [images, groups, lines, tiles, panels]
        };
        DraftCall { kernel, args, grid: order.into_iter().filter(|d| d.extent > 1).collect() }
    }
}

/// True if the lanes beyond the last channel of a pixel are padding that may be written.
fn x_padded(y: &Layout, channels: usize) -> bool {
    // In a slice of a concatenation the count of channels is a multiple of 16 or the slice is the last.
    y.pixel() >= channels.next_multiple_of(16)
}

/// The last panel of a channel count that is not a multiple of the panel's is a kernel of its own.
fn split_tail(shape: &WeightShape, panel: Panel) -> Vec<Panel> {
    let end = (panel.block + panel.blocks * panel.count) * BLOCK;
    if end <= shape.co || panel.count == 1 {
        return vec![panel];
    }
    let last = panel.block + panel.blocks * (panel.count - 1);
    vec![Panel { count: panel.count - 1, ..panel }, Panel { block: last, count: 1, ..panel }]
}

/// Drops single loops and joins loops that walk on where the inner one ends.
fn merge(loops: [KLoop; 3]) -> Vec<KLoop> {
    let mut out: Vec<KLoop> = Vec::new();
    for l in loops.into_iter().filter(|l| l.extent > 1) {
        match out.last_mut() {
            Some(o) if o.x == l.x * l.extent && o.w == l.w * l.extent => {
                *o = KLoop { extent: o.extent * l.extent, ..l };
            }
            _ => out.push(l),
        }
    }
    out
}

/// The accumulators that inputs in 0..=255 can make, per output channel: b' plus 255 times the negative weights, to b' plus 255 times the
/// positive ones (both included).
fn accumulator_bounds(shape: &WeightShape, weights: &[u8], bias: &[u32]) -> Vec<Range<i64>> {
    let [kh, kw] = shape.kernel;
    let bounds = |m: usize| {
        let b = i64::from(bias[m] as i32);
        let taps = (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x)));
        taps.fold(b..b, |sum, (y, x)| {
            (0..shape.ci).fold(sum, |sum, c| {
                let w = 255 * i64::from(weights[shape.index(m, c, y, x)] as i8);
                sum.start + w.min(0)..sum.end + w.max(0)
            })
        })
    };
    (0..shape.co * shape.groups).map(bounds).collect()
}

/// Geometry of a dense kernel.
struct Spec<'a> {
    target: &'a Target,
    dot: Dot,
    finish: Finish,
    k: &'a [KLoop],
    pixels: usize,
    vectors: usize,
    channels: usize,
    store: usize,
    block_bytes: usize,
    x_step: usize,
    y_step: usize,
    r_step: usize,
    ahead: Ahead,
}

/// Registers and parameters of a dense kernel while it is written.
struct Tile {
    x: ParamId,
    w: ParamId,
    /// What is asked for ahead, if anything.
    next: Option<ParamId>,
    /// The layer-wide table.
    c: ParamId,
    acc: Regs,
    weights: Regs,
    input: Reg,
}

impl Spec<'_> {
    fn kernel(&self) -> crate::kernel::Kernel {
        let kind = if self.finish.residual() { "conv_add" } else { "conv" };
        let name = tile::name(self.dot, kind, self.pixels, self.channels, self.target);
        let mut b = KernelBuilder::new(name, self.target.lanes);
        let x = b.param("x", Access::Read);
        let w = b.param("w", Access::Read);
        let params = Params::declare(&mut b, self.finish);
        let next = (self.ahead.lines > 0).then(|| b.param("next", Access::Read));
        let acc = b.array("acc", self.pixels * self.vectors);
        let weights = b.array("w", tile::weight_registers(self.dot, self.pixels, self.vectors).max(2));
        let input = b.array("x", 1).at(0);
        let t = Tile { x, w, c: params.c, next, acc, weights, input };
        let bytes = self.target.vector_bytes();
        b.unroll(self.pixels, |b, p| {
            b.unroll(self.vectors, |b, v| {
                let src = Addr::new(params.t, v * bytes);
                b.op(Instr::Load { dst: acc.at(p * self.vectors + v), src, bytes });
            });
        });
        self.sum(&mut b, &t, self.k);
        let outputs = Outputs {
            target: self.target,
            finish: self.finish,
            params,
            acc,
            pixels: self.pixels,
            vectors: self.vectors,
            channels: self.channels,
            store: self.store,
            y_step: self.y_step,
            r_step: self.r_step,
            offset: weights.at(0),
            order: weights.at(1),
            scratch: t.input.clone(),
        };
        outputs.emit(&mut b);
        b.finish()
    }

    /// All k-steps of the given loops.
    fn sum(&self, b: &mut KernelBuilder, t: &Tile, k: &[KLoop]) {
        let by = |l: &KLoop, inside: &[KLoop], steps: usize| {
            let next = t.next.map(|n| (n, (leaves(inside) * self.ahead.lines * prefetch::LINE) as i64));
            let moves = [(t.x, (steps * l.x) as i64), (t.w, (steps * l.w) as i64)];
            moves.into_iter().chain(next).collect::<Vec<_>>()
        };
        match k {
            [l, rest @ ..] if !straight(k) && !rest.is_empty() => {
                b.loop_(l.extent, by(l, rest, 1), |b| self.sum(b, t, rest));
            }
            [l] if !straight(k) => {
                let main = l.extent / BODY;
                let body = KLoop { extent: BODY, ..*l };
                b.loop_(main, by(l, &[body], BODY), |b| {
                    self.ask(b, t);
                    self.steps(b, t, &[body], Default::default());
                });
                let (done, rest) = (main * BODY, l.extent % BODY);
                let at = ((done * l.x).into(), (done * l.w).into());
                self.steps(b, t, &[KLoop { extent: rest, ..*l }], at);
            }
            _ => {
                self.ask(b, t);
                self.steps(b, t, k, Default::default());
            }
        }
    }

    /// Asks for what comes next.
    fn ask(&self, b: &mut KernelBuilder, t: &Tile) {
        if let Some(next) = t.next {
            b.unroll(self.ahead.lines, |b, i| {
                b.op(Instr::Prefetch { src: Addr::new(next, i * prefetch::LINE), far: true });
            });
        }
    }

    /// K-steps without a loop, from an offset in x and w.
    fn steps(&self, b: &mut KernelBuilder, t: &Tile, k: &[KLoop], at: (Affine, Affine)) {
        match k {
            [] => self.step(b, t, at),
            [l, rest @ ..] => b.unroll(l.extent, |b, u| {
                self.steps(b, t, rest, (at.0 + u * l.x, at.1 + u * l.w));
            }),
        }
    }

    /// Vector `v` of the weights of the k-step at `w`: part v mod parts of a line, in block v / parts.
    fn weight(&self, t: &Tile, w: &Affine, v: usize) -> Addr {
        let parts = BLOCK / self.target.lanes;
        Addr::new(t.w, w.clone() + v / parts * self.block_bytes + v % parts * self.target.vector_bytes())
    }

    /// One k-step at offsets of x and w: every pixel's 4 bytes times every vector of weights.
    fn step(&self, b: &mut KernelBuilder, t: &Tile, at: (Affine, Affine)) {
        match self.dot {
            Dot::U8S8 => self.step_of(b, t, at, |acc, u, s| Instr::Dot4 { acc, u, s }),
            Dot::F32 => self.step_of(b, t, at, |acc, a, b| Instr::FmaAcc { acc, a, b }),
            Dot::Words => self.step_of_words(b, t, at),
        }
    }

    fn step_of(
        &self,
        b: &mut KernelBuilder,
        t: &Tile,
        (x, w): (Affine, Affine),
        dot: impl Fn(Reg, Reg, Operand<Reg, Addr>) -> Instr<Reg, Addr>,
    ) {
        let bytes = self.target.vector_bytes();
        let in_registers = tile::weight_registers(self.dot, self.pixels, self.vectors);
        let weight = |v: usize| self.weight(t, &w, v);
        let dot = |acc, weight| dot(acc, t.input.clone(), weight);
        for v in 0..in_registers {
            b.op(Instr::Load { dst: t.weights.at(v), src: weight(v), bytes });
        }
        b.unroll(self.pixels, |b, p| {
            let src = Addr::new(t.x, p * self.x_step + x.clone());
            b.op(Instr::Broadcast32 { dst: t.input.clone(), src });
            b.unroll(in_registers, |b, v| {
                b.op(dot(t.acc.at(p * self.vectors + v), t.weights.at(v).into()));
            });
            for v in in_registers..self.vectors {
                b.op(dot(t.acc.at(p * self.vectors + v), weight(v).into()));
            }
        });
    }
}
