//! Loads and stores of any number of bytes; not one byte more is touched.
//!
//! Sizes that an instruction moves need no more. For the others AVX-512 masks: constant masks are made once, at the kernel's
//! entry. AVX2 has no masks of bytes: there they are put together from pieces of 16, 8, 4, 2 and 1 bytes. They are rare, as channels
//! are padded to 16 bytes.

use super::codes::{self, Encoding, xmm, ymm};
use super::kernel::Emitter;
use crate::kernel::{FlatInstr, FlatKernel, FlatStmt, Instr};
use iced_x86::{Code, Instruction, Register};

/// Masks kept in k2 … k7; k1 serves all others.
const MASKS: [Register; 6] =
    [Register::K2, Register::K3, Register::K4, Register::K5, Register::K6, Register::K7];

/// The lowest `n` (1..=64) bits.
fn low_bits(n: usize) -> u64 {
    u64::MAX >> (64 - n)
}

/// The mask of a load or store of a number of bytes that no plain instruction moves.
fn mask_of(instr: &FlatInstr) -> Option<u64> {
    let (n, plain) = if let Instr::Load { bytes, .. } = *instr {
        (bytes, matches!(bytes, 4 | 8 | 16 | 32 | 64))
    } else if let Instr::Store { bytes, .. } = *instr {
        (bytes, matches!(bytes, 1 | 2 | 4 | 8 | 16 | 32 | 64))
    } else if let Instr::LoadU8 { count, .. } = *instr {
        (count, matches!(count, 4 | 8 | 16))
    } else {
        return None;
    };
    (!plain).then(|| low_bits(n))
}

/// `bytes` below 16 as powers of two, largest first: where each starts and its size.
fn pieces(bytes: usize) -> impl Iterator<Item = (usize, usize)> {
    let start = move |size: usize| bytes & !(2 * size - 1);
    [8, 4, 2, 1].into_iter().filter(move |size| bytes & size != 0).map(move |size| (start(size), size))
}

impl Emitter<'_> {
    pub(super) fn make_masks(&mut self, kernel: &FlatKernel) {
        if self.encoding == Encoding::Vex {
            return;
        }
        for stmt in &kernel.body {
            if let FlatStmt::Op(instr) = stmt
                && let Some(bits) = mask_of(instr)
                && self.masks.len() < MASKS.len()
                && !self.masks.contains(&bits)
            {
                self.set_mask(MASKS[self.masks.len()], bits);
                self.masks.push(bits);
            }
        }
    }

    pub(super) fn set_mask(&mut self, k: Register, bits: u64) {
        self.asm.load_imm(Register::RAX, bits as i64);
        self.asm.rr(Code::VEX_Kmovq_kr_r64, k, Register::RAX);
    }

    /// A register that holds `bits`.
    fn mask(&mut self, bits: u64) -> Register {
        match self.masks.iter().position(|&b| b == bits) {
            Some(i) => MASKS[i],
            None => {
                self.set_mask(Register::K1, bits);
                Register::K1
            }
        }
    }

    pub(super) fn load(&mut self, dst: u8, src: (usize, i64), bytes: usize) {
        // Shorter forms clear the rest of the register.
        let (op, r) = match bytes {
            _ if bytes == self.encoding.bytes() => return self.vm(codes::LOAD, dst, src),
            32 => (codes::LOAD_32, ymm(dst)),
            16 => (codes::LOAD_16, xmm(dst)),
            8 => (codes::LOAD_8, xmm(dst)),
            4 => (codes::LOAD_4, xmm(dst)),
            _ => return self.load_odd(dst, src, bytes),
        };
        let m = self.mem(src);
        self.asm.rm(self.encoding.code(op), r, m);
    }

    fn load_odd(&mut self, dst: u8, src: (usize, i64), bytes: usize) {
        match self.encoding {
            Encoding::Evex => {
                let k = self.mask(low_bits(bytes));
                let m = self.mem(src);
                self.asm.masked_load(Code::EVEX_Vmovdqu8_zmm_k1z_zmmm512, self.encoding.vector(dst), k, m);
            }
            Encoding::Vex if bytes < 16 => self.load_pieces(dst, src, bytes),
            Encoding::Vex => {
                // The upper part first, in the lower half; it moves up, and 16 bytes go below it.
                self.load(dst, (src.0, src.1 + 16), bytes - 16);
                let v = ymm(dst);
                self.asm.put(Instruction::with4(Code::VEX_Vperm2i128_ymm_ymm_ymmm256_imm8, v, v, v, 0x08));
                let m = self.mem(src);
                self.asm.put(Instruction::with4(Code::VEX_Vinserti128_ymm_ymm_xmmm128_imm8, v, v, m, 0));
            }
        }
    }

    /// Fewer than 16 bytes; the first piece clears the register.
    fn load_pieces(&mut self, dst: u8, src: (usize, i64), bytes: usize) {
        use Code::*;
        let x = xmm(dst);
        for (at, size) in pieces(bytes) {
            let m = self.mem((src.0, src.1 + at as i64));
            let first = match size {
                8 => VEX_Vmovq_xmm_xmmm64,
                4 => VEX_Vmovd_xmm_rm32,
                2 => Movzx_r32_rm16,
                _ => Movzx_r32_rm8,
            };
            let insert = match size {
                4 => VEX_Vpinsrd_xmm_xmm_rm32_imm8,
                2 => VEX_Vpinsrw_xmm_xmm_r32m16_imm8,
                _ => VEX_Vpinsrb_xmm_xmm_r32m8_imm8,
            };
            match (at, size) {
                (0, 8 | 4) => self.asm.rm(first, x, m),
                (0, _) => {
                    self.asm.rm(first, Register::EAX, m);
                    self.asm.rr(VEX_Vmovd_xmm_rm32, x, Register::EAX);
                }
                _ => self.asm.put(Instruction::with4(insert, x, x, m, (at / size) as u32)),
            }
        }
    }

    pub(super) fn store(&mut self, dst: (usize, i64), src: u8, bytes: usize) {
        let (op, r) = match bytes {
            _ if bytes == self.encoding.bytes() => (codes::STORE, self.encoding.vector(src)),
            32 => (codes::STORE_32, ymm(src)),
            16 => (codes::STORE_16, xmm(src)),
            1 | 2 | 4 | 8 => return self.store_pieces(dst, src, bytes),
            _ => return self.store_odd(dst, src, bytes),
        };
        let m = self.mem(dst);
        self.asm.mr(self.encoding.code(op), m, r);
    }

    fn store_odd(&mut self, dst: (usize, i64), src: u8, bytes: usize) {
        match self.encoding {
            Encoding::Evex => {
                let k = self.mask(low_bits(bytes));
                let m = self.mem(dst);
                self.asm.masked_store(Code::EVEX_Vmovdqu8_zmmm512_k1z_zmm, m, k, self.encoding.vector(src));
            }
            Encoding::Vex if bytes < 16 => self.store_pieces(dst, src, bytes),
            Encoding::Vex => {
                self.store(dst, src, 16);
                let scratch = self.take::<1>([src; 3]);
                let upper = scratch.0[0];
                self.asm.put(Instruction::with3(
                    Code::VEX_Vextracti128_xmmm128_ymm_imm8,
                    xmm(upper),
                    ymm(src),
                    1,
                ));
                self.store_pieces((dst.0, dst.1 + 16), upper, bytes - 16);
                self.give_back(scratch);
            }
        }
    }

    /// Fewer than 16 bytes.
    fn store_pieces(&mut self, dst: (usize, i64), src: u8, bytes: usize) {
        for (at, size) in pieces(bytes) {
            let m = self.mem((dst.0, dst.1 + at as i64));
            let op = match (at, size) {
                (0, 8) => codes::STORE_8,
                (0, 4) => codes::STORE_4,
                (_, 4) => codes::EXTRACT_4,
                (_, 2) => codes::EXTRACT_2,
                _ => codes::EXTRACT_1,
            };
            let code = self.encoding.code(op);
            match (at, size) {
                (0, 8 | 4) => self.asm.mr(code, m, xmm(src)),
                _ => self.asm.put(Instruction::with3(code, m, xmm(src), (at / size) as u32)),
            }
        }
    }

    /// `count` bytes, each widened to a lane.
    pub(super) fn load_u8(&mut self, dst: u8, src: (usize, i64), count: usize) {
        let (op, r) = match count {
            _ if 4 * count == self.encoding.bytes() => return self.vm(codes::WIDEN_U8, dst, src),
            8 => (codes::WIDEN_8_U8, ymm(dst)),
            4 => (codes::WIDEN_4_U8, xmm(dst)),
            _ => return self.load_odd_u8(dst, src, count),
        };
        let m = self.mem(src);
        self.asm.rm(self.encoding.code(op), r, m);
    }

    fn load_odd_u8(&mut self, dst: u8, src: (usize, i64), count: usize) {
        let op = self.encoding.code(codes::WIDEN_U8);
        match self.encoding {
            Encoding::Evex => {
                let k = self.mask(low_bits(count));
                let m = self.mem(src);
                self.asm.masked_load(op, self.encoding.vector(dst), k, m);
            }
            Encoding::Vex => {
                self.load_pieces(dst, src, count);
                self.asm.rr(op, ymm(dst), xmm(dst));
            }
        }
    }
}
