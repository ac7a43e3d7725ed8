//! Pointer registers that move with loops, shared by kernels (loops) and steps (grids).
//!
//! A parameter's register holds its *logical* pointer plus a **bias** known when code is emitted. What a loop
//! moved is not moved back when it ends: the bias remembers it, and the next address, or the next addition that
//! is due anyway, takes it in. So a nest of loops costs one addition per moving pointer and level, none to restore.
//!
//! Not here: what the pointers are used for.

use super::asm::{Asm, at};
use crate::kernel::ParamId;
use iced_x86::{Code, MemoryOperand, Register};

/// The register of each parameter. rax stays free as scratch, rcx, rdx and r15 count loops, rbp is the context.
pub(super) const PARAMS: [Register; 10] = {
    use Register::*;
    [RDI, RSI, R8, R9, R10, R11, R12, R13, R14, RBX]
};

/// Loop heads of innermost loops start at a multiple of this.
const HOT_ALIGN: usize = 32;

/// Where a loop counts down.
#[derive(Clone, Copy)]
pub(super) enum Counter {
    /// In a register.
    Reg(Register),
    /// In memory, as bytes from rsp.
    Stack(i64),
}

struct Loop {
    extent: usize,
    counter: Counter,
    advance: Vec<(ParamId, i64)>,
    /// Offset of its first instruction.
    head: usize,
    /// Biases there: the same in each iteration.
    bias: Vec<i64>,
}

/// The state of all pointers at the current place of the code.
pub(super) struct Pointers {
    bias: Vec<i64>,
    loops: Vec<Loop>,
}

impl Pointers {
    /// `count` (≤ [`PARAMS`]'s) registers that hold their parameters exactly.
    pub(super) fn new(count: usize) -> Self {
        Pointers { bias: vec![0; count], loops: Vec::new() }
    }

    /// What each register has moved that code after this place must know of.
    pub(super) fn bias(&self) -> &[i64] {
        &self.bias
    }

    /// Says that code just emitted moved each register by so much.
    pub(super) fn moved(&mut self, by: &[i64]) {
        for (bias, by) in self.bias.iter_mut().zip(by) {
            *bias = bias.wrapping_add(*by);
        }
    }

    /// The operand for `offset` bytes from where `param` points now; |offset| ≤ 2^30. May use rax.
    pub(super) fn at(&mut self, asm: &mut Asm, param: ParamId, offset: i64) -> MemoryOperand {
        let displacement = offset.wrapping_sub(self.bias[param]);
        if i32::try_from(displacement).is_ok() {
            return at(PARAMS[param], displacement);
        }
        // Too far for an instruction. Constants alone are not: `kernel` has checked that.
        asm.add_imm(PARAMS[param], self.bias[param].wrapping_neg());
        self.bias[param] = 0;
        at(PARAMS[param], offset)
    }

    /// Starts a loop. `uses` names, as bits, the parameters that its body addresses: theirs are brought to a bias
    /// of zero, which keeps displacements short where it counts.
    pub(super) fn begin(
        &mut self,
        asm: &mut Asm,
        extent: usize,
        advance: Vec<(ParamId, i64)>,
        uses: u32,
        counter: Counter,
        hot: bool,
    ) {
        if extent > 1 {
            for (param, bias) in self.bias.iter_mut().enumerate() {
                if uses >> param & 1 == 1 {
                    asm.add_imm(PARAMS[param], bias.wrapping_neg());
                    *bias = 0;
                }
            }
            match counter {
                Counter::Reg(r) => asm.load_imm(r, extent as i64),
                Counter::Stack(slot) => {
                    asm.load_imm(Register::RAX, extent as i64);
                    asm.mr(Code::Mov_rm64_r64, at(Register::RSP, slot), Register::RAX);
                }
            }
            if hot {
                asm.align(HOT_ALIGN);
            }
        }
        let bias = self.bias.clone();
        self.loops.push(Loop { extent, counter, advance, head: asm.here(), bias });
    }

    /// Ends the innermost loop. Afterwards the logical pointers are where they were before it.
    pub(super) fn end(&mut self, asm: &mut Asm) {
        let Some(l) = self.loops.pop() else { return };
        if l.extent == 1 {
            return;
        }
        for (param, (&now, &head)) in self.bias.iter().zip(&l.bias).enumerate() {
            let advance: i64 = l.advance.iter().filter(|a| a.0 == param).map(|a| a.1).sum();
            // In the next iteration the register is the next logical pointer plus the head's bias.
            asm.add_imm(PARAMS[param], advance.wrapping_add(head).wrapping_sub(now));
        }
        match l.counter {
            Counter::Reg(r) => asm.r(Code::Dec_rm64, r),
            Counter::Stack(slot) => asm.m(Code::Dec_rm64, at(Register::RSP, slot)),
        }
        asm.jnz(l.head);
        self.bias = l.bias;
        for (param, advance) in l.advance {
            let total = advance.wrapping_mul(l.extent as i64);
            self.bias[param] = self.bias[param].wrapping_add(total);
        }
    }
}
