//! Depthwise convolutions with a float result: one channel per lane, one tap per step. The u8 → u8 form is in [`super::depthwise`].

use super::Lower;
use super::conv::{Dot, Layer};
use super::draft::DraftCall;
use super::epilogue::{Outputs, Params, common_table};
use super::tile;
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder};
use crate::plan::{GridDim, cost};
use crate::target::Target;
use std::collections::BTreeMap;

/// Most pixels of a tile: more would only lengthen the code.
const PIXELS: usize = 16;

/// Registers of a tile besides accumulators and weights: an input, and two constants of the epilogue.
const OTHERS: usize = 3;

impl Lower<'_> {
    pub(super) fn channelwise(&mut self, layer: &Layer) {
        let target = self.target.clone();
        let (x, y) = (&layer.x.layout, &layer.y.layout);
        let (lanes, channels) = (target.lanes, layer.outputs());
        let [oh, ow] = layer.map();
        let [sy, sx] = layer.conv.window.strides;
        let common_at = common_table(&target, &mut self.draft, &layer.common);
        let whole = channels / lanes;
        let parts = [(0, whole, lanes), (whole, usize::from(channels % lanes > 0), channels % lanes)];
        let mut calls = Vec::new();
        for (first, count, valid) in parts.into_iter().filter(|p| p.1 > 0) {
            let table =
                (first..first + count).flat_map(|c| self.channel_table(layer, c)).collect::<Vec<u8>>();
            let table_bytes = table.len() / count;
            let table = self.draft.constant(table);
            let most = PIXELS.min(target.registers - OTHERS - weight_registers(&target, layer));
            let rows = tile::rows(ow, most, |p| cost::kernel(&kernel(&target, layer, p, valid), &target));
            for strip in tile::strips(ow, tile::least(&rows).0) {
                let kernel = self.draft.kernel(kernel(&target, layer, strip.pixels, valid));
                let mut args = vec![
                    layer.x_first().plus(strip.start * sx * x.pixel() + first * lanes * x.esz),
                    table,
                    common_at,
                    layer.y.first().plus(strip.start * y.pixel() + first * lanes * 4),
                ];
                let r = layer.r.as_ref().map(|r| &r.layout);
                if let Some(r) = &layer.r {
                    args.push(r.first().plus(strip.start * r.layout.pixel() + first * lanes * 4));
                }
                let dim = |extent: usize, x: usize, t: usize, y: usize, by_r: usize| {
                    let mut advance = vec![x as i64, t as i64, 0, y as i64];
                    advance.extend(r.map(|_| by_r as i64));
                    GridDim { extent, advance }
                };
                let p = strip.pixels;
                let grid = [
                    dim(x.shape[0], x.image(), 0, y.image(), r.map_or(0, |r| r.image())),
                    dim(oh, sy * x.row(), 0, y.row(), r.map_or(0, |r| r.row())),
                    dim(strip.count, p * sx * x.pixel(), 0, p * y.pixel(), r.map_or(0, |r| p * r.pixel())),
                    dim(count, lanes * x.esz, table_bytes, lanes * 4, lanes * 4),
                ];
                let grid = grid.into_iter().filter(|d| d.extent > 1).collect();
                calls.push(DraftCall { kernel, args, grid });
            }
        }
        self.draft.step(&layer.node.name, "depthwise conv", layer.macs, calls);
    }

    /// Bias, scale, then one vector of weights per tap, of one vector of channels.
    fn channel_table(&self, layer: &Layer, chunk: usize) -> Vec<u8> {
        let lanes = self.target.lanes;
        let outputs = layer.outputs();
        let channels = chunk * lanes..(chunk + 1) * lanes;
        let mut bytes = layer.table(channels.clone(), outputs);
        let weights = self.graph.blob_bytes(layer.conv.weight);
        let [kh, kw] = layer.shape.kernel;
        for (y, x) in (0..kh).flat_map(|y| (0..kw).map(move |x| (y, x))) {
            for c in channels.clone() {
                if c >= outputs {
                    bytes.extend([0; 4]);
                    continue;
                }
                let at = layer.shape.index(c, 0, y, x);
                if layer.shape.integer {
                    // The other word of the lane meets the zero bytes of a widened u8.
                    bytes.extend(i32::from(weights[at] as i8).to_le_bytes());
                } else {
                    bytes.extend(&weights[4 * at..4 * at + 4]);
                }
            }
        }
        bytes
    }
}

/// Weights of one kernel row that stay in registers, where they leave enough accumulators to hide the latency of a step.
fn weight_registers(target: &Target, layer: &Layer) -> usize {
    let columns = layer.shape.kernel[1];
    if columns + OTHERS + 8 <= target.registers { columns } else { 0 }
}

fn kernel(target: &Target, layer: &Layer, pixels: usize, valid: usize) -> Kernel {
    let bytes = target.vector_bytes();
    let dot = Dot::of(target, layer.shape.integer);
    let [kh, kw] = layer.shape.kernel;
    let window = &layer.conv.window;
    let name = tile::name(dot, &format!("dwconv{kh}x{kw}_float"), pixels, valid, target);
    let mut b = KernelBuilder::new(name, target.lanes);
    let x = b.param("x", Access::Read);
    let params = Params::declare(&mut b, layer.finish);
    let acc = b.array("acc", pixels);
    let extra = b.array("t", OTHERS);
    let held = weight_registers(target, layer);
    let weights = (held > 0).then(|| b.array("w", held));
    b.unroll(pixels, |b, p| b.op(Instr::Load { dst: acc.at(p), src: Addr::new(params.t, 0), bytes }));
    let l = &layer.x.layout;
    let by = [(x, (window.dilations[0] * l.row()) as i64), (params.t, (kw * bytes) as i64)];
    // Every input column is loaded once. A pixel meets its columns, and so its taps, from left to right.
    let users = (0..pixels).flat_map(|p| (0..kw).map(move |k| (p, k)));
    let users = users.map(|(p, k)| (p * window.strides[1] + k * window.dilations[1], (p, k)));
    let mut columns = BTreeMap::<usize, Vec<(usize, usize)>>::new();
    users.for_each(|(column, user)| columns.entry(column).or_default().push(user));
    b.loop_(kh, by, |b| {
        let in_memory = |k: usize| Addr::new(params.t, (layer.finish.table_vectors() + k) * bytes);
        if let Some(weights) = &weights {
            for k in 0..kw {
                b.op(Instr::Load { dst: weights.at(k), src: in_memory(k), bytes });
            }
        }
        for (column, users) in &columns {
            let src = Addr::new(x, column * l.pixel());
            let input = extra.at(0);
            b.op(match dot {
                // A byte has the product of a word: no half to split off.
                Dot::U8S8 | Dot::Words => Instr::LoadU8 { dst: input.clone(), src, count: valid },
                Dot::F32 => Instr::Load { dst: input.clone(), src, bytes: 4 * valid },
            });
            for &(p, k) in users {
                let (acc, a) = (acc.at(p), input.clone());
                let weight = weights.as_ref().map_or_else(|| in_memory(k).into(), |w| w.at(k).into());
                b.op(match dot {
                    Dot::U8S8 | Dot::Words => Instr::Dot2 { acc, a, b: weight },
                    Dot::F32 => Instr::FmaAcc { acc, a, b: weight },
                });
            }
        }
    });
    let outputs = Outputs {
        target,
        finish: layer.finish,
        params,
        acc,
        pixels,
        vectors: 1,
        channels: valid,
        store: valid,
        y_step: layer.y.layout.pixel(),
        r_step: layer.r.as_ref().map_or(0, |r| r.layout.pixel()),
        offset: extra.at(1),
        order: extra.at(2),
        scratch: extra.at(0),
    };
    outputs.emit(&mut b);
    b.finish()
}
