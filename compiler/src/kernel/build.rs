//! Writing kernels in Rust: affine arithmetic with the usual operators, handles for registers and parameters, and
//! [`KernelBuilder`], whose closures nest as the kernel does.
//!
//! ```
//! use qgraph_compiler::kernel::{Access, Addr, Instr, KernelBuilder};
//! let mut b = KernelBuilder::new("copy_4x16", 4);
//! let x = b.param("x", Access::Read);
//! let y = b.param("y", Access::Write);
//! let t = b.array("t", 4);
//! b.loop_(10, [(x, 64), (y, 64)], |b| {
//!     b.unroll(4, |b, i| {
//!         b.op(Instr::Load { dst: t.at(i), src: Addr::new(x, i * 16), bytes: 16 });
//!         b.op(Instr::Store { dst: Addr::new(y, i * 16), src: t.at(i), bytes: 16 });
//!     });
//! });
//! let kernel = b.finish();
//! # assert!(qgraph_compiler::kernel::verify::verify(&kernel, 4).is_ok());
//! ```
//!
//! Nothing is checked here: [`super::verify`] does that.

use super::{Access, Addr, Affine, Instr, Kernel, Operand, Param, ParamId, Reg, RegArray, Stmt, VarId};
use std::ops::{Add, Mul, Sub};

/// An unroll variable, as the closure of [`KernelBuilder::unroll`] gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Var(pub VarId);

/// A handle to a register array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Regs(pub usize);

impl Regs {
    /// Element `index`.
    pub fn at(self, index: impl Into<Affine>) -> Reg {
        Reg { array: self.0, index: index.into() }
    }
}

impl Addr {
    /// `offset` bytes from where `param` points.
    pub fn new(param: ParamId, offset: impl Into<Affine>) -> Addr {
        Addr { param, offset: offset.into() }
    }
}

impl Affine {
    /// A constant.
    pub fn constant(base: i64) -> Affine {
        Affine { base, terms: Vec::new() }
    }

    /// Its value, given each variable's; `None` if a variable has none or the sum leaves i64.
    pub fn eval(&self, value: impl Fn(VarId) -> Option<i64>) -> Option<i64> {
        self.terms.iter().try_fold(self.base, |sum, &(v, c)| sum.checked_add(value(v)?.checked_mul(c)?))
    }
}

impl From<Var> for Affine {
    fn from(v: Var) -> Self {
        Affine { base: 0, terms: vec![(v.0, 1)] }
    }
}

impl From<i64> for Affine {
    fn from(c: i64) -> Self {
        Affine::constant(c)
    }
}

impl From<usize> for Affine {
    fn from(c: usize) -> Self {
        Affine::constant(c as i64)
    }
}

impl From<i32> for Affine {
    fn from(c: i32) -> Self {
        Affine::constant(c.into())
    }
}

impl<T: Into<Affine>> Add<T> for Affine {
    type Output = Affine;
    fn add(mut self, other: T) -> Affine {
        let other = other.into();
        self.base += other.base;
        for (v, c) in other.terms {
            match self.terms.iter_mut().find(|t| t.0 == v) {
                Some(t) => t.1 += c,
                None => self.terms.push((v, c)),
            }
        }
        self.terms.retain(|t| t.1 != 0);
        self
    }
}

impl<T: Into<Affine>> Add<T> for Var {
    type Output = Affine;
    fn add(self, other: T) -> Affine {
        Affine::from(self) + other
    }
}

impl<T: Into<Affine>> Sub<T> for Affine {
    type Output = Affine;
    fn sub(self, other: T) -> Affine {
        self + other.into() * -1i64
    }
}

impl<T: Into<Affine>> Sub<T> for Var {
    type Output = Affine;
    fn sub(self, other: T) -> Affine {
        Affine::from(self) - other
    }
}

/// Multiplication by a constant of any of the integer types sizes come in.
macro_rules! scale {
    ($($int:ty),*) => {$(
        impl Mul<$int> for Affine {
            type Output = Affine;
            fn mul(mut self, by: $int) -> Affine {
                let by = by as i64;
                self.base *= by;
                self.terms.iter_mut().for_each(|t| t.1 *= by);
                self.terms.retain(|t| t.1 != 0);
                self
            }
        }
        impl Mul<$int> for Var {
            type Output = Affine;
            fn mul(self, by: $int) -> Affine {
                Affine::from(self) * by
            }
        }
    )*};
}
scale!(i32, i64, usize);

impl<A> From<Reg> for Operand<Reg, A> {
    fn from(r: Reg) -> Self {
        Operand::Reg(r)
    }
}

impl<R> From<Addr> for Operand<R, Addr> {
    fn from(a: Addr) -> Self {
        Operand::Mem(a)
    }
}

/// Builds a [`Kernel`]. See the module.
#[derive(Clone, Debug)]
pub struct KernelBuilder {
    kernel: Kernel,
    vars: VarId,
}

impl KernelBuilder {
    /// An empty kernel for vectors of `lanes` 32-bit lanes.
    pub fn new(name: impl Into<String>, lanes: usize) -> Self {
        let kernel =
            Kernel { name: name.into(), lanes, params: Vec::new(), arrays: Vec::new(), body: Vec::new() };
        KernelBuilder { kernel, vars: 0 }
    }

    /// Bytes of a vector register.
    pub fn vector_bytes(&self) -> usize {
        self.kernel.lanes * 4
    }

    /// Adds a pointer parameter.
    pub fn param(&mut self, name: &'static str, access: Access) -> ParamId {
        self.kernel.params.push(Param { name, access });
        self.kernel.params.len() - 1
    }

    /// Adds an array of `len` registers.
    pub fn array(&mut self, name: &'static str, len: usize) -> Regs {
        self.kernel.arrays.push(RegArray { name, len });
        Regs(self.kernel.arrays.len() - 1)
    }

    /// Adds an instruction.
    pub fn op(&mut self, instr: Instr<Reg, Addr>) {
        self.kernel.body.push(Stmt::Op(instr));
    }

    /// Adds a loop around what `body` adds; nothing if `extent` is 0.
    pub fn loop_(
        &mut self,
        extent: usize,
        advance: impl IntoIterator<Item = (ParamId, i64)>,
        body: impl FnOnce(&mut Self),
    ) {
        let outer = std::mem::take(&mut self.kernel.body);
        body(self);
        let body = std::mem::replace(&mut self.kernel.body, outer);
        if extent > 0 {
            let advance = advance.into_iter().filter(|&(_, by)| by != 0).collect();
            self.kernel.body.push(Stmt::Loop { extent, advance, body });
        }
    }

    /// Adds an unrolled repetition of what `body` adds, over a fresh variable; nothing if `extent` is 0.
    pub fn unroll(&mut self, extent: usize, body: impl FnOnce(&mut Self, Var)) {
        let var = self.vars;
        self.vars += 1;
        let outer = std::mem::take(&mut self.kernel.body);
        body(self, Var(var));
        let body = std::mem::replace(&mut self.kernel.body, outer);
        if extent > 0 {
            self.kernel.body.push(Stmt::Unroll { var, extent, body });
        }
    }

    /// The kernel.
    pub fn finish(self) -> Kernel {
        self.kernel
    }
}
