//! Unrolling: the structured form becomes the flat form that the interpreter and the JIT walk.
//!
//! Unrolled bodies are replicated, register arrays are laid one after another over the register numbers (array 0
//! first), affine expressions become numbers. Loops stay loops. Order and meaning of the operations do not change.

use super::{Addr, Affine, Instr, Kernel, Param, ParamId, Reg, Stmt, VarId};

/// A statement of the flat form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlatStmt {
    /// Start of a loop.
    Begin {
        /// Iterations.
        extent: usize,
        /// Bytes per iteration.
        advance: Vec<(ParamId, i64)>,
    },
    /// End of the innermost open loop.
    End,
    /// One operation: registers are numbers, addresses parameter + constant.
    Op(FlatInstr),
}

/// An instruction over register numbers and (parameter, byte offset) addresses.
pub type FlatInstr = Instr<u8, (ParamId, i64)>;

/// A kernel with unrolls expanded and registers numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatKernel {
    /// The kernel's name.
    pub name: String,
    /// 32-bit lanes per register.
    pub lanes: usize,
    /// Pointer parameters.
    pub params: Vec<Param>,
    /// Registers used: numbers below this.
    pub registers: usize,
    /// The program.
    pub body: Vec<FlatStmt>,
}

/// Expands a kernel. Panics on a malformed one: [`super::verify`] comes first.
pub fn expand(kernel: &Kernel) -> FlatKernel {
    let mut first = Vec::with_capacity(kernel.arrays.len());
    let mut registers = 0;
    for array in &kernel.arrays {
        first.push(registers);
        registers += array.len;
    }
    let mut e = Expand { kernel, first, values: Vec::new(), out: Vec::new() };
    e.body(&kernel.body);
    FlatKernel {
        name: kernel.name.clone(),
        lanes: kernel.lanes,
        params: kernel.params.clone(),
        registers,
        body: e.out,
    }
}

struct Expand<'a> {
    kernel: &'a Kernel,
    /// Number of each array's first register.
    first: Vec<usize>,
    /// Open unrolls, innermost last: variable and its current value.
    values: Vec<(VarId, i64)>,
    out: Vec<FlatStmt>,
}

impl Expand<'_> {
    fn body(&mut self, body: &[Stmt]) {
        for stmt in body {
            match stmt {
                Stmt::Loop { extent, advance, body } => {
                    self.out.push(FlatStmt::Begin { extent: *extent, advance: advance.clone() });
                    self.body(body);
                    self.out.push(FlatStmt::End);
                }
                Stmt::Unroll { var, extent, body } => {
                    for i in 0..*extent {
                        self.values.push((*var, i as i64));
                        self.body(body);
                        self.values.pop();
                    }
                }
                Stmt::Op(instr) => {
                    let flat = instr.clone().map(|r| self.reg(&r), |a| self.addr(&a));
                    self.out.push(FlatStmt::Op(flat));
                }
            }
        }
    }

    fn value(&self, x: &Affine) -> i64 {
        x.eval(|v| self.values.iter().rev().find(|b| b.0 == v).map(|b| b.1))
            .expect("verified: variables are bound by an enclosing unroll, sums stay in i64")
    }

    fn reg(&self, r: &Reg) -> u8 {
        let index = usize::try_from(self.value(&r.index)).expect("verified: register index ≥ 0");
        assert!(index < self.kernel.arrays[r.array].len, "verified: register index within its array");
        u8::try_from(self.first[r.array] + index).expect("verified: registers within the target")
    }

    fn addr(&self, a: &Addr) -> (ParamId, i64) {
        assert!(a.param < self.kernel.params.len(), "verified: parameters exist");
        (a.param, self.value(&a.offset))
    }
}
