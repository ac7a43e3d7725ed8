//! Depthwise convolutions u8 → u8 in rows, where kernels are small: the columns of a window, unpacked, stay in registers.
//!
//! Every input column is unpacked once (see `unpack`), into vectors that stay until the last output that reads them is done. An output is made
//! in one go, so accumulators are few, and the registers that are left hold weights: loads of these are what bounds the other way. With a
//! stride of 1, four input rows hold the taps of more than one output row of a kernel of less than four, and these share the unpacking:
//! `[k0 k1 k2 0]` are the weights of the upper one, `[0 k0 k1 k2]` of the lower.

use super::conv::{Dot, Layer};
use super::depthwise::{Ending, Output, Tile, padded, weights_at};
use super::epilogue::Params;
use super::rows::{Chunk, Way, pixels};
use super::tile;
use super::unpack::{self, Unpack, VECTORS};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Operand, ParamId, Reg, Regs};
use crate::target::{Dots, Target};

/// This way, where a layer can be computed so.
pub(super) fn way(target: &Target, layer: &Layer) -> Option<Way> {
    let window = &layer.conv.window;
    let ([kh, kw], [sy, sx]) = (window.kernel, window.strides);
    let fits = target.dots == Dots::Bytes && kh <= 4 && sx < kw && window.dilations == [1, 1];
    let rows = if fits && sy == 1 { (5 - kh).min(2) } else { 1 };
    let way = Way { rows, kernel: |target, layer, chunk, rows| Spec { target, layer, chunk, rows }.kernel() };
    (fits && registers(target, layer, rows) <= target.registers).then_some(way)
}

/// Registers of a kernel but for those that hold weights: a window of columns, accumulators, what the epilogue takes.
fn registers(target: &Target, layer: &Layer, rows: usize) -> usize {
    let ending = if layer.finish.residual() { unpack::registers(target) } else { 2 };
    VECTORS * (layer.shape.kernel[1] + rows) + ending
}

/// Geometry of a kernel that makes whole rows.
struct Spec<'a> {
    target: &'a Target,
    layer: &'a Layer<'a>,
    chunk: Chunk,
    /// Output rows.
    rows: usize,
}

/// Registers and parameters of the kernel while it is written.
struct Row<'a> {
    x: ParamId,
    tile: Tile,
    /// Columns of the window, [`VECTORS`] each.
    columns: Regs,
    /// The first weights, as many as there is room for.
    weights: Option<Regs>,
    held: usize,
    ending: Ending<'a>,
}

impl Spec<'_> {
    fn kernel(&self) -> Kernel {
        let [kh, kw] = self.layer.shape.kernel;
        let ow = self.layer.map()[1];
        let residual = self.layer.finish.residual();
        let kind = if residual { "dwconv_add" } else { "dwconv" };
        let folded = if self.chunk.fold > 1 { format!("_fold{}", self.chunk.fold) } else { String::new() };
        let kind = format!("{kind}{kh}x{kw}_row{}{folded}", self.rows);
        let name = tile::name(Dot::U8S8, &kind, ow, self.chunk.channels / self.chunk.fold, self.target);
        let mut b = KernelBuilder::new(name, self.target.lanes);
        let x = b.param("x", Access::Read);
        let params = Params::declare(&mut b, self.layer.finish);
        let acc = b.array("acc", VECTORS * self.rows);
        let columns = b.array("x", VECTORS * kw);
        let unpack = if residual { Unpack::declare(&mut b, self.target) } else { Unpack::spare(&mut b) };
        let free = self.target.registers - registers(self.target, self.layer, self.rows);
        let held = free.min(VECTORS * kw * self.rows);
        let weights = (held > 0).then(|| b.array("w", held));
        let ending = Ending {
            target: self.target,
            finish: self.layer.finish,
            params,
            channels: self.chunk.channels,
            store: self.chunk.store,
        };
        let row = Row { x, tile: Tile { acc, unpack }, columns, weights, held, ending };
        for (i, weights) in (0..held).zip(weights.iter().cycle()) {
            let src = self.weight(&row, i);
            b.op(Instr::Load { dst: weights.at(i), src, bytes: self.target.vector_bytes() });
        }
        // The columns that the first window shares with the one before it; then a loop in which every column of the window has its turns, at
        // the same places every time; then the rest.
        let step = self.step();
        (0..kw.saturating_sub(step)).for_each(|column| self.unpack(&mut b, &row, column));
        let outputs = ow / self.chunk.fold;
        let turns = outputs / kw;
        let [px, py, pr] = pixels(self.layer);
        let by = [(x, step * px), (params.y, self.chunk.fold * py)];
        let by = by.into_iter().chain(params.r.map(|r| (r, self.chunk.fold * pr)));
        b.loop_(turns, by.map(|(p, bytes)| (p, (kw * bytes) as i64)).collect::<Vec<_>>(), |b| {
            (0..kw).for_each(|output| self.output(b, &row, output));
        });
        (turns * kw..outputs).for_each(|output| self.output(&mut b, &row, output));
        b.finish()
    }

    /// Columns from one window to the next.
    fn step(&self) -> usize {
        if self.chunk.fold > 1 { self.chunk.fold } else { self.layer.conv.window.strides[1] }
    }

    /// Weight vector `i` of all: of a row, a column, a part of the channels.
    fn weight(&self, row: &Row, i: usize) -> Addr {
        let [_, kw] = self.layer.shape.kernel;
        let (below, k, j) = (i / VECTORS / kw, i / VECTORS % kw, i % VECTORS);
        Addr::new(row.ending.params.t, weights_at(self.target, self.layer, [below, k, 0, 0], j))
    }

    /// Unpacks a column to its place in the window. Accumulators hold nothing between outputs.
    fn unpack(&self, b: &mut KernelBuilder, row: &Row, column: usize) {
        let [kh, kw] = self.layer.shape.kernel;
        let layout = &self.layer.x.layout;
        let load = |r: usize, dst: Reg| {
            let src = Addr::new(row.x, r * layout.row() + column * layout.pixel());
            Instr::Load { dst, src, bytes: padded(layout, self.chunk.channels) }
        };
        let place = |j: usize| row.columns.at(VECTORS * (column % kw) + j);
        unpack::into(
            b,
            kh + self.rows - 1,
            load,
            [0, 1, 2, 3].map(place),
            [0, 1, 2, 3].map(|j: usize| row.tile.acc.at(j)),
        );
    }

    /// The outputs whose window is the `output`th, below each other (and folded beside each other).
    fn output(&self, b: &mut KernelBuilder, row: &Row, output: usize) {
        let [_, kw] = self.layer.shape.kernel;
        let (step, first) = (self.step(), output * self.step());
        (kw.saturating_sub(step)..kw).for_each(|k| self.unpack(b, row, first + k));
        row.tile.start(b, self.target, row.ending.params, self.rows, |below| VECTORS * below);
        for k in 0..kw {
            for (below, j) in (0..self.rows).flat_map(|below| (0..VECTORS).map(move |j| (below, j))) {
                let i = VECTORS * (below * kw + k) + j;
                let held = row.weights.filter(|_| i < row.held);
                let s: Operand<Reg, Addr> =
                    held.map_or_else(|| self.weight(row, i).into(), |weights| weights.at(i).into());
                let u = row.columns.at(VECTORS * ((first + k) % kw) + j);
                b.op(Instr::Dot4 { acc: row.tile.acc.at(VECTORS * below + j), u, s });
            }
        }
        let [_, py, pr] = pixels(self.layer);
        let (y, r) = (&self.layer.y.layout, self.layer.r.as_ref().map_or(0, |r| r.layout.row()));
        let at = |below: usize| Output {
            acc: VECTORS * below,
            y: below * y.row() + output * self.chunk.fold * py,
            r: below * r + output * self.chunk.fold * pr,
        };
        row.ending.emit(b, row.tile, &(0..self.rows).map(at).collect::<Vec<_>>());
    }
}
