//! The definition of what a kernel means: one instruction at a time, on any machine, for any lane count.
//!
//! [`Program::new`] verifies a kernel and flattens it; [`Program::run_on`] runs it on bytes, with its footprint
//! checked first; [`Program::run`] is the same for callers that have proven the footprint themselves (`plan::interp`).
//!
//! It is slow next to machine code but must get through whole networks in tests, so lanes are a constant of
//! the generic code, registers are not bounds-checked at run time (their numbers are bytes, the file has 256), and
//! the loop is compiled a second time with AVX2 and FMA, which the CPU is asked for once. Speed changes, bits never.
//!
//! Lanes are little-endian in memory.

use super::expand::expand;
use super::verify::{Footprint, MAX_DEPTH, MAX_PARAMS, verify};
use super::{FlatInstr, FlatStmt, Instr, Kernel, Operand, ParamId};
use qgraph_runtime::requant::fma;
use std::array::from_fn;

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

type Vector<const L: usize> = [u32; L];

/// A value in memory, anywhere. (`read_unaligned` would do, but debug builds check its pointer every time.)
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Lanes as memory has them, from lanes as numbers, or back.
#[inline(always)]
fn little<const L: usize>(v: Vector<L>) -> Vector<L> {
    if cfg!(target_endian = "big") { v.map(u32::to_le) } else { v }
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
    /// `4·L` bytes at `a` are readable.
    #[inline(always)]
    unsafe fn full<const L: usize>(&self, a: (ParamId, i64)) -> Vector<L> {
        // SAFETY: the caller's.
        little(unsafe { (*self.at(a).cast::<Unaligned<Vector<L>>>()).0 })
    }

    /// # Safety
    /// A memory operand's `4·L` bytes are readable.
    #[inline(always)]
    unsafe fn operand<const L: usize>(&self, x: Operand<u8, (ParamId, i64)>) -> Vector<L> {
        match x {
            Operand::Reg(r) => self.get(r),
            // SAFETY: the caller's.
            Operand::Mem(a) => unsafe { self.full(a) },
        }
    }

    /// `dst = f(a, b)` by lane.
    ///
    /// # Safety
    /// As [`Machine::operand`].
    #[inline(always)]
    unsafe fn lanewise<const L: usize>(
        &mut self,
        dst: u8,
        a: u8,
        b: Operand<u8, (ParamId, i64)>,
        f: impl Fn(u32, u32) -> u32,
    ) {
        // SAFETY: the caller's.
        let (a, b) = (self.get::<L>(a), unsafe { self.operand::<L>(b) });
        self.set::<L>(dst, from_fn(|i| f(a[i], b[i])));
    }

    /// The same with lanes as f32.
    ///
    /// # Safety
    /// As [`Machine::operand`].
    #[inline(always)]
    unsafe fn floats<const L: usize>(
        &mut self,
        dst: u8,
        a: u8,
        b: Operand<u8, (ParamId, i64)>,
        f: impl Fn(f32, f32) -> f32,
    ) {
        // SAFETY: the caller's.
        unsafe { self.lanewise::<L>(dst, a, b, |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits()) }
    }

    /// The same with lanes as 4 bytes.
    ///
    /// # Safety
    /// As [`Machine::operand`].
    #[inline(always)]
    unsafe fn bytes<const L: usize>(
        &mut self,
        dst: u8,
        a: u8,
        b: Operand<u8, (ParamId, i64)>,
        f: impl Fn(u8, u8) -> u8,
    ) {
        let lane = |a: u32, b: u32| {
            let (a, b) = (a.to_le_bytes(), b.to_le_bytes());
            u32::from_le_bytes(from_fn(|i| f(a[i], b[i])))
        };
        // SAFETY: the caller's.
        unsafe { self.lanewise::<L>(dst, a, b, lane) }
    }

    /// `dst = f(a)` by 16-bit word.
    #[inline(always)]
    fn words<const L: usize>(&mut self, dst: u8, a: u8, f: impl Fn(u16) -> u16) {
        let lane = |a: u32| u32::from(f(a as u16)) | u32::from(f((a >> 16) as u16)) << 16;
        self.set::<L>(dst, self.get::<L>(a).map(lane));
    }

    /// `dst = f(a, b)` by block of 16 bytes.
    #[inline(always)]
    fn blocks<const L: usize>(
        &mut self,
        dst: u8,
        a: Vector<L>,
        b: Vector<L>,
        f: impl Fn([u8; 16], [u8; 16]) -> [u8; 16],
    ) {
        let mut out = [0; L];
        for block in 0..L / 4 {
            let cut = |v: &Vector<L>| -> [u8; 16] { from_fn(|i| v[4 * block + i / 4].to_le_bytes()[i % 4]) };
            let result = f(cut(&a), cut(&b));
            for lane in 0..4 {
                out[4 * block + lane] = u32::from_le_bytes(from_fn(|i| result[4 * lane + i]));
            }
        }
        self.set::<L>(dst, out);
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
                Instr::Splat { dst, bits } => self.set::<L>(dst, [bits; L]),
                Instr::Move { dst, src } => self.set::<L>(dst, self.get(src)),
                Instr::Load { dst, src, bytes } if bytes == 4 * L => self.set::<L>(dst, self.full(src)),
                Instr::Load { dst, src, bytes } => {
                    let mut part = [[0u8; 4]; L];
                    let from = self.at(src);
                    part.as_flattened_mut()[..bytes].copy_from_slice(std::slice::from_raw_parts(from, bytes));
                    self.set::<L>(dst, part.map(u32::from_le_bytes));
                }
                Instr::Store { dst, src, bytes } => {
                    let v = little(self.get::<L>(src));
                    let to = self.at(dst);
                    if bytes == 4 * L {
                        (*to.cast::<Unaligned<Vector<L>>>()).0 = v;
                    } else {
                        to.copy_from_nonoverlapping(v.as_ptr().cast(), bytes);
                    }
                }
                Instr::Broadcast32 { dst, src } => {
                    let v = *self.at(src).cast::<[u8; 4]>();
                    self.set::<L>(dst, [u32::from_le_bytes(v); L]);
                }
                Instr::LoadU8 { dst, src, count } => {
                    let mut v = [0u32; L];
                    let from = self.at(src);
                    for (i, lane) in v[..count].iter_mut().enumerate() {
                        *lane = from.add(i).read().into();
                    }
                    self.set::<L>(dst, v);
                }
                Instr::Copy { dst, src, bytes } => self.at(dst).copy_from(self.at(src), bytes),
                Instr::Prefetch { .. } => {}

                Instr::Dot4 { acc, u, s } => {
                    let (v, u, s) = (self.get::<L>(acc), self.get::<L>(u), self.operand::<L>(s));
                    self.set::<L>(acc, dot4(v, u, s));
                }
                Instr::Dot2 { acc, a, b } => {
                    let (v, a, b) = (self.get::<L>(acc), self.get::<L>(a), self.operand::<L>(b));
                    self.set::<L>(acc, from_fn(|i| v[i].wrapping_add(dot2(a[i], b[i]))));
                }

                Instr::AddI32 { dst, a, b } => self.lanewise::<L>(dst, a, b, u32::wrapping_add),
                Instr::SubI32 { dst, a, b } => self.lanewise::<L>(dst, a, b, u32::wrapping_sub),
                Instr::MulI32 { dst, a, b } => self.lanewise::<L>(dst, a, b, u32::wrapping_mul),
                Instr::And { dst, a, b } => self.lanewise::<L>(dst, a, b, |a, b| a & b),
                Instr::Or { dst, a, b } => self.lanewise::<L>(dst, a, b, |a, b| a | b),
                Instr::ShlI32 { dst, a, by } => self.set::<L>(dst, self.get::<L>(a).map(|a| a << by)),
                Instr::ShlI16 { dst, a, by } => self.words::<L>(dst, a, |w| w << by),
                Instr::ShrI16 { dst, a, by } => self.words::<L>(dst, a, |w| (w as i16 >> by) as u16),
                Instr::ShrU16 { dst, a, by } => self.words::<L>(dst, a, |w| w >> by),
                Instr::MaxU8 { dst, a, b } => self.bytes::<L>(dst, a, b, u8::max),
                Instr::MinU8 { dst, a, b } => self.bytes::<L>(dst, a, b, u8::min),

                Instr::AddF32 { dst, a, b } => self.floats::<L>(dst, a, b, |a, b| a + b),
                Instr::SubF32 { dst, a, b } => self.floats::<L>(dst, a, b, |a, b| a - b),
                Instr::MulF32 { dst, a, b } => self.floats::<L>(dst, a, b, |a, b| a * b),
                Instr::DivF32 { dst, a, b } => self.floats::<L>(dst, a, b, |a, b| a / b),
                Instr::MaxF32 { dst, a, b } => self.floats::<L>(dst, a, b, |a, b| if a > b { a } else { b }),
                Instr::MinF32 { dst, a, b } => self.floats::<L>(dst, a, b, |a, b| if a < b { a } else { b }),
                Instr::FmaAcc { acc, a, b } => {
                    let c = self.get::<L>(acc);
                    let (a, b) = (self.get::<L>(a), self.operand::<L>(b));
                    self.set::<L>(acc, fma_lanes(a, b, c));
                }
                Instr::FmaMul { x, m, c } => {
                    let (a, b) = (self.get::<L>(x), self.operand::<L>(m));
                    let c = self.get::<L>(c);
                    self.set::<L>(x, fma_lanes(a, b, c));
                }

                Instr::CvtI32F32 { dst, src } => {
                    self.set::<L>(dst, self.get::<L>(src).map(|v| (v as i32 as f32).to_bits()));
                }
                Instr::CvtF32I32 { dst, src } => {
                    let to_int = |v| {
                        let v = f32::from_bits(v).round_ties_even();
                        debug_assert!(v.abs() < 2_147_483_648.0, "lowering keeps {v} in the range of i32");
                        v as i32 as u32
                    };
                    self.set::<L>(dst, self.get::<L>(src).map(to_int));
                }

                Instr::UnpackLo8 { dst, a, b } => {
                    let (a, b) = (self.get::<L>(a), self.get::<L>(b));
                    self.blocks::<L>(dst, a, b, |a, b| from_fn(|i| [a, b][i % 2][i / 2]));
                }
                Instr::UnpackHi8 { dst, a, b } => {
                    let (a, b) = (self.get::<L>(a), self.get::<L>(b));
                    self.blocks::<L>(dst, a, b, |a, b| from_fn(|i| [a, b][i % 2][8 + i / 2]));
                }
                Instr::UnpackLo16 { dst, a, b } => {
                    let (a, b) = (self.get::<L>(a), self.get::<L>(b));
                    self.blocks::<L>(dst, a, b, |a, b| from_fn(|i| [a, b][i / 2 % 2][i / 4 * 2 + i % 2]));
                }
                Instr::UnpackHi16 { dst, a, b } => {
                    let (a, b) = (self.get::<L>(a), self.get::<L>(b));
                    self.blocks::<L>(dst, a, b, |a, b| from_fn(|i| [a, b][i / 2 % 2][8 + i / 4 * 2 + i % 2]));
                }
                Instr::PackI32I16 { dst, a, b } => {
                    let (a, b) = (self.get::<L>(a), self.get::<L>(b));
                    self.blocks::<L>(dst, a, b, |a, b| {
                        from_fn(|i| {
                            let (v, at) = ([a, b][i / 8], i % 8 / 2 * 4);
                            let v = i32::from_le_bytes([v[at], v[at + 1], v[at + 2], v[at + 3]]);
                            (v.clamp(i16::MIN.into(), i16::MAX.into()) as i16).to_le_bytes()[i % 2]
                        })
                    });
                }
                Instr::PackI16U8 { dst, a, b } => {
                    let (a, b) = (self.get::<L>(a), self.get::<L>(b));
                    self.blocks::<L>(dst, a, b, |a, b| {
                        from_fn(|i| {
                            let (v, at) = ([a, b][i / 8], i % 8 * 2);
                            i16::from_le_bytes([v[at], v[at + 1]]).clamp(0, 255) as u8
                        })
                    });
                }
                Instr::Permute32 { dst, src, index } => {
                    let (v, index) = (self.get::<L>(src), self.get::<L>(index));
                    self.set::<L>(dst, index.map(|i| v[i as usize % L]));
                }
                Instr::Shuffle8 { dst, src, control } => {
                    let (v, control) = (self.get::<L>(src), self.operand::<L>(control));
                    self.blocks::<L>(dst, v, control, |v, c| {
                        from_fn(|i| if c[i] < 128 { v[(c[i] & 15) as usize] } else { 0 })
                    });
                }
                Instr::Lookup8 { dst, src, table } => {
                    let table = self.at(table);
                    let look =
                        |v: u32| u32::from_le_bytes(v.to_le_bytes().map(|b| table.add(b.into()).read()));
                    self.set::<L>(dst, self.get::<L>(src).map(look));
                }
            }
        }
    }
}

/// `a·b + c` by lane, rounded once.
#[inline(always)]
fn fma_lanes<const L: usize>(a: Vector<L>, b: Vector<L>, c: Vector<L>) -> Vector<L> {
    from_fn(|i| fma(f32::from_bits(a[i]), f32::from_bits(b[i]), f32::from_bits(c[i])).to_bits())
}

/// Σ a.i16·b.i16 of a lane.
#[inline(always)]
fn dot2(a: u32, b: u32) -> u32 {
    let word = |v: u32, k: u32| i32::from((v >> (16 * k)) as i16);
    (word(a, 0) * word(b, 0)).wrapping_add(word(a, 1) * word(b, 1)) as u32
}

/// `acc + Σ u.u8·s.i8` by lane. Nearly all time goes here.
#[inline(always)]
fn dot4<const L: usize>(mut acc: Vector<L>, u: Vector<L>, s: Vector<L>) -> Vector<L> {
    // The plain loop below becomes vector code if it is long enough; four lanes need to be told.
    #[cfg(target_arch = "x86_64")]
    if L == 4 {
        use std::arch::x86_64::*;
        let vector = |v: &Vector<L>| {
            let v: [i32; 4] = from_fn(|i| v[i] as i32);
            // SAFETY: SSE2 is part of x86-64.
            unsafe { _mm_set_epi32(v[3], v[2], v[1], v[0]) }
        };
        let (c, u, s) = (vector(&acc), vector(&u), vector(&s));
        // SAFETY: SSE2 is part of x86-64; 128 bits are four lanes.
        let sum: [u32; 4] = unsafe {
            // Even and odd bytes as words; their products are summed in 32 bits, so all is exact.
            let even = _mm_madd_epi16(
                _mm_and_si128(u, _mm_set1_epi16(0xff)),
                _mm_srai_epi16::<8>(_mm_slli_epi16::<8>(s)),
            );
            let odd = _mm_madd_epi16(_mm_srli_epi16::<8>(u), _mm_srai_epi16::<8>(s));
            std::mem::transmute(_mm_add_epi32(c, _mm_add_epi32(even, odd)))
        };
        acc.copy_from_slice(&sum);
        return acc;
    }
    for i in 0..L {
        // Wrapping, as checks would keep it from becoming vector code; the products cannot overflow.
        let product = |k: u32| {
            let x = (u[i] >> (8 * k)) & 0xff;
            let w = ((s[i] << (24 - 8 * k)) as i32) >> 24;
            x.wrapping_mul(w as u32)
        };
        for k in 0..4 {
            acc[i] = acc[i].wrapping_add(product(k));
        }
    }
    acc
}
