//! Depthwise convolutions of stride 1, u8 → u8: whole rows of outputs, every input column unpacked once.
//!
//! A kernel walks along a row, column by column. A column of four unpacked input rows (see `depthwise`) meets the weights of all kernel
//! columns: it belongs to as many outputs as the kernel is wide, whose accumulators stay in registers until their last column
//! has passed. With kernels of three rows, four input rows hold the taps of two output rows, which share the unpacking:
//! `[k0 k1 k2 0]` are the weights of the upper one, `[0 k0 k1 k2]` of the lower.

use super::conv::{Dot, Layer};
use super::depthwise::{Ending, Output, Tile, padded, weights_at};
use super::epilogue::Params;
use super::rows::{Chunk, Way, pixels};
use super::tile;
use super::unpack::{self, Unpack, VECTORS};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Reg};
use crate::target::{Dots, Target};

/// Output rows that a kernel of `kh` rows makes at once.
fn rows(kh: usize) -> usize {
    if kh == 3 { 2 } else { 1 }
}

/// This way, where a layer can be computed so.
pub(super) fn way(target: &Target, layer: &Layer) -> Option<Way> {
    let window = &layer.conv.window;
    let [kh, kw] = window.kernel;
    let rows = rows(kh);
    let registers = VECTORS * kw * rows + unpack::registers(target);
    let fits = target.dots == Dots::Bytes
        && window.strides == [1, 1]
        && window.dilations == [1, 1]
        && kw > 1
        && layer.map()[1] >= kw
        && registers <= target.registers;
    fits.then_some(Way {
        rows,
        kernel: |target, layer, chunk, rows| Spec { target, layer, chunk, rows }.kernel(),
    })
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
        let acc = b.array("acc", VECTORS * self.live() * self.rows);
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
        let [px, py, pr] = pixels(self.layer);
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
        let set = |output: usize, row: usize| VECTORS * ((output / fold % self.live()) * self.rows + row);
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
