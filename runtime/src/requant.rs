//! The integer arithmetic of the product, once, as code.
//!
//! Real value of a `u8` activation `q`: `scale · (q − zero_point)`. Accumulators are `i32` and exact. An
//! accumulator becomes an output by one fused multiply-add in f32, one rounding to nearest even, one clamp:
//!
//! `q = clamp(rne(fma(f32(acc), s, z)), lo, hi)`
//!
//! A network that was quantized elsewhere asks for another order ([`Rounding::ZeroLast`]), so that it gives the integers that it gives there.
//! Every engine (evaluator, kernel interpreter, JIT, generated source) must give these bits.

#[cfg(test)]
mod tests;

/// When the zero point of a result joins, in a convolution without residual, an average, and the quantization of an f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// In the multiply-add that scales, before its one rounding: [`requantize`], [`quantize`].
    #[default]
    Fused,
    /// After scaling and rounding to an integer, as QuantizeLinear of ONNX is defined and ONNX Runtime computes: `clamp(rne(y) + z, lo, hi)`
    /// with y the product `f32(acc)·scale`, or the quotient `x/scale`, rounded to f32. Half steps then go to even distances from z.
    ZeroLast,
}

impl Rounding {
    /// An accumulator becomes an activation.
    #[inline]
    pub fn requantize(self, acc: i32, scale: f32, zero_point: u8, lo: u8, hi: u8) -> u8 {
        match self {
            Rounding::Fused => requantize(acc, scale, f32::from(zero_point), lo, hi),
            Rounding::ZeroLast => add_zero(acc as f32 * scale, zero_point, lo, hi),
        }
    }

    /// A real value becomes an activation. NaN becomes 0.
    #[inline]
    pub fn quantize(self, x: f32, scale: f32, zero_point: u8) -> u8 {
        match self {
            Rounding::Fused => quantize(x, 1.0 / scale, zero_point),
            Rounding::ZeroLast => add_zero(x / scale, zero_point, 0, 255),
        }
    }
}

/// `clamp(rne(y) + zero_point, lo, hi)`. NaN gives `lo`.
#[inline(always)]
fn add_zero(y: f32, zero_point: u8, lo: u8, hi: u8) -> u8 {
    let zero = f32::from(zero_point);
    let (lo, hi) = (f32::from(lo) - zero, f32::from(hi) - zero);
    let y = if y > lo { y } else { lo };
    let y = if y < hi { y } else { hi };
    (rne(y) + zero) as u8
}

/// Smallest and largest requantization multiplier a compiled model may hold.
pub const MULTIPLIER_RANGE: (f64, f64) = (5.421_010_862_427_522e-20, 256.0); // 2^-64 ..= 2^8

/// `x·y + z` with one rounding, to nearest even. Exact on every platform.
///
/// Without `std` the sum is formed in f64: the product of two f32 is exact there, and the rounding of the
/// sum is made "to odd" so that the second rounding, to f32, cannot be a double rounding (S. Boldo,
/// G. Melquiond, "Emulation of FMA and correctly rounded sums", 2008).
#[inline(always)]
pub fn fma(x: f32, y: f32, z: f32) -> f32 {
    #[cfg(feature = "std")]
    {
        x.mul_add(y, z)
    }
    #[cfg(not(feature = "std"))]
    {
        fma_exact(x, y, z)
    }
}

/// The portable form of [`fma`], for targets without the instruction. All finite inputs; infinities and NaN
/// propagate as in `x * y + z`.
#[inline]
pub fn fma_exact(x: f32, y: f32, z: f32) -> f32 {
    let p = x as f64 * y as f64;
    let c = z as f64;
    let sum = p + c;
    if !sum.is_finite() {
        return sum as f32;
    }
    // Error of the sum, exactly (Knuth's TwoSum).
    let b = sum - p;
    let err = (p - (sum - b)) + (c - b);
    if err == 0.0 || sum.to_bits() & 1 == 1 {
        return sum as f32;
    }
    // Inexact with an even last bit: step to the odd neighbour on the side of the error.
    let up = (err > 0.0) == (sum > 0.0);
    f64::from_bits(if up { sum.to_bits() + 1 } else { sum.to_bits() - 1 }) as f32
}

/// Nearest integer, ties to even, for `|y| < 2^22`.
#[inline(always)]
pub fn rne(y: f32) -> f32 {
    // In [2^23, 2^24) one unit in the last place is 1, so the addition itself rounds, half to even.
    const MAGIC: f32 = 12_582_912.0;
    (y + MAGIC) - MAGIC
}

/// An accumulator becomes an activation: `clamp(rne(fma(f32(acc), scale, bias)), lo, hi)`.
///
/// `bias` is the zero point of the output as f32, or what a residual added (an inner fused multiply-add).
/// The clamp to integers `lo..=hi` commutes with rounding, so it is made first, which keeps every
/// intermediate value small.
#[inline(always)]
pub fn requantize(acc: i32, scale: f32, bias: f32, lo: u8, hi: u8) -> u8 {
    quantize_value(fma(acc as f32, scale, bias), lo, hi)
}

/// The last two steps of [`requantize`]: clamp and round an already scaled value. NaN gives `lo`.
#[inline(always)]
pub fn quantize_value(y: f32, lo: u8, hi: u8) -> u8 {
    let y = if y > lo as f32 { y } else { lo as f32 };
    let y = if y < hi as f32 { y } else { hi as f32 };
    rne(y) as u8
}

/// A real value becomes an activation: `clamp(rne(fma(x, 1/scale, z)), lo, hi)`, with `inv_scale` = 1/scale
/// rounded to f32.
#[inline(always)]
pub fn quantize(x: f32, inv_scale: f32, zero_point: u8) -> u8 {
    quantize_value(fma(x, inv_scale, zero_point as f32), 0, 255)
}

/// An activation becomes a real value: `scale · f32(q − z)`, one multiply.
#[inline(always)]
pub fn dequantize(q: u8, scale: f32, zero_point: u8) -> f32 {
    (q as i32 - zero_point as i32) as f32 * scale
}

/// Rounds a multiplier to 21 significant bits, half to even, as f32.
///
/// Twenty-one bits leave room for the zero point in a fused accumulator start (the "magic integer"
/// epilogue), and move an output that is less than 256 steps from its zero point by at most 2^-13 of a step. Returns `None` if
/// the rounded multiplier is outside [`MULTIPLIER_RANGE`].
pub fn multiplier(s: f64) -> Option<f32> {
    in_range(round_bits(s, 21))
}

/// The multiplier `x·w/y` of scales that a model gives. Where zero points come last: product and quotient in f32, as ONNX Runtime has them.
/// Else all bits of f32, so that nothing is rounded more coarsely than its definition asks for; but a ratio that has 21 bits, up to one
/// rounding of a scale to f32, is taken to have come from [`multiplier`] and has its bits again. One too small to move any output is raised to
/// the smallest that a model may hold, which moves none either; `None` if it is too large.
pub fn given_multiplier(rounding: Rounding, x: f32, w: f32, y: f32) -> Option<f32> {
    match rounding {
        Rounding::Fused => given_ratio(f64::from(x) * f64::from(w) / f64::from(y)),
        Rounding::ZeroLast => in_range(f64::from(x * w / y).max(MULTIPLIER_RANGE.0)),
    }
}

fn given_ratio(s: f64) -> Option<f32> {
    // Half a unit in the last place of f32, relative, and a little for f64.
    const ROUNDING: f64 = 5.961e-8;
    let s = s.max(MULTIPLIER_RANGE.0);
    let short = round_bits(s, 21);
    in_range(if (short - s).abs() <= s * ROUNDING { short } else { round_bits(s, 24) })
}

/// A multiplier that compiled models may hold: inside [`MULTIPLIER_RANGE`].
pub fn in_range(s: f64) -> Option<f32> {
    (s > 0.0 && s >= MULTIPLIER_RANGE.0 && s <= MULTIPLIER_RANGE.1).then_some(s as f32)
}

/// Rounds `x` to `bits` significant bits (2..=52), half to even.
pub fn round_bits(x: f64, bits: u32) -> f64 {
    // Veltkamp's splitting would double-round at ties; integer arithmetic on the significand does not.
    let drop = 53 - bits;
    let b = x.to_bits();
    let half = 1u64 << (drop - 1);
    let odd = (b >> drop) & 1;
    f64::from_bits((b + (half - 1) + odd) & !((1u64 << drop) - 1))
}
