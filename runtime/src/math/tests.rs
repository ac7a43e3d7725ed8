//! Every function against the f64 functions of `std` (erf: against its series and continued fraction): error, special values,
//! bounds, symmetry, and the bits themselves.

use super::*;
use crate::sweep::{digest, floats, ulps};

type Function = fn(f32) -> f32;

/// What the module promises.
const BOUND: f64 = 0.5001;

/// The largest error over every `stride`-th f32 with a magnitude in the range, both signs.
fn worst(f: Function, exact: fn(f64) -> f64, [low, high]: [f32; 2], stride: usize) -> (f64, f32) {
    floats(low..=high, stride)
        .map(|x| (ulps(f(x), exact(x as f64)), x))
        .fold((0.0, 0.0), |worst, next| if next.0 > worst.0 { next } else { worst })
}

fn within(f: Function, exact: fn(f64) -> f64, range: [f32; 2], stride: usize) {
    // Where something happens, densely; then everything, to infinity.
    for (range, stride) in [(range, stride), ([0.0, f32::INFINITY], 4001)] {
        let (error, at) = worst(f, exact, range, stride);
        assert!(error <= BOUND, "{error} units in the last place at {at:e}");
    }
}

#[test]
fn exp_is_exact_to_the_rounding() {
    within(exp, f64::exp, [1e-8, 110.0], 23);
}

#[test]
fn exp_m1_is_exact_to_the_rounding() {
    within(exp_m1, f64::exp_m1, [1e-8, 110.0], 23);
}

#[test]
fn ln_is_exact_to_the_rounding() {
    within(ln, f64::ln, [0.0, f32::MAX], 157);
    // Around 1, where the logarithm is small.
    within(ln, f64::ln, [0.9, 1.1], 1);
}

#[test]
fn ln_1p_is_exact_to_the_rounding() {
    within(ln_1p, f64::ln_1p, [1e-8, f32::MAX], 79);
}

#[test]
fn tanh_is_exact_to_the_rounding() {
    within(tanh, f64::tanh, [1e-5, 12.0], 13);
}

#[test]
fn sigmoid_is_exact_to_the_rounding() {
    within(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), [1e-8, 110.0], 23);
}

#[test]
fn softplus_is_exact_to_the_rounding() {
    within(softplus, |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), [1e-8, 110.0], 47);
}

#[test]
fn erf_is_exact_to_the_rounding() {
    within(erf, |x| erf_reference(x.abs()).copysign(x), [1e-5, 6.0], 151);
}

#[test]
fn pow_is_exact_to_the_rounding() {
    let exponents = [0.75, -0.75, 0.5, 1.0, 2.0, -1.0, 1.0 / 3.0, 7.25, -19.0, 1e-6, 126.0];
    for y in exponents {
        let (mut error, mut at) = (0.0, 0.0);
        for x in floats(0.0..=f32::INFINITY, 9973).step_by(2) {
            let e = ulps(pow(x, y), (x as f64).powf(y as f64));
            if e > error {
                (error, at) = (e, x);
            }
        }
        assert!(error <= BOUND, "{error} units in the last place at {at:e}^{y}");
    }
    let nan = f32::NAN;
    for (x, y, z) in [
        (-1.0, 0.0, 1.0),
        (nan, 0.0, 1.0),
        (1.0, nan, 1.0),
        (0.0, 0.0, 1.0),
        (0.0, 2.0, 0.0),
        (-0.0, 2.0, 0.0),
        (0.0, -2.0, f32::INFINITY),
        (0.5, f32::INFINITY, 0.0),
        (2.0, f32::NEG_INFINITY, 0.0),
        (f32::INFINITY, 0.5, f32::INFINITY),
        (f32::INFINITY, -0.5, 0.0),
    ] {
        assert_eq!(pow(x, y).to_bits(), f32::to_bits(z), "{x}^{y}");
    }
    assert!(
        [pow(-1.0, 2.0), pow(f32::NEG_INFINITY, 1.0), pow(nan, 1.0), pow(2.0, nan)]
            .iter()
            .all(|x| x.is_nan())
    );
}

#[test]
fn sqrt_is_rounded_correctly() {
    // All significands with both parities of the exponent: the others differ by powers of 4, exactly.
    assert!(floats(1.0..=4.0, 1).step_by(2).all(|x| sqrt(x) == x.sqrt()));
    // All exponents.
    for x in floats(0.0..=f32::INFINITY, 997) {
        let (got, want) = (sqrt(x), x.sqrt());
        assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{x:e}");
    }
    assert!(sqrt(f32::NAN).is_nan());
}

#[test]
fn special_values() {
    let infinity = f32::INFINITY;
    let tiny = f32::from_bits(1);
    // f, then f(−∞), f(−0), f(0), f(the smallest), f(∞).
    let table: [(&str, Function, [f32; 5]); 8] = [
        ("exp", exp, [0.0, 1.0, 1.0, 1.0, infinity]),
        ("exp_m1", exp_m1, [-1.0, -0.0, 0.0, tiny, infinity]),
        ("ln", ln, [f32::NAN, -infinity, -infinity, -103.278_93, infinity]),
        ("ln_1p", ln_1p, [f32::NAN, -0.0, 0.0, tiny, infinity]),
        ("tanh", tanh, [-1.0, -0.0, 0.0, tiny, 1.0]),
        ("sigmoid", sigmoid, [0.0, 0.5, 0.5, 0.5, 1.0]),
        (
            "softplus",
            softplus,
            [0.0, core::f32::consts::LN_2, core::f32::consts::LN_2, core::f32::consts::LN_2, infinity],
        ),
        ("erf", erf, [-1.0, -0.0, 0.0, tiny, 1.0]),
    ];
    for (name, f, results) in table {
        assert!(f(f32::NAN).is_nan(), "{name}");
        for (x, want) in [-infinity, -0.0, 0.0, tiny, infinity].into_iter().zip(results) {
            let got = f(x);
            assert!(
                got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(),
                "{name}({x:e}) = {got:e}"
            );
        }
    }
    assert_eq!(ln(1.0).to_bits(), 0);
    assert_eq!(ln_1p(-1.0), -infinity);
    // Overflow and underflow, to the last bit.
    assert_eq!((exp(88.722_83), exp(88.722_84)), (f32::from_bits(0x7f7f_ff84), infinity));
    assert_eq!((exp(-103.972_084), exp(-103.972_07)), (0.0, tiny));
}

/// Other parts of the compiler build on these bounds and symmetries, which must hold exactly.
#[test]
fn bounds_and_symmetry() {
    for x in floats(0.0..=f32::INFINITY, 1009) {
        assert!((0.0..=1.0).contains(&sigmoid(x)), "{x:e}");
        assert!((-1.0..=1.0).contains(&tanh(x)) && (-1.0..=1.0).contains(&erf(x)), "{x:e}");
        assert!(exp(x) >= 0.0 && softplus(x) >= 0.0, "{x:e}");
        assert_eq!(tanh(-x).to_bits(), (-tanh(x)).to_bits(), "{x:e}");
        assert_eq!(erf(-x).to_bits(), (-erf(x)).to_bits(), "{x:e}");
    }
}

/// The same bits on every platform, and in every version, for a network gives the same answer everywhere.
#[test]
fn the_bits_are_these() {
    let table: [(&str, Function, u64); 10] = [
        ("exp", exp, 0xd3d4_8de6_c59b_ecf6),
        ("exp_m1", exp_m1, 0x9ca6_52a2_3679_3279),
        ("ln", ln, 0xbe18_9d04_be02_c975),
        ("ln_1p", ln_1p, 0x5ea8_b6b6_28cb_904b),
        ("tanh", tanh, 0x7ffe_1811_77b1_2bab),
        ("sigmoid", sigmoid, 0xfe11_e6db_3caa_8d62),
        ("softplus", softplus, 0xbab5_a54e_96c4_718d),
        ("erf", erf, 0xfc31_f1de_816d_e8c1),
        ("pow", |x| pow(x, -0.75), 0x1b22_779d_3479_a4cf),
        ("sqrt", sqrt, 0xf041_1153_dfbd_9f6f),
    ];
    for (name, f, want) in table {
        let got = digest(floats(0.0..=f32::INFINITY, 20011).map(f));
        assert_eq!(got, want, "{name} {got:x}");
    }
}

/// erf of x ≥ 0: below 2 by 2/√π·exp(−x²)·Σ 2ⁿx²ⁿ⁺¹/(2n+1)!!, whose terms are all positive; from there on by erfc.
pub(crate) fn erf_reference(x: f64) -> f64 {
    if x >= 2.0 {
        return 1.0 - erfc_by_fraction(x);
    }
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term > sum * 1e-17 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    core::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// erfc of x ≥ 2 by its continued fraction: exp(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …)))).
fn erfc_by_fraction(x: f64) -> f64 {
    let tail = (1..80).rev().fold(x, |tail, n| x + 0.5 * n as f64 / tail);
    0.5 * core::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() / tail
}

/// erfc of x ≥ 0.
pub(crate) fn erfc_reference(x: f64) -> f64 {
    if x >= 2.0 { erfc_by_fraction(x) } else { 1.0 - erf_reference(x) }
}
