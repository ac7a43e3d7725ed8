//! What each instruction reads and writes, in one table that the verifier and the printer share.

use super::{Instr, Operand};

/// One operand of an instruction and what happens to it. Reads happen before writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a, R, A> {
    /// A register that is written, whole.
    Def(&'a R),
    /// A register that is read.
    Use(&'a R),
    /// Bytes read from memory.
    Load(&'a A, usize),
    /// Bytes written to memory.
    Store(&'a A, usize),
    /// An address that is not accessed.
    Hint(&'a A),
    /// A constant.
    Imm(u64),
}

impl<R, A> Instr<R, A> {
    /// Mnemonic and operands in the order in which they are written down, the result first.
    pub fn parts(&self, lanes: usize) -> (&'static str, Vec<Part<'_, R, A>>) {
        use Instr::*;
        use Part::{Def, Hint, Imm, Load as Ld, Store as St, Use};
        let vector = 4 * lanes;
        let op = |x| operand(x, vector);
        match self {
            Splat { dst, bits } => ("splat", vec![Def(dst), Imm(u64::from(*bits))]),
            Move { dst, src } => ("move", vec![Def(dst), Use(src)]),
            Load { dst, src, bytes } => ("load", vec![Def(dst), Ld(src, *bytes), Imm(*bytes as u64)]),
            Store { dst, src, bytes } => ("store", vec![St(dst, *bytes), Use(src), Imm(*bytes as u64)]),
            Broadcast32 { dst, src } => ("broadcast32", vec![Def(dst), Ld(src, 4)]),
            LoadU8 { dst, src, count } => ("load_u8", vec![Def(dst), Ld(src, *count), Imm(*count as u64)]),
            Copy { dst, src, bytes } => ("copy", vec![St(dst, *bytes), Ld(src, *bytes), Imm(*bytes as u64)]),
            Prefetch { src, far: false } => ("prefetch", vec![Hint(src)]),
            Prefetch { src, far: true } => ("prefetch_far", vec![Hint(src)]),
            Dot4 { acc, u, s } => ("dot4", vec![Def(acc), Use(acc), Use(u), op(s)]),
            Dot2 { acc, a, b } => ("dot2", vec![Def(acc), Use(acc), Use(a), op(b)]),
            AddI32 { dst, a, b } => ("add_i32", vec![Def(dst), Use(a), op(b)]),
            SubI32 { dst, a, b } => ("sub_i32", vec![Def(dst), Use(a), op(b)]),
            MulI32 { dst, a, b } => ("mul_i32", vec![Def(dst), Use(a), op(b)]),
            And { dst, a, b } => ("and", vec![Def(dst), Use(a), op(b)]),
            Or { dst, a, b } => ("or", vec![Def(dst), Use(a), op(b)]),
            ShlI32 { dst, a, by } => ("shl_i32", vec![Def(dst), Use(a), Imm(u64::from(*by))]),
            ShlI16 { dst, a, by } => ("shl_i16", vec![Def(dst), Use(a), Imm(u64::from(*by))]),
            ShrI16 { dst, a, by } => ("shr_i16", vec![Def(dst), Use(a), Imm(u64::from(*by))]),
            ShrU16 { dst, a, by } => ("shr_u16", vec![Def(dst), Use(a), Imm(u64::from(*by))]),
            MaxU8 { dst, a, b } => ("max_u8", vec![Def(dst), Use(a), op(b)]),
            MinU8 { dst, a, b } => ("min_u8", vec![Def(dst), Use(a), op(b)]),
            AddF32 { dst, a, b } => ("add_f32", vec![Def(dst), Use(a), op(b)]),
            SubF32 { dst, a, b } => ("sub_f32", vec![Def(dst), Use(a), op(b)]),
            MulF32 { dst, a, b } => ("mul_f32", vec![Def(dst), Use(a), op(b)]),
            DivF32 { dst, a, b } => ("div_f32", vec![Def(dst), Use(a), op(b)]),
            MaxF32 { dst, a, b } => ("max_f32", vec![Def(dst), Use(a), op(b)]),
            MinF32 { dst, a, b } => ("min_f32", vec![Def(dst), Use(a), op(b)]),
            FmaAcc { acc, a, b } => ("fma", vec![Def(acc), Use(a), op(b), Use(acc)]),
            FmaMul { x, m, c } => ("fma", vec![Def(x), Use(x), op(m), Use(c)]),
            CvtI32F32 { dst, src } => ("f32_from_i32", vec![Def(dst), Use(src)]),
            CvtF32I32 { dst, src } => ("i32_from_f32", vec![Def(dst), Use(src)]),
            UnpackLo8 { dst, a, b } => ("unpack_lo8", vec![Def(dst), Use(a), Use(b)]),
            UnpackHi8 { dst, a, b } => ("unpack_hi8", vec![Def(dst), Use(a), Use(b)]),
            UnpackLo16 { dst, a, b } => ("unpack_lo16", vec![Def(dst), Use(a), Use(b)]),
            UnpackHi16 { dst, a, b } => ("unpack_hi16", vec![Def(dst), Use(a), Use(b)]),
            PackI32I16 { dst, a, b } => ("pack_i32_i16", vec![Def(dst), Use(a), Use(b)]),
            PackI16U8 { dst, a, b } => ("pack_i16_u8", vec![Def(dst), Use(a), Use(b)]),
            Permute32 { dst, src, index } => ("permute32", vec![Def(dst), Use(src), Use(index)]),
            Shuffle8 { dst, src, control } => ("shuffle8", vec![Def(dst), Use(src), op(control)]),
            Lookup8 { dst, src, table } => ("lookup8", vec![Def(dst), Use(src), Ld(table, 256)]),
        }
    }
}

fn operand<R, A>(x: &Operand<R, A>, bytes: usize) -> Part<'_, R, A> {
    match x {
        Operand::Reg(r) => Part::Use(r),
        Operand::Mem(a) => Part::Load(a, bytes),
    }
}
