//! Dense convolutions, fully connected layers among them, cut into kernel calls: panels of output channels by strips of pixels.
//!
//! Kernel rows, columns and channels are loops with constant strides, merged where memory is contiguous, so padding (the halo of the
//! input) needs no case of its own. What kernels do is in `kernel`.

use super::cut::Extents;
use super::kernel::{KLoop, Spec, leaves};
use super::{Dot, Layer};
use crate::error::{Error, Result, Stage};
use crate::lower::choice::Tunable;
use crate::lower::draft::{At, DraftCall};
use crate::lower::epilogue::common_table;
use crate::lower::prefetch::{self, Ahead};
use crate::lower::tile::{Panel, Strip};
use crate::lower::{Layout, Lower};
use crate::plan::GridDim;
use crate::qgraph::layout::{BLOCK, WeightLayout, WeightShape};

impl Lower<'_> {
    /// Splits one convolution into panels of output channels and strips of pixels; one kernel each.
    pub(super) fn dense(&mut self, layer: &Layer) -> Result<()> {
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
        let spec = |pixels: usize, channels: usize, ahead: Ahead| Spec {
            target: &target,
            dot,
            finish: layer.finish,
            k: &k,
            pixels,
            vectors: channels.div_ceil(target.lanes),
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
            ahead,
        };
        let all = Extents { dot, blocks, rows, width };
        let far = y.image() > target.core.l2;
        let mut tile = |pixels: usize, blocks: usize| {
            self.costs.of(&spec(pixels, (blocks * BLOCK).min(shape.co), Ahead::NONE), far)
        };
        let maps = [x.image(), y.image()].map(|bytes| bytes / shape.groups);
        let weights_first = all.weights_first(&target, blocks * block_bytes, maps);
        let ways = all.ways(&target, weights_first, &mut tile);
        let key = all.key(layer, &k);
        let choice = match self.choices.layers.get(&key) {
            None => ways[0],
            Some(choice) => all
                .check(&target, *choice)
                .map_err(|why| Error::new(Stage::Schedule, &layer.node.name, self.choices.refuse(&why)))?,
        };
        let weights_first = choice.weights_first;
        let cut = all.cut(&target, choice, &mut tile);
        self.tunables.push(Tunable { step: self.draft.steps.len(), key, candidates: ways });
        // Where weights are walked once, each panel asks for the next; else the layer asks for the next layer's first ones.
        let after = self.graph.data.len() - weights.offset - blocks * shape.groups * block_bytes;
        let weights_after = after.min(target.core.l2 / 4);
        let mut calls = Vec::new();
        for (panel, strips) in cut {
            for strip in strips {
                for part in split_tail(shape, panel) {
                    let channels = (part.blocks * BLOCK).min(shape.co - part.block * BLOCK);
                    let bytes = if weights_first { part.blocks * block_bytes } else { weights_after };
                    let ahead = prefetch::ahead(&target, bytes, leaves(&k), strip.count, rows);
                    let spec = spec(strip.pixels, channels, ahead);
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
        Ok(())
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
