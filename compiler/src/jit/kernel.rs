//! One kernel becomes one subroutine: parameters in [`PARAMS`], register n in zmm n or ymm n.
//!
//! Every instruction has its own expansion that touches only rax, mask registers and what the instruction names,
//! because a kernel may use all vector registers; `scratch` holds the few that need more, `partial` loads and stores of odd sizes.
//! On return each pointer register has moved by a constant, which the caller takes over.
//!
//! Not here: who calls it with what (`steps`), encodings (`codes`).

use super::asm::{Asm, LINE};
use super::codes::{self, Both, Encoding};
use super::frame;
use super::pointers::{Counter, PARAMS, Pointers};
use super::scratch::Tables;
use crate::kernel::{FlatInstr, FlatKernel, FlatStmt, Instr, Operand};
use crate::target::Isa;
use iced_x86::{Code, Instruction, MemoryOperand, Register};

/// Loops of height 0 (innermost), 1, 2 count in registers, higher ones in memory.
const COUNTERS: [Register; 3] = [Register::RCX, Register::RDX, Register::R15];

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
    /// The encoding of the target.
    pub(super) encoding: Encoding,
    /// Whether the target has dots of bytes, and of words, with accumulation.
    pub(super) vnni: bool,
    /// Registers of the kernel; those from here on are free.
    pub(super) registers: usize,
    /// Whether the CPU has AVX-512 VBMI.
    pub(super) vbmi: bool,
    /// The table of all look-ups, if it could be put into registers at the entry.
    pub(super) tables: Option<Tables>,
    /// Masks made at the entry.
    pub(super) masks: Vec<u64>,
}

/// Emits `kernel`, which has passed `verify` for the target of this family.
pub(super) fn emit(asm: &mut Asm, kernel: &FlatKernel, isa: Isa, vbmi: bool) -> Result<Emitted, String> {
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
    let encoding = Encoding::of(isa);
    let mut e = Emitter {
        asm,
        pointers,
        encoding,
        vnni: isa != Isa::Avx2,
        registers,
        vbmi: vbmi && encoding == Encoding::Evex,
        tables: None,
        masks: Vec::new(),
    };
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

type Memory = (usize, i64);

impl Emitter<'_> {
    pub(super) fn mem(&mut self, (param, offset): Memory) -> MemoryOperand {
        self.pointers.at(self.asm, param, offset)
    }

    /// `op dst, [src]`, on whole vectors.
    pub(super) fn vm(&mut self, op: Both, dst: u8, src: Memory) {
        let m = self.mem(src);
        self.asm.rm(self.encoding.code(op), self.encoding.vector(dst), m);
    }

    /// `op dst, a`.
    pub(super) fn vv(&mut self, op: Both, dst: u8, a: u8) {
        self.asm.rr(self.encoding.code(op), self.encoding.vector(dst), self.encoding.vector(a));
    }

    /// `op dst, a, imm`.
    pub(super) fn vvi(&mut self, op: Both, dst: u8, a: u8, imm: u32) {
        let (dst, a) = (self.encoding.vector(dst), self.encoding.vector(a));
        self.asm.put(Instruction::with3(self.encoding.code(op), dst, a, imm));
    }

    /// `op dst, a, b`.
    pub(super) fn vvv(&mut self, op: Both, dst: u8, a: u8, b: u8) {
        self.vvx(op, dst, a, Operand::Reg(b));
    }

    /// `op dst, a, b`, b in a register or in memory.
    pub(super) fn vvx(&mut self, op: Both, dst: u8, a: u8, b: Operand<u8, Memory>) {
        let b = match b {
            Operand::Reg(r) => Operand::Reg(self.encoding.vector(r)),
            Operand::Mem(m) => Operand::Mem(self.mem(m)),
        };
        self.asm.rrx(self.encoding.code(op), self.encoding.vector(dst), self.encoding.vector(a), b);
    }

    fn instr(&mut self, instr: FlatInstr) {
        use codes::*;
        match instr {
            Instr::Splat { dst, bits } => self.splat(dst, bits),
            Instr::Move { dst, src } => self.vv(MOVE, dst, src),
            Instr::Load { dst, src, bytes } => self.load(dst, src, bytes),
            Instr::Store { dst, src, bytes } => self.store(dst, src, bytes),
            Instr::Broadcast32 { dst, src } => self.vm(BROADCAST32, dst, src),
            Instr::LoadU8 { dst, src, count } => self.load_u8(dst, src, count),
            Instr::Copy { dst, src, bytes } => self.copy(dst, src, bytes),
            Instr::Prefetch { src, far } => {
                let m = self.mem(src);
                self.asm.m(if far { Code::Prefetcht1_m8 } else { Code::Prefetcht0_m8 }, m);
            }

            Instr::Dot4 { acc, u, s } if self.vnni => self.vvx(DOT4, acc, u, s),
            Instr::Dot4 { acc, u, s } => self.dot4_of_words(acc, u, s),
            Instr::Dot2 { acc, a, b } if self.vnni => self.vvx(DOT2, acc, a, b),
            Instr::Dot2 { acc, a, b } => self.dot2_in_two(acc, a, b),

            Instr::AddI32 { dst, a, b } => self.vvx(ADD_I32, dst, a, b),
            Instr::SubI32 { dst, a, b } => self.vvx(SUB_I32, dst, a, b),
            Instr::MulI32 { dst, a, b } => self.vvx(MUL_I32, dst, a, b),
            Instr::And { dst, a, b } => self.vvx(AND, dst, a, b),
            Instr::Or { dst, a, b } => self.vvx(OR, dst, a, b),
            Instr::ShlI32 { dst, a, by } => self.vvi(SHL_I32, dst, a, by),
            Instr::ShlI16 { dst, a, by } => self.vvi(SHL_I16, dst, a, by),
            Instr::ShrI16 { dst, a, by } => self.vvi(SHR_I16, dst, a, by),
            Instr::ShrU16 { dst, a, by } => self.vvi(SHR_U16, dst, a, by),
            Instr::MaxU8 { dst, a, b } => self.vvx(MAX_U8, dst, a, b),
            Instr::MinU8 { dst, a, b } => self.vvx(MIN_U8, dst, a, b),

            Instr::AddF32 { dst, a, b } => self.vvx(ADD_F32, dst, a, b),
            Instr::SubF32 { dst, a, b } => self.vvx(SUB_F32, dst, a, b),
            Instr::MulF32 { dst, a, b } => self.vvx(MUL_F32, dst, a, b),
            Instr::DivF32 { dst, a, b } => self.vvx(DIV_F32, dst, a, b),
            Instr::MaxF32 { dst, a, b } => self.vvx(MAX_F32, dst, a, b),
            Instr::MinF32 { dst, a, b } => self.vvx(MIN_F32, dst, a, b),
            Instr::FmaAcc { acc, a, b } => self.vvx(FMA_231, acc, a, b),
            Instr::FmaMul { x, m: Operand::Reg(m), c } => self.vvv(FMA_213, x, m, c),
            Instr::FmaMul { x, m: Operand::Mem(m), c } => self.vvx(FMA_132, x, c, Operand::Mem(m)),

            Instr::CvtI32F32 { dst, src } => self.vv(F32_FROM_I32, dst, src),
            Instr::CvtF32I32 { dst, src } => self.vv(I32_FROM_F32, dst, src),

            Instr::UnpackLo8 { dst, a, b } => self.vvv(UNPACK_LO8, dst, a, b),
            Instr::UnpackHi8 { dst, a, b } => self.vvv(UNPACK_HI8, dst, a, b),
            Instr::UnpackLo16 { dst, a, b } => self.vvv(UNPACK_LO16, dst, a, b),
            Instr::UnpackHi16 { dst, a, b } => self.vvv(UNPACK_HI16, dst, a, b),
            Instr::PackI32I16 { dst, a, b } => self.vvv(PACK_I32_I16, dst, a, b),
            Instr::PackI16U8 { dst, a, b } => self.vvv(PACK_I16_U8, dst, a, b),
            Instr::Permute32 { dst, src, index } => self.vvv(PERMUTE32, dst, index, src),
            Instr::Shuffle8 { dst, src, control } => self.vvx(SHUFFLE8, dst, src, control),
            Instr::Lookup8 { dst, src, table } => self.lookup(dst, src, table),
        }
    }

    pub(super) fn splat(&mut self, dst: u8, bits: u32) {
        if bits == 0 {
            return self.vvv(codes::XOR, dst, dst, dst);
        }
        self.asm.load_imm(Register::RAX, bits.into());
        let v = self.encoding.vector(dst);
        match self.encoding {
            Encoding::Evex => self.asm.rr(Code::EVEX_Vpbroadcastd_zmm_k1z_r32, v, Register::EAX),
            Encoding::Vex => {
                self.asm.rr(Code::VEX_Vmovd_xmm_rm32, codes::xmm(dst), Register::EAX);
                self.asm.rr(Code::VEX_Vpbroadcastd_ymm_xmmm32, v, codes::xmm(dst));
            }
        }
    }
}
