//! Unrolling: the structured form becomes the flat form that the interpreter and the JIT walk.

use super::{Instr, Kernel, Param, ParamId};

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
    Op(Instr<u8, (ParamId, i64)>),
}

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
    let _ = kernel;
    panic!("stub")
}
