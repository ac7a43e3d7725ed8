//! The integer graph: the waist of the compiler, and exactly what a `.qgraph` file holds.
//!
//! Shapes are logical, in the axis order of the ONNX model (images N, C, H, W); memory layout is decided by
//! scheduling. A value is f32 or affine u8. A graph in which every value is f32 is a float network: naive
//! and fused float run through the same road. Constants are blobs, laid out ready to execute.
//! Nothing here knows the float graph, ONNX or calibration.
//!
//! - [`builder`]: makes one.
//! - [`shape`]: shapes of results, and the limits of all sizes.
//! - [`layout`]: how weights lie in their blobs.
//! - [`verify`]: the rules, checked after quantization and on every load.
//! - [`eval`]: the definition of what an integer graph computes.
//! - [`mod@file`]: the `.qgraph` file.
//! - `print`: its text.

pub mod builder;
pub mod eval;
pub mod file;
pub mod layout;
mod print;
pub mod shape;
pub mod verify;

use crate::blob::Bytes;
use crate::preprocess::Preprocess;
use qgraph_runtime::functions::{Tap, Unary};
use qgraph_runtime::requant::{Rounding, in_range, multiplier};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Index of a value in [`QGraph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct QValueId(pub u32);

/// Element type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum QType {
    /// Real numbers.
    F32,
    /// real = scale · (q − zero_point)
    U8 {
        /// Finite, normal, > 0.
        scale: f32,
        /// The q of real 0.
        zero_point: u8,
    },
}

/// A value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QValue {
    /// Unique; the name in the float graph where there is one.
    pub name: String,
    /// Extents in ONNX axis order.
    pub shape: Vec<usize>,
    /// Element type.
    #[serde(rename = "type")]
    pub ty: QType,
    /// What each channel (axis 1) holds is so many times the float graph's value; empty if all channels hold the value itself. Only reports
    /// need this: what computes and what reads the value has it in its constants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<f32>,
}

impl QValue {
    /// Turns what the value holds, dense row-major, into the float graph's value.
    pub fn divide(&self, held: &mut [f32]) {
        if !self.factors.is_empty() {
            let inner = self.shape[2..].iter().product::<usize>().max(1);
            for (i, channel) in held.chunks_mut(inner).enumerate() {
                let factor = self.factors[i % self.factors.len()];
                channel.iter_mut().for_each(|x| *x /= factor);
            }
        }
    }
}

/// Element type of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BlobType {
    /// Signed bytes.
    I8,
    /// Unsigned bytes.
    U8,
    /// 32-bit integers, little endian.
    I32,
    /// Single precision, little endian.
    F32,
}

impl BlobType {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            BlobType::I8 | BlobType::U8 => 1,
            BlobType::I32 | BlobType::F32 => 4,
        }
    }
}

/// Constant data: a range of [`QGraph::data`], starting at a multiple of 64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// Unique; the tensor's name in the file.
    pub name: String,
    /// Element type.
    #[serde(rename = "type")]
    pub ty: BlobType,
    /// Extents as stored.
    pub shape: Vec<usize>,
    /// First byte in [`QGraph::data`].
    #[serde(skip)]
    pub offset: usize,
}

impl Blob {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        self.len() * self.ty.size()
    }
}

/// Index of a blob in [`QGraph::blobs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(pub u32);

/// Geometry of a 2-D window: convolution or pooling.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Window {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Vertical, horizontal step.
    pub strides: [usize; 2],
    /// Vertical, horizontal distance of taps.
    pub dilations: [usize; 2],
    /// Padding: top, left, bottom, right. What ceil mode reads beyond it is outside as well.
    pub pads: [usize; 4],
}

/// A residual added inside an integer convolution: `fma(f32(q_r), scale, fma(f32(acc), s[c], k))`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    /// s_r / s_y.
    pub scale: f32,
    /// f32(z_y − z_r · scale), from f64.
    pub k: f32,
}

/// What a convolution computes in, and how its sum becomes its output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Arithmetic {
    /// u8 · i8 → i32 → u8. Without residual: [`Rounding::requantize`] of the network, `clamp(rne(fma(f32(acc), scale[c], f32(z_y))), lo, hi)`
    /// unless zero points come last.
    Integer {
        /// f32 `[co]`: `s_x·s_w[c]/s_y`, to 21 bits unless the model was quantized already. Sums with short multipliers end faster.
        scale: BlobId,
        /// The node's second input is added.
        residual: Option<Residual>,
        /// Lower clamp.
        lo: u8,
        /// Upper clamp.
        hi: u8,
    },
    /// u8 · i8 → i32 → f32: `clamp(f32(acc)·scale[c], lo, hi)`.
    IntegerToFloat {
        /// f32 `[co]`: `s_x·s_w[c]`.
        scale: BlobId,
        /// Lower clamp, may be −∞.
        #[serde(with = "finite")]
        lo: f32,
        /// Upper clamp, may be ∞.
        #[serde(with = "finite")]
        hi: f32,
    },
    /// f32: clamp(Σ + bias + residual, lo, hi). The sum starts at the bias and runs by fused multiply-add over kernel
    /// rows, columns, input channels in this order; then the residual is added.
    Float {
        /// The node's second input is added.
        residual: bool,
        /// Lower clamp, may be −∞.
        #[serde(with = "finite")]
        lo: f32,
        /// Upper clamp, may be ∞.
        #[serde(with = "finite")]
        hi: f32,
    },
}

/// A convolution or, with a 1×1 input, a fully connected layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QConv {
    /// Geometry. Padding holds real 0.
    pub window: Window,
    /// Groups; C for depthwise.
    pub groups: usize,
    /// i8 or f32 in the layout of [`layout`].
    pub weight: BlobId,
    /// i32 (b' of the contract: zero point folded in) or f32, `[co]`.
    pub bias: BlobId,
    /// How it computes.
    pub arithmetic: Arithmetic,
}

/// f32 functions of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FloatBinary {
    /// a + b
    Add,
    /// a − b
    Sub,
    /// a · b
    Mul,
    /// a / b
    Div,
}

/// One axis of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QSlice {
    /// First index.
    pub start: usize,
    /// Distance of indices; may be negative.
    pub step: isize,
    /// How many.
    pub count: usize,
}

/// An operation. "u8" and "f32" say which element types it takes; moves take either and keep it, with its scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum QOp {
    /// f32 → u8: [`Rounding::quantize`] of the network, clamp(rne(fma(x, 1/s, z)), 0, 255), with 1/s rounded to f32, unless zero points come
    /// last.
    Quantize,
    /// u8 → f32: f32(q − z) · s.
    Dequantize,
    /// Inputs: x `[N,C,H,W]`, then the residual (output's shape) if the arithmetic has one.
    Conv(QConv),
    /// Per channel (axis 1): u8 → u8: `clamp(rne(fma(f32(q), scale[c], offset[c])), lo, hi)`; f32 → f32:
    /// `clamp(fma(x, scale[c], offset[c]), lo, hi)` with lo, hi as f32.
    Affine {
        /// f32 `[C]`; may be negative or zero.
        scale: BlobId,
        /// f32 `[C]`.
        offset: BlobId,
        /// Lower clamp (an integer for u8).
        #[serde(with = "finite")]
        lo: f32,
        /// Upper clamp (an integer for u8).
        #[serde(with = "finite")]
        hi: f32,
    },
    /// u8 a, u8 b (broadcast) → u8: clamp(rne(fma(f32(q_b), b, fma(f32(q_a), a, k))), lo, hi).
    Add {
        /// s_a/s_y.
        a: f32,
        /// ±s_b/s_y (negative for a subtraction).
        b: f32,
        /// f32(z_y − z_a·a − z_b·b) from f64.
        k: f32,
        /// Lower clamp.
        lo: u8,
        /// Upper clamp.
        hi: u8,
    },
    /// u8 a, u8 b (broadcast) → u8: clamp(rne(fma(f32((q_a − z_a)·(q_b − z_b)), scale, f32(z_y))), lo, hi).
    Mul {
        /// s_a·s_b/s_y.
        scale: f32,
        /// Lower clamp.
        lo: u8,
        /// Upper clamp.
        hi: u8,
    },
    /// f32 a, f32 b (broadcast) → f32: clamp(a ∘ b, lo, hi).
    Binary {
        /// Which.
        op: FloatBinary,
        /// Lower clamp, may be −∞.
        #[serde(with = "finite")]
        lo: f32,
        /// Upper clamp, may be ∞.
        #[serde(with = "finite")]
        hi: f32,
    },
    /// u8 → u8: `table[q]`. Blob u8 `[256]`, or `[C, 256]`: a table for each channel of `[N,C,H,W]`.
    Table(BlobId),
    /// f32 → f32.
    Unary(Unary),
    /// f32 → f32: `fma(min(x, 0), slope[c], max(x, 0))`, per channel (axis 1). Blob f32 `[C]`.
    PRelu(BlobId),
    /// u8 or f32, same type out. Outside is never the largest; a window never lies wholly outside.
    MaxPool(Window),
    /// f32 → f32: sum / n. u8 → u8: [`Rounding::requantize`] of Σ(q − z_x) with
    /// [`average_multiplier`](QGraph::average_multiplier)(ratio, n). u8 → f32: f32(Σ(q − z_x)) · f32(ratio / n) with ratio in f64.
    AvgPool {
        /// Geometry; the whole map for a global pool.
        window: Window,
        /// n counts the padding (but not what lies beyond it).
        count_include_pad: bool,
        /// u8 → u8: s_x/s_y; u8 → f32: s_x; f32: 1.
        ratio: f64,
    },
    /// Moves: inputs equal but for the axis, all with the output's scale.
    Concat {
        /// Logical axis.
        axis: usize,
    },
    /// Moves. One entry per axis.
    Slice(Vec<QSlice>),
    /// Moves. Elements before, after, per axis; `fill` is the value (as q for u8).
    Pad {
        /// Per axis.
        pads: Vec<(usize, usize)>,
        /// What they are: an integer 0..=255 for u8.
        #[serde(with = "finite")]
        fill: f32,
    },
    /// Moves. Output axis k is input axis `perm[k]`.
    Transpose(Vec<usize>),
    /// Moves. Row-major order kept; the shape is the output's.
    Reshape,
    /// Moves. `y[n, c, i, j] = x[n, ((i + top)%r·s + (j + left)%s)·C + c, (i + top)/r, (j + left)/s]` with block [r, s], crop
    /// [top, left] and C output channels. What a transposed convolution ends with.
    DepthToSpace {
        /// Block height, width.
        block: [usize; 2],
        /// Rows, columns dropped at the top, left.
        crop: [usize; 2],
    },
    /// Moves. Output row i, column j is input row `rows[i]`, column `cols[j]`. `[N,C,H,W]`
    ResizeNearest {
        /// Source row of each output row.
        rows: Vec<u32>,
        /// Source column of each output column.
        cols: Vec<u32>,
    },
    /// f32, separable linear interpolation. `[N,C,H,W]`
    ResizeLinear {
        /// Source of each output row.
        rows: Vec<Tap>,
        /// Source of each output column.
        cols: Vec<Tap>,
    },
    /// f32.
    Softmax {
        /// Logical axis.
        axis: usize,
    },
    /// f32 `[N,C,H,W]`, across channels: x / (bias + alpha/size·Σx²)^beta.
    Lrn {
        /// Channels in the sum.
        size: usize,
        /// Scale of the sum.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Added to the sum.
        bias: f32,
    },
    /// f32 `[N,C,H,W]` → f32 `[N,1,1,1]`: the largest |x| of each image, at least 2^-100; NaN is passed over.
    Peak,
    /// No inputs: the blob, dense row-major in the output's shape and type (u8 or f32).
    Constant(BlobId),
}

/// A node: one output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QNode {
    /// Unique; the name in the float graph where there is one.
    pub name: String,
    /// What it computes.
    pub op: QOp,
    /// Operands.
    pub inputs: Vec<QValueId>,
    /// Result.
    pub output: QValueId,
    /// Why this runs in float, if it does in an otherwise integer network; shown in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub float_reason: Option<String>,
}

/// An integer (or all-float) network. See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct QGraph {
    /// Name of the model.
    pub name: String,
    /// In topological order.
    pub nodes: Vec<QNode>,
    /// All values.
    pub values: Vec<QValue>,
    /// What the caller gives: f32.
    pub inputs: Vec<QValueId>,
    /// What the caller gets: f32.
    pub outputs: Vec<QValueId>,
    /// How images become the input, if known.
    pub preprocess: Option<Preprocess>,
    /// When zero points join.
    pub rounding: Rounding,
    /// Constants.
    pub blobs: Vec<Blob>,
    /// Their bytes.
    pub data: Arc<Bytes>,
}

impl QGraph {
    /// The value behind an id.
    pub fn value(&self, id: QValueId) -> &QValue {
        &self.values[id.0 as usize]
    }

    /// The blob behind an id.
    pub fn blob(&self, id: BlobId) -> &Blob {
        &self.blobs[id.0 as usize]
    }

    /// Bytes of a blob.
    pub fn blob_bytes(&self, id: BlobId) -> &[u8] {
        let b = self.blob(id);
        &self.data[b.offset..b.offset + b.bytes()]
    }

    /// Elements of an f32 blob.
    pub fn blob_f32(&self, id: BlobId) -> Vec<f32> {
        debug_assert_eq!(self.blob(id).ty, BlobType::F32);
        self.blob_bytes(id).chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    }

    /// True if a layer adds another value in integers before it rounds.
    pub fn adds_residuals(&self) -> bool {
        let adds = |conv: &QConv| matches!(conv.arithmetic, Arithmetic::Integer { residual: Some(_), .. });
        self.nodes.iter().any(|n| matches!(&n.op, QOp::Conv(conv) if adds(conv)))
    }

    /// Multiplier of an integer average of `n` elements, `ratio` and types those of `node`. `None` if it is out of range. ratio/n to 21 bits, or
    /// s_x/(s_y·n) in f32 where zero points come last.
    pub fn average_multiplier(&self, node: &QNode, ratio: f64, n: usize) -> Option<f32> {
        let step = |v: QValueId| match self.value(v).ty {
            QType::U8 { scale, .. } => scale,
            QType::F32 => 1.0,
        };
        match self.rounding {
            Rounding::Fused => multiplier(ratio / n as f64),
            Rounding::ZeroLast => in_range(f64::from(step(node.inputs[0]) / (step(node.output) * n as f32))),
        }
    }

    /// Elements of an i32 blob.
    pub fn blob_i32(&self, id: BlobId) -> Vec<i32> {
        debug_assert_eq!(self.blob(id).ty, BlobType::I32);
        self.blob_bytes(id).chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    }
}

/// JSON knows no infinities: they are written as the strings "inf" and "-inf".
mod finite {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Finite(f32),
        Infinite(String),
    }

    pub(super) fn serialize<S: Serializer>(x: &f32, s: S) -> Result<S::Ok, S::Error> {
        match *x {
            f32::INFINITY => s.serialize_str("inf"),
            f32::NEG_INFINITY => s.serialize_str("-inf"),
            // As f64, because an untagged number is read as one.
            x => s.serialize_f64(x.into()),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f32, D::Error> {
        match Number::deserialize(d)? {
            Number::Finite(x) => Ok(x),
            Number::Infinite(s) if s == "inf" => Ok(f32::INFINITY),
            Number::Infinite(s) if s == "-inf" => Ok(f32::NEG_INFINITY),
            Number::Infinite(s) => Err(D::Error::custom(format!("'{s}' is not a number"))),
        }
    }
}
