//! Depthwise convolutions u8 → u8 in rows, where kernels are small: the columns of a window, unpacked, stay in registers.
//!
//! Every input column is unpacked once (see `unpack`), into vectors that stay until the last output that reads them is done. An output is made
//! in one go, so accumulators are few, and the registers that are left hold weights: loads of these are what bounds the other way. With a
//! stride of 1, four input rows hold the taps of more than one output row of a kernel of less than four, and these share the unpacking:
//! `[k0 k1 k2 0]` are the weights of the upper one, `[0 k0 k1 k2]` of the lower.

use super::conv::Layer;
use super::depthwise::{Ending, Output, Tile, weights_at};
use super::epilogue::Params;
use super::rows::{Rows, Way};
use super::unpack::{self, Unpack, VECTORS};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Operand, ParamId, Reg, Regs};
use crate::target::{Dots, Target};

/// This way, where a layer can be computed so.
pub(super) fn way(target: &Target, layer: &Layer) -> Option<Way> {
    let window = &layer.conv.window;
    let ([kh, kw], [sy, sx]) = (window.kernel, window.strides);
    let fits = target.dots == Dots::Bytes && kh <= 4 && sx < kw && window.dilations == [1, 1];
    let rows = if fits && sy == 1 { (5 - kh).min(2) } else { 1 };
    let fits = fits && registers(target, layer, rows) <= target.registers;
    fits.then_some(Way { rows, kernel: |rows| rows.by_window() })
}

/// Registers of a kernel but for those that hold weights: a window of columns, accumulators, what the epilogue takes.
fn registers(target: &Target, layer: &Layer, rows: usize) -> usize {
    let ending = if layer.finish.residual() { unpack::registers(target) } else { 2 };
    VECTORS * (layer.shape.kernel[1] + rows) + ending
}

/// Registers and parameters of the kernel while it is written.
struct Walk<'a> {
    x: ParamId,
    tile: Tile,
    /// Columns of the window, [`VECTORS`] each.
    columns: Regs,
    /// The first weights, as many as there is room for.
    weights: Vec<Reg>,
    ending: Ending<'a>,
}

impl Rows<'_> {
    fn by_window(&self) -> Kernel {
        let [_, kw] = self.layer.shape.kernel;
        let residual = self.layer.finish.residual();
        let mut b = self.builder();
        let x = b.param("x", Access::Read);
        let params = Params::declare(&mut b, self.layer.finish);
        let acc = b.array("acc", VECTORS * self.rows);
        let columns = b.array("x", VECTORS * kw);
        let unpack = if residual { Unpack::declare(&mut b, self.target) } else { Unpack::spare(&mut b) };
        let free = self.target.registers - registers(self.target, self.layer, self.rows);
        let held = free.min(VECTORS * kw * self.rows);
        let weights = (held > 0).then(|| b.array("w", held));
        let weights = weights.iter().flat_map(|w| (0..held).map(|i| w.at(i))).collect();
        let walk = Walk { x, tile: Tile { acc, unpack }, columns, weights, ending: self.ending(params) };
        for (i, dst) in walk.weights.iter().cloned().enumerate() {
            b.op(Instr::Load { dst, src: self.weight(&walk, i), bytes: self.target.vector_bytes() });
        }
        // The columns that the first window shares with the one before it; then a loop in which every column of the window has its turns, at
        // the same places every time; then the rest.
        let step = self.step();
        (0..kw.saturating_sub(step)).for_each(|column| self.unpack(&mut b, &walk, column));
        let outputs = self.layer.map()[1] / self.chunk.fold;
        let turns = outputs / kw;
        let [px, py, pr] = self.pixels();
        let by = [(x, step * px), (params.y, self.chunk.fold * py)];
        let by = by.into_iter().chain(params.r.map(|r| (r, self.chunk.fold * pr)));
        b.loop_(turns, by.map(|(p, bytes)| (p, (kw * bytes) as i64)).collect::<Vec<_>>(), |b| {
            (0..kw).for_each(|output| self.output(b, &walk, output));
        });
        (turns * kw..outputs).for_each(|output| self.output(&mut b, &walk, output));
        b.finish()
    }

    /// Columns from one window to the next.
    fn step(&self) -> usize {
        if self.chunk.fold > 1 { self.chunk.fold } else { self.layer.conv.window.strides[1] }
    }

    /// Weight vector `i` of all: of a row, a column, a part of the channels.
    fn weight(&self, walk: &Walk, i: usize) -> Addr {
        let [_, kw] = self.layer.shape.kernel;
        let (below, k, j) = (i / VECTORS / kw, i / VECTORS % kw, i % VECTORS);
        Addr::new(walk.ending.params.t, weights_at(self.target, self.layer, [below, k, 0, 0], j))
    }

    /// Unpacks a column to its place in the window. Accumulators hold nothing between outputs.
    fn unpack(&self, b: &mut KernelBuilder, walk: &Walk, column: usize) {
        let [kh, kw] = self.layer.shape.kernel;
        let load = |r: usize, dst: Reg| self.load(walk.x, r, column, dst);
        let columns = [0, 1, 2, 3].map(|j| walk.columns.at(VECTORS * (column % kw) + j));
        let halves = [0usize, 1, 2, 3].map(|j| walk.tile.acc.at(j));
        unpack::into(b, kh + self.rows - 1, load, columns, halves);
    }

    /// The outputs whose window is the `output`th, below each other (and folded beside each other).
    fn output(&self, b: &mut KernelBuilder, walk: &Walk, output: usize) {
        let [_, kw] = self.layer.shape.kernel;
        let (step, first) = (self.step(), output * self.step());
        (kw.saturating_sub(step)..kw).for_each(|k| self.unpack(b, walk, first + k));
        walk.tile.start(b, self.target, walk.ending.params, self.rows, |below| VECTORS * below);
        for k in 0..kw {
            for (below, j) in (0..self.rows).flat_map(|below| (0..VECTORS).map(move |j| (below, j))) {
                let i = VECTORS * (below * kw + k) + j;
                let held = walk.weights.get(i).cloned().map(Operand::Reg);
                let s = held.unwrap_or_else(|| Operand::Mem(self.weight(walk, i)));
                let u = walk.columns.at(VECTORS * ((first + k) % kw) + j);
                b.op(Instr::Dot4 { acc: walk.tile.acc.at(VECTORS * below + j), u, s });
            }
        }
        let [_, py, pr] = self.pixels();
        let (y, r) = (&self.layer.y.layout, self.layer.r.as_ref().map_or(0, |r| r.layout.row()));
        let at = |below: usize| Output {
            acc: VECTORS * below,
            y: below * y.row() + output * self.chunk.fold * py,
            r: below * r + output * self.chunk.fold * pr,
        };
        walk.ending.emit(b, walk.tile, &(0..self.rows).map(at).collect::<Vec<_>>());
    }
}
