//! Four rows of bytes become vectors of dwords, each dword one byte of every row: unpacked against each other, bytes then words.
//!
//! Unpacking works in 16-byte blocks: vector j, block l, dword e is byte 16·l + 4·j + e of the rows.

use crate::kernel::{Addr, Instr, KernelBuilder, Reg, Regs};
use crate::target::Target;

/// Vectors of dwords that rows are unpacked into.
pub(super) const VECTORS: usize = 4;

/// Registers that unpacking needs: four rows and four halves, or, where registers are few, what one half needs at a time.
pub(super) fn registers(target: &Target) -> usize {
    if target.registers < 32 { 4 } else { 8 }
}

/// The registers of a kernel that unpacks.
#[derive(Clone, Copy)]
pub(super) struct Unpack {
    regs: Regs,
    count: usize,
}

impl Unpack {
    pub(super) fn declare(b: &mut KernelBuilder, target: &Target) -> Unpack {
        let count = registers(target);
        Unpack { regs: b.array("t", count), count }
    }

    /// Two registers, for kernels that unpack nothing by [`Unpack::dwords`].
    pub(super) fn spare(b: &mut KernelBuilder) -> Unpack {
        Unpack { regs: b.array("t", 2), count: 0 }
    }

    /// Registers that are free while nothing is unpacked.
    pub(super) fn free(self) -> [Reg; 2] {
        [0, 1].map(|k: usize| self.regs.at(k))
    }

    /// Unpacks the rows that `row` loads into a register. `each` gets every vector's number, its register, which it may change, and a free
    /// one. Where there are fewer than four rows the last is repeated.
    pub(super) fn dwords(
        self,
        b: &mut KernelBuilder,
        rows: usize,
        row: impl Fn(usize, Reg) -> Instr<Reg, Addr>,
        mut each: impl FnMut(&mut KernelBuilder, usize, Reg, Reg),
    ) {
        let (reg, last) = (|k: usize| self.regs.at(k), rows - 1);
        if self.count == 4 {
            // One half after the other; rows are loaded for each.
            for (high, j) in [(false, 0), (true, 2)] {
                for (pair, dst) in [(0, 0), (2, 1)] {
                    let two = [pair, pair + 1].map(|r: usize| r.min(last));
                    b.op(row(two[0], reg(dst)));
                    if two[1] > two[0] {
                        b.op(row(two[1], reg(dst + 1)));
                    }
                    zip(b, high, reg(dst), reg(dst), reg(dst + two[1] - two[0]));
                }
                join(b, [2, 3].map(reg), [0, 1].map(reg));
                each(b, j, reg(2), reg(0));
                each(b, j + 1, reg(3), reg(1));
            }
        } else {
            into(b, rows, row, [0, 1, 2, 3].map(reg), [4, 5, 6, 7].map(reg));
            (0..VECTORS).for_each(|j| each(b, j, reg(j), reg(4)));
        }
    }
}

/// Unpacks the rows that `row` loads into `dst`, with four more registers for the halves.
pub(super) fn into(
    b: &mut KernelBuilder,
    rows: usize,
    row: impl Fn(usize, Reg) -> Instr<Reg, Addr>,
    dst: [Reg; VECTORS],
    half: [Reg; 4],
) {
    let loaded = |r: usize| dst[r.min(rows - 1)].clone();
    (0..rows).for_each(|r| b.op(row(r, loaded(r))));
    let [a0, a1, b0, b1] = half;
    for (high, upper, lower) in [(false, &a0, &a1), (true, &b0, &b1)] {
        zip(b, high, upper.clone(), loaded(0), loaded(1));
        zip(b, high, lower.clone(), loaded(2), loaded(3));
    }
    let [d0, d1, d2, d3] = dst;
    join(b, [d0, d1], [a0, a1]);
    join(b, [d2, d3], [b0, b1]);
}

/// Bytes of two vectors by turns: of their lower halves, or of their upper.
fn zip(b: &mut KernelBuilder, high: bool, dst: Reg, x: Reg, y: Reg) {
    b.op(if high { Instr::UnpackHi8 { dst, a: x, b: y } } else { Instr::UnpackLo8 { dst, a: x, b: y } });
}

/// Words of two vectors by turns.
fn join(b: &mut KernelBuilder, [low, high]: [Reg; 2], [x, y]: [Reg; 2]) {
    b.op(Instr::UnpackLo16 { dst: low, a: x.clone(), b: y.clone() });
    b.op(Instr::UnpackHi16 { dst: high, a: x, b: y });
}
