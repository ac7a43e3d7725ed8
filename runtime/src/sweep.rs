//! What the tests of this crate share: sweeps over the bit patterns of f32, distances in units in the last place, random bits.

use core::ops::RangeInclusive;

/// Every `stride`-th f32 whose magnitude lies in the range, of both signs, and both ends.
pub(crate) fn floats(magnitudes: RangeInclusive<f32>, stride: usize) -> impl Iterator<Item = f32> {
    let ends = magnitudes.start().to_bits()..=magnitudes.end().to_bits();
    let last = *ends.end();
    ends.step_by(stride).chain([last]).flat_map(|bits| [f32::from_bits(bits), -f32::from_bits(bits)])
}

/// Every `stride`-th bit pattern of all 2³².
pub(crate) fn patterns(stride: usize) -> impl Iterator<Item = f32> {
    (0..=u32::MAX).step_by(stride).map(f32::from_bits)
}

/// Distance of a result from the exact one, in units in the last place that an f32 has there. Infinite if one is NaN or
/// infinite and the other is not.
pub(crate) fn ulps(got: f32, exact: f64) -> f64 {
    if got.is_nan() || exact.is_nan() || got.is_infinite() || exact.is_infinite() {
        let same = got.is_nan() && exact.is_nan() || got == exact as f32;
        return if same { 0.0 } else { f64::INFINITY };
    }
    let exponent = ((exact.abs().to_bits() >> 52) as i32 - 1023).clamp(-126, 127);
    (got as f64 - exact).abs() * 2f64.powi(23 - exponent)
}

/// Random bits, the same in every run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Uniform in `low..=high`.
    pub(crate) fn within(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }
}

/// A fingerprint of results, bit by bit (NaNs count as one).
pub(crate) fn digest(results: impl Iterator<Item = f32>) -> u64 {
    // FNV-1a, written out: the standard hasher may change.
    results.fold(0xcbf2_9ce4_8422_2325, |hash, x| {
        let bits = if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
        (hash ^ u64::from(bits)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
