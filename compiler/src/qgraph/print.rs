//! Text of an integer graph: one line per node, in order; inputs before, outputs after.
//!
//! ```text
//! qgraph "digits": 12 nodes, 14 values, 9 blobs (31.2 KB)
//! in  image: f32 [1, 1, 8, 8]
//!   q: u8(0.0157, 128) [1, 1, 8, 8] = quantize image
//!   conv1: u8(0.0471, 0) [1, 16, 8, 8] = conv3x3 pads [1, 1, 1, 1] clamp 0..=255 q
//! out logits: f32 [1, 10]
//! ```

use super::{Arithmetic, FloatBinary, QGraph, QNode, QOp, QSlice, QType, QValueId, Window};
use qgraph_runtime::requant::Rounding;
use std::fmt::{self, Display, Formatter};

impl Display for QType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            QType::F32 => f.write_str("f32"),
            QType::U8 { scale, zero_point } => write!(f, "u8({scale}, {zero_point})"),
        }
    }
}

impl Display for QGraph {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (nodes, values, blobs) = (self.nodes.len(), self.values.len(), self.blobs.len());
        let kilobytes = self.data.len() as f64 / 1024.0;
        writeln!(
            f,
            "qgraph {:?}: {nodes} nodes, {values} values, {blobs} blobs ({kilobytes:.1} KB)",
            self.name
        )?;
        if let Some(p) = &self.preprocess {
            writeln!(f, "preprocess {p:?}")?;
        }
        match self.rounding {
            Rounding::Fused => {}
            Rounding::ZeroLast => writeln!(f, "zero points last")?,
        }
        for &id in &self.inputs {
            writeln!(f, "in  {}", Declared(self, id))?;
        }
        for node in &self.nodes {
            writeln!(f, "  {}", Line(self, node))?;
        }
        for &id in &self.outputs {
            writeln!(f, "out {}", Declared(self, id))?;
        }
        Ok(())
    }
}

/// A value with type and shape.
struct Declared<'a>(&'a QGraph, QValueId);

impl Display for Declared<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let v = self.0.value(self.1);
        write!(f, "{}: {} {:?}", v.name, v.ty, v.shape)?;
        if let Some(most) = v.factors.iter().copied().reduce(f32::max) {
            write!(f, " of multiples up to {most}")?;
        }
        Ok(())
    }
}

/// A node: result, operation, operands.
struct Line<'a>(&'a QGraph, &'a QNode);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Line(graph, node) = *self;
        write!(f, "{} = {}", Declared(graph, node.output), Op(graph, &node.op))?;
        for (i, &id) in node.inputs.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { " " } else { ", " }, graph.value(id).name)?;
        }
        let name = &graph.value(node.output).name;
        if node.name != *name {
            write!(f, "  # {}", node.name)?;
        }
        if let Some(reason) = &node.float_reason {
            write!(f, "  # float: {reason}")?;
        }
        Ok(())
    }
}

/// An operation with its attributes.
struct Op<'a>(&'a QGraph, &'a QOp);

impl Display for Op<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let blob = |id| &self.0.blob(id).name;
        f.write_str(&self.1.label())?;
        match self.1 {
            QOp::Conv(conv) => {
                match conv.arithmetic {
                    Arithmetic::Integer { residual, lo, hi, .. } => {
                        if let Some(r) = residual {
                            write!(f, " scale {} k {}", r.scale, r.k)?;
                        }
                        write!(f, "{}", bytes(lo, hi))?;
                    }
                    Arithmetic::IntegerToFloat { lo, hi, .. } | Arithmetic::Float { lo, hi, .. } => {
                        write!(f, "{}", Clamp(lo, hi))?;
                    }
                }
                write!(f, " {}", blob(conv.weight))
            }
            QOp::Affine { scale, offset, lo, hi } => {
                write!(f, " {} {}{}", blob(*scale), blob(*offset), Clamp(*lo, *hi))
            }
            QOp::Add { a, b, k, lo, hi } => write!(f, " a {a} b {b} k {k}{}", bytes(*lo, *hi)),
            QOp::Mul { scale, lo, hi } => write!(f, " scale {scale}{}", bytes(*lo, *hi)),
            QOp::Binary { lo, hi, .. } => write!(f, "{}", Clamp(*lo, *hi)),
            QOp::Table(id) | QOp::PRelu(id) | QOp::Constant(id) => write!(f, " {}", blob(*id)),
            QOp::AvgPool { count_include_pad, ratio, .. } => {
                if *count_include_pad {
                    f.write_str(" count_include_pad")?;
                }
                if *ratio == 1.0 { Ok(()) } else { write!(f, " ratio {ratio}") }
            }
            QOp::Slice(slices) => {
                for (axis, QSlice { start, step, count }) in slices.iter().enumerate() {
                    write!(f, "{}{start}+{count}·{step}", if axis == 0 { " [" } else { ", " })?;
                }
                f.write_str("]")
            }
            QOp::Pad { pads, fill } => write!(f, " {pads:?} fill {fill}"),
            QOp::DepthToSpace { crop, .. } => write!(f, " crop {crop:?}"),
            QOp::Lrn { size, alpha, beta, bias } => {
                write!(f, " size {size} alpha {alpha} beta {beta} bias {bias}")
            }
            QOp::Quantize | QOp::Dequantize | QOp::Unary(_) | QOp::MaxPool(_) | QOp::Concat { .. } => Ok(()),
            QOp::Transpose(_) | QOp::Reshape | QOp::ResizeNearest { .. } | QOp::ResizeLinear { .. } => Ok(()),
            QOp::Softmax { .. } | QOp::Peak => Ok(()),
        }
    }
}

impl QOp {
    /// The operation in a few words, without numbers that quantization chose: `conv3x3 stride 2x2 residual`, `max_pool2x2`, `table`.
    pub fn label(&self) -> String {
        match self {
            QOp::Quantize => "quantize".into(),
            QOp::Dequantize => "dequantize".into(),
            QOp::Conv(conv) => {
                let groups = if conv.groups > 1 { format!(" groups {}", conv.groups) } else { String::new() };
                let how = match conv.arithmetic {
                    Arithmetic::Integer { residual: Some(_), .. }
                    | Arithmetic::Float { residual: true, .. } => " residual",
                    Arithmetic::IntegerToFloat { .. } => " to f32",
                    Arithmetic::Integer { residual: None, .. }
                    | Arithmetic::Float { residual: false, .. } => "",
                };
                format!("conv{}{groups}{how}", conv.window)
            }
            QOp::Affine { .. } => "affine".into(),
            QOp::Add { .. } | QOp::Binary { op: FloatBinary::Add, .. } => "add".into(),
            QOp::Mul { .. } | QOp::Binary { op: FloatBinary::Mul, .. } => "mul".into(),
            QOp::Binary { op: FloatBinary::Sub, .. } => "sub".into(),
            QOp::Binary { op: FloatBinary::Div, .. } => "div".into(),
            QOp::Table(_) => "table".into(),
            QOp::Unary(unary) => unary.to_string(),
            QOp::PRelu(_) => "prelu".into(),
            QOp::MaxPool(window) => format!("max_pool{window}"),
            QOp::AvgPool { window, .. } => format!("avg_pool{window}"),
            QOp::Concat { axis } => format!("concat axis {axis}"),
            QOp::Slice(_) => "slice".into(),
            QOp::Pad { .. } => "pad".into(),
            QOp::Transpose(perm) => format!("transpose {perm:?}"),
            QOp::Reshape => "reshape".into(),
            QOp::DepthToSpace { block: [r, s], .. } => format!("depth_to_space {r}x{s}"),
            QOp::ResizeNearest { rows, cols } => format!("resize_nearest {}x{}", rows.len(), cols.len()),
            QOp::ResizeLinear { rows, cols } => format!("resize_linear {}x{}", rows.len(), cols.len()),
            QOp::Softmax { axis } => format!("softmax axis {axis}"),
            QOp::Lrn { .. } => "lrn".into(),
            QOp::Peak => "peak".into(),
            QOp::Constant(_) => "constant".into(),
        }
    }
}

impl Display for Window {
    /// What differs from a dense window with stride 1 and no padding.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [kh, kw] = self.kernel;
        write!(f, "{kh}x{kw}")?;
        let [sh, sw] = self.strides;
        if self.strides != [1, 1] {
            write!(f, " stride {sh}x{sw}")?;
        }
        let [dh, dw] = self.dilations;
        if self.dilations != [1, 1] {
            write!(f, " dilation {dh}x{dw}")?;
        }
        if self.pads != [0; 4] {
            write!(f, " pads {:?}", self.pads)?;
        }
        Ok(())
    }
}

/// A clamp; nothing if it does nothing.
struct Clamp(f32, f32);

impl Display for Clamp {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (f32::NEG_INFINITY, f32::INFINITY) => Ok(()),
            (lo, hi) => write!(f, " clamp {lo}..={hi}"),
        }
    }
}

fn bytes(lo: u8, hi: u8) -> String {
    if (lo, hi) == (0, 255) { String::new() } else { format!(" clamp {lo}..={hi}") }
}
