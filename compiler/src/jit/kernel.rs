//! One kernel becomes one subroutine: parameters in [`PARAMS`], register n in zmm n.
//!
//! Every instruction has its own expansion that touches only rax, mask registers and what the instruction names,
//! because a kernel may use all 32 vector registers; `scratch` holds the few that need more. Constant masks
//! are made once, at the entry. On return each pointer register has moved by a constant, which the caller takes over.
//!
//! Not here: who calls it with what (`steps`).

use super::asm::{Asm, LINE};
use super::frame;
use super::pointers::{Counter, PARAMS, Pointers};
use super::scratch::Tables;
use crate::kernel::{FlatInstr, FlatKernel, FlatStmt, Instr, Operand};
use iced_x86::{Code, MemoryOperand, Register};

/// Loops of height 0 (innermost), 1, 2 count in registers, higher ones in memory.
const COUNTERS: [Register; 3] = [Register::RCX, Register::RDX, Register::R15];

/// Masks kept in k2 … k7; k1 serves all others.
const MASKS: [Register; 6] =
    [Register::K2, Register::K3, Register::K4, Register::K5, Register::K6, Register::K7];

/// Where a kernel went.
pub(super) struct Emitted {
    /// Its entry.
    pub(super) offset: usize,
    /// How far each pointer register has moved on return.
    pub(super) drift: Vec<i64>,
}

/// The state while one kernel is emitted.
pub(super) struct Emitter<'a> {
    pub(super) asm: &'a mut Asm,
    pub(super) pointers: Pointers,
    /// Registers of the kernel; those from here on are free.
    pub(super) registers: usize,
    /// Whether the CPU has AVX-512 VBMI.
    pub(super) vbmi: bool,
    /// The table of all look-ups, if it could be put into registers at the entry.
    pub(super) tables: Option<Tables>,
    masks: Vec<u64>,
}

/// Emits `kernel`, which has passed `verify` for a target of 16 lanes and 32 registers.
pub(super) fn emit(asm: &mut Asm, kernel: &FlatKernel, vbmi: bool) -> Result<Emitted, String> {
    if kernel.params.len() > PARAMS.len() {
        return Err(format!(
            "{} parameters; at most {} fit the registers",
            kernel.params.len(),
            PARAMS.len()
        ));
    }
    let shape = loops(kernel);
    check_reach(kernel)?;
    if let Some(deep) = shape.iter().flatten().map(|l| l.height).max().filter(|&h| h >= frame::LOOPS) {
        return Err(format!("{} nested loops; at most {} have counters", deep + 1, frame::LOOPS));
    }
    asm.align(LINE);
    let offset = asm.here();
    let pointers = Pointers::new(kernel.params.len());
    let registers = kernel.registers;
    let mut e = Emitter { asm, pointers, registers, vbmi, tables: None, masks: Vec::new() };
    e.make_masks(kernel);
    e.tables = e.hoist_tables(kernel);
    for (stmt, shape) in kernel.body.iter().zip(&shape) {
        match stmt {
            FlatStmt::Begin { extent, advance } => {
                let Some(shape) = shape else { continue };
                let counter = match COUNTERS.get(shape.height) {
                    Some(&r) => Counter::Reg(r),
                    None => Counter::Stack(frame::in_kernel(frame::LOOP_COUNTERS) + 8 * shape.height as i64),
                };
                let hot = shape.height == 0 && *extent >= 4;
                e.pointers.begin(e.asm, *extent, advance.clone(), shape.uses, counter, hot);
            }
            FlatStmt::End => e.pointers.end(e.asm),
            FlatStmt::Op(instr) => e.instr(*instr),
        }
    }
    e.asm.op0(Code::Retnq);
    Ok(Emitted { offset, drift: e.pointers.bias().to_vec() })
}

/// What the start of a loop must know of its body.
struct Shape {
    /// Counted loops nested inside.
    height: usize,
    /// Parameters addressed inside, as bits.
    uses: u32,
}

/// The shape of each loop, beside its `Begin`.
fn loops(kernel: &FlatKernel) -> Vec<Option<Shape>> {
    let mut out: Vec<Option<Shape>> = kernel.body.iter().map(|_| None).collect();
    // Open loops: index, extent, height + 1 of what is inside, uses.
    let mut open: Vec<(usize, usize, usize, u32)> = Vec::new();
    for (i, stmt) in kernel.body.iter().enumerate() {
        match stmt {
            FlatStmt::Begin { extent, .. } => open.push((i, *extent, 0, 0)),
            FlatStmt::End => {
                let Some((begin, extent, height, uses)) = open.pop() else { continue };
                out[begin] = Some(Shape { height, uses });
                if let Some(outer) = open.last_mut() {
                    outer.2 = outer.2.max(if extent > 1 { height + 1 } else { height });
                    outer.3 |= uses;
                }
            }
            FlatStmt::Op(instr) => {
                if let Some(l) = open.last_mut() {
                    instr.map(|_| (), |(param, _)| l.3 |= 1 << param);
                }
            }
        }
    }
    out
}

/// All constants of addresses fit an instruction with room for what a pointer has moved.
fn check_reach(kernel: &FlatKernel) -> Result<(), String> {
    const REACH: u64 = 1 << 30;
    let mut far = false;
    for stmt in &kernel.body {
        if let FlatStmt::Op(instr) = stmt {
            instr.map(|_| (), |(_, offset)| far |= offset.unsigned_abs() > REACH);
            if let Instr::Copy { bytes, .. } = *instr {
                far |= bytes as u64 > REACH;
            }
        }
    }
    if far { Err("an address more than 1 GiB from its parameter".into()) } else { Ok(()) }
}

/// Vector register n.
pub(super) fn zmm(n: u8) -> Register {
    Register::ZMM0 + u32::from(n)
}

/// Its low half.
pub(super) fn ymm(n: u8) -> Register {
    Register::YMM0 + u32::from(n)
}

/// Its low quarter.
pub(super) fn xmm(n: u8) -> Register {
    Register::XMM0 + u32::from(n)
}

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

impl Emitter<'_> {
    fn make_masks(&mut self, kernel: &FlatKernel) {
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

    fn set_mask(&mut self, k: Register, bits: u64) {
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

    pub(super) fn mem(&mut self, (param, offset): (usize, i64)) -> MemoryOperand {
        self.pointers.at(self.asm, param, offset)
    }

    /// `code dst, a, b`, b in a register or in memory.
    fn vvx(&mut self, code: Code, dst: u8, a: u8, b: Operand<u8, (usize, i64)>) {
        let b = match b {
            Operand::Reg(r) => Operand::Reg(zmm(r)),
            Operand::Mem(m) => Operand::Mem(self.mem(m)),
        };
        self.asm.rrx(code, zmm(dst), zmm(a), b);
    }

    pub(super) fn vvv(&mut self, code: Code, dst: u8, a: u8, b: u8) {
        self.asm.rrr(code, zmm(dst), zmm(a), zmm(b));
    }

    fn instr(&mut self, instr: FlatInstr) {
        use Code::*;
        match instr {
            Instr::Splat { dst, bits: 0 } => self.vvv(EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, dst, dst, dst),
            Instr::Splat { dst, bits } => {
                self.asm.load_imm(Register::RAX, bits.into());
                self.asm.rr(EVEX_Vpbroadcastd_zmm_k1z_r32, zmm(dst), Register::EAX);
            }
            Instr::Move { dst, src } => self.asm.rr(EVEX_Vmovdqa32_zmm_k1z_zmmm512, zmm(dst), zmm(src)),
            Instr::Load { dst, src, bytes } => self.load(dst, src, bytes),
            Instr::Store { dst, src, bytes } => self.store(dst, src, bytes),
            Instr::Broadcast32 { dst, src } => {
                let m = self.mem(src);
                self.asm.rm(EVEX_Vpbroadcastd_zmm_k1z_xmmm32, zmm(dst), m);
            }
            Instr::LoadU8 { dst, src, count } => self.load_u8(dst, src, count),
            Instr::Copy { dst, src, bytes } => self.copy(dst, src, bytes),
            Instr::Prefetch { src, far } => {
                let m = self.mem(src);
                self.asm.m(if far { Prefetcht1_m8 } else { Prefetcht0_m8 }, m);
            }

            Instr::Dot4 { acc, u, s } => self.vvx(EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32, acc, u, s),

            Instr::AddI32 { dst, a, b } => self.vvx(EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32, dst, a, b),
            Instr::SubI32 { dst, a, b } => self.vvx(EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32, dst, a, b),
            Instr::MulI32 { dst, a, b } => self.vvx(EVEX_Vpmulld_zmm_k1z_zmm_zmmm512b32, dst, a, b),
            Instr::Or { dst, a, b } => self.vvx(EVEX_Vpord_zmm_k1z_zmm_zmmm512b32, dst, a, b),
            Instr::ShlI32 { dst, a, by } => self.asm.put(iced_x86::Instruction::with3(
                EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8,
                zmm(dst),
                zmm(a),
                by,
            )),
            Instr::MaxU8 { dst, a, b } => self.vvx(EVEX_Vpmaxub_zmm_k1z_zmm_zmmm512, dst, a, b),
            Instr::MinU8 { dst, a, b } => self.vvx(EVEX_Vpminub_zmm_k1z_zmm_zmmm512, dst, a, b),

            Instr::AddF32 { dst, a, b } => self.vvx(EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er, dst, a, b),
            Instr::SubF32 { dst, a, b } => self.vvx(EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er, dst, a, b),
            Instr::MulF32 { dst, a, b } => self.vvx(EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er, dst, a, b),
            Instr::DivF32 { dst, a, b } => self.vvx(EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er, dst, a, b),
            // Both give the second operand unless the comparison holds, as the IR defines them.
            Instr::MaxF32 { dst, a, b } => self.vvx(EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae, dst, a, b),
            Instr::MinF32 { dst, a, b } => self.vvx(EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae, dst, a, b),
            Instr::FmaAcc { acc, a, b } => self.vvx(EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er, acc, a, b),
            Instr::FmaMul { x, m: Operand::Reg(m), c } => {
                self.vvv(EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er, x, m, c)
            }
            Instr::FmaMul { x, m: Operand::Mem(m), c } => {
                self.vvx(EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er, x, c, Operand::Mem(m))
            }

            Instr::CvtI32F32 { dst, src } => {
                self.asm.rr(EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er, zmm(dst), zmm(src))
            }
            Instr::CvtF32I32 { dst, src } => {
                self.asm.rr(EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er, zmm(dst), zmm(src))
            }

            Instr::UnpackLo8 { dst, a, b } => self.vvv(EVEX_Vpunpcklbw_zmm_k1z_zmm_zmmm512, dst, a, b),
            Instr::UnpackHi8 { dst, a, b } => self.vvv(EVEX_Vpunpckhbw_zmm_k1z_zmm_zmmm512, dst, a, b),
            Instr::UnpackLo16 { dst, a, b } => self.vvv(EVEX_Vpunpcklwd_zmm_k1z_zmm_zmmm512, dst, a, b),
            Instr::UnpackHi16 { dst, a, b } => self.vvv(EVEX_Vpunpckhwd_zmm_k1z_zmm_zmmm512, dst, a, b),
            Instr::PackI32I16 { dst, a, b } => self.vvv(EVEX_Vpackssdw_zmm_k1z_zmm_zmmm512b32, dst, a, b),
            Instr::PackI16U8 { dst, a, b } => self.vvv(EVEX_Vpackuswb_zmm_k1z_zmm_zmmm512, dst, a, b),
            Instr::Permute32 { dst, src, index } => {
                self.vvv(EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32, dst, index, src)
            }
            Instr::Shuffle8 { dst, src, control } => {
                self.vvx(EVEX_Vpshufb_zmm_k1z_zmm_zmmm512, dst, src, control)
            }
            Instr::Lookup8 { dst, src, table } => self.lookup(dst, src, table),
        }
    }

    fn load(&mut self, dst: u8, src: (usize, i64), bytes: usize) {
        use Code::*;
        let m = self.mem(src);
        // Shorter forms clear the rest of the register.
        match bytes {
            64 => self.asm.rm(EVEX_Vmovdqu32_zmm_k1z_zmmm512, zmm(dst), m),
            32 => self.asm.rm(EVEX_Vmovdqu32_ymm_k1z_ymmm256, ymm(dst), m),
            16 => self.asm.rm(EVEX_Vmovdqu32_xmm_k1z_xmmm128, xmm(dst), m),
            8 => self.asm.rm(EVEX_Vmovq_xmm_xmmm64, xmm(dst), m),
            4 => self.asm.rm(EVEX_Vmovd_xmm_rm32, xmm(dst), m),
            _ => {
                let k = self.mask(low_bits(bytes));
                self.asm.masked_load(EVEX_Vmovdqu8_zmm_k1z_zmmm512, zmm(dst), k, m);
            }
        }
    }

    fn store(&mut self, dst: (usize, i64), src: u8, bytes: usize) {
        use Code::*;
        let m = self.mem(dst);
        match bytes {
            64 => self.asm.mr(EVEX_Vmovdqu32_zmmm512_k1z_zmm, m, zmm(src)),
            32 => self.asm.mr(EVEX_Vmovdqu32_ymmm256_k1z_ymm, m, ymm(src)),
            16 => self.asm.mr(EVEX_Vmovdqu32_xmmm128_k1z_xmm, m, xmm(src)),
            8 => self.asm.mr(EVEX_Vmovq_xmmm64_xmm, m, xmm(src)),
            4 => self.asm.mr(EVEX_Vmovd_rm32_xmm, m, xmm(src)),
            2 => self.asm.put(iced_x86::Instruction::with3(EVEX_Vpextrw_r32m16_xmm_imm8, m, xmm(src), 0)),
            1 => self.asm.put(iced_x86::Instruction::with3(EVEX_Vpextrb_r32m8_xmm_imm8, m, xmm(src), 0)),
            _ => {
                let k = self.mask(low_bits(bytes));
                self.asm.masked_store(EVEX_Vmovdqu8_zmmm512_k1z_zmm, m, k, zmm(src));
            }
        }
    }

    fn load_u8(&mut self, dst: u8, src: (usize, i64), count: usize) {
        use Code::*;
        let m = self.mem(src);
        match count {
            16 => self.asm.rm(EVEX_Vpmovzxbd_zmm_k1z_xmmm128, zmm(dst), m),
            8 => self.asm.rm(EVEX_Vpmovzxbd_ymm_k1z_xmmm64, ymm(dst), m),
            4 => self.asm.rm(EVEX_Vpmovzxbd_xmm_k1z_xmmm32, xmm(dst), m),
            _ => {
                let k = self.mask(low_bits(count));
                self.asm.masked_load(EVEX_Vpmovzxbd_zmm_k1z_xmmm128, zmm(dst), k, m);
            }
        }
    }
}
