//! Depthwise convolutions of stride 1, u8 → u8: whole rows of outputs, every input column unpacked once.
//!
//! A kernel walks along a row, column by column. A column of four unpacked input rows (see `depthwise`) meets the weights of all kernel
//! columns: it belongs to as many outputs as the kernel is wide, whose accumulators stay in registers until their last column
//! has passed. With kernels of three rows, four input rows hold the taps of two output rows, which share the unpacking:
//! `[k0 k1 k2 0]` are the weights of the upper one, `[0 k0 k1 k2]` of the lower.
//!
//! Pixels narrower than a vector are folded: neighbours lie one after the other, so a vector loaded at a column holds that column for one
//! output and the next column for the next output.

use super::Lower;
use super::conv::{Dot, Layer};
use super::depthwise::{Ending, Output, Tile, padded, weights_at};
use super::draft::{At, DraftCall};
use super::epilogue::Params;
use super::tile;
use super::unpack::{self, Unpack};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Reg};
use crate::plan::GridDim;
use crate::target::{Dots, Target};

/// Vectors of channels that lie one after the other, each a kernel call.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    /// First vector of bytes.
    pub(super) first: usize,
    /// How many.
    pub(super) count: usize,
    /// Channels of each that exist, and that may be stored.
    pub(super) channels: usize,
    pub(super) store: usize,
    /// Neighbouring pixels in a vector: see [`Lower::fold`].
    pub(super) fold: usize,
}

/// Output rows that a kernel of `kh` rows makes at once.
fn rows(kh: usize) -> usize {
    if kh == 3 { 2 } else { 1 }
}

impl Lower<'_> {
    /// Whether a layer is computed here.
    pub(super) fn slides(&self, layer: &Layer) -> bool {
        let window = &layer.conv.window;
        let [kh, kw] = window.kernel;
        let registers = 4 * kw * rows(kh) + unpack::registers(self.target);
        self.target.dots == Dots::Bytes
            && window.strides == [1, 1]
            && window.dilations == [1, 1]
            && kw > 1
            && layer.map()[1] >= kw
            && registers <= self.target.registers
    }

    /// How many neighbouring pixels of a layer that [`Lower::slides`] a vector holds: 1, unless pixels are so narrow that they divide it and
    /// rows divide into such groups.
    pub(super) fn fold(&self, layer: &Layer) -> usize {
        let bytes = self.target.vector_bytes();
        let pixel = layer.x.layout.pixel();
        let layouts = [Some(&layer.y), layer.r.as_ref()];
        let alike = layouts.into_iter().flatten().all(|place| place.layout.pixel() == pixel);
        let fold = bytes / pixel;
        let divides = bytes.is_multiple_of(pixel) && layer.map()[1].is_multiple_of(fold.max(1));
        if self.slides(layer) && alike && divides && layer.outputs() <= pixel { fold } else { 1 }
    }

    /// The calls for some channels of a layer that [`Lower::slides`].
    pub(super) fn sliding(&mut self, layer: &Layer, common_at: At, chunk: Chunk) -> Vec<DraftCall> {
        let target = self.target.clone();
        let [oh, _] = layer.map();
        let at_once = rows(layer.shape.kernel[0]);
        // Pairs of rows, then the last row if it is alone.
        let parts = [(0, oh / at_once, at_once), (oh / at_once * at_once, oh % at_once, 1)];
        let mut calls = Vec::new();
        for (start, count, rows) in parts.into_iter().filter(|p| p.1 > 0) {
            let kernel = Spec { target: &target, layer, chunk, rows }.kernel();
            let kernel = self.draft.kernel(kernel);
            let chunks = chunk.first..chunk.first + chunk.count;
            let table =
                chunks.flat_map(|c| self.depthwise_table(layer, c, 0..rows, chunk.fold)).collect::<Vec<u8>>();
            let table_bytes = table.len() / chunk.count;
            let table = self.draft.constant(table);
            let bytes = target.vector_bytes();
            let (x, y, r) = (&layer.x.layout, &layer.y.layout, layer.r.as_ref().map(|r| &r.layout));
            let skip = chunk.first * bytes;
            let mut args = vec![
                layer.x_first().plus(start * x.row() + skip),
                table,
                common_at,
                layer.y.first().plus(start * y.row() + skip),
            ];
            args.extend(layer.r.as_ref().map(|r| r.first().plus(start * r.layout.row() + skip)));
            let dim = |extent: usize, x: usize, t: usize, y: usize, r: Option<usize>| {
                let advance = [x, t, 0, y].into_iter().chain(r).map(|by| by as i64).collect();
                GridDim { extent, advance }
            };
            let grid = [
                dim(x.shape[0], x.image(), 0, y.image(), r.map(|r| r.image())),
                dim(chunk.count, bytes, table_bytes, bytes, r.map(|_| bytes)),
                dim(count, rows * x.row(), 0, rows * y.row(), r.map(|r| rows * r.row())),
            ];
            calls.push(DraftCall { kernel, args, grid: grid.into_iter().filter(|d| d.extent > 1).collect() });
        }
        calls
    }
}

/// Geometry of a kernel that makes whole rows.
struct Spec<'a> {
    target: &'a Target,
    layer: &'a Layer<'a>,
    chunk: Chunk,
    /// Output rows.
    rows: usize,
}

impl Spec<'_> {
    fn kernel(&self) -> Kernel {
        let [kh, kw] = self.layer.shape.kernel;
        let ow = self.layer.map()[1];
        let kind = if self.layer.finish.residual() { "dwconv_add" } else { "dwconv" };
        let folded = if self.chunk.fold > 1 { format!("_fold{}", self.chunk.fold) } else { String::new() };
        let kind = format!("{kind}{kh}x{kw}_row{}{folded}", self.rows);
        let channels = self.chunk.channels / self.chunk.fold;
        let name = tile::name(Dot::U8S8, &kind, ow, channels, self.target);
        let mut b = KernelBuilder::new(name, self.target.lanes);
        let x = b.param("x", Access::Read);
        let params = Params::declare(&mut b, self.layer.finish);
        let acc = b.array("acc", 4 * self.live() * self.rows);
        let t = Tile { acc, unpack: Unpack::declare(&mut b, self.target) };
        let ending = Ending {
            target: self.target,
            finish: self.layer.finish,
            params,
            channels: self.chunk.channels,
            store: self.chunk.store,
        };
        // Columns that begin an output before one ends; then a loop in which each set of accumulators has one turn, at the same place every
        // time; then the rest.
        let (first, turn) = (kw - 1, self.live() * self.chunk.fold);
        let turns = (ow - first) / turn;
        for column in 0..first {
            self.column(&mut b, t, x, &ending, column, usize::MAX);
        }
        let (px, py) = (self.layer.x.layout.pixel(), self.layer.y.layout.pixel());
        let pr = self.layer.r.as_ref().map_or(0, |r| r.layout.pixel());
        let by = [(x, px), (params.y, py)].into_iter().chain(params.r.map(|r| (r, pr)));
        b.loop_(turns, by.map(|(p, pixel)| (p, (turn * pixel) as i64)).collect::<Vec<_>>(), |b| {
            for column in first..first + turn {
                self.column(b, t, x, &ending, column, usize::MAX);
            }
        });
        for column in first + turns * turn..ow - self.chunk.fold + kw {
            self.column(&mut b, t, x, &ending, column, ow);
        }
        b.finish()
    }

    /// Sets of accumulators: groups of outputs that have begun and not ended.
    fn live(&self) -> usize {
        self.layer.shape.kernel[1].div_ceil(self.chunk.fold)
    }

    /// Input column `column`: begins output `column`, if below `width`, and ends output `column − kw + 1`, where these are the first of
    /// their groups.
    fn column(&self, b: &mut KernelBuilder, t: Tile, x: usize, ending: &Ending, column: usize, width: usize) {
        let [kh, kw] = self.layer.shape.kernel;
        let layout = &self.layer.x.layout;
        let groups = kh.div_ceil(4);
        let fold = self.chunk.fold;
        let set = |output: usize, row: usize| 4 * ((output / fold % self.live()) * self.rows + row);
        let exists = |output: usize| output < width && output.is_multiple_of(fold);
        if exists(column) {
            t.start(b, self.target, ending.params, self.rows, |row| set(column, row));
        }
        let users: Vec<usize> = (0..kw).filter(|&k| k <= column && exists(column - k)).collect();
        for group in (0..groups).filter(|_| !users.is_empty()) {
            let rows = (kh + self.rows - 1 - 4 * group).min(4);
            let load = |row: usize, dst: Reg| {
                let src = Addr::new(x, (row + 4 * group) * layout.row() + column * layout.pixel());
                Instr::Load { dst, src, bytes: padded(layout, self.chunk.channels) }
            };
            // The weights of missing rows are zero.
            t.unpack.dwords(b, rows, load, |b, j, u, _| {
                for &k in &users {
                    for row in 0..self.rows {
                        let at = weights_at(self.target, self.layer, [row, k, group, 0], j);
                        let s = Addr::new(ending.params.t, at).into();
                        b.op(Instr::Dot4 { acc: t.acc.at(j + set(column - k, row)), u: u.clone(), s });
                    }
                }
            });
        }
        if let Some(output) = (column + 1).checked_sub(kw).filter(|&o| exists(o)) {
            let at = |row: usize, l: &crate::lower::Layout| row * l.row() + output * l.pixel();
            let r = self.layer.r.as_ref().map(|r| &r.layout);
            let outputs: Vec<_> = (0..self.rows)
                .map(|row| Output {
                    acc: set(output, row),
                    y: at(row, &self.layer.y.layout),
                    r: r.map_or(0, |r| at(row, r)),
                })
                .collect();
            ending.emit(b, t, &outputs);
        }
    }
}
