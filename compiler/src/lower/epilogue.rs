//! The end of a convolution tile: accumulators become stored outputs, by the numeric contract.
//!
//! Constants come through two parameters: `c`, vectors common to the layer ([`Common`]), and `t`, a table per panel of output channels (bias
//! vectors, then scale vectors, then perhaps offset vectors). So layers of equal geometry share one kernel.

use super::draft::{At, Draft};
use crate::kernel::{Access, Addr, Affine, Instr, KernelBuilder, Operand, ParamId, Reg, Regs, Var};
use crate::target::Target;
use std::ops::Range;

/// Vectors of the layer-wide table, by position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Common {
    /// f32 zero point of the output, or the residual constant k; or the zero point as an integer, where it comes last.
    Offset,
    /// Dword order that undoes the in-lane packs.
    Order,
    /// Lower clamp as bytes.
    Lo,
    /// Upper clamp as bytes.
    Hi,
    /// Lower clamp as f32 (of a float output, or where the value may leave the range of i32).
    FloatLo,
    /// Upper clamp as f32.
    FloatHi,
    /// Scale of the residual.
    ResidualScale,
    /// All bits of even bytes, none of odd ones.
    EvenBytes,
}

/// What the layer-wide table holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CommonValues {
    /// Bits of [`Common::Offset`].
    pub(super) offset: u32,
    pub(super) lo: u8,
    pub(super) hi: u8,
    pub(super) float_lo: f32,
    pub(super) float_hi: f32,
    pub(super) residual_scale: f32,
}

/// Address of a vector of the layer-wide table.
pub(super) fn common(target: &Target, param: ParamId, which: Common) -> Addr {
    Addr::new(param, which as usize * target.vector_bytes())
}

/// Dword order after two `PackI32I16` and one `PackI16U8` of four vectors: packs work in 16-byte blocks.
pub(super) fn pack_order(lanes: usize) -> Vec<u32> {
    let blocks = lanes / 4;
    (0..lanes).map(|i| (4 * (i % blocks) + i / blocks) as u32).collect()
}

/// The layer-wide table of a target.
pub(super) fn common_table(target: &Target, draft: &mut Draft, v: &CommonValues) -> At {
    let lanes = target.lanes;
    let splat = |x: f32| x.to_le_bytes().repeat(lanes);
    let mut bytes = splat(f32::from_bits(v.offset));
    bytes.extend(pack_order(lanes).iter().flat_map(|d| d.to_le_bytes()));
    bytes.extend(std::iter::repeat_n(v.lo, 4 * lanes));
    bytes.extend(std::iter::repeat_n(v.hi, 4 * lanes));
    bytes.extend(splat(v.float_lo));
    bytes.extend(splat(v.float_hi));
    bytes.extend(splat(v.residual_scale));
    bytes.extend([0xff, 0].repeat(2 * lanes));
    draft.constant(bytes)
}

/// 1.5·2^23: the bits of `MAGIC + n` are those of MAGIC plus n, for every integer n in [−2^22, 2^22). So an accumulator that starts
/// this much higher needs no conversion: `fma(MAGIC + n, s, offset − MAGIC·s)` has the bits of `fma(n, s, offset)` if that constant is exact.
const MAGIC: f32 = 12_582_912.0;

/// 2^23: the same for every n in [0, 2^23), and for every s without offset, because a power of two times s is exact. The bits of a negative n,
/// from −2^23, are those of MAGIC_POSITIVE + n/2: a value of the right sign, which is enough where all negative ones end at 0.
const MAGIC_POSITIVE: f32 = 8_388_608.0;

/// The constant that replaces the offset of a channel of scale `s` whose accumulators start so much higher; `None` if it is not exact.
fn magic_offset(magic: f32, offset: f32, s: f32) -> Option<f32> {
    // The product is exact in f64: 24 + 2 bits. The difference is if Knuth's two-sum finds no error in it.
    let (a, b) = (f64::from(offset), f64::from(magic) * f64::from(s));
    let wanted = a - b;
    let b_part = a - wanted;
    let error = (a - (wanted + b_part)) + (b_part - b);
    let found = wanted as f32;
    (error == 0.0 && f64::from(found) == wanted).then_some(found)
}

/// How much higher the accumulators of a layer may start, and the offset of each channel then; `None` if not all have one. `reach`: what
/// accumulators can be, ends included. `saturates`: negative ones give what 0 gives, and there is no offset.
pub(super) fn magic(
    offset: f32,
    scales: &[f32],
    reach: &[Range<i64>],
    saturates: bool,
) -> Option<(f32, Vec<f32>)> {
    let way = |magic: f32, most: i64| {
        let fits = reach.iter().all(|r| r.start >= -most && r.end < most);
        let offsets = || scales.iter().map(|&s| magic_offset(magic, offset, s)).collect::<Option<_>>();
        fits.then(offsets)?.map(|offsets| (magic, offsets))
    };
    way(MAGIC, 1 << 22).or_else(|| saturates.then(|| way(MAGIC_POSITIVE, 1 << 23))?)
}

/// Bits of an accumulator's start.
pub(super) fn magic_bias(magic: f32, bias: u32) -> u32 {
    bias.wrapping_add(magic.to_bits())
}

/// How accumulators end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Finish {
    /// i32 → u8.
    Requantize {
        /// A u8 residual is added.
        residual: bool,
        /// The value may leave i32's range: clamp in f32 first.
        guard: bool,
        /// Accumulators start [`MAGIC`] or [`MAGIC_POSITIVE`] higher and are f32 without conversion.
        magic: bool,
        /// A zero point is added after rounding. There is no residual then.
        zero_last: bool,
        /// The lower clamp is above 0.
        lo: bool,
        /// The upper clamp is below 255.
        hi: bool,
    },
    /// i32 → f32 by one multiply.
    Dequantize {
        /// A finite clamp follows.
        clamp: bool,
    },
    /// f32 stays.
    Float {
        /// An f32 residual is added.
        residual: bool,
        /// A finite clamp follows.
        clamp: bool,
    },
}

impl Finish {
    /// True if a residual is read.
    pub(super) fn residual(self) -> bool {
        match self {
            Finish::Requantize { residual, .. } | Finish::Float { residual, .. } => residual,
            Finish::Dequantize { .. } => false,
        }
    }

    /// True if accumulators start at [`magic_bias`] and the panel table holds an offset per channel.
    pub(super) fn magic(self) -> bool {
        matches!(self, Finish::Requantize { magic: true, .. })
    }

    /// True if the panel table holds scales.
    pub(super) fn scaled(self) -> bool {
        match self {
            Finish::Requantize { .. } | Finish::Dequantize { .. } => true,
            Finish::Float { .. } => false,
        }
    }

    /// What the panel table holds for each vector of channels: bias, scale, offset.
    pub(super) fn table_vectors(self) -> usize {
        1 + usize::from(self.scaled()) + usize::from(self.magic())
    }

    /// Bytes of an output element.
    pub(super) fn output_size(self) -> usize {
        match self {
            Finish::Requantize { .. } => 1,
            Finish::Dequantize { .. } | Finish::Float { .. } => 4,
        }
    }
}

/// Parameters of the epilogue in a kernel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Params {
    /// Panel table.
    pub(super) t: ParamId,
    /// Layer-wide table.
    pub(super) c: ParamId,
    /// Output.
    pub(super) y: ParamId,
    /// Residual, if any.
    pub(super) r: Option<ParamId>,
}

impl Params {
    /// Declares `t`, `c`, `y` and, if needed, `r`, in this order.
    pub(super) fn declare(b: &mut KernelBuilder, finish: Finish) -> Params {
        let t = b.param("t", Access::Read);
        let c = b.param("c", Access::Read);
        let y = b.param("y", Access::Write);
        let r = finish.residual().then(|| b.param("r", Access::Read));
        Params { t, c, y, r }
    }
}

/// Writes the epilogue of a tile: accumulator `acc[p · vectors + v]` holds vector v of consecutive channels of pixel p.
pub(super) struct Outputs<'a> {
    pub(super) target: &'a Target,
    pub(super) finish: Finish,
    pub(super) params: Params,
    pub(super) acc: Regs,
    pub(super) pixels: usize,
    pub(super) vectors: usize,
    /// Output channels that exist: what is stored. At most `vectors · lanes`.
    pub(super) channels: usize,
    /// Channels that may be stored: `channels`, or more where padding lanes may be written.
    pub(super) store: usize,
    /// Bytes between pixels from `y`.
    pub(super) y_step: usize,
    /// Bytes between pixels from `r`.
    pub(super) r_step: usize,
    /// Register of the offset vector, then of the residual's scale or the zero point that comes last.
    pub(super) offset: Reg,
    /// Register of the pack order.
    pub(super) order: Reg,
    /// A free register.
    pub(super) scratch: Reg,
}

impl Outputs<'_> {
    pub(super) fn emit(&self, b: &mut KernelBuilder) {
        match self.finish {
            Finish::Requantize { residual, guard, magic, zero_last, lo, hi } => {
                self.scale(b, magic, zero_last);
                if zero_last {
                    self.load(b, &self.offset, Common::Offset);
                }
                if residual {
                    self.load(b, &self.offset, Common::ResidualScale);
                }
                if self.target.lanes > 4 {
                    self.load(b, &self.order, Common::Order);
                }
                let together = self.together();
                b.unroll(self.pixels / together, |b, g| {
                    for k in 0..together {
                        self.round(b, &(g * together + k), residual, guard, zero_last);
                    }
                    self.pack(b, &(g * together), together, lo, hi);
                });
                b.unroll(self.pixels % together, |b, p| {
                    let p = p + self.pixels / together * together;
                    self.round(b, &p, residual, guard, zero_last);
                    self.pack(b, &p, 1, lo, hi);
                });
            }
            Finish::Dequantize { clamp } => b.unroll(self.pixels, |b, p| {
                b.unroll(self.vectors, |b, v| {
                    let acc = self.acc.at(p * self.vectors + v);
                    b.op(Instr::CvtI32F32 { dst: acc.clone(), src: acc.clone() });
                    b.op(Instr::MulF32 { dst: acc.clone(), a: acc, b: self.table(1, v).into() });
                });
                self.store_f32(b, p, clamp);
            }),
            Finish::Float { residual, clamp } => b.unroll(self.pixels, |b, p| {
                if residual {
                    self.add_f32(b, p);
                }
                self.store_f32(b, p, clamp);
            }),
        }
    }

    fn reg(&self, p: &Affine, v: usize) -> Reg {
        self.acc.at(p.clone() * self.vectors + v)
    }

    /// Pixels whose bytes are packed and stored at once: as many as four vectors hold, if they lie one after the other without a gap.
    fn together(&self) -> usize {
        let bytes = self.vectors * self.target.lanes;
        let dense = self.y_step == bytes && self.store == bytes;
        if dense { (4 / self.vectors).clamp(1, self.pixels) } else { 1 }
    }

    /// Vector v of a part of the panel table: 0 bias, 1 scale, 2 offset.
    fn table(&self, part: usize, v: impl Into<Affine>) -> Addr {
        let bytes = self.target.vector_bytes();
        Addr::new(self.params.t, v.into() * bytes + part * self.vectors * bytes)
    }

    fn common(&self, which: Common) -> Operand<Reg, Addr> {
        common(self.target, self.params.c, which).into()
    }

    fn load(&self, b: &mut KernelBuilder, dst: &Reg, which: Common) {
        let src = common(self.target, self.params.c, which);
        b.op(Instr::Load { dst: dst.clone(), src, bytes: self.target.vector_bytes() });
    }

    /// Every accumulator times its scale, plus its offset.
    fn scale(&self, b: &mut KernelBuilder, magic: bool, zero_last: bool) {
        let bytes = self.target.vector_bytes();
        if !magic && !zero_last {
            self.load(b, &self.offset, Common::Offset);
        }
        b.unroll(self.vectors, |b, v| {
            if magic {
                b.op(Instr::Load { dst: self.offset.clone(), src: self.table(2, v), bytes });
            }
            let scale: Operand<Reg, Addr> = if self.pixels > 1 {
                b.op(Instr::Load { dst: self.scratch.clone(), src: self.table(1, v), bytes });
                self.scratch.clone().into()
            } else {
                self.table(1, v).into()
            };
            b.unroll(self.pixels, |b, p| {
                let acc = self.acc.at(p * self.vectors + v);
                if !magic {
                    b.op(Instr::CvtI32F32 { dst: acc.clone(), src: acc.clone() });
                }
                b.op(if zero_last && !magic {
                    Instr::MulF32 { dst: acc.clone(), a: acc, b: scale.clone() }
                } else {
                    Instr::FmaMul { x: acc, m: scale.clone(), c: self.offset.clone() }
                });
            });
        });
    }

    /// The rest of a pixel's way to integers.
    fn round(&self, b: &mut KernelBuilder, p: &Affine, residual: bool, guard: bool, zero_last: bool) {
        let lanes = self.target.lanes;
        for v in 0..self.vectors {
            let acc = self.reg(p, v);
            if let (true, Some(r)) = (residual, self.params.r) {
                let src = Addr::new(r, p.clone() * self.r_step + v * lanes);
                let count = lanes.min(self.channels.saturating_sub(v * lanes)).max(1);
                let scratch = self.scratch.clone();
                b.op(Instr::LoadU8 { dst: scratch.clone(), src, count });
                b.op(Instr::CvtI32F32 { dst: scratch.clone(), src: scratch.clone() });
                b.op(Instr::FmaAcc { acc: acc.clone(), a: scratch, b: self.offset.clone().into() });
            }
            if guard {
                self.clamp(b, &acc);
            }
            b.op(Instr::CvtF32I32 { dst: acc.clone(), src: acc.clone() });
            if zero_last {
                b.op(Instr::AddI32 { dst: acc.clone(), a: acc, b: self.offset.clone().into() });
            }
        }
    }

    fn clamp(&self, b: &mut KernelBuilder, acc: &Reg) {
        let (lo, hi) = (self.common(Common::FloatLo), self.common(Common::FloatHi));
        b.op(Instr::MaxF32 { dst: acc.clone(), a: acc.clone(), b: lo });
        b.op(Instr::MinF32 { dst: acc.clone(), a: acc.clone(), b: hi });
    }

    /// Four vectors of i32 at a time become one of bytes; `pixels` that lie without gaps, from `p`.
    fn pack(&self, b: &mut KernelBuilder, p: &Affine, pixels: usize, lo: bool, hi: bool) {
        let lanes = self.target.lanes;
        for group in (0..pixels * self.vectors).step_by(4) {
            let n = (pixels * self.vectors - group).min(4);
            let bytes = (pixels * self.store).saturating_sub(group * lanes).min(n * lanes);
            if bytes == 0 {
                break;
            }
            let regs: Vec<Reg> = (group..group + n).map(|v| self.reg(p, v)).collect();
            let lo = lo.then(|| self.common(Common::Lo));
            let hi = hi.then(|| self.common(Common::Hi));
            let src = pack(b, &regs, lo, hi, (lanes > 4).then_some(&self.order));
            let dst = Addr::new(self.params.y, p.clone() * self.y_step + group * lanes);
            b.op(Instr::Store { dst, src, bytes });
        }
    }

    fn valid(&self, v: usize) -> usize {
        self.channels.saturating_sub(v * self.target.lanes).min(self.target.lanes)
    }

    fn add_f32(&self, b: &mut KernelBuilder, p: Var) {
        let Some(r) = self.params.r else { return };
        for v in 0..self.vectors {
            let (acc, scratch) = (self.reg(&p.into(), v), self.scratch.clone());
            let src = Addr::new(r, p * self.r_step + v * self.target.vector_bytes());
            if self.valid(v) > 0 {
                b.op(Instr::Load { dst: scratch.clone(), src, bytes: 4 * self.valid(v) });
                b.op(Instr::AddF32 { dst: acc.clone(), a: acc, b: scratch.into() });
            }
        }
    }

    fn store_f32(&self, b: &mut KernelBuilder, p: Var, clamp: bool) {
        for v in 0..self.vectors {
            let src = self.reg(&p.into(), v);
            if self.valid(v) == 0 {
                break;
            }
            if clamp {
                self.clamp(b, &src);
            }
            let dst = Addr::new(self.params.y, p * self.y_step + v * self.target.vector_bytes());
            b.op(Instr::Store { dst, src, bytes: 4 * self.valid(v) });
        }
    }
}

/// One to four vectors of i32 become one of bytes, saturated and clamped, in `regs[0]`, which is returned. With fewer than four
/// vectors the upper bytes repeat some. Without `order` the bytes stay in the order of the in-lane packs.
pub(super) fn pack(
    b: &mut KernelBuilder,
    regs: &[Reg],
    lo: Option<Operand<Reg, Addr>>,
    hi: Option<Operand<Reg, Addr>>,
    order: Option<&Reg>,
) -> Reg {
    let reg = |j: usize| regs[j.min(regs.len() - 1)].clone();
    let out = reg(0);
    let high = if regs.len() > 2 { reg(2) } else { reg(0) };
    b.op(Instr::PackI32I16 { dst: out.clone(), a: reg(0), b: reg(1) });
    if regs.len() > 2 {
        b.op(Instr::PackI32I16 { dst: high.clone(), a: reg(2), b: reg(3) });
    }
    b.op(Instr::PackI16U8 { dst: out.clone(), a: out.clone(), b: high });
    if let Some(lo) = lo {
        b.op(Instr::MaxU8 { dst: out.clone(), a: out.clone(), b: lo });
    }
    if let Some(hi) = hi {
        b.op(Instr::MinU8 { dst: out.clone(), a: out.clone(), b: hi });
    }
    if let Some(index) = order {
        b.op(Instr::Permute32 { dst: out.clone(), src: out.clone(), index: index.clone() });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use qgraph_runtime::requant::multiplier;

    #[test]
    fn magic_accumulators_give_the_same_bits() {
        let mut exact = 0;
        for k in 0..400 {
            let s = multiplier(2f64.powi(-2 - k % 18) * (1.0 + f64::from(k) * 0.002_397)).expect("in range");
            for offset in [0.0, 1.0, 77.0, 255.0] {
                let Some(c) = magic_offset(MAGIC, offset, s) else { continue };
                exact += 1;
                for n in [-(1 << 22), -4_194_303, -77_777, -1, 0, 1, 12_345, 3_999_999, (1 << 22) - 1] {
                    let a = f32::from_bits(magic_bias(MAGIC, n as u32));
                    assert_eq!(a, MAGIC + n as f32);
                    let (found, expected) = (a.mul_add(s, c), (n as f32).mul_add(s, offset));
                    assert_eq!(found.to_bits(), expected.to_bits(), "{n} · {s:e} + {offset}");
                }
            }
        }
        assert!(exact > 1200, "only {exact} of 1600 constants are exact");
    }

    #[test]
    fn positive_accumulators_give_the_same_bits_for_all_scales() {
        for k in 0..400u32 {
            let s = f32::from_bits(0x3f7f_ffff - k * 0x0007_1235); // All 24 bits.
            let c = magic_offset(MAGIC_POSITIVE, 0.0, s).expect("a power of two");
            let found = |n: i32| f32::from_bits(magic_bias(MAGIC_POSITIVE, n as u32)).mul_add(s, c);
            for n in [0, 1, 3, 12_345, 3_999_999, (1 << 23) - 1] {
                assert_eq!(found(n).to_bits(), (n as f32 * s).to_bits(), "{n} · {s:e}");
            }
            for n in [-1, -2, -777, -4_000_001, -(1 << 23)] {
                assert_eq!(found(n), n as f32 * 0.5 * s, "{n} · {s:e}");
            }
        }
    }

    #[test]
    fn an_inexact_constant_is_refused() {
        assert_eq!(magic_offset(MAGIC, 1.0 / 3.0, 0.75), None);
        // The difference rounds to the offset itself, in f64 already.
        assert_eq!(magic_offset(MAGIC, 1.0, f32::from_bits(0x2000_0000)), None);
    }
}
