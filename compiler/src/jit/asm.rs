//! The assembler: instructions go in one after another, bytes come out.
//!
//! Every branch of generated code goes backwards (loops, calls of kernels already emitted), so one pass with
//! iced's plain [`Encoder`] is enough: no labels, no list of instructions, no second pass. All encodings (GPR,
//! VEX, EVEX) come from iced; dynasm, which knows no EVEX, would only be a second syntax for the rest.
//!
//! Not here: what to emit.

use crate::kernel::Operand;
use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, Register};

/// Bytes of a cache line, the alignment of kernel entries.
pub(super) const LINE: usize = 64;

/// Longest code that is emitted: calls reach ±2 GiB.
const MAX_CODE: usize = 1 << 30;

/// Takes instructions, holds their bytes.
pub(super) struct Asm {
    encoder: Encoder,
    len: usize,
    problem: Option<String>,
}

impl Asm {
    /// Nothing yet; the first byte will be at offset 0.
    pub(super) fn new() -> Self {
        Asm { encoder: Encoder::new(64), len: 0, problem: None }
    }

    /// Offset of the next instruction.
    pub(super) fn here(&self) -> usize {
        self.len
    }

    /// The bytes, or the first instruction that could not be encoded (an error of this module's callers).
    pub(super) fn finish(mut self) -> Result<Vec<u8>, String> {
        match self.problem {
            Some(problem) => Err(problem),
            None => Ok(self.encoder.take_buffer()),
        }
    }

    /// Appends an instruction. A failure is kept for [`Asm::finish`].
    pub(super) fn put(&mut self, instruction: Result<Instruction, IcedError>) {
        let encoded = instruction
            .map_err(|e| e.to_string())
            .and_then(|i| self.encoder.encode(&i, self.len as u64).map_err(|e| format!("{i:?}: {e}")));
        match encoded {
            Ok(len) if self.len + len <= MAX_CODE => self.len += len,
            Ok(_) => self.fail("more than 1 GiB of code".into()),
            Err(e) => self.fail(e),
        }
    }

    fn fail(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }

    /// An instruction without operands.
    pub(super) fn op0(&mut self, code: Code) {
        self.put(Ok(Instruction::with(code)));
    }

    /// `code a`.
    pub(super) fn r(&mut self, code: Code, a: Register) {
        self.put(Instruction::with1(code, a));
    }

    /// `code [m]`.
    pub(super) fn m(&mut self, code: Code, m: MemoryOperand) {
        self.put(Instruction::with1(code, m));
    }

    /// `code a, b`.
    pub(super) fn rr(&mut self, code: Code, a: Register, b: Register) {
        self.put(Instruction::with2(code, a, b));
    }

    /// `code a, [m]`.
    pub(super) fn rm(&mut self, code: Code, a: Register, m: MemoryOperand) {
        self.put(Instruction::with2(code, a, m));
    }

    /// `code [m], a`.
    pub(super) fn mr(&mut self, code: Code, m: MemoryOperand, a: Register) {
        self.put(Instruction::with2(code, m, a));
    }

    /// `lock add [m], a`.
    pub(super) fn locked_add(&mut self, m: MemoryOperand, a: Register) {
        self.put(Instruction::with2(Code::Add_rm64_r64, m, a).map(|mut i| {
            i.set_has_lock_prefix(true);
            i
        }));
    }

    /// `code a, imm`.
    pub(super) fn ri(&mut self, code: Code, a: Register, imm: i32) {
        self.put(Instruction::with2(code, a, imm));
    }

    /// `code a, b, c`.
    pub(super) fn rrr(&mut self, code: Code, a: Register, b: Register, c: Register) {
        self.put(Instruction::with3(code, a, b, c));
    }

    /// `code a, b, c` with c in a register or in memory.
    pub(super) fn rrx(&mut self, code: Code, a: Register, b: Register, c: Operand<Register, MemoryOperand>) {
        self.put(match c {
            Operand::Reg(c) => Instruction::with3(code, a, b, c),
            Operand::Mem(c) => Instruction::with3(code, a, b, c),
        });
    }

    /// `code a{mask}, b`.
    pub(super) fn masked_move(&mut self, code: Code, a: Register, mask: Register, b: Register) {
        self.put(Instruction::with2(code, a, b).map(|mut i| {
            i.set_op_mask(mask);
            i
        }));
    }

    /// `code a{mask}{z}, [m]`.
    pub(super) fn masked_load(&mut self, code: Code, a: Register, mask: Register, m: MemoryOperand) {
        self.put(Instruction::with2(code, a, m).map(|mut i| {
            i.set_op_mask(mask);
            i.set_zeroing_masking(true);
            i
        }));
    }

    /// `code [m]{mask}, a`.
    pub(super) fn masked_store(&mut self, code: Code, m: MemoryOperand, mask: Register, a: Register) {
        self.put(Instruction::with2(code, m, a).map(|mut i| {
            i.set_op_mask(mask);
            i
        }));
    }

    /// `a = value`, by the shortest form; leaves the flags alone.
    pub(super) fn load_imm(&mut self, a: Register, value: i64) {
        if let Ok(v) = u32::try_from(value) {
            self.put(Instruction::with2(Code::Mov_r32_imm32, a.full_register32(), v));
        } else if let Ok(v) = i32::try_from(value) {
            self.ri(Code::Mov_rm64_imm32, a, v);
        } else {
            self.put(Instruction::with2(Code::Mov_r64_imm64, a, value));
        }
    }

    /// `a += value`; uses rax if the value does not fit 32 bits.
    pub(super) fn add_imm(&mut self, a: Register, value: i64) {
        if value == 0 {
        } else if let Ok(v) = i8::try_from(value) {
            self.ri(Code::Add_rm64_imm8, a, v.into());
        } else if let Ok(v) = i32::try_from(value) {
            self.ri(Code::Add_rm64_imm32, a, v);
        } else {
            self.load_imm(Register::RAX, value);
            self.rr(Code::Add_rm64_r64, a, Register::RAX);
        }
    }

    /// Jumps back to `target` while the zero flag is clear.
    pub(super) fn jnz(&mut self, target: usize) {
        let short = self.len + 2 - target <= 128;
        let code = if short { Code::Jne_rel8_64 } else { Code::Jne_rel32_64 };
        self.put(Instruction::with_branch(code, target as u64));
    }

    /// Calls the code at offset `target`.
    pub(super) fn call(&mut self, target: usize) {
        self.put(Instruction::with_branch(Code::Call_rel32_64, target as u64));
    }

    /// Fills with the recommended long no-operations up to a multiple of `to`.
    pub(super) fn align(&mut self, to: usize) {
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x40, 0x00],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
            &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        ];
        while !self.len.is_multiple_of(to) {
            let nop = NOPS[(self.len.next_multiple_of(to) - self.len).min(NOPS.len()) - 1];
            nop.iter().for_each(|&b| self.encoder.write_u8(b));
            self.len += nop.len();
        }
    }
}

/// `[base + displacement]`.
pub(super) fn at(base: Register, displacement: i64) -> MemoryOperand {
    if displacement == 0 {
        MemoryOperand::with_base(base)
    } else {
        MemoryOperand::with_base_displ(base, displacement)
    }
}
