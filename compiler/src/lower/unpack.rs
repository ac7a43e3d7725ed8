//! Four rows of bytes become vectors of dwords, each dword one byte of every row: unpacked against each other, bytes then words.
//!
//! Unpacking works in 16-byte blocks: vector j, block l, dword e is byte 16·l + 4·j + e of the rows.

use crate::kernel::{Addr, Instr, KernelBuilder, Reg, Regs};
use crate::target::Target;

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
        let zip = |b: &mut KernelBuilder, high: bool, dst: usize, x: usize, y: usize| {
            let (dst, a, y) = (reg(dst), reg(x), reg(y));
            b.op(if high { Instr::UnpackHi8 { dst, a, b: y } } else { Instr::UnpackLo8 { dst, a, b: y } });
        };
        let join = |b: &mut KernelBuilder, dst: usize, x: usize, y: usize| {
            b.op(Instr::UnpackLo16 { dst: reg(dst), a: reg(x), b: reg(y) });
            b.op(Instr::UnpackHi16 { dst: reg(dst + 1), a: reg(x), b: reg(y) });
        };
        if self.count == 4 {
            // One half after the other; rows are loaded for each.
            for (high, j) in [(false, 0), (true, 2)] {
                for (pair, dst) in [(0, 0), (2, 1)] {
                    let two = [pair, pair + 1].map(|r: usize| r.min(last));
                    b.op(row(two[0], reg(dst)));
                    if two[1] > two[0] {
                        b.op(row(two[1], reg(dst + 1)));
                    }
                    zip(b, high, dst, dst, dst + two[1] - two[0]);
                }
                join(b, 2, 0, 1);
                each(b, j, reg(2), reg(0));
                each(b, j + 1, reg(3), reg(1));
            }
        } else {
            (0..rows).for_each(|r| b.op(row(r, reg(r))));
            for (high, dst) in [(false, 4), (true, 6)] {
                zip(b, high, dst, 0, 1.min(last));
                zip(b, high, dst + 1, 2.min(last), 3.min(last));
            }
            join(b, 0, 4, 5);
            join(b, 2, 6, 7);
            (0..4).for_each(|j| each(b, j, reg(j), reg(4)));
        }
    }
}
