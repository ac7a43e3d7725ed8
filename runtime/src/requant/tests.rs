//! The numeric contract against arithmetic on whole numbers, which shares nothing with it, and against `std`.

use super::*;
use crate::sweep::{Random, patterns};

/// A finite f32 as m·2^e.
fn parts(x: f32) -> (i128, i32) {
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xff) as i32;
    let fraction = (bits & 0x7f_ffff) as i128;
    let m = if exponent == 0 { fraction } else { fraction | 0x80_0000 };
    (if x.is_sign_negative() { -m } else { m }, exponent.max(1) - 150)
}

/// x·y + z of finite numbers, rounded to nearest even by hand: exact sums of whole numbers, with a sticky bit for an operand that
/// lies too far below the other to be written in the same integer.
fn by_integers(x: f32, y: f32, z: f32) -> f32 {
    let ((mx, ex), (my, ey)) = (parts(x), parts(y));
    let (mut a, mut ea) = (mx * my, ex + ey);
    let (mut b, mut eb) = parts(z);
    if a == 0 && b == 0 {
        let (p, q) = (x.is_sign_negative() != y.is_sign_negative(), z.is_sign_negative());
        return if p && q { -0.0 } else { 0.0 };
    }
    // Bring the one with the larger exponent down, as far as i128 has room; what is still lower becomes a sign.
    if b == 0 || a != 0 && ea < eb {
        core::mem::swap(&mut a, &mut b);
        core::mem::swap(&mut ea, &mut eb);
    }
    if a == 0 {
        (a, ea, b) = (b, eb, 0);
    }
    let room = (a.unsigned_abs().leading_zeros() as i32 - 3).min(if b == 0 { 0 } else { ea - eb });
    a <<= room.max(0);
    ea -= room.max(0);
    if b != 0 && ea > eb {
        let far = (ea - eb) as u32;
        let kept = if far < 127 { b >> far } else { -i128::from(b < 0) };
        let lost = far >= 127 || kept << far != b;
        // One more bit, set if something was cut off: the floor is exact up to it.
        a = (a + kept) << 1 | i128::from(lost);
        ea -= 1;
    } else {
        a += b;
    }
    round(a, ea)
}

/// m·2^e as f32, half to even.
fn round(m: i128, e: i32) -> f32 {
    if m == 0 {
        return 0.0;
    }
    let (size, length) = (m.unsigned_abs(), 128 - m.unsigned_abs().leading_zeros() as i32);
    // The last bit that an f32 keeps.
    let unit = (e + length - 24).max(-149);
    let drop = unit - e;
    let kept = if drop <= 0 {
        size << -drop
    } else if drop > 127 {
        0
    } else {
        let (floor, rest, half) = (size >> drop, size & ((1 << drop) - 1), 1 << (drop - 1));
        floor + u128::from(rest > half || rest == half && floor & 1 == 1)
    };
    // At most 2^24 units: exact in f64, and so is its conversion unless it overflows.
    let value = (kept as f64 * 2f64.powi(unit)) as f32;
    if m < 0 { -value } else { value }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Three numbers whose product-sum is likely to be hard.
fn case(random: &mut Random) -> [f32; 3] {
    let any = |r: &mut Random| f32::from_bits(r.bits() as u32);
    let near_one = |r: &mut Random| f32::from_bits(0x3f80_0000 ^ r.bits() as u32 & 0x807f_ffff);
    let step = |x: f32, n: i64| f32::from_bits((x.to_bits() as i32).wrapping_add(n as i32) as u32);
    match random.within(0, 7) {
        // Anything: infinities, NaN, subnormals.
        0 => [any(random), any(random), any(random)],
        // The sum cancels to the error of the product, or to a few units more.
        1 => {
            let (x, y) = (any(random), near_one(random));
            let n = random.within(-3, 3);
            [x, y, step(-(x * y), n)]
        }
        // A tie of the product, which an addend far below breaks or not.
        2 => {
            let x = f32::from_bits(near_one(random).to_bits() & 0xffff_f000);
            let y = f32::from_bits(near_one(random).to_bits() & 0xffff_f800 | 0x400);
            let far = [0.0, 1e-12, -1e-12, 1e-30, -1e-30, 1e-40, -1e-40, -0.0][random.within(0, 7) as usize];
            [x, y, far]
        }
        // A tie between z and z's neighbour, from a product of a single bit, more or less.
        3 => {
            let z = near_one(random);
            let half = f32::from_bits(((127 - 24) << 23) as u32);
            [step(half, random.within(-1, 1)), step(1.0, random.within(-1, 1)), z]
        }
        // Results among the subnormals, and on their border.
        4 => {
            let scaled = |r: &mut Random, low, high| near_one(r) * 2f32.powi(r.within(low, high) as i32);
            [
                scaled(random, -80, -60),
                scaled(random, -80, -60),
                scaled(random, -126, -120) * 2f32.powi(-(random.within(0, 24) as i32)),
            ]
        }
        // Overflow, and what just avoids it.
        5 => {
            let scaled = |r: &mut Random| near_one(r) * 2f32.powi(r.within(62, 65) as i32);
            [scaled(random), scaled(random), -near_one(random) * 2f32.powi(127)]
        }
        // Accumulators, multipliers and offsets as networks have them.
        6 => {
            let acc = (random.bits() as i32 >> random.within(0, 31)) as f32;
            let s = multiplier(
                2f64.powi(random.within(-30, -1) as i32)
                    * (1.0 + random.within(0, 1 << 22) as f64 / (1 << 22) as f64),
            );
            [acc, s.unwrap(), random.within(-300, 300) as f32]
        }
        // Few bits each: exact sums, ties, zeros of both signs.
        _ => {
            let few =
                |r: &mut Random| r.within(-9, 9) as f32 * [1.0, 0.5, 3e-8, -0.0][r.within(0, 3) as usize];
            [few(random), few(random), few(random)]
        }
    }
}

#[test]
fn portable_fma_is_the_fused_one() {
    let mut random = Random(1);
    for _ in 0..30_000_000 {
        let [x, y, z] = case(&mut random);
        let (got, want) = (fma_exact(x, y, z), x.mul_add(y, z));
        assert!(same(got, want), "{x:e}·{y:e} + {z:e} = {want:e}, not {got:e}");
    }
}

#[test]
fn fma_rounds_once() {
    let mut random = Random(2);
    for _ in 0..3_000_000 {
        let [x, y, z] = case(&mut random);
        if x.is_finite() && y.is_finite() && z.is_finite() {
            let (got, want) = (fma(x, y, z), by_integers(x, y, z));
            assert!(same(got, want), "{x:e}·{y:e} + {z:e} = {want:e}, not {got:e}");
        }
    }
}

#[test]
fn fma_propagates_infinities_and_nan() {
    let values = [0.0, -0.0, 1.0, -1.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    for (x, y, z) in values.iter().flat_map(|&x| values.iter().flat_map(move |&y| values.map(|z| (x, y, z))))
    {
        assert!(same(fma_exact(x, y, z), x.mul_add(y, z)), "{x}·{y} + {z}");
    }
}

#[test]
fn rne_is_half_to_even() {
    for y in patterns(97).filter(|y| y.abs() < 4_194_304.0) {
        assert_eq!(rne(y), y.round_ties_even(), "{y:e}");
    }
    for k in -2_000_000..2_000_000 {
        let half = k as f32 + 0.5;
        assert_eq!(rne(half), half.round_ties_even(), "{half}");
    }
}

#[test]
fn clamping_first_is_clamping_last() {
    for (lo, hi) in [(0, 255), (0, 0), (255, 255), (17, 200), (128, 255), (0, 6)] {
        for y in patterns(601) {
            // Written the other way round: rounded, then clamped, and NaN to `lo`.
            let want = if y.is_nan() { lo } else { y.round_ties_even().clamp(lo as f32, hi as f32) as u8 };
            assert_eq!(quantize_value(y, lo, hi), want, "{y:e} in {lo}..={hi}");
        }
    }
}

/// The whole contract again in whole numbers.
#[test]
fn requantize_is_the_contract() {
    let mut random = Random(3);
    for _ in 0..3_000_000 {
        let acc = match random.within(0, 3) {
            0 => random.bits() as i32,
            1 => [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX, 0x0100_0001, 0x0100_0003]
                [random.within(0, 7) as usize],
            _ => random.bits() as i32 >> random.within(0, 24),
        };
        let scale = multiplier(
            2f64.powi(random.within(-64, 7) as i32) * (1.0 + random.bits() as f64 / 2f64.powi(64)),
        )
        .unwrap();
        let bias = match random.within(0, 2) {
            0 => random.within(0, 255) as f32,
            1 => random.within(-1 << 24, 1 << 24) as f32 / 65536.0,
            // The sum lands on a tie, or beside one.
            _ => random.within(0, 255) as f32 + 0.5 - acc as f32 * scale,
        };
        let (lo, hi) = (random.within(0, 255) as u8, random.within(0, 255) as u8);
        let (lo, hi) = (lo.min(hi), lo.max(hi));
        let (m, e) = parts(by_integers(round(acc.into(), 0), scale, bias));
        let whole = if e >= 0 {
            // Larger than any clamp; the sign is all that matters.
            m.signum() * 1_000_000
        } else if e < -126 {
            0
        } else {
            let (floor, twice_rest, one) = (m >> -e, (m - (m >> -e << -e)) << 1, 1 << -e);
            floor + i128::from(twice_rest > one || twice_rest == one && floor & 1 == 1)
        };
        let want = whole.clamp(lo.into(), hi.into()) as u8;
        assert_eq!(requantize(acc, scale, bias, lo, hi), want, "{acc} · {scale:e} + {bias:e} in {lo}..={hi}");
    }
}

#[test]
fn zero_points_that_come_last() {
    // Half steps go to even distances from the zero point, not to even integers.
    for (acc, fused, last) in [(1, 2, 1), (3, 2, 3), (-1, 0, 1), (5, 4, 3)] {
        assert_eq!(Rounding::Fused.requantize(acc, 0.5, 1, 0, 255), fused, "{acc}");
        assert_eq!(Rounding::ZeroLast.requantize(acc, 0.5, 1, 0, 255), last, "{acc}");
        let x = acc as f32;
        assert_eq!(Rounding::Fused.quantize(x, 2.0, 1), fused, "{acc}");
        assert_eq!(Rounding::ZeroLast.quantize(x, 2.0, 1), last, "{acc}");
    }
    let mut random = Random(8);
    let mut apart = 0;
    for _ in 0..1_000_000 {
        let acc = random.bits() as i32 >> random.within(0, 31);
        // Short ones meet half steps.
        let bits = [3, 23][random.within(0, 1) as usize];
        let mantissa = 1.0 + random.within(0, (1 << bits) - 1) as f32 / 2f32.powi(bits);
        let scale = 2f32.powi(random.within(-30, 7) as i32) * mantissa;
        let (zero, a, b) =
            (random.within(0, 255) as u8, random.within(0, 255) as u8, random.within(0, 255) as u8);
        let (lo, hi) = (a.min(b), a.max(b));
        // The product has at most 48 bits: exact in f64, then rounded once.
        let y = (f64::from(acc as f32) * f64::from(scale)) as f32;
        let want = (f64::from(y).round_ties_even() + f64::from(zero)).clamp(lo.into(), hi.into()) as u8;
        let found = Rounding::ZeroLast.requantize(acc, scale, zero, lo, hi);
        assert_eq!(found, want, "{acc} · {scale:e} + {zero} in {lo}..={hi}");
        apart += usize::from(found != Rounding::Fused.requantize(acc, scale, zero, lo, hi));
    }
    assert!((100..100_000).contains(&apart), "{apart} differ");
    let ends = [(f32::INFINITY, 255), (f32::NEG_INFINITY, 0), (f32::NAN, 0), (f32::MAX, 255), (f32::MIN, 0)];
    for (x, q) in ends {
        assert_eq!(Rounding::ZeroLast.quantize(x, 0.5, 10), q, "{x}");
    }
}

#[test]
fn multipliers_that_are_given() {
    // In f32 the product is rounded before it is divided.
    let (x, w, y) = (0.023_529_412f32, 0.118_683_68, 0.145_447_76);
    assert_eq!(given_multiplier(Rounding::ZeroLast, x, w, y), Some(x * w / y));
    // Scales that were made for a multiplier of 21 bits give it again where zero points are fused.
    let m = multiplier(0.012_345).unwrap();
    let near = (f64::from(m) * f64::from(y) / f64::from(x)) as f32;
    assert_eq!(given_multiplier(Rounding::Fused, x, near, y), Some(m));
    for rounding in [Rounding::Fused, Rounding::ZeroLast] {
        assert_eq!(given_multiplier(rounding, 1e-15, 1e-15, 1.0), Some(2f32.powi(-64)));
        assert_eq!(given_multiplier(rounding, 300.0, 1.0, 1.0), None);
    }
}

#[test]
fn activations_survive_the_way_through_real_numbers() {
    let mut random = Random(4);
    for _ in 0..20_000 {
        let scale = 2f32.powi(random.within(-100, 100) as i32)
            * (1.0 + random.within(0, 1 << 23) as f32 / (1 << 23) as f32);
        let zero = random.within(0, 255) as u8;
        for q in 0..=255 {
            let x = dequantize(q, scale, zero);
            assert_eq!(x, (q as f32 - zero as f32) * scale);
            assert_eq!(quantize(x, 1.0 / scale, zero), q, "scale {scale:e}, zero point {zero}");
        }
        assert_eq!(dequantize(zero, scale, zero).to_bits(), 0);
    }
    let ends = [(f32::INFINITY, 255), (f32::NEG_INFINITY, 0), (f32::NAN, 0), (f32::MAX, 255), (f32::MIN, 0)];
    for (x, q) in ends {
        assert_eq!(quantize(x, 0.5, 10), q, "{x}");
    }
}

/// `x` to 21 significant bits, from its integer significand.
fn to_21_bits(x: f64) -> f64 {
    let bits = x.to_bits();
    let m = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let (floor, rest) = (m >> 32, m & 0xffff_ffff);
    let rounded = floor + u128::from(rest > 0x8000_0000 || rest == 0x8000_0000 && floor % 2 == 1);
    rounded as f64 * 2f64.powi((bits >> 52) as i32 - 1023 - 20)
}

#[test]
fn multipliers_have_21_bits() {
    let (low, high) = MULTIPLIER_RANGE;
    assert_eq!((low, high), (2f64.powi(-64), 256.0));
    let mut random = Random(5);
    for k in 0..2_000_000 {
        let mut s =
            2f64.powi(random.within(-64, 7) as i32) * (1.0 + (random.bits() >> 12) as f64 / 2f64.powi(52));
        if k % 2 == 0 {
            // A tie, or the number beside it; odd and even, and up to the next power of two.
            let head = if k % 8 == 0 { s.to_bits() | 0x000f_ffff_0000_0000 } else { s.to_bits() };
            s = f64::from_bits((head & !0xffff_ffff | 0x8000_0000).wrapping_add_signed(random.within(-1, 1)));
        }
        let got = multiplier(s);
        let want = to_21_bits(s);
        assert_eq!(got.map(f64::from), (want <= high).then_some(want), "{s:e}");
        let Some(got) = got else { continue };
        assert_eq!(got.to_bits() & 0b111, 0, "{s:e} keeps more than 21 bits");
        assert_eq!(multiplier(got.into()), Some(got));
        assert!((got as f64 - s).abs() <= s * 2f64.powi(-21));
        // What the rounding moves an output by, in steps: 256 is more than any output is away from its zero point.
        assert!((got as f64 - s).abs() * (256.0 / s) <= 2f64.powi(-13));
    }
}

#[test]
fn multipliers_out_of_range_are_none() {
    let (low, high) = MULTIPLIER_RANGE;
    // Rounded first: what rounds into the range is in it.
    assert_eq!(multiplier(low), Some(2f32.powi(-64)));
    assert_eq!(multiplier(low.next_down()), Some(2f32.powi(-64)));
    assert_eq!(multiplier(low * (1.0 - 2f64.powi(-21))), None);
    assert_eq!(multiplier(high), Some(256.0));
    assert_eq!(multiplier(high * (1.0 + 2f64.powi(-21))), Some(256.0));
    assert_eq!(multiplier((high * (1.0 + 2f64.powi(-21))).next_up()), None);
    for s in
        [0.0, -0.0, -1.0, f64::from_bits(1), f64::MIN_POSITIVE, f64::INFINITY, f64::NEG_INFINITY, f64::NAN]
    {
        assert_eq!(multiplier(s), None, "{s:e}");
    }
}

#[test]
fn rounding_to_other_numbers_of_bits() {
    let mut random = Random(6);
    for _ in 0..1_000_000 {
        let x = f64::from_bits(random.bits());
        if !(1e-300..1e300).contains(&x.abs()) {
            continue;
        }
        assert_eq!(
            round_bits(x, 24),
            f64::from((x * 2f64.powi(-(x.abs().log2() as i32))) as f32) * 2f64.powi(x.abs().log2() as i32),
            "{x:e}"
        );
        assert_eq!(round_bits(-x, 21), -round_bits(x, 21));
        assert_eq!(round_bits(x, 21).abs(), to_21_bits(x.abs()));
    }
    assert_eq!(
        [round_bits(1.25, 2), round_bits(1.75, 2), round_bits(2.5, 2), round_bits(3.5, 2)],
        [1.0, 2.0, 2.0, 4.0]
    );
    let x = 1.0 + f64::EPSILON;
    assert_eq!((round_bits(x, 52), round_bits(x + 2.0 * f64::EPSILON, 52)), (1.0, 1.0 + 4.0 * f64::EPSILON));
}
