//! The instructions whose expansion needs vector registers of its own: table look-ups, copies, and dots on AVX2.
//!
//! They take registers that the kernel leaves free; where there are too few, others are set aside on the stack for
//! the moment. A look-up table that all look-ups of a kernel share is put into free registers once, at its entry.

use super::asm::at;
use super::codes::{self, Encoding, xmm, ymm};
use super::frame;
use super::kernel::Emitter;
use crate::kernel::{FlatKernel, FlatStmt, Instr, Operand};
use iced_x86::{Code, MemoryOperand, Register};

/// A look-up table that stays in registers, and some to work with.
#[derive(Clone, Copy)]
pub(super) enum Tables {
    /// For permutes of bytes.
    Bytes { parts: [u8; 4], work: u8 },
    /// For permutes of words.
    Words { parts: [u8; 4], work: [u8; 3] },
}

/// Copies of this many bytes and more are loops.
const LONG_COPY: usize = 512;

/// Registers to work with; those below [`Emitter::registers`] have been set aside.
pub(super) struct Scratch<const N: usize>(pub(super) [u8; N]);

fn spill_slot(i: usize) -> MemoryOperand {
    at(Register::RSP, frame::in_kernel(frame::VECTORS) + 64 * i as i64)
}

/// Quarter `i` of a look-up table.
fn part_of(table: (usize, i64), i: usize) -> (usize, i64) {
    (table.0, table.1 + 64 * i as i64)
}

fn register_of(x: Operand<u8, (usize, i64)>) -> Option<u8> {
    match x {
        Operand::Reg(r) => Some(r),
        Operand::Mem(_) => None,
    }
}

impl Emitter<'_> {
    /// N registers other than `avoid`.
    pub(super) fn take<const N: usize>(&mut self, avoid: [u8; 3]) -> Scratch<N> {
        const { assert!(N <= frame::SPILLS) }
        let mut candidates = (0..self.encoding.registers()).rev().filter(|r| !avoid.contains(r));
        let regs = std::array::from_fn(|_| candidates.next().unwrap_or_default());
        let store = self.encoding.code(codes::STORE);
        for (i, &r) in regs.iter().enumerate().filter(|&(_, &r)| usize::from(r) < self.registers) {
            self.asm.mr(store, spill_slot(i), self.encoding.vector(r));
        }
        Scratch(regs)
    }

    pub(super) fn give_back<const N: usize>(&mut self, scratch: Scratch<N>) {
        let load = self.encoding.code(codes::LOAD);
        for (i, &r) in scratch.0.iter().enumerate().filter(|&(_, &r)| usize::from(r) < self.registers) {
            self.asm.rm(load, self.encoding.vector(r), spill_slot(i));
        }
    }

    /// A dot of words where products and sums are two instructions.
    pub(super) fn dot2_in_two(&mut self, acc: u8, a: u8, b: Operand<u8, (usize, i64)>) {
        let scratch = self.take::<1>([acc, a, register_of(b).unwrap_or(a)]);
        let product = scratch.0[0];
        self.vvx(codes::MADD_I16, product, a, b);
        self.vvv(codes::ADD_I32, acc, acc, product);
        self.give_back(scratch);
    }

    /// A dot of bytes by two dots of words: even bytes, then odd bytes. No step can overflow.
    pub(super) fn dot4_of_words(&mut self, acc: u8, u: u8, s: Operand<u8, (usize, i64)>) {
        let scratch = self.take::<4>([acc, u, register_of(s).unwrap_or(u)]);
        let [x, w, sum, bytes] = scratch.0;
        let s = match s {
            Operand::Reg(s) => s,
            Operand::Mem(m) => {
                self.vm(codes::LOAD, bytes, m);
                bytes
            }
        };
        self.vvi(codes::SHL_I16, x, u, 8);
        self.vvi(codes::SHR_U16, x, x, 8);
        self.vvi(codes::SHL_I16, w, s, 8);
        self.vvi(codes::SHR_I16, w, w, 8);
        self.vvv(codes::MADD_I16, sum, x, w);
        self.vvi(codes::SHR_U16, x, u, 8);
        self.vvi(codes::SHR_I16, w, s, 8);
        self.vvv(codes::MADD_I16, x, x, w);
        self.vvv(codes::ADD_I32, sum, sum, x);
        self.vvv(codes::ADD_I32, acc, acc, sum);
        self.give_back(scratch);
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
        let needed = if self.vbmi { 5 } else { 7 };
        let free = usize::from(self.encoding.registers()).checked_sub(self.registers)?;
        if self.encoding == Encoding::Vex
            || free < needed
            || tables.any(|t| t != table)
            || kernel.body.iter().any(moves)
        {
            return None;
        }
        let first = u8::try_from(self.registers).ok()?;
        let parts = std::array::from_fn(|i| first + i as u8);
        self.load_parts(parts, table);
        self.registers += needed;
        Some(match self.vbmi {
            true => Tables::Bytes { parts, work: first + 4 },
            false => Tables::Words { parts, work: [first + 4, first + 5, first + 6] },
        })
    }

    fn load_parts(&mut self, parts: [u8; 4], table: (usize, i64)) {
        for (i, &r) in parts.iter().enumerate() {
            self.vm(codes::LOAD, r, part_of(table, i));
        }
    }

    pub(super) fn lookup(&mut self, dst: u8, src: u8, table: (usize, i64)) {
        match self.tables {
            Some(Tables::Bytes { parts, work }) => self.lookup_bytes(dst, src, parts, work),
            Some(Tables::Words { parts, work }) => self.lookup_words(dst, src, work, |_, half| {
                (parts[2 * half], Operand::Reg(Encoding::Evex.vector(parts[2 * half + 1])))
            }),
            None if self.vbmi => {
                let scratch = self.take([dst, src, src]);
                let [t0, t1, t2, t3, work] = scratch.0;
                self.load_parts([t0, t1, t2, t3], table);
                self.lookup_bytes(dst, src, [t0, t1, t2, t3], work);
                self.give_back(scratch);
            }
            None if self.encoding == Encoding::Evex => {
                let scratch = self.take([dst, src, src]);
                let [part, a, b, c] = scratch.0;
                self.lookup_words(dst, src, [a, b, c], |e, half| {
                    e.vm(codes::LOAD, part, part_of(table, 2 * half));
                    (part, Operand::Mem(e.mem(part_of(table, 2 * half + 1))))
                });
                self.give_back(scratch);
            }
            None => {
                let scratch = self.take([dst, src, src]);
                self.lookup_shuffles(dst, src, table, scratch.0);
                self.give_back(scratch);
            }
        }
    }

    /// Both halves of the table are looked up with the low 7 bits; bit 7 chooses. (AVX-512 VBMI)
    fn lookup_bytes(&mut self, dst: u8, src: u8, [t0, t1, t2, t3]: [u8; 4], high: u8) {
        use Code::*;
        let zmm = |n| Encoding::Evex.vector(n);
        self.asm.rr(EVEX_Vpmovb2m_kr_zmm, Register::K1, zmm(src));
        self.vv(codes::MOVE, high, src);
        self.asm.rrr(EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512, zmm(high), zmm(t2), zmm(t3));
        if dst != src {
            self.vv(codes::MOVE, dst, src);
        }
        self.asm.rrr(EVEX_Vpermi2b_zmm_k1z_zmm_zmmm512, zmm(dst), zmm(t0), zmm(t1));
        self.asm.masked_move(EVEX_Vmovdqu8_zmm_k1z_zmmm512, zmm(dst), Register::K1, zmm(high));
    }

    /// The table as words of two entries: the upper 7 bits of a byte choose a word, its lowest bit one of the two. Permutes take 6 bits, so
    /// both halves of the table are looked up here too. `half` gives the two parts of a half.
    fn lookup_words(
        &mut self,
        dst: u8,
        src: u8,
        [even, odd, other]: [u8; 3],
        half: impl Fn(&mut Self, usize) -> (u8, Operand<Register, MemoryOperand>),
    ) {
        use Code::*;
        let zmm = |n| Encoding::Evex.vector(n);
        let k1 = Register::K1;
        let permute = EVEX_Vpermi2w_zmm_k1z_zmm_zmmm512;
        // By the even bytes and by the odd ones.
        let (low, low_rest) = half(self, 0);
        for (found, by) in [(even, 1), (odd, 9)] {
            self.vvi(codes::SHR_U16, found, src, by);
            self.asm.rrx(permute, zmm(found), zmm(low), low_rest);
        }
        let (high, high_rest) = half(self, 1);
        for (found, by) in [(even, 1), (odd, 9)] {
            // The sign of a word is bit 7 of its odd byte.
            if found == even {
                self.vvi(codes::SHL_I16, other, src, 8);
                self.asm.rr(EVEX_Vpmovw2m_kr_zmm, k1, zmm(other));
            } else {
                self.asm.rr(EVEX_Vpmovw2m_kr_zmm, k1, zmm(src));
            }
            self.vvi(codes::SHR_U16, other, src, by);
            self.asm.rrx(permute, zmm(other), zmm(high), high_rest);
            self.asm.masked_move(EVEX_Vmovdqu16_zmm_k1z_zmmm512, zmm(found), k1, zmm(other));
        }
        // Second entries into `other`, first ones into `even`: each in the place of its byte.
        self.set_mask(k1, 0xaaaa_aaaa_aaaa_aaaa);
        self.vvi(codes::SHR_U16, other, even, 8);
        self.asm.masked_move(EVEX_Vmovdqu8_zmm_k1z_zmmm512, zmm(other), k1, zmm(odd));
        self.vvi(codes::SHL_I16, odd, odd, 8);
        self.asm.masked_move(EVEX_Vmovdqu8_zmm_k1z_zmmm512, zmm(even), k1, zmm(odd));
        // Bit 0 of each byte becomes its sign.
        self.vvi(codes::SHL_I16, odd, src, 7);
        self.asm.rr(EVEX_Vpmovb2m_kr_zmm, k1, zmm(odd));
        self.vv(codes::MOVE, dst, even);
        self.asm.masked_move(EVEX_Vmovdqu8_zmm_k1z_zmmm512, zmm(dst), k1, zmm(other));
    }

    /// Sixteen shuffles of 16 entries each: of `x` = src − 16·i, bytes below 16 select, all others give 0.
    fn lookup_shuffles(
        &mut self,
        dst: u8,
        src: u8,
        table: (usize, i64),
        [x, control, part, c10, c70]: [u8; 5],
    ) {
        self.splat(c10, 0x1010_1010);
        self.splat(c70, 0x7070_7070);
        self.vv(codes::MOVE, x, src);
        self.splat(dst, 0);
        for i in 0..16 {
            self.vm(codes::BROADCAST128, part, (table.0, table.1 + 16 * i));
            // Saturating: 16 and above set bit 7, for which a shuffle gives 0.
            self.vvv(codes::ADD_SATURATED_U8, control, x, c70);
            self.vvv(codes::SHUFFLE8, part, part, control);
            self.vvv(codes::OR, dst, dst, part);
            self.vvv(codes::SUB_U8, x, x, c10);
        }
    }

    pub(super) fn copy(&mut self, dst: (usize, i64), src: (usize, i64), bytes: usize) {
        let mut done = 0;
        if bytes >= 16 {
            let scratch = self.take::<1>([0; 3]);
            let r = scratch.0[0];
            let vector = self.encoding.bytes();
            if bytes >= LONG_COPY {
                done = bytes / vector * vector;
                self.copy_vectors(dst, src, done, r);
            }
            while bytes - done >= 16 {
                let (d, s) = self.pair(dst, src, done);
                let (len, load, store, reg) = match bytes - done {
                    n if n >= vector => (vector, codes::LOAD, codes::STORE, self.encoding.vector(r)),
                    32.. => (32, codes::LOAD_32, codes::STORE_32, ymm(r)),
                    _ => (16, codes::LOAD_16, codes::STORE_16, xmm(r)),
                };
                self.asm.rm(self.encoding.code(load), reg, s);
                self.asm.mr(self.encoding.code(store), d, reg);
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

    /// Copies whole vectors in a loop that counts rax up to 0.
    fn copy_vectors(&mut self, dst: (usize, i64), src: (usize, i64), bytes: usize, r: u8) {
        let (d, s) = self.pair(dst, src, bytes);
        let indexed = |m: MemoryOperand| {
            MemoryOperand::with_base_index_scale_displ_size(m.base, Register::RAX, 1, m.displacement, 1)
        };
        self.asm.load_imm(Register::RAX, -(bytes as i64));
        let head = self.asm.here();
        let v = self.encoding.vector(r);
        self.asm.rm(self.encoding.code(codes::LOAD), v, indexed(s));
        self.asm.mr(self.encoding.code(codes::STORE), indexed(d), v);
        self.asm.add_imm(Register::RAX, self.encoding.bytes() as i64);
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
