//! The definition of what a kernel means: one instruction at a time, on any machine, for any lane count.
//!
//! [`Program::new`] verifies a kernel and flattens it; [`Program::run_on`] runs it on bytes, with its footprint
//! checked first; [`Program::run`] is the same for callers that have proven the footprint themselves (`plan::interp`).
//!
//! It is slow next to machine code but must get through whole networks in tests, so lanes are a constant of
//! the generic code, registers are not bounds-checked at run time (their numbers are bytes, the file has 256), and
//! the loop is compiled a second time with AVX2 and FMA, which the CPU is asked for once. Speed changes, bits never.
//!
//! What each instruction does to vectors is `qgraph_runtime::vector::portable`; here is which vectors, and where in memory.

use super::expand::expand;
use super::verify::{Footprint, MAX_DEPTH, MAX_PARAMS, verify};
use super::{FlatInstr, FlatStmt, Instr, Kernel, Operand, ParamId};
use qgraph_runtime::vector::portable::{self as word, Vector};

/// A verified kernel, ready to be interpreted.
#[derive(Clone, Debug)]
pub struct Program {
    lanes: usize,
    footprint: Footprint,
    code: Vec<Code>,
    fast: bool,
}

#[derive(Clone, Debug)]
enum Code {
    /// A straight run of instructions.
    Ops(Vec<FlatInstr>),
    /// Loop `depth` (0 outermost) starts with `extent` iterations to go.
    Begin { depth: usize, extent: usize },
    /// If iterations remain, moves the parameters and goes back to `start`; else undoes all moves.
    End { depth: usize, extent: usize, start: usize, advance: Vec<(ParamId, i64)> },
}

/// The register file. Reusable between runs: a kernel reads no register that it has not written. Narrow kernels use the
/// first lanes of each register.
#[repr(align(64))]
pub struct Registers([[u32; 16]; 256]);

impl Default for Registers {
    fn default() -> Self {
        Registers([[0; 16]; 256])
    }
}

impl Program {
    /// Verifies and flattens `kernel`. The number of registers is not held against any target.
    pub fn new(kernel: &Kernel) -> Result<Program, String> {
        let footprint = verify(kernel, 256)?;
        let flat = expand(kernel);
        let mut code = Vec::new();
        let mut open = Vec::new();
        for stmt in flat.body {
            match stmt {
                FlatStmt::Begin { extent, advance } => {
                    code.push(Code::Begin { depth: open.len(), extent });
                    open.push((code.len(), extent, advance));
                }
                FlatStmt::End => {
                    let (start, extent, advance) = open.pop().expect("expansion closes what it opens");
                    code.push(Code::End { depth: open.len(), extent, start, advance });
                }
                FlatStmt::Op(Instr::Prefetch { .. }) => {}
                FlatStmt::Op(instr) => match code.last_mut() {
                    Some(Code::Ops(ops)) => ops.push(instr),
                    Some(Code::Begin { .. } | Code::End { .. }) | None => code.push(Code::Ops(vec![instr])),
                },
            }
        }
        #[cfg(target_arch = "x86_64")]
        let fast = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        #[cfg(not(target_arch = "x86_64"))]
        let fast = false;
        Ok(Program { lanes: flat.lanes, footprint, code, fast })
    }

    /// The exact bytes each parameter touches.
    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// Runs on a block of memory; parameter `i` points at byte `starts[i]` of it. An error if the footprint leaves it.
    pub fn run_on(&self, memory: &mut [u8], starts: &[usize]) -> Result<(), String> {
        let n = self.footprint.reads.len();
        if starts.len() != n {
            return Err(format!("{n} parameters, {} arguments", starts.len()));
        }
        let base = memory.as_mut_ptr();
        let mut args = [base; MAX_PARAMS];
        for (i, &start) in starts.iter().enumerate() {
            if let Some(r) = self.footprint.touched(i) {
                let at = start as i128;
                if at + i128::from(r.start) < 0 || at + i128::from(r.end) > memory.len() as i128 {
                    return Err(format!("parameter {i} reaches {r:?} from byte {start} of {}", memory.len()));
                }
            }
            args[i] = base.wrapping_add(start);
        }
        // SAFETY: every parameter's footprint lies in `memory`, which is borrowed exclusively.
        unsafe { self.run(&mut Registers::default(), &args[..n]) };
        Ok(())
    }

    /// Runs with parameter `i` pointing at `args[i]`.
    ///
    /// # Safety
    /// `args` has one pointer per parameter; from each, the bytes of [`Program::footprint`] are valid to read or
    /// write, and nothing else accesses them meanwhile. Parameters may alias each other.
    pub unsafe fn run(&self, registers: &mut Registers, args: &[*mut u8]) {
        let mut m = Machine { r: registers, p: [std::ptr::null_mut(); MAX_PARAMS] };
        m.p[..args.len()].copy_from_slice(args);
        // SAFETY: this function's own contract; `fast` says that the CPU has AVX2 and FMA.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.fast {
                return self.run_avx2(m);
            }
            self.run_any(m)
        }
    }

    /// # Safety
    /// As [`Program::run`], and the CPU has AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run_avx2(&self, m: Machine<'_>) {
        // SAFETY: the caller's.
        unsafe { self.run_any(m) }
    }

    /// # Safety
    /// As [`Program::run`].
    #[inline(always)]
    unsafe fn run_any(&self, m: Machine<'_>) {
        // SAFETY: the caller's.
        unsafe {
            match self.lanes {
                4 => self.run_lanes::<4>(m),
                8 => self.run_lanes::<8>(m),
                _ => self.run_lanes::<16>(m),
            }
        }
    }

    /// # Safety
    /// As [`Program::run`], with `L` the kernel's lanes.
    #[inline(always)]
    unsafe fn run_lanes<const L: usize>(&self, mut m: Machine<'_>) {
        let mut left = [0usize; MAX_DEPTH];
        let mut pc = 0;
        while let Some(code) = self.code.get(pc) {
            pc += 1;
            match code {
                Code::Ops(ops) => {
                    for op in ops {
                        // SAFETY: the caller's; offsets and registers are the kernel's own.
                        unsafe { m.step::<L>(op) }
                    }
                }
                Code::Begin { depth, extent } => left[*depth] = *extent,
                Code::End { depth, extent, start, advance } => {
                    left[*depth] -= 1;
                    let again = left[*depth] > 0;
                    for &(p, by) in advance {
                        let by = if again { by } else { -by * (*extent as i64 - 1) };
                        // Between accesses a pointer may be out of bounds, so the arithmetic is the wrapping one.
                        m.p[p] = m.p[p].wrapping_offset(by as isize);
                    }
                    if again {
                        pc = *start;
                    }
                }
            }
        }
    }
}

/// The state of a run: registers, and where each parameter points now.
struct Machine<'a> {
    r: &'a mut Registers,
    p: [*mut u8; MAX_PARAMS],
}

impl Machine<'_> {
    #[inline(always)]
    fn get<const L: usize>(&self, r: u8) -> Vector<L> {
        *self.r.0[r as usize].first_chunk().expect("at most 16 lanes")
    }

    #[inline(always)]
    fn set<const L: usize>(&mut self, r: u8, v: Vector<L>) {
        *self.r.0[r as usize].first_chunk_mut().expect("at most 16 lanes") = v;
    }

    #[inline(always)]
    fn at(&self, a: (ParamId, i64)) -> *mut u8 {
        // The mask is no change (verified: fewer parameters) and spares the bounds check.
        self.p[a.0 & (MAX_PARAMS - 1)].wrapping_offset(a.1 as isize)
    }

    /// # Safety
    /// A memory operand's `4·L` bytes are readable.
    #[inline(always)]
    unsafe fn operand<const L: usize>(&self, x: Operand<u8, (ParamId, i64)>) -> Vector<L> {
        match x {
            Operand::Reg(r) => self.get(r),
            // SAFETY: the caller's.
            Operand::Mem(a) => unsafe { word::load(self.at(a), 0, 4 * L) },
        }
    }

    /// `dst = f(a, b)`.
    ///
    /// # Safety
    /// As [`Machine::operand`].
    #[inline(always)]
    unsafe fn two<const L: usize>(
        &mut self,
        dst: u8,
        a: u8,
        b: Operand<u8, (ParamId, i64)>,
        f: impl Fn(Vector<L>, Vector<L>) -> Vector<L>,
    ) {
        // SAFETY: the caller's.
        let (a, b) = (self.get(a), unsafe { self.operand(b) });
        self.set(dst, f(a, b));
    }

    /// `dst = f(a, b, dst)`.
    ///
    /// # Safety
    /// As [`Machine::operand`].
    #[inline(always)]
    unsafe fn onto<const L: usize>(
        &mut self,
        dst: u8,
        a: u8,
        b: Operand<u8, (ParamId, i64)>,
        f: impl Fn(Vector<L>, Vector<L>, Vector<L>) -> Vector<L>,
    ) {
        // SAFETY: the caller's.
        let (old, a, b) = (self.get(dst), self.get(a), unsafe { self.operand(b) });
        self.set(dst, f(a, b, old));
    }

    /// `dst = f(a, b)` of registers.
    #[inline(always)]
    fn pair<const L: usize>(&mut self, dst: u8, a: u8, b: u8, f: impl Fn(Vector<L>, Vector<L>) -> Vector<L>) {
        self.set(dst, f(self.get(a), self.get(b)));
    }

    /// `dst = f(a)`.
    #[inline(always)]
    fn one<const L: usize>(&mut self, dst: u8, a: u8, f: impl Fn(Vector<L>) -> Vector<L>) {
        self.set(dst, f(self.get(a)));
    }

    /// Executes one instruction.
    ///
    /// # Safety
    /// Its memory operands are valid where the parameters point now.
    #[inline(always)]
    unsafe fn step<const L: usize>(&mut self, instr: &FlatInstr) {
        // SAFETY: the caller's, for every access of this function.
        unsafe {
            match *instr {
                Instr::Splat { dst, bits } => self.set::<L>(dst, word::splat(bits)),
                Instr::Move { dst, src } => self.one::<L>(dst, src, |a| a),
                Instr::Load { dst, src, bytes } => self.set::<L>(dst, word::load(self.at(src), 0, bytes)),
                Instr::Store { dst, src, bytes } => word::store::<L>(self.at(dst), 0, self.get(src), bytes),
                Instr::Broadcast32 { dst, src } => self.set::<L>(dst, word::broadcast32(self.at(src), 0)),
                Instr::LoadU8 { dst, src, count } => {
                    self.set::<L>(dst, word::load_u8(self.at(src), 0, count));
                }
                Instr::Copy { dst, src, bytes } => word::copy(self.at(dst), 0, self.at(src), 0, bytes),
                Instr::Prefetch { .. } => {}

                Instr::Dot4 { acc, u, s } => self.onto::<L>(acc, u, s, |u, s, acc| word::dot4(acc, u, s)),
                Instr::Dot2 { acc, a, b } => self.onto::<L>(acc, a, b, |a, b, acc| word::dot2(acc, a, b)),

                Instr::AddI32 { dst, a, b } => self.two::<L>(dst, a, b, word::add_i32),
                Instr::SubI32 { dst, a, b } => self.two::<L>(dst, a, b, word::sub_i32),
                Instr::MulI32 { dst, a, b } => self.two::<L>(dst, a, b, word::mul_i32),
                Instr::And { dst, a, b } => self.two::<L>(dst, a, b, word::and),
                Instr::Or { dst, a, b } => self.two::<L>(dst, a, b, word::or),
                Instr::ShlI32 { dst, a, by } => self.one::<L>(dst, a, |a| word::shl_i32(a, by)),
                Instr::ShlI16 { dst, a, by } => self.one::<L>(dst, a, |a| word::shl_i16(a, by)),
                Instr::ShrI16 { dst, a, by } => self.one::<L>(dst, a, |a| word::shr_i16(a, by)),
                Instr::ShrU16 { dst, a, by } => self.one::<L>(dst, a, |a| word::shr_u16(a, by)),
                Instr::MaxU8 { dst, a, b } => self.two::<L>(dst, a, b, word::max_u8),
                Instr::MinU8 { dst, a, b } => self.two::<L>(dst, a, b, word::min_u8),

                Instr::AddF32 { dst, a, b } => self.two::<L>(dst, a, b, word::add_f32),
                Instr::SubF32 { dst, a, b } => self.two::<L>(dst, a, b, word::sub_f32),
                Instr::MulF32 { dst, a, b } => self.two::<L>(dst, a, b, word::mul_f32),
                Instr::DivF32 { dst, a, b } => self.two::<L>(dst, a, b, word::div_f32),
                Instr::MaxF32 { dst, a, b } => self.two::<L>(dst, a, b, word::max_f32),
                Instr::MinF32 { dst, a, b } => self.two::<L>(dst, a, b, word::min_f32),
                Instr::FmaAcc { acc, a, b } => self.onto::<L>(acc, a, b, word::fma),
                Instr::FmaMul { x, m, c } => {
                    let c = self.get(c);
                    self.two::<L>(x, x, m, |x, m| word::fma(x, m, c));
                }

                Instr::CvtI32F32 { dst, src } => self.one::<L>(dst, src, word::f32_from_i32),
                Instr::CvtF32I32 { dst, src } => self.one::<L>(dst, src, word::i32_from_f32),

                Instr::UnpackLo8 { dst, a, b } => self.pair::<L>(dst, a, b, word::unpack_lo8),
                Instr::UnpackHi8 { dst, a, b } => self.pair::<L>(dst, a, b, word::unpack_hi8),
                Instr::UnpackLo16 { dst, a, b } => self.pair::<L>(dst, a, b, word::unpack_lo16),
                Instr::UnpackHi16 { dst, a, b } => self.pair::<L>(dst, a, b, word::unpack_hi16),
                Instr::PackI32I16 { dst, a, b } => self.pair::<L>(dst, a, b, word::pack_i32_i16),
                Instr::PackI16U8 { dst, a, b } => self.pair::<L>(dst, a, b, word::pack_i16_u8),
                Instr::Permute32 { dst, src, index } => self.pair::<L>(dst, src, index, word::permute32),
                Instr::Shuffle8 { dst, src, control } => self.two::<L>(dst, src, control, word::shuffle8),
                Instr::Lookup8 { dst, src, table } => {
                    let table = self.at(table);
                    self.one::<L>(dst, src, |a| word::lookup8(a, table, 0));
                }
            }
        }
    }
}
