//! The kernel IR: small straight-line-and-loops programs over vector registers, with every extent a constant.
//!
//! It fits on this page. A kernel has pointer parameters, arrays of vector registers, and a body of
//!
//! - [`Stmt::Loop`]: runs `extent ≥ 1` times; each named parameter moves by a constant between iterations and is
//!   back where it was after the loop. So inside a loop every address is still "parameter + constant".
//! - [`Stmt::Unroll`]: replicated `extent` times at compile time; its variable may index register arrays and
//!   enter addresses linearly.
//! - [`Stmt::Op`]: one [`Instr`].
//!
//! A register holds `lanes` 32-bit lanes; an instruction says how it reads them (i32, f32, or 4 bytes each).
//! In-lane shuffles work in blocks of 16 bytes, as all vector sets do. There are no branches, no
//! allocation, no operators. Loads and stores may be unaligned.
//!
//! - [`build`]: writing kernels in Rust.
//! - [`verify`]: proves each access in bounds, each register written before read, pressure within the target.
//! - [`expand`]: unrolls into the flat form ([`FlatKernel`]) that the interpreter and the JIT walk.
//! - [`interp`]: the definition of what a kernel means.
//! - [`parts`]: what each instruction reads and writes.
//! - `print`: its text.
//!
//! Not here: operators, layouts, targets' choices of tiles (`lower`), grids of calls (`plan`).

pub mod build;
pub mod expand;
pub mod interp;
pub mod parts;
mod print;
pub mod verify;

pub use build::{KernelBuilder, Regs, Var};
pub use expand::{FlatInstr, FlatKernel, FlatStmt};

/// Index of a pointer parameter.
pub type ParamId = usize;
/// Index of an unroll variable, unique within its kernel.
pub type VarId = usize;

/// What a kernel does with the memory behind a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only reads.
    Read,
    /// Only writes.
    Write,
    /// Both (in-place residual).
    ReadWrite,
}

/// A pointer parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Param {
    /// For readers: `x`, `w`, `y`, `bias`, …
    pub name: &'static str,
    /// How it is used.
    pub access: Access,
}

/// An array of vector registers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RegArray {
    /// For readers: `acc`, `w`, `t`, …
    pub name: &'static str,
    /// Number of registers.
    pub len: usize,
}

/// `constant + Σ coefficient · unroll variable`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Affine {
    /// The constant.
    pub base: i64,
    /// (variable, coefficient).
    pub terms: Vec<(VarId, i64)>,
}

/// A register: an element of a register array.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reg {
    /// Index into [`Kernel::arrays`].
    pub array: usize,
    /// Which element.
    pub index: Affine,
}

/// An address: parameter plus bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Addr {
    /// The parameter.
    pub param: ParamId,
    /// Bytes from where the parameter points in the current iteration.
    pub offset: Affine,
}

/// A register, or a full vector in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand<R, A> {
    /// A register.
    Reg(R),
    /// `4·lanes` bytes at an address.
    Mem(A),
}

/// One vector operation, over registers `R` and addresses `A`. "i32", "f32" speak of the lanes; "bytes" of the
/// `4·lanes` bytes of a register in memory order.
#[allow(missing_docs)] // each variant's line explains its fields
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Instr<R, A> {
    /// dst lanes = the 32-bit constant.
    Splat { dst: R, bits: u32 },
    /// dst = src.
    Move { dst: R, src: R },
    /// The first `bytes` (1..=4·lanes) bytes of dst = memory, the rest 0.
    Load { dst: R, src: A, bytes: usize },
    /// Memory = the first `bytes` (1..=4·lanes) bytes of src.
    Store { dst: A, src: R, bytes: usize },
    /// Every lane of dst = the 4 bytes at src.
    Broadcast32 { dst: R, src: A },
    /// Lane i of dst = u8 at src + i, zero-extended; reads the first `count` (1..=lanes) bytes, other lanes 0.
    LoadU8 { dst: R, src: A, count: usize },
    /// memory dst .. dst + bytes = memory src .. src + bytes; the ranges do not overlap.
    Copy { dst: A, src: A, bytes: usize },
    /// A hint: the line at src will be read soon. Need not be in bounds; never faults. `far` means second-level cache.
    Prefetch { src: A, far: bool },

    /// acc.i32 += Σ over 4 bytes of u.u8 · s.i8, exact, wrapping (never saturating).
    Dot4 { acc: R, u: R, s: Operand<R, A> },
    /// acc.i32 += Σ over 2 words of a.i16 · b.i16, exact, wrapping.
    Dot2 { acc: R, a: R, b: Operand<R, A> },

    /// i32 a + b, wrapping.
    AddI32 { dst: R, a: R, b: Operand<R, A> },
    /// i32 a − b, wrapping.
    SubI32 { dst: R, a: R, b: Operand<R, A> },
    /// Low 32 bits of i32 a · b.
    MulI32 { dst: R, a: R, b: Operand<R, A> },
    /// a & b.
    And { dst: R, a: R, b: Operand<R, A> },
    /// a | b.
    Or { dst: R, a: R, b: Operand<R, A> },
    /// Each lane shifted left by `by` (0..32) bits.
    ShlI32 { dst: R, a: R, by: u32 },
    /// Each 16-bit word shifted left by `by` (0..16) bits.
    ShlI16 { dst: R, a: R, by: u32 },
    /// Each i16 shifted right by `by` (0..16) bits, sign kept.
    ShrI16 { dst: R, a: R, by: u32 },
    /// Each u16 shifted right by `by` (0..16) bits.
    ShrU16 { dst: R, a: R, by: u32 },
    /// Bytewise unsigned maximum.
    MaxU8 { dst: R, a: R, b: Operand<R, A> },
    /// Bytewise unsigned minimum.
    MinU8 { dst: R, a: R, b: Operand<R, A> },

    /// f32 a + b.
    AddF32 { dst: R, a: R, b: Operand<R, A> },
    /// f32 a − b.
    SubF32 { dst: R, a: R, b: Operand<R, A> },
    /// f32 a · b.
    MulF32 { dst: R, a: R, b: Operand<R, A> },
    /// f32 a / b.
    DivF32 { dst: R, a: R, b: Operand<R, A> },
    /// a > b ? a : b per lane (so NaN in either gives b).
    MaxF32 { dst: R, a: R, b: Operand<R, A> },
    /// a < b ? a : b per lane (so NaN in either gives b).
    MinF32 { dst: R, a: R, b: Operand<R, A> },
    /// acc = fma(a, b, acc).
    FmaAcc { acc: R, a: R, b: Operand<R, A> },
    /// x = fma(x, m, c).
    FmaMul { x: R, m: Operand<R, A>, c: R },

    /// f32(i32), half to even.
    CvtI32F32 { dst: R, src: R },
    /// i32(f32), half to even. The value must lie in (−2^31, 2^31): lowering proves it or clamps first.
    CvtF32I32 { dst: R, src: R },

    /// Per 16-byte block: bytes a0 b0 a1 b1 … of the lower halves.
    UnpackLo8 { dst: R, a: R, b: R },
    /// The same of the upper halves.
    UnpackHi8 { dst: R, a: R, b: R },
    /// Per 16-byte block: 16-bit words a0 b0 a1 b1 … of the lower halves.
    UnpackLo16 { dst: R, a: R, b: R },
    /// The same of the upper halves.
    UnpackHi16 { dst: R, a: R, b: R },
    /// Per 16-byte block: 4 i32 of a then 4 of b, saturated to i16.
    PackI32I16 { dst: R, a: R, b: R },
    /// Per 16-byte block: 8 i16 of a then 8 of b, saturated to u8.
    PackI16U8 { dst: R, a: R, b: R },
    /// Lane i of dst = lane `index[i] mod lanes` of src; `index` is a vector of i32.
    Permute32 { dst: R, src: R, index: R },
    /// Per 16-byte block: byte i = `control[i] < 128 ? src[control[i] & 15] : 0`.
    Shuffle8 { dst: R, src: R, control: Operand<R, A> },
    /// Byte i of dst = `table[src byte i]`; the table is 256 bytes at an address.
    Lookup8 { dst: R, src: R, table: A },
}

/// A statement of the structured form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Stmt {
    /// A counted loop.
    Loop {
        /// Iterations, at least 1.
        extent: usize,
        /// Bytes by which parameters move per iteration; undone after the loop. Each parameter at most once.
        advance: Vec<(ParamId, i64)>,
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// Compile-time repetition.
    Unroll {
        /// The variable, running 0..extent.
        var: VarId,
        /// Repetitions.
        extent: usize,
        /// What is repeated.
        body: Vec<Stmt>,
    },
    /// One operation.
    Op(Instr<Reg, Addr>),
}

/// A kernel. See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// In XNNPACK's habit: operation, types, tile, target: `conv_u8s8_6x64_avx512vnni`. Unique in a plan.
    pub name: String,
    /// 32-bit lanes per register.
    pub lanes: usize,
    /// Pointer parameters.
    pub params: Vec<Param>,
    /// Register arrays; their total length is the register pressure.
    pub arrays: Vec<RegArray>,
    /// The program.
    pub body: Vec<Stmt>,
}

impl<R, A> Instr<R, A> {
    /// Rebuilds the instruction with registers and addresses mapped.
    pub fn map<R2, A2>(self, mut r: impl FnMut(R) -> R2, mut a: impl FnMut(A) -> A2) -> Instr<R2, A2> {
        use Instr::*;
        macro_rules! op {
            ($x:expr) => {
                match $x {
                    Operand::Reg(x) => Operand::Reg(r(x)),
                    Operand::Mem(x) => Operand::Mem(a(x)),
                }
            };
        }
        match self {
            Splat { dst, bits } => Splat { dst: r(dst), bits },
            Move { dst, src } => Move { dst: r(dst), src: r(src) },
            Load { dst, src, bytes } => Load { dst: r(dst), src: a(src), bytes },
            Store { dst, src, bytes } => Store { dst: a(dst), src: r(src), bytes },
            Broadcast32 { dst, src } => Broadcast32 { dst: r(dst), src: a(src) },
            LoadU8 { dst, src, count } => LoadU8 { dst: r(dst), src: a(src), count },
            Copy { dst, src, bytes } => Copy { dst: a(dst), src: a(src), bytes },
            Prefetch { src, far } => Prefetch { src: a(src), far },
            Dot4 { acc, u, s } => Dot4 { acc: r(acc), u: r(u), s: op!(s) },
            Dot2 { acc, a: x, b } => Dot2 { acc: r(acc), a: r(x), b: op!(b) },
            AddI32 { dst, a: x, b } => AddI32 { dst: r(dst), a: r(x), b: op!(b) },
            SubI32 { dst, a: x, b } => SubI32 { dst: r(dst), a: r(x), b: op!(b) },
            MulI32 { dst, a: x, b } => MulI32 { dst: r(dst), a: r(x), b: op!(b) },
            And { dst, a: x, b } => And { dst: r(dst), a: r(x), b: op!(b) },
            Or { dst, a: x, b } => Or { dst: r(dst), a: r(x), b: op!(b) },
            ShlI32 { dst, a: x, by } => ShlI32 { dst: r(dst), a: r(x), by },
            ShlI16 { dst, a: x, by } => ShlI16 { dst: r(dst), a: r(x), by },
            ShrI16 { dst, a: x, by } => ShrI16 { dst: r(dst), a: r(x), by },
            ShrU16 { dst, a: x, by } => ShrU16 { dst: r(dst), a: r(x), by },
            MaxU8 { dst, a: x, b } => MaxU8 { dst: r(dst), a: r(x), b: op!(b) },
            MinU8 { dst, a: x, b } => MinU8 { dst: r(dst), a: r(x), b: op!(b) },
            AddF32 { dst, a: x, b } => AddF32 { dst: r(dst), a: r(x), b: op!(b) },
            SubF32 { dst, a: x, b } => SubF32 { dst: r(dst), a: r(x), b: op!(b) },
            MulF32 { dst, a: x, b } => MulF32 { dst: r(dst), a: r(x), b: op!(b) },
            DivF32 { dst, a: x, b } => DivF32 { dst: r(dst), a: r(x), b: op!(b) },
            MaxF32 { dst, a: x, b } => MaxF32 { dst: r(dst), a: r(x), b: op!(b) },
            MinF32 { dst, a: x, b } => MinF32 { dst: r(dst), a: r(x), b: op!(b) },
            FmaAcc { acc, a: x, b } => FmaAcc { acc: r(acc), a: r(x), b: op!(b) },
            FmaMul { x, m, c } => FmaMul { x: r(x), m: op!(m), c: r(c) },
            CvtI32F32 { dst, src } => CvtI32F32 { dst: r(dst), src: r(src) },
            CvtF32I32 { dst, src } => CvtF32I32 { dst: r(dst), src: r(src) },
            UnpackLo8 { dst, a: x, b } => UnpackLo8 { dst: r(dst), a: r(x), b: r(b) },
            UnpackHi8 { dst, a: x, b } => UnpackHi8 { dst: r(dst), a: r(x), b: r(b) },
            UnpackLo16 { dst, a: x, b } => UnpackLo16 { dst: r(dst), a: r(x), b: r(b) },
            UnpackHi16 { dst, a: x, b } => UnpackHi16 { dst: r(dst), a: r(x), b: r(b) },
            PackI32I16 { dst, a: x, b } => PackI32I16 { dst: r(dst), a: r(x), b: r(b) },
            PackI16U8 { dst, a: x, b } => PackI16U8 { dst: r(dst), a: r(x), b: r(b) },
            Permute32 { dst, src, index } => Permute32 { dst: r(dst), src: r(src), index: r(index) },
            Shuffle8 { dst, src, control } => Shuffle8 { dst: r(dst), src: r(src), control: op!(control) },
            Lookup8 { dst, src, table } => Lookup8 { dst: r(dst), src: r(src), table: a(table) },
        }
    }
}
