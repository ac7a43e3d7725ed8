//! The closed list of whole-tensor functions that a plan may call instead of kernels: where generated code would
//! gain nothing. All are f32. Each states its pointers; extents and strides are in its fields.

/// Source of one output coordinate of a linear interpolation: `x[lo] + frac·(x[hi] − x[lo])`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[repr(C)]
pub struct Tap {
    /// Lower index.
    pub lo: u32,
    /// Upper index.
    pub hi: u32,
    /// Weight of the upper one, 0..=1.
    pub frac: f32,
}

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
        }
    }
}

/// A function with its extents. Strides are in bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// `dst[r][i] = f(src[r][i])`. Pointers: src, dst (may be equal).
    Unary {
        /// f.
        unary: Unary,
        /// Number of rows.
        rows: usize,
        /// Contiguous f32 elements of a row.
        len: usize,
        /// Bytes between rows of src.
        src_stride: usize,
        /// Bytes between rows of dst.
        dst_stride: usize,
    },
    /// Softmax along an axis of `len` elements, for every point of a three-dimensional outer range. Pointers: src, dst.
    Softmax {
        /// Extents of the outer range.
        outer: [usize; 3],
        /// Their strides in src.
        src_outer: [usize; 3],
        /// Their strides in dst.
        dst_outer: [usize; 3],
        /// Elements along the axis.
        len: usize,
        /// Stride along the axis in src.
        src_stride: usize,
        /// Stride along the axis in dst.
        dst_stride: usize,
    },
    /// Local response normalization over contiguous channels. Pointers: src, dst.
    Lrn {
        /// Rows of pixels, pixels in a row.
        outer: [usize; 2],
        /// Bytes between rows, pixels in src.
        src_outer: [usize; 2],
        /// Bytes between rows, pixels in dst.
        dst_outer: [usize; 2],
        /// Channels.
        channels: usize,
        /// Channels in the sum.
        size: usize,
        /// Scale of the sum.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Added to the sum.
        bias: f32,
    },
    /// Bilinear resize of contiguous channels. Pointers: src, dst, row taps ([`Tap`] × output rows), column taps.
    ResizeLinear {
        /// Output rows, columns.
        output: [usize; 2],
        /// Channels.
        channels: usize,
        /// Bytes between rows, pixels in src.
        src_strides: [usize; 2],
        /// Bytes between rows, pixels in dst.
        dst_strides: [usize; 2],
        /// Rows, columns of src: every tap lies below.
        input: [usize; 2],
    },
}

impl Function {
    /// Number of pointers.
    pub fn args(&self) -> usize {
        match self {
            Function::Unary { .. } | Function::Softmax { .. } | Function::Lrn { .. } => 2,
            Function::ResizeLinear { .. } => 4,
        }
    }

    /// Bytes read and bytes written from pointer `arg` on.
    pub fn footprint(&self, arg: usize) -> (usize, usize) {
        let reach = |n: &[usize], strides: &[usize], last: usize| {
            n.iter().zip(strides).fold(last, |sum, (n, s)| sum.saturating_add((n - 1).saturating_mul(*s)))
        };
        let (src, dst) = match self {
            Function::Unary { rows, len, src_stride, dst_stride, .. } => {
                (reach(&[*rows], &[*src_stride], len * 4), reach(&[*rows], &[*dst_stride], len * 4))
            }
            Function::Softmax { outer, src_outer, dst_outer, len, src_stride, dst_stride } => (
                reach(outer, src_outer, reach(&[*len], &[*src_stride], 4)),
                reach(outer, dst_outer, reach(&[*len], &[*dst_stride], 4)),
            ),
            Function::Lrn { outer, src_outer, dst_outer, channels, .. } => {
                (reach(outer, src_outer, channels * 4), reach(outer, dst_outer, channels * 4))
            }
            Function::ResizeLinear { output, channels, src_strides, dst_strides, input } => match arg {
                2 | 3 => return (output[arg - 2] * size_of::<Tap>(), 0),
                _ => (reach(input, src_strides, channels * 4), reach(output, dst_strides, channels * 4)),
            },
        };
        if arg == 0 { (src, 0) } else { (0, dst) }
    }

    /// Runs on one pointer per argument.
    ///
    /// # Safety
    /// From each pointer the bytes of [`Function::footprint`] are valid.
    pub unsafe fn run(&self, args: &[*mut u8]) {
        let _ = args;
        panic!("stub")
    }
}
