//! Elementary functions written out, so that their bits do not depend on a platform's libm.
//!
//! In and out: f32. Holds: the work is done in f64 with an error far below half a unit of f32, then rounded once, so results are
//! within 0.5001 units in the last place and, as only IEEE additions, multiplications and divisions are used, the same on every
//! platform.
//! NaN gives NaN; infinities, overflow and underflow (with subnormals) give the limits. Not here: speed records.

#[cfg(test)]
pub(crate) mod tests;

/// eˣ.
#[inline]
pub fn exp(x: f32) -> f32 {
    wide::exp(x as f64) as f32
}

/// eˣ − 1, without cancellation near 0.
#[inline]
pub fn exp_m1(x: f32) -> f32 {
    wide::exp_m1(x as f64) as f32
}

/// Natural logarithm; −∞ at 0, NaN below.
#[inline]
pub fn ln(x: f32) -> f32 {
    wide::ln(x as f64) as f32
}

/// ln(1 + x), without cancellation near 0.
#[inline]
pub fn ln_1p(x: f32) -> f32 {
    wide::ln_1p(x as f64) as f32
}

/// Hyperbolic tangent.
#[inline]
pub fn tanh(x: f32) -> f32 {
    wide::tanh(x as f64) as f32
}

/// 1 / (1 + e⁻ˣ).
#[inline]
pub fn sigmoid(x: f32) -> f32 {
    wide::sigmoid(x as f64) as f32
}

/// ln(1 + eˣ).
#[inline]
pub fn softplus(x: f32) -> f32 {
    wide::softplus(x as f64) as f32
}

/// The error function.
#[inline]
pub fn erf(x: f32) -> f32 {
    wide::erf(x as f64) as f32
}

/// xʸ for x ≥ 0. NaN for negative x, unless y = 0 (then 1).
#[inline]
pub fn pow(x: f32, y: f32) -> f32 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    wide::exp(y as f64 * wide::ln(x as f64)) as f32
}

/// Square root, correctly rounded; NaN below 0.
#[inline]
pub fn sqrt(x: f32) -> f32 {
    if !(x > 0.0 && x < f32::INFINITY) {
        return if x < 0.0 { f32::NAN } else { x };
    }
    // Halving the exponent gives 4 good bits or so; each Newton step doubles them. A square root of a number of 24 bits is never
    // closer than 2^-51 to the middle of two such numbers, so an f64 that is off by its last bit still rounds correctly.
    let x = x as f64;
    let mut y = f64::from_bits((x.to_bits() >> 1) + (0x3ff0_0000_0000_0000 >> 1));
    for _ in 0..5 {
        y = 0.5 * (y + x / y);
    }
    y as f32
}

/// The same functions in f64, good to about 1e-14, for those that compose several before they round.
pub(crate) mod wide {
    use core::f64::consts::{FRAC_2_SQRT_PI, LN_2, LOG2_E, SQRT_2};

    /// ln 2 in two parts: the first ends in zeros, so that a product with a small integer is exact.
    const LN_2_HI: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN_2_LO: f64 = 1.908_214_929_270_587_7e-10;

    /// 1/n! for n = 1..=14.
    const FACTORIALS: [f64; 14] = {
        let (mut c, mut f, mut n) = ([0.0; 14], 1.0, 1);
        while n <= 14 {
            f *= n as f64;
            c[n - 1] = 1.0 / f;
            n += 1;
        }
        c
    };

    /// (−1)ⁿ/(n!·(2n + 1)): the Taylor series of erf in x².
    const ERF: [f64; 19] = {
        let (mut c, mut f, mut n) = ([0.0; 19], 1.0, 0);
        while n < 19 {
            c[n] = f / (2 * n + 1) as f64;
            n += 1;
            f /= -(n as f64);
        }
        c
    };

    /// exp(x²)·erfc(x)·(x + 3) for x in [1, 28] as a polynomial in u, where (x − 3)/(x + 3) = −1/2 + 21/32·(u + 1): the Chebyshev
    /// interpolant through 100 nodes, cut after degree 16, in powers of u. Relative error 2e-15.
    const ERFC: [f64; 17] = [
        0.9492707918282023,
        -0.47246316777421915,
        0.1986124678220379,
        -0.06849217205058801,
        0.01826974334779211,
        -0.0032307664541804853,
        0.00013236234268511918,
        0.00011318467720426842,
        -2.7719700343592367e-05,
        -1.8965966692276912e-06,
        1.9011826445170006e-06,
        -6.723084247856812e-08,
        -1.2586219196785417e-07,
        1.095458533446584e-08,
        8.983940317496341e-09,
        -7.453395518874635e-10,
        -5.415875887243728e-10,
    ];

    fn polynomial<const N: usize>(x: f64, coefficients: &[f64; N]) -> f64 {
        coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
    }

    pub(crate) fn exp(x: f64) -> f64 {
        if x.is_nan() {
            return x;
        }
        // Beyond these bounds even f64 gives 0 or ∞.
        let x = x.clamp(-760.0, 720.0);
        let k = (x * LOG2_E + if x < 0.0 { -0.5 } else { 0.5 }) as i32;
        let r = (x - k as f64 * LN_2_HI) - k as f64 * LN_2_LO;
        let y = 1.0 + r * polynomial(r, &FACTORIALS);
        // In two steps, as 2^k alone may leave the range of f64 where the result does not.
        y * power_of_two(k / 2) * power_of_two(k - k / 2)
    }

    /// 2^k for |k| ≤ 1000.
    fn power_of_two(k: i32) -> f64 {
        f64::from_bits(((1023 + k) as u64) << 52)
    }

    pub(crate) fn exp_m1(x: f64) -> f64 {
        if x.abs() < 0.375 { x * polynomial(x, &FACTORIALS) } else { exp(x) - 1.0 }
    }

    /// Of a number that is normal as an f64, 0, ∞, NaN or negative.
    pub(crate) fn ln(x: f64) -> f64 {
        if !(x > 0.0 && x < f64::INFINITY) {
            return match x {
                0.0 => f64::NEG_INFINITY,
                f64::INFINITY => x,
                _ => f64::NAN,
            };
        }
        let bits = x.to_bits();
        let mut k = (bits >> 52) as i32 - 1023;
        let mut m = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
        if m > SQRT_2 {
            m *= 0.5;
            k += 1;
        }
        k as f64 * LN_2 + twice_atanh((m - 1.0) / (m + 1.0))
    }

    pub(crate) fn ln_1p(x: f64) -> f64 {
        if x.abs() < 0.375 { twice_atanh(x / (2.0 + x)) } else { ln(1.0 + x) }
    }

    /// ln((1 + s)/(1 − s)) for |s| < 0.24: 2·(s + s³/3 + s⁵/5 + …).
    fn twice_atanh(s: f64) -> f64 {
        let square = s * s;
        let mut sum = 0.0;
        for n in (0..14).rev() {
            sum = sum * square + 1.0 / (2 * n + 1) as f64;
        }
        2.0 * s * sum
    }

    pub(crate) fn tanh(x: f64) -> f64 {
        // From here on f64 gives 1; it also keeps infinity out of the quotient.
        let e = exp_m1(2.0 * x.abs().min(20.0));
        if x.is_nan() { x } else { (e / (e + 2.0)).copysign(x) }
    }

    pub(crate) fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + exp(-x))
    }

    pub(crate) fn softplus(x: f64) -> f64 {
        (if x < 0.0 { 0.0 } else { x }) + ln_1p(exp(-x.abs()))
    }

    pub(crate) fn erf(x: f64) -> f64 {
        let a = x.abs();
        if a < 1.0 {
            FRAC_2_SQRT_PI * x * polynomial(x * x, &ERF)
        } else {
            (1.0 - erfc_from_one(a)).copysign(x)
        }
    }

    /// 1 − erf(x), without cancellation in the upper tail.
    pub(crate) fn erfc(x: f64) -> f64 {
        if x < 1.0 { 1.0 - erf(x) } else { erfc_from_one(x) }
    }

    /// erfc for x ≥ 1 or NaN; below 1e-300 it is 0.
    fn erfc_from_one(x: f64) -> f64 {
        if x > 26.0 {
            return 0.0;
        }
        let u = ((x - 3.0) / (x + 3.0) + 0.5) * (32.0 / 21.0) - 1.0;
        exp(-x * x) * polynomial(u, &ERFC) / (x + 3.0)
    }
}
