//! The instructions whose expansion needs vector registers of its own: table look-ups and copies.
//!
//! They take registers that the kernel leaves free; where there are too few, others are set aside on the stack for
//! the moment. A look-up table that all look-ups of a kernel share is put into free registers once, at its entry.

use super::asm::at;
use super::frame;
use super::kernel::{Emitter, xmm, ymm, zmm};
use crate::kernel::{FlatKernel, FlatStmt, Instr};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

/// A look-up table in four registers, and a fifth to work with.
pub(super) type Tables = [u8; 5];

/// Copies of this many bytes and more are loops.
const LONG_COPY: usize = 512;

/// Registers to work with; those below [`Emitter::registers`] have been set aside.
struct Scratch<const N: usize>([u8; N]);

fn spill_slot(i: usize) -> MemoryOperand {
    at(Register::RSP, frame::in_kernel(frame::VECTORS) + 64 * i as i64)
}

impl Emitter<'_> {
    /// N registers other than `avoid`.
    fn take<const N: usize>(&mut self, avoid: [u8; 2]) -> Scratch<N> {
        const { assert!(N <= frame::SPILLS) }
        let mut candidates = (0..32u8).rev().filter(|r| !avoid.contains(r));
        let regs = std::array::from_fn(|_| candidates.next().unwrap_or_default());
        for (i, &r) in regs.iter().enumerate().filter(|&(_, &r)| usize::from(r) < self.registers) {
            self.asm.mr(Code::EVEX_Vmovdqu32_zmmm512_k1z_zmm, spill_slot(i), zmm(r));
        }
        Scratch(regs)
    }

    fn give_back<const N: usize>(&mut self, scratch: Scratch<N>) {
        for (i, &r) in scratch.0.iter().enumerate().filter(|&(_, &r)| usize::from(r) < self.registers) {
            self.asm.rm(Code::EVEX_Vmovdqu32_zmm_k1z_zmmm512, zmm(r), spill_slot(i));
        }
    }

    /// Puts the table into free registers if every look-up of the kernel reads the same one. They become the kernel's.
    pub(super) fn hoist_tables(&mut self, kernel: &FlatKernel) -> Option<Tables> {
        let mut tables = kernel.body.iter().filter_map(|stmt| match stmt {
            FlatStmt::Op(Instr::Lookup8 { table, .. }) => Some(*table),
            FlatStmt::Op(_) | FlatStmt::Begin { .. } | FlatStmt::End => None,
        });
        let table = tables.next()?;
        let moves = |stmt: &FlatStmt| match stmt {
            FlatStmt::Begin { advance, .. } => advance.iter().any(|a| a.0 == table.0),
            FlatStmt::Op(_) | FlatStmt::End => false,
        };
        let first = u8::try_from(self.registers).ok()?;
        if !self.vbmi || first > 27 || tables.any(|t| t != table) || kernel.body.iter().any(moves) {
            return None;
        }
        let regs = std::array::from_fn(|i| first + i as u8);
        self.load_tables(regs, table);
        self.registers += 5;
        Some(regs)
    }

    fn load_tables(&mut self, regs: Tables, table: (usize, i64)) {
        for (i, &r) in regs[..4].iter().enumerate() {
            let m = self.mem((table.0, table.1 + 64 * i as i64));
            self.asm.rm(Code::EVEX_Vmovdqu32_zmm_k1z_zmmm512, zmm(r), m);
        }
    }

    pub(super) fn lookup(&mut self, dst: u8, src: u8, table: (usize, i64)) {
        if let Some(tables) = self.tables {
            self.lookup_vbmi(dst, src, tables);
        } else if self.vbmi {
            let scratch = self.take([dst, src]);
            self.load_tables(scratch.0, table);
            self.lookup_vbmi(dst, src, scratch.0);
            self.give_back(scratch);
        } else {
            let scratch = self.take([dst, src]);
            self.lookup_shuffles(dst, src, table, scratch.0);
            self.give_back(scratch);
        }
    }

    /// Both halves of the table are looked up with the low 7 bits; bit 7 chooses.
    fn lookup_vbmi(&mut self, dst: u8, src: u8, [t0, t1, t2, t3, high]: Tables) {
        use Code::*;
        self.asm.rr(EVEX_Vpmovb2m_kr_zmm, Register::K1, zmm(src));
        self.asm.rr(EVEX_Vmovdqa32_zmm_k1z_zmmm512, zmm(high), zmm(src));
        self.vvv(EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512, high, t2, t3);
        if dst != src {
            self.asm.rr(EVEX_Vmovdqa32_zmm_k1z_zmmm512, zmm(dst), zmm(src));
        }
        self.vvv(EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512, dst, t0, t1);
        self.asm.put(Instruction::with2(EVEX_Vmovdqu8_zmm_k1z_zmmm512, zmm(dst), zmm(high)).map(|mut i| {
            i.set_op_mask(Register::K1);
            i
        }));
    }

    /// Sixteen shuffles of 16 entries each: of `x` = src − 16·i, bytes below 16 select, all others give 0.
    fn lookup_shuffles(
        &mut self,
        dst: u8,
        src: u8,
        table: (usize, i64),
        [x, control, part, c10, c70]: Tables,
    ) {
        use Code::*;
        for (r, bits) in [(c10, 0x1010_1010), (c70, 0x7070_7070)] {
            self.asm.load_imm(Register::RAX, bits);
            self.asm.rr(EVEX_Vpbroadcastd_zmm_k1z_r32, zmm(r), Register::EAX);
        }
        self.asm.rr(EVEX_Vmovdqa32_zmm_k1z_zmmm512, zmm(x), zmm(src));
        self.vvv(EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, dst, dst, dst);
        for i in 0..16 {
            let m = self.mem((table.0, table.1 + 16 * i));
            self.asm.rm(EVEX_Vbroadcasti32x4_zmm_k1z_m128, zmm(part), m);
            // Saturating: 16 and above set bit 7, for which a shuffle gives 0.
            self.vvv(EVEX_Vpaddusb_zmm_k1z_zmm_zmmm512, control, x, c70);
            self.vvv(EVEX_Vpshufb_zmm_k1z_zmm_zmmm512, part, part, control);
            self.vvv(EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, dst, dst, part);
            self.vvv(EVEX_Vpsubb_zmm_k1z_zmm_zmmm512, x, x, c10);
        }
    }

    pub(super) fn copy(&mut self, dst: (usize, i64), src: (usize, i64), bytes: usize) {
        let mut done = 0;
        if bytes >= 16 {
            let scratch = self.take::<1>([0; 2]);
            let r = scratch.0[0];
            if bytes >= LONG_COPY {
                done = bytes / 64 * 64;
                self.copy_lines(dst, src, done, r);
            }
            while bytes - done >= 16 {
                let (d, s) = self.pair(dst, src, done);
                use Code::*;
                let (len, load, store, reg) = match bytes - done {
                    64.. => (64, EVEX_Vmovdqu32_zmm_k1z_zmmm512, EVEX_Vmovdqu32_zmmm512_k1z_zmm, zmm(r)),
                    32.. => (32, EVEX_Vmovdqu32_ymm_k1z_ymmm256, EVEX_Vmovdqu32_ymmm256_k1z_ymm, ymm(r)),
                    _ => (16, EVEX_Vmovdqu32_xmm_k1z_xmmm128, EVEX_Vmovdqu32_xmmm128_k1z_xmm, xmm(r)),
                };
                self.asm.rm(load, reg, s);
                self.asm.mr(store, d, reg);
                done += len;
            }
            self.give_back(scratch);
        }
        while done < bytes {
            let (d, s) = self.pair(dst, src, done);
            use Code::*;
            let (len, load, store, reg) = match bytes - done {
                8.. => (8, Mov_r64_rm64, Mov_rm64_r64, Register::RAX),
                4.. => (4, Mov_r32_rm32, Mov_rm32_r32, Register::EAX),
                2.. => (2, Mov_r16_rm16, Mov_rm16_r16, Register::AX),
                _ => (1, Mov_r8_rm8, Mov_rm8_r8, Register::AL),
            };
            self.asm.rm(load, reg, s);
            self.asm.mr(store, d, reg);
            done += len;
        }
    }

    /// Copies whole lines in a loop that counts rax up to 0.
    fn copy_lines(&mut self, dst: (usize, i64), src: (usize, i64), bytes: usize, r: u8) {
        let (d, s) = self.pair(dst, src, bytes);
        let indexed = |m: MemoryOperand| {
            MemoryOperand::with_base_index_scale_displ_size(m.base, Register::RAX, 1, m.displacement, 1)
        };
        self.asm.load_imm(Register::RAX, -(bytes as i64));
        let head = self.asm.here();
        self.asm.rm(Code::EVEX_Vmovdqu32_zmm_k1z_zmmm512, zmm(r), indexed(s));
        self.asm.mr(Code::EVEX_Vmovdqu32_zmmm512_k1z_zmm, indexed(d), zmm(r));
        self.asm.add_imm(Register::RAX, 64);
        self.asm.jnz(head);
    }

    /// Both operands of a copy. Settling the second may move a pointer that both share; then it stays settled.
    fn pair(&mut self, dst: (usize, i64), src: (usize, i64), at: usize) -> (MemoryOperand, MemoryOperand) {
        let dst = (dst.0, dst.1 + at as i64);
        self.mem(dst);
        let s = self.mem((src.0, src.1 + at as i64));
        (self.mem(dst), s)
    }
}
