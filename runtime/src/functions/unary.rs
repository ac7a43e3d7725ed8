//! Functions of one element: activations and the like.
//!
//! In and out: f32. Holds: NaN gives NaN; at ±∞ each gives its limit (where a slope is 0, NaN). The curved ones and hard-swish are
//! computed in f64 and rounded once, within 0.5001 units in the last place (hard-swish, which cancels near −3: 0.51); the piecewise
//! linear ones are computed in f32. Not here: tables for integers, which are built from these.

use crate::math::{self, wide};
use core::f64::consts::FRAC_1_SQRT_2;

/// Functions of one element. NaN gives NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Unary {
    /// max(x, 0)
    Relu,
    /// min(max(x, lo), hi); either bound may be infinite.
    Clip {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// x < 0 ? alpha·x : x
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// x < 0 ? alpha·(exp(x) − 1) : x
    Elu {
        /// Limit below zero, negated.
        alpha: f32,
    },
    /// 1 / (1 + exp(−x))
    Sigmoid,
    /// clamp(alpha·x + beta, 0, 1)
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// x · clamp(x/6 + 1/2, 0, 1)
    HardSwish,
    /// tanh x
    Tanh,
    /// ln(1 + exp(x))
    Softplus,
    /// x · tanh(softplus(x))
    Mish,
    /// x/2 · (1 + erf(x/√2))
    Gelu,
    /// x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))
    GeluTanh,
    /// x · sigmoid(x)
    Silu,
    /// x²
    Square,
    /// √x
    Sqrt,
    /// |x|
    Abs,
    /// exp x
    Exp,
    /// The error function.
    Erf,
}

impl Unary {
    /// The bounds, if this is a clamp: such activations cost nothing in integers.
    pub fn as_clamp(self) -> Option<(f32, f32)> {
        match self {
            Unary::Relu => Some((0.0, f32::INFINITY)),
            Unary::Clip { lo, hi } => Some((lo, hi)),
            _ => None,
        }
    }
}

impl core::fmt::Display for Unary {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Unary::Relu => write!(f, "relu"),
            Unary::Clip { lo, hi } => write!(f, "clip({lo}, {hi})"),
            Unary::LeakyRelu { alpha } => write!(f, "leaky_relu({alpha})"),
            Unary::Elu { alpha } => write!(f, "elu({alpha})"),
            Unary::Sigmoid => write!(f, "sigmoid"),
            Unary::HardSigmoid { alpha, beta } => write!(f, "hard_sigmoid({alpha}, {beta})"),
            Unary::HardSwish => write!(f, "hard_swish"),
            Unary::Tanh => write!(f, "tanh"),
            Unary::Softplus => write!(f, "softplus"),
            Unary::Mish => write!(f, "mish"),
            Unary::Gelu => write!(f, "gelu"),
            Unary::GeluTanh => write!(f, "gelu_tanh"),
            Unary::Silu => write!(f, "silu"),
            Unary::Square => write!(f, "square"),
            Unary::Sqrt => write!(f, "sqrt"),
            Unary::Abs => write!(f, "abs"),
            Unary::Exp => write!(f, "exp"),
            Unary::Erf => write!(f, "erf"),
        }
    }
}

impl Unary {
    /// The function's value. Every engine calls this, so all agree to the bit.
    pub fn eval(self, x: f32) -> f32 {
        let wide_x = x as f64;
        match self {
            Unary::Relu => clamp(x, 0.0, f32::INFINITY),
            Unary::Clip { lo, hi } => clamp(x, lo, hi),
            Unary::LeakyRelu { alpha } if x < 0.0 => alpha * x,
            Unary::Elu { alpha } if x < 0.0 => (alpha as f64 * wide::exp_m1(wide_x)) as f32,
            Unary::LeakyRelu { .. } | Unary::Elu { .. } => x,
            Unary::Sigmoid => math::sigmoid(x),
            Unary::HardSigmoid { alpha, beta } => clamp(alpha * x + beta, 0.0, 1.0),
            Unary::HardSwish => gated(wide_x, wide_clamp(wide_x / 6.0 + 0.5)),
            Unary::Tanh => math::tanh(x),
            Unary::Softplus => math::softplus(x),
            Unary::Mish => gated(wide_x, wide::tanh(wide::softplus(wide_x))),
            Unary::Gelu => gated(wide_x, 0.5 * wide::erfc(-wide_x * FRAC_1_SQRT_2)),
            // (1 + tanh(y))/2 is sigmoid(2y), which does not cancel.
            Unary::GeluTanh => {
                let y = SQRT_2_PI * (wide_x + 0.044715 * wide_x * wide_x * wide_x);
                gated(wide_x, wide::sigmoid(2.0 * y))
            }
            Unary::Silu => gated(wide_x, wide::sigmoid(wide_x)),
            Unary::Square => x * x,
            Unary::Sqrt => math::sqrt(x),
            Unary::Abs => x.abs(),
            Unary::Exp => math::exp(x),
            Unary::Erf => math::erf(x),
        }
    }
}

/// √(2/π)
const SQRT_2_PI: f64 = 0.797_884_560_802_865_4;

/// x·gate, with the limit 0 where the gate closes faster than x grows.
fn gated(x: f64, gate: f64) -> f32 {
    if gate == 0.0 { 0.0 } else { (x * gate) as f32 }
}

/// Keeps NaN, unlike `f32::max`.
fn clamp(x: f32, lo: f32, hi: f32) -> f32 {
    let x = if x < lo { lo } else { x };
    if x > hi { hi } else { x }
}

fn wide_clamp(x: f64) -> f64 {
    x.clamp(0.0, 1.0)
}

/// `dst[r][i] = f(src[r][i])` over `[rows, len]`; `steps` are the bytes between rows of src, dst.
///
/// # Safety
/// Both sides hold all rows.
pub(super) unsafe fn run(f: Unary, [rows, len]: [usize; 2], steps: [usize; 2], src: *const u8, dst: *mut u8) {
    for r in 0..rows {
        for i in 0..len {
            // SAFETY: row and element are within the extents that the caller vouches for.
            unsafe { super::write(dst, r * steps[1] + 4 * i, f.eval(super::read(src, r * steps[0] + 4 * i))) }
        }
    }
}
