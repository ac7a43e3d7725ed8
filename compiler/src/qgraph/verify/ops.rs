//! Rules for one node: operands, types, shapes, constants. Ids are in range and blobs lie in the data already.

use super::super::layout::WeightShape;
use super::super::shape::{Checked, image, infer};
use super::super::{Arithmetic, BlobId, BlobType, QConv, QGraph, QNode, QOp, QType, Residual, Window};
use super::numbers::{self, accumulators, byte, clamp, clamp_u8, multiplier, offset};
use super::{kind, types};
use qgraph_runtime::functions::{Tap, Unary};

impl QOp {
    /// The blobs it reads; at most three.
    pub fn blobs(&self) -> [Option<BlobId>; 3] {
        match self {
            QOp::Conv(conv) => {
                let scale = match conv.arithmetic {
                    Arithmetic::Integer { scale, .. } | Arithmetic::IntegerToFloat { scale, .. } => {
                        Some(scale)
                    }
                    Arithmetic::Float { .. } => None,
                };
                [Some(conv.weight), Some(conv.bias), scale]
            }
            QOp::Affine { scale, offset, .. } => [Some(*scale), Some(*offset), None],
            QOp::Table(blob) | QOp::PRelu(blob) | QOp::Constant(blob) => [Some(*blob), None, None],
            QOp::Quantize
            | QOp::Dequantize
            | QOp::Add { .. }
            | QOp::Mul { .. }
            | QOp::Binary { .. }
            | QOp::Unary(_)
            | QOp::MaxPool(_)
            | QOp::AvgPool { .. }
            | QOp::Concat { .. }
            | QOp::Slice(_)
            | QOp::Pad { .. }
            | QOp::Transpose(_)
            | QOp::Reshape
            | QOp::DepthToSpace { .. }
            | QOp::ResizeNearest { .. }
            | QOp::ResizeLinear { .. }
            | QOp::Softmax { .. }
            | QOp::Lrn { .. }
            | QOp::Peak => [None; 3],
        }
    }
}

/// What a node's operation takes and gives.
struct Site<'a> {
    graph: &'a QGraph,
    shapes: Vec<&'a [usize]>,
    result: &'a [usize],
    types: Vec<QType>,
    ty: QType,
}

/// The first violation of a node, in words.
pub(super) fn check(graph: &QGraph, node: &QNode) -> Checked<()> {
    let shapes: Vec<_> = node.inputs.iter().map(|&i| &graph.value(i).shape[..]).collect();
    let result = &graph.value(node.output).shape[..];
    let shape = infer(&node.op, &shapes, result, &graph.blobs)?;
    if shape != result {
        return Err(format!("its output should have shape {shape:?}, not {result:?}"));
    }
    let (types, ty) = types(graph, node);
    let site = Site { graph, shapes, result, types, ty };
    match &node.op {
        QOp::Quantize => site.is("f32", 1, "u8"),
        QOp::Dequantize => site.is("u8", 1, "f32"),
        QOp::Conv(conv) => site.conv(conv),
        QOp::Affine { scale, offset, lo, hi } => site.affine(*scale, *offset, *lo, *hi),
        QOp::Add { a, b, k, lo, hi } => {
            site.is("u8", 2, "u8")?;
            multiplier("a", *a)?;
            multiplier("|b|", b.abs())?;
            offset("k", *k)?;
            clamp_u8(*lo, *hi)
        }
        QOp::Mul { scale, lo, hi } => {
            site.is("u8", 2, "u8")?;
            multiplier("scale", *scale)?;
            clamp_u8(*lo, *hi)
        }
        QOp::Binary { op: _, lo, hi } => {
            site.is("f32", 2, "f32")?;
            clamp(*lo, *hi)
        }
        QOp::Table(table) => {
            site.is("u8", 1, "u8")?;
            match *site.result {
                [_, channels, _, _] if site.graph.blob(*table).shape.len() == 2 => {
                    site.blob("table", *table, BlobType::U8, &[channels, 256])
                }
                _ => site.blob("table", *table, BlobType::U8, &[256]),
            }
        }
        QOp::Unary(f) => {
            site.is("f32", 1, "f32")?;
            unary(*f)
        }
        QOp::PRelu(slope) => {
            site.is("f32", 1, "f32")?;
            site.blob("slope", *slope, BlobType::F32, &[site.channels()?])
        }
        QOp::MaxPool(_) => site.moves(1),
        QOp::AvgPool { window, count_include_pad, ratio } => {
            site.average(node, window, *count_include_pad, *ratio)
        }
        QOp::Concat { .. } => site.moves(site.types.len()),
        QOp::Slice(_) | QOp::Transpose(_) | QOp::Reshape | QOp::DepthToSpace { .. } => site.moves(1),
        QOp::ResizeNearest { .. } => site.moves(1),
        QOp::Pad { pads: _, fill } => {
            site.moves(1)?;
            match site.ty {
                QType::U8 { .. } => byte("fill", *fill),
                QType::F32 if fill.is_nan() => Err("fill is not a number".into()),
                QType::F32 => Ok(()),
            }
        }
        QOp::ResizeLinear { rows, cols } => {
            site.is("f32", 1, "f32")?;
            let valid = |t: &Tap| (0.0..=1.0).contains(&t.frac);
            if rows.iter().chain(cols).all(valid) {
                Ok(())
            } else {
                Err("a weight lies outside 0..=1".into())
            }
        }
        QOp::Softmax { axis } => {
            site.is("f32", 1, "f32")?;
            let rank = site.result.len();
            if *axis < rank { Ok(()) } else { Err(format!("there is no axis {axis} in {rank}")) }
        }
        QOp::Lrn { size, alpha, beta, bias } => {
            site.is("f32", 1, "f32")?;
            image(site.result)?;
            if *size == 0 || *size > 1 << 16 || ![alpha, beta, bias].iter().all(|x| x.is_finite()) {
                return Err("size must be 1 to 65536; alpha, beta and bias finite".into());
            }
            Ok(())
        }
        QOp::Peak => site.is("f32", 1, "f32"),
        QOp::Constant(blob) => {
            site.is("", 0, kind(site.ty))?;
            let ty = match site.ty {
                QType::F32 => BlobType::F32,
                QType::U8 { .. } => BlobType::U8,
            };
            site.blob("constant", *blob, ty, site.result)
        }
    }
}

fn unary(f: Unary) -> Checked<()> {
    let parameters = match f {
        Unary::Clip { lo, hi } if lo > hi => return clamp(lo, hi),
        Unary::Clip { lo, hi } => [lo, hi],
        Unary::LeakyRelu { alpha } | Unary::Elu { alpha } => [alpha, 0.0],
        Unary::HardSigmoid { alpha, beta } => [alpha, beta],
        Unary::Relu
        | Unary::Sigmoid
        | Unary::HardSwish
        | Unary::Tanh
        | Unary::Softplus
        | Unary::Mish
        | Unary::Gelu
        | Unary::GeluTanh
        | Unary::Silu
        | Unary::Square
        | Unary::Sqrt
        | Unary::Abs
        | Unary::Exp
        | Unary::Erf => [0.0; 2],
    };
    if parameters.iter().all(|p| p.is_finite()) {
        Ok(())
    } else {
        Err(format!("the parameters of {f} must be finite (a one-sided clip is the clamp of its producer)"))
    }
}

impl Site<'_> {
    /// Takes `count` operands of one kind and gives another.
    fn is(&self, operands: &str, count: usize, result: &str) -> Checked<()> {
        self.count(count)?;
        if let Some(&ty) = self.types.iter().find(|&&ty| kind(ty) != operands) {
            return Err(format!("it takes {operands}, not {}", kind(ty)));
        }
        if kind(self.ty) != result {
            return Err(format!("it gives {result}, not {}", kind(self.ty)));
        }
        Ok(())
    }

    fn count(&self, count: usize) -> Checked<()> {
        match self.types.len() {
            n if n == count => Ok(()),
            n => Err(format!("it takes {count} operands, not {n}")),
        }
    }

    /// Takes `count` operands and keeps their type and scale.
    fn moves(&self, count: usize) -> Checked<()> {
        self.count(count)?;
        match self.types.iter().find(|&&ty| ty != self.ty) {
            None => Ok(()),
            Some(ty) => Err(format!("it keeps type and scale, but takes {ty:?} and gives {:?}", self.ty)),
        }
    }

    /// Extent of axis 1.
    fn channels(&self) -> Checked<usize> {
        self.result.get(1).copied().ok_or_else(|| format!("{:?} has no channels (axis 1)", self.result))
    }

    fn blob(&self, what: &str, id: BlobId, ty: BlobType, shape: &[usize]) -> Checked<()> {
        let blob = self.graph.blob(id);
        if blob.ty == ty && blob.shape == shape {
            return Ok(());
        }
        let name = &blob.name;
        Err(format!("{what} '{name}' is {:?} {:?}, but {ty:?} {shape:?} is needed", blob.ty, blob.shape))
    }

    fn conv(&self, conv: &QConv) -> Checked<()> {
        let [_, channels, ..] = image(self.shapes[0])?;
        let outputs = self.channels()?;
        let residual = match conv.arithmetic {
            Arithmetic::Integer { residual, .. } => residual.is_some(),
            Arithmetic::IntegerToFloat { .. } => false,
            Arithmetic::Float { residual, .. } => residual,
        };
        let count = 1 + usize::from(residual);
        if residual && self.shapes.get(1) != Some(&self.result) {
            return Err("the residual must have the output's shape".into());
        }
        let integer = match conv.arithmetic {
            Arithmetic::Integer { scale, residual, lo, hi } => {
                self.is("u8", count, "u8")?;
                clamp_u8(lo, hi)?;
                self.blob("scale", scale, BlobType::F32, &[outputs])?;
                self.graph.blob_f32(scale).into_iter().try_for_each(|s| multiplier("scale", s))?;
                if let Some(Residual { scale, k }) = residual {
                    multiplier("scale of the residual", scale)?;
                    offset("k", k)?;
                }
                true
            }
            Arithmetic::IntegerToFloat { scale, lo, hi } => {
                self.is("u8", count, "f32")?;
                clamp(lo, hi)?;
                self.blob("scale", scale, BlobType::F32, &[outputs])?;
                if !self.graph.blob_f32(scale).iter().all(|s| s.is_normal() && *s > 0.0) {
                    return Err("a scale is not a normal positive number".into());
                }
                true
            }
            Arithmetic::Float { lo, hi, .. } => {
                self.is("f32", count, "f32")?;
                clamp(lo, hi)?;
                false
            }
        };
        let shape = WeightShape::of(integer, channels, outputs, conv.groups, &conv.window);
        let (weight, bias) =
            if integer { (BlobType::I8, BlobType::I32) } else { (BlobType::F32, BlobType::F32) };
        self.blob("weight", conv.weight, weight, &shape.dims())?;
        self.blob("bias", conv.bias, bias, &[outputs])?;
        let bytes = self.graph.blob_bytes(conv.weight);
        if integer {
            accumulators(&numbers::weights_i8(&shape, bytes)?, &self.graph.blob_i32(conv.bias))
        } else {
            numbers::weights_f32(&shape, bytes)
        }
    }

    fn affine(&self, scale: BlobId, shift: BlobId, lo: f32, hi: f32) -> Checked<()> {
        self.is(kind(self.ty), 1, kind(self.ty))?;
        clamp(lo, hi)?;
        let channels = self.channels()?;
        self.blob("scale", scale, BlobType::F32, &[channels])?;
        self.blob("offset", shift, BlobType::F32, &[channels])?;
        if let QType::U8 { .. } = self.ty {
            byte("the lower clamp", lo)?;
            byte("the upper clamp", hi)?;
            let numbers = self.graph.blob_f32(scale).into_iter().chain(self.graph.blob_f32(shift));
            numbers.into_iter().try_for_each(|x| offset("a scale or offset", x))?;
        }
        Ok(())
    }

    fn average(&self, node: &QNode, window: &Window, include_pad: bool, ratio: f64) -> Checked<()> {
        self.count(1)?;
        if !(ratio.is_finite() && ratio > 0.0) {
            return Err(format!("ratio {ratio} is not positive"));
        }
        let area = window.kernel[0] * window.kernel[1];
        if area * 255 >= 1 << 31 {
            return Err(format!("a window of {area} elements is too large to sum"));
        }
        let (least, most) = self.window_counts(window, include_pad)?;
        match (self.types[0], self.ty) {
            (QType::F32, QType::F32) if ratio == 1.0 => Ok(()),
            (QType::F32, QType::F32) => Err(format!("ratio is {ratio}, but 1 for f32")),
            (QType::U8 { .. }, QType::U8 { .. }) => {
                let multiplier = |n| self.graph.average_multiplier(node, ratio, n);
                match (multiplier(least), multiplier(most)) {
                    (Some(_), Some(_)) => Ok(()),
                    _ => Err(format!(
                        "ratio {ratio:e} over {least} to {most} elements lies outside 2^-64 to 2^8"
                    )),
                }
            }
            (QType::U8 { .. }, QType::F32) => {
                let normal = |n: usize| ((ratio / n as f64) as f32).is_normal();
                if normal(least) && normal(most) {
                    Ok(())
                } else {
                    Err(format!("ratio {ratio:e} is out of range"))
                }
            }
            (QType::F32, QType::U8 { .. }) => Err("it takes f32 and gives u8; quantize separately".into()),
        }
    }

    /// Smallest and largest number of elements that a window divides by.
    fn window_counts(&self, window: &Window, include_pad: bool) -> Checked<(usize, usize)> {
        let [_, _, h, w] = image(self.shapes[0])?;
        let (mut least, mut most) = (1, 1);
        for (axis, extent) in [h, w].into_iter().enumerate() {
            let counts = (0..self.result[axis + 2]).map(|p| window.divisor(axis, p, extent, include_pad));
            let (a, b) = counts.fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
            (least, most) = (least * a, most * b);
        }
        Ok((least, most))
    }
}
