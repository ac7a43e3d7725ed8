//! Depthwise convolutions of stride 1, u8 → u8: whole rows of outputs, every input column unpacked once.
//!
//! A kernel walks along a row, column by column. A column of four unpacked input rows (see `depthwise`) meets the weights of all kernel
//! columns: it belongs to as many outputs as the kernel is wide, whose accumulators stay in registers until their last column
//! has passed. It is the way of kernels whose window of columns does not fit the registers ([`super::window`]).

use super::conv::Layer;
use super::depthwise::{Ending, Output, Tile, weights_at};
use super::epilogue::Params;
use super::rows::{Rows, Way};
use super::unpack::{self, Unpack, VECTORS};
use crate::kernel::{Access, Addr, Instr, Kernel, KernelBuilder, Reg};
use crate::target::{Dots, Target};

/// This way, where a layer can be computed so.
pub(super) fn way(target: &Target, layer: &Layer) -> Option<Way> {
    let window = &layer.conv.window;
    let [kh, kw] = window.kernel;
    let registers = VECTORS * kw + unpack::registers(target);
    // Three rows that fit no window are left to strips: which of the two is faster there has not been measured.
    let fits = target.dots == Dots::Bytes
        && kh != 3
        && window.strides == [1, 1]
        && window.dilations == [1, 1]
        && kw > 1
        && layer.map()[1] >= kw
        && registers <= target.registers;
    fits.then_some(Way { rows: 1, kernel: |rows| rows.by_sliding() })
}

impl Rows<'_> {
    fn by_sliding(&self) -> Kernel {
        let [_, kw] = self.layer.shape.kernel;
        let ow = self.layer.map()[1];
        let mut b = self.builder();
        let x = b.param("x", Access::Read);
        let params = Params::declare(&mut b, self.layer.finish);
        let acc = b.array("acc", VECTORS * self.live());
        let t = Tile { acc, unpack: Unpack::declare(&mut b, self.target) };
        let ending = self.ending(params);
        // Columns that begin an output before one ends; then a loop in which each set of accumulators has one turn, at the same place every
        // time; then the rest.
        let (first, turn) = (kw - 1, self.live() * self.chunk.fold);
        let turns = (ow - first) / turn;
        for column in 0..first {
            self.column(&mut b, t, x, &ending, column, usize::MAX);
        }
        let [px, py, pr] = self.pixels();
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
        let groups = kh.div_ceil(4);
        let fold = self.chunk.fold;
        let set = |output: usize| VECTORS * (output / fold % self.live());
        let exists = |output: usize| output < width && output.is_multiple_of(fold);
        if exists(column) {
            t.start(b, self.target, ending.params, 1, |_| set(column));
        }
        let users: Vec<usize> = (0..kw).filter(|&k| k <= column && exists(column - k)).collect();
        for group in (0..groups).filter(|_| !users.is_empty()) {
            let load = |row: usize, dst: Reg| self.load(x, row + 4 * group, column, dst);
            // The weights of missing rows are zero.
            t.unpack.dwords(b, (kh - 4 * group).min(4), load, |b, j, u, _| {
                for &k in &users {
                    let at = weights_at(self.target, self.layer, [0, k, group, 0], j);
                    let s = Addr::new(ending.params.t, at).into();
                    b.op(Instr::Dot4 { acc: t.acc.at(j + set(column - k)), u: u.clone(), s });
                }
            });
        }
        if let Some(output) = (column + 1).checked_sub(kw).filter(|&o| exists(o)) {
            let [_, y, r] = self.pixels().map(|pixel| output * pixel);
            ending.emit(b, t, &[Output { acc: set(output), y, r }]);
        }
    }
}
