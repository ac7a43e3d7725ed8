//! The operators of the float graph and their attributes. Shapes are written as in ONNX: N, C, H, W.

use super::quantized::Grid;
pub use qgraph_runtime::functions::Unary;

/// Attributes of a 2-D convolution.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    /// Kernel height, width.
    pub kernel: [usize; 2],
    /// Vertical, horizontal step.
    pub strides: [usize; 2],
    /// Vertical, horizontal distance of taps.
    pub dilations: [usize; 2],
    /// Zero padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Channel groups; equal to C for a depthwise convolution.
    pub groups: usize,
    /// What follows the sum.
    pub epilogue: Epilogue,
}

/// Attributes of a transposed 2-D convolution. Output extent:
/// `(in − 1)·stride − pad_begin − pad_end + dilation·(kernel − 1) + 1 + output_padding`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvTranspose {
    /// Kernel height, width.
    pub kernel: [usize; 2],
    /// Vertical, horizontal step in the output.
    pub strides: [usize; 2],
    /// Distance of taps in the output.
    pub dilations: [usize; 2],
    /// Cropping of the full output: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Rows, columns added at the bottom, right.
    pub output_padding: [usize; 2],
    /// Channel groups.
    pub groups: usize,
    /// What follows the sum.
    pub epilogue: Epilogue,
}

/// What fusion moved into a convolution or dense layer: first the residual is added, then the activation
/// applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epilogue {
    /// The node's last input is added to the sum; it has the output's shape.
    pub residual: bool,
    /// Applied last.
    pub activation: Option<Unary>,
}

/// Functions of two elements, with numpy broadcasting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
}

/// How a window becomes one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// Largest element; padding is never the largest.
    Max,
    /// Mean.
    Average {
        /// Padding counts as zeros (within the stated pads; what ceil mode adds beyond never counts).
        count_include_pad: bool,
    },
}

/// Attributes of a 2-D pooling. The output extent is stored because ceil mode decides it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Max or average.
    pub kind: PoolKind,
    /// Window height, width.
    pub kernel: [usize; 2],
    /// Vertical, horizontal step.
    pub strides: [usize; 2],
    /// Distance of window elements.
    pub dilations: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Output height, width.
    pub output: [usize; 2],
}

/// How `Resize` maps an output coordinate to an input coordinate (ONNX names).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coordinates {
    /// (x + 0.5)/scale − 0.5
    HalfPixel,
    /// half_pixel, but 0 where the output extent is 1
    PytorchHalfPixel,
    /// x·(in − 1)/(out − 1)
    AlignCorners,
    /// x/scale
    Asymmetric,
}

/// How `Resize` in nearest mode rounds the input coordinate (ONNX names).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NearestRounding {
    /// Half goes down.
    RoundPreferFloor,
    /// Half goes up.
    RoundPreferCeil,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}

/// Interpolation of `Resize`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// One input element.
    Nearest(NearestRounding),
    /// Two by two input elements.
    Linear,
}

/// Attributes of a resize over H and W of a 4-D tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct Resize {
    /// Nearest or bilinear.
    pub interpolation: Interpolation,
    /// Coordinate transformation.
    pub coordinates: Coordinates,
    /// out/in per axis as the model states it (it enters the coordinate formula): vertical, horizontal.
    pub scales: [f32; 2],
    /// Output height, width.
    pub output: [usize; 2],
}

/// One axis of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SliceAxis {
    /// First index taken.
    pub start: usize,
    /// Distance of indices; negative walks down.
    pub step: isize,
    /// How many.
    pub count: usize,
}

/// An operator. Input positions are stated at each.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Inputs: x `[N,C,H,W]`, weight `[M,C/groups,kh,kw]` (constant), bias `[M]` (constant), then the residual if the
    /// epilogue has one. Import always gives a bias, of zeros if need be.
    Conv(Conv),
    /// Inputs: x `[N,C,H,W]`, weight `[C,M/groups,kh,kw]` (constant), bias `[M]` (constant).
    ConvTranspose(ConvTranspose),
    /// `y[.., m] = Σ_k x[.., k]·w[m, k] + b[m]`. Inputs: x `[.., K]`, weight `[M, K]` (constant), bias `[M]` (constant), then
    /// the residual if the epilogue has one.
    Dense(Epilogue),
    /// Per channel (axis 1): gamma·(x − mean)/√(var + epsilon) + beta. Inputs: x, gamma, beta, mean, var (constants `[C]`).
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
    },
    /// Inputs: x.
    Unary(Unary),
    /// x < 0 ? slope·x : x. Inputs: x, slope (constant, broadcast to x).
    PRelu,
    /// Inputs: a, b (either may be constant).
    Binary(Binary),
    /// Inputs: one or more, equal but for `axis`.
    Concat {
        /// Counted from 0.
        axis: usize,
    },
    /// Inputs: x `[N,C,H,W]`.
    Pool(Pool),
    /// `[N,C,H,W]` → `[N,C,1,1]`.
    GlobalPool(GlobalPool),
    /// Same elements in row-major order; covers Flatten, Squeeze, Unsqueeze. The shape is the output's.
    Reshape(Vec<usize>),
    /// Output axis k is input axis `perm[k]`.
    Transpose(Vec<usize>),
    /// Constant padding.
    Pad {
        /// Elements before, after, per axis.
        pads: Vec<(usize, usize)>,
        /// What they are.
        value: f32,
    },
    /// Inputs: x `[N,C,H,W]`.
    Resize(Resize),
    /// One entry per axis.
    Slice(Vec<SliceAxis>),
    /// exp(x)/Σ exp(x) along the axis.
    Softmax {
        /// Counted from 0.
        axis: usize,
    },
    /// Across channels (axis 1): x / (bias + alpha/size · Σ x²)^beta, over `size` neighbouring channels.
    Lrn {
        /// Number of channels in the sum.
        size: usize,
        /// Scale of the sum.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Added to the sum.
        bias: f32,
    },
    /// x, as written in the model; fusion removes it.
    Identity,
    /// x at inference; fusion removes it.
    Dropout,
    /// The nearest point of a grid: QuantizeLinear and DequantizeLinear of a model that is quantized already (FakeQuantize).
    Round(Grid),
}

/// Pooling over all of H and W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalPool {
    /// Largest.
    Max,
    /// Mean.
    Average,
}

impl Op {
    /// The epilogue, of the operators that have one.
    pub fn epilogue(&self) -> Option<&Epilogue> {
        match self {
            Op::Conv(conv) => Some(&conv.epilogue),
            Op::ConvTranspose(conv) => Some(&conv.epilogue),
            Op::Dense(epilogue) => Some(epilogue),
            Op::BatchNorm { .. }
            | Op::Unary(_)
            | Op::PRelu
            | Op::Binary(_)
            | Op::Concat { .. }
            | Op::Pool(_)
            | Op::GlobalPool(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Pad { .. }
            | Op::Resize(_)
            | Op::Slice(_)
            | Op::Softmax { .. }
            | Op::Lrn { .. }
            | Op::Identity
            | Op::Dropout
            | Op::Round(_) => None,
        }
    }

    /// True if the result holds elements of the first operand, unchanged; those of a pad's border have its value. (A concatenation does too, of
    /// several.)
    pub fn copies(&self) -> bool {
        match self {
            Op::Pool(p) => p.kind == PoolKind::Max,
            Op::GlobalPool(p) => *p == GlobalPool::Max,
            Op::Resize(r) => matches!(r.interpolation, Interpolation::Nearest(_)),
            Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Pad { .. }
            | Op::Slice(_)
            | Op::Identity
            | Op::Dropout => true,
            Op::Conv(_)
            | Op::ConvTranspose(_)
            | Op::Dense(_)
            | Op::BatchNorm { .. }
            | Op::Unary(_)
            | Op::PRelu
            | Op::Binary(_)
            | Op::Concat { .. }
            | Op::Softmax { .. }
            | Op::Lrn { .. }
            | Op::Round(_) => false,
        }
    }
}
