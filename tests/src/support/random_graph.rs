//! Random integer graphs: every operator, shapes, strides, pads, groups, dilations, zero points, extreme scales, full-range weights, residuals,
//! clamps. The same seed gives the same graph.

use qgraph_compiler::qgraph::builder::Builder;
use qgraph_compiler::qgraph::layout::WeightShape;
use qgraph_compiler::qgraph::{
    Arithmetic, FloatBinary, QConv, QGraph, QOp, QSlice, QType, QValueId, Residual, Window,
};
use qgraph_runtime::functions::{Tap, Unary};
use qgraph_runtime::requant::{Rounding, round_bits};

/// SplitMix64.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A number in `lo..=hi`.
    pub(crate) fn range(&mut self, lo: usize, hi: usize) -> usize {
        lo + self.below(hi - lo + 1)
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// Uniform in [-1, 1).
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// What one random convolution is made of.
#[derive(Clone, Debug)]
pub(crate) struct ConvCase {
    pub(crate) channels: usize,
    pub(crate) outputs: usize,
    pub(crate) groups: usize,
    pub(crate) window: Window,
    pub(crate) residual: bool,
    pub(crate) to_float: bool,
    /// Scale the outputs so that they use the range (else extreme scales).
    pub(crate) sane: bool,
}

/// A multiplier of 21 bits, as networks that are quantized here have them, or of 24, as those that were quantized elsewhere.
fn multiplier(s: f64, bits: u32) -> f32 {
    round_bits(s.clamp(6e-20, 255.0), bits) as f32
}

/// Output extent of a window.
fn extent(w: &Window, axis: usize, input: usize) -> Option<usize> {
    let reach = (w.kernel[axis] - 1) * w.dilations[axis] + 1;
    (input + w.pads[axis] + w.pads[axis + 2]).checked_sub(reach).map(|n| n / w.strides[axis] + 1)
}

/// A graph being made.
pub(crate) struct Maker {
    pub(crate) b: Builder,
    pub(crate) rng: Rng,
    names: usize,
    types: Vec<QType>,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let mut ty = |_| QType::U8 {
            scale: 0.02 * (1.5 + rng.unit()),
            zero_point: if rng.one_in(3) { rng.pick(&[0, 255, 128]) } else { rng.below(256) as u8 },
        };
        let types = (0..3).map(&mut ty).collect();
        let mut b = Builder::new(format!("random {seed}"));
        // Drawn from the seed alone, so that all else is as it would be without.
        b.set_rounding(if seed % 4 == 2 { Rounding::ZeroLast } else { Rounding::Fused });
        Maker { b, rng, names: 0, types }
    }

    fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}{}", self.names)
    }

    fn shape(&self, v: QValueId) -> Vec<usize> {
        self.b.value(v).shape.clone()
    }

    pub(crate) fn ty(&self, v: QValueId) -> QType {
        self.b.value(v).ty
    }

    fn affine(&self, v: QValueId) -> (f32, u8) {
        match self.ty(v) {
            QType::U8 { scale, zero_point } => (scale, zero_point),
            QType::F32 => (1.0, 0),
        }
    }

    pub(crate) fn any_type(&mut self) -> QType {
        let types = self.types.clone();
        self.rng.pick(&types)
    }

    pub(crate) fn node(
        &mut self,
        kind: &str,
        op: QOp,
        inputs: &[QValueId],
        shape: &[usize],
        ty: QType,
    ) -> QValueId {
        let name = self.name(kind);
        let y = self.b.add_value(name.clone(), shape, ty);
        self.b.add_node(name, op, inputs, y);
        y
    }

    /// A quantized input.
    pub(crate) fn input(&mut self, shape: &[usize]) -> QValueId {
        let name = self.name("input");
        let x = self.b.add_input(name, shape);
        let ty = self.any_type();
        self.node("quantize", QOp::Quantize, &[x], shape, ty)
    }

    fn clamp(&mut self) -> (u8, u8) {
        match self.rng.below(3) {
            0 => (0, 255),
            1 => (self.rng.below(200) as u8, 255),
            _ => {
                let lo = self.rng.below(256) as u8;
                (lo, lo + self.rng.below(256 - lo as usize) as u8)
            }
        }
    }

    /// A convolution of `x`; `None` if the window does not fit. `residual` must have the output's shape.
    pub(crate) fn conv(
        &mut self,
        x: QValueId,
        case: &ConvCase,
        residual: Option<QValueId>,
    ) -> Option<QValueId> {
        let shape = self.shape(x);
        let out =
            [shape[0], case.outputs, extent(&case.window, 0, shape[2])?, extent(&case.window, 1, shape[3])?];
        let residual = residual.filter(|&r| case.residual && !case.to_float && self.shape(r) == out);
        let ws = WeightShape::of(true, case.channels, case.outputs, case.groups, &case.window);
        let mut weights = vec![0i8; ws.len()];
        let full = self.rng.one_in(3);
        let mut sum_abs = vec![0i64; case.outputs];
        for (m, sum_abs) in sum_abs.iter_mut().enumerate() {
            for c in 0..ws.ci {
                for (y, x) in (0..ws.kernel[0]).flat_map(|y| (0..ws.kernel[1]).map(move |x| (y, x))) {
                    let w = if full { self.rng.pick(&[127, -127]) } else { self.rng.below(255) as i16 - 127 };
                    weights[ws.index(m, c, y, x)] = w as i8;
                    *sum_abs += i64::from(w.abs());
                }
            }
        }
        if sum_abs.iter().any(|&s| 255 * s >= 1 << 30) {
            return None;
        }
        let (s_x, _) = self.affine(x);
        let huge = !case.sane && self.rng.one_in(2);
        let bias: Vec<i32> = sum_abs
            .iter()
            .map(|&s| {
                let room = if huge { (1i64 << 31) - 1 - 255 * s } else { 255 * s / 4 + 1 };
                (self.rng.unit() as f64 * room as f64) as i32
            })
            .collect();
        let name = self.name("conv");
        let weight = self.b.add_blob_i8(&format!("{name}/weight"), &ws.dims(), &weights);
        let bias_blob = self.b.add_blob_i32(&format!("{name}/bias"), &[case.outputs], &bias);
        let ty = self.any_type();
        let spread = |s: i64| 40.0 / (60.0 * (s as f64).sqrt() * 8.0 + 1.0);
        let bits = self.rng.pick(&[21, 21, 24]);
        let scales: Vec<f32> = sum_abs
            .iter()
            .map(|&s| {
                if case.to_float {
                    s_x * 0.01 * (1.1 + self.rng.unit())
                } else if case.sane {
                    multiplier(spread(s) * (1.2 + self.rng.unit() as f64), bits)
                } else {
                    multiplier(2f64.powf(self.rng.unit() as f64 * 36.0 - 28.0), bits)
                }
            })
            .collect();
        let scale = self.b.add_blob_f32(&format!("{name}/scale"), &[case.outputs], &scales);
        let (lo, hi) = self.clamp();
        let arithmetic = if case.to_float {
            let lo = if self.rng.one_in(2) { f32::NEG_INFINITY } else { 0.0 };
            Arithmetic::IntegerToFloat { scale, lo, hi: f32::INFINITY }
        } else {
            let residual = residual.map(|r| {
                let (_, z_r) = self.affine(r);
                let QType::U8 { zero_point, .. } = ty else { unreachable!("types are u8") };
                let s = multiplier(0.7 + 0.6 * self.rng.unit() as f64, 24);
                Residual { scale: s, k: (f64::from(zero_point) - f64::from(z_r) * s as f64) as f32 }
            });
            Arithmetic::Integer { scale, residual, lo, hi }
        };
        let op = QOp::Conv(QConv {
            window: case.window.clone(),
            groups: case.groups,
            weight,
            bias: bias_blob,
            arithmetic,
        });
        let ty = if case.to_float { QType::F32 } else { ty };
        let mut inputs = vec![x];
        inputs.extend(residual);
        let y = self.b.add_value(name.clone(), &out, ty);
        self.b.add_node(name, op, &inputs, y);
        Some(y)
    }

    pub(crate) fn window(&mut self, most: usize) -> Window {
        let kernel = [self.rng.range(1, most), self.rng.range(1, most)];
        let pad = |r: &mut Rng, k: usize| if r.one_in(2) { r.below(k + 1) } else { k / 2 };
        Window {
            kernel,
            strides: [self.rng.pick(&[1, 1, 1, 2, 3]), self.rng.pick(&[1, 1, 1, 2, 3])],
            dilations: [self.rng.pick(&[1, 1, 1, 2]), self.rng.pick(&[1, 1, 1, 3])],
            pads: [
                pad(&mut self.rng, kernel[0]),
                pad(&mut self.rng, kernel[1]),
                pad(&mut self.rng, kernel[0]),
                pad(&mut self.rng, kernel[1]),
            ],
        }
    }

    pub(crate) fn conv_case(&mut self, channels: usize) -> ConvCase {
        let kind = self.rng.below(4);
        let (groups, outputs) = match kind {
            0 if channels > 1 => (channels, channels),
            1 => {
                let groups = (1..=channels).rev().find(|g| channels % g == 0 && *g <= 4).unwrap_or(1);
                (groups, groups * self.rng.range(1, 20))
            }
            _ => (1, self.rng.pick(&[1, 3, 8, 16, 20, 24, 48, 64, 70, 96])),
        };
        ConvCase {
            channels,
            outputs,
            groups,
            window: self.window(5),
            residual: self.rng.one_in(2),
            to_float: self.rng.one_in(10),
            sane: !self.rng.one_in(4),
        }
    }

    fn unary(&mut self) -> Unary {
        self.rng.pick(&[
            Unary::Relu,
            Unary::Clip { lo: -0.5, hi: 1.5 },
            Unary::Sigmoid,
            Unary::HardSwish,
            Unary::Tanh,
            Unary::Abs,
            Unary::LeakyRelu { alpha: 0.1 },
        ])
    }

    /// One random operation on some of the values made so far; `None` if it does not apply.
    pub(crate) fn random_op(&mut self, values: &[QValueId]) -> Option<QValueId> {
        let x = values[values.len() - 1 - self.rng.below(values.len().min(4))];
        let (shape, ty) = (self.shape(x), self.ty(x));
        let image = shape.len() == 4;
        let u8_in = matches!(ty, QType::U8 { .. });
        let out_type = self.any_type();
        let partner = |m: &mut Self, same_type: bool| {
            let fit = |&v: &QValueId| {
                m.shape(v) == shape && (m.ty(v) == ty || (!same_type && matches!(m.ty(v), QType::U8 { .. })))
            };
            let fits: Vec<QValueId> = values.iter().copied().filter(fit).collect();
            fits[m.rng.below(fits.len())]
        };
        match self.rng.below(22) {
            0..=6 if u8_in && image => {
                let case = self.conv_case(shape[1]);
                let r = values[self.rng.below(values.len())];
                let same = {
                    let out = [extent(&case.window, 0, shape[2])?, extent(&case.window, 1, shape[3])?];
                    let s = self.shape(r);
                    s.len() == 4
                        && matches!(self.ty(r), QType::U8 { .. })
                        && s == [shape[0], case.outputs, out[0], out[1]]
                };
                self.conv(x, &case, same.then_some(r))
            }
            7 if u8_in => {
                // One for all channels, or one for each.
                let extents = if image && self.rng.one_in(2) { vec![shape[1], 256] } else { vec![256] };
                let table: Vec<u8> =
                    (0..extents.iter().product()).map(|_| self.rng.below(256) as u8).collect();
                let name = self.name("t");
                let blob = self.b.add_blob_u8(&name, &extents, &table);
                Some(self.node("table", QOp::Table(blob), &[x], &shape, out_type))
            }
            8 if shape.len() == 4 => {
                let c = shape[1];
                let (s, k): (Vec<f32>, Vec<f32>) = (0..c)
                    .map(|_| (multiplier_signed(self.rng.unit() * 2.0), self.rng.unit() * 90.0 + 100.0))
                    .unzip();
                let (n1, n2) = (self.name("s"), self.name("k"));
                let scale = self.b.add_blob_f32(&n1, &[c], &s);
                let offset = self.b.add_blob_f32(&n2, &[c], &k);
                let (lo, hi) = self.clamp();
                let op = QOp::Affine { scale, offset, lo: lo.into(), hi: hi.into() };
                let ty = if u8_in { out_type } else { ty };
                Some(self.node("affine", op, &[x], &shape, ty))
            }
            9 | 10 if u8_in => {
                let y = if self.rng.one_in(3) { self.reduced(x) } else { partner(self, false) };
                let (lo, hi) = self.clamp();
                let op = if self.rng.one_in(2) {
                    let a = multiplier(0.8 + 0.5 * self.rng.unit() as f64, 24);
                    let b = multiplier_signed(self.rng.unit());
                    QOp::Add { a, b, k: 100.0 * self.rng.unit(), lo, hi }
                } else {
                    QOp::Mul { scale: multiplier(0.01 * (1.1 + self.rng.unit() as f64), 24), lo, hi }
                };
                let inputs = if self.rng.one_in(2) { [x, y] } else { [y, x] };
                let out = if inputs[0] == y { self.b.value(x).shape.clone() } else { shape.clone() };
                Some(self.node("combine", op, &inputs, &out, out_type))
            }
            11 if image => {
                let w = self.pool_window();
                let out = [shape[0], shape[1], extent(&w, 0, shape[2])?, extent(&w, 1, shape[3])?];
                Some(self.node("maxpool", QOp::MaxPool(w), &[x], &out, ty))
            }
            12 if image => {
                let w = if self.rng.one_in(3) {
                    Window { kernel: [shape[2], shape[3]], strides: [1, 1], dilations: [1, 1], pads: [0; 4] }
                } else {
                    self.pool_window()
                };
                let out = [shape[0], shape[1], extent(&w, 0, shape[2])?, extent(&w, 1, shape[3])?];
                let include = self.rng.one_in(2);
                let (ratio, ty) = match (u8_in, self.rng.one_in(4)) {
                    (true, true) => (f64::from(self.affine(x).0), QType::F32),
                    (true, false) => (0.5 + 0.4 * self.rng.unit() as f64, out_type),
                    (false, _) => (1.0, QType::F32),
                };
                let op = QOp::AvgPool { window: w, count_include_pad: include, ratio };
                Some(self.node("avgpool", op, &[x], &out, ty))
            }
            13 if image => {
                let fit = |&v: &QValueId| {
                    let s = self.shape(v);
                    self.ty(v) == ty && s.len() == 4 && s[2..] == shape[2..] && s[0] == shape[0]
                };
                let fits: Vec<QValueId> = values.iter().copied().filter(fit).collect();
                let count = self.rng.range(1, 3);
                let inputs: Vec<QValueId> = (0..count).map(|_| self.rng.pick(&fits)).collect();
                let channels: usize = inputs.iter().map(|&v| self.shape(v)[1]).sum();
                if channels > 200 {
                    return None;
                }
                let out = [shape[0], channels, shape[2], shape[3]];
                Some(self.node("concat", QOp::Concat { axis: 1 }, &inputs, &out, ty))
            }
            14 => {
                let slices: Vec<QSlice> = shape
                    .iter()
                    .enumerate()
                    .map(|(k, &n)| {
                        if k == 0 || self.rng.one_in(2) {
                            return QSlice { start: 0, step: 1, count: n };
                        }
                        let step = self.rng.range(1, 2);
                        let count = self.rng.range(1, n.div_ceil(step));
                        let span = (count - 1) * step;
                        let start = self.rng.below(n - span);
                        if self.rng.one_in(3) {
                            QSlice { start: start + span, step: -(step as isize), count }
                        } else {
                            QSlice { start, step: step as isize, count }
                        }
                    })
                    .collect();
                let out: Vec<usize> = slices.iter().map(|s| s.count).collect();
                Some(self.node("slice", QOp::Slice(slices), &[x], &out, ty))
            }
            15 => {
                let pads: Vec<(usize, usize)> = (0..shape.len())
                    .map(|k| if k == 0 { (0, 0) } else { (self.rng.below(3), self.rng.below(3)) })
                    .collect();
                let out: Vec<usize> = shape.iter().zip(&pads).map(|(n, p)| n + p.0 + p.1).collect();
                let fill = if u8_in { self.rng.below(256) as f32 } else { self.rng.unit() };
                Some(self.node("pad", QOp::Pad { pads, fill }, &[x], &out, ty))
            }
            16 => {
                let mut perm: Vec<usize> = (0..shape.len()).collect();
                for k in (2..perm.len()).rev() {
                    perm.swap(k, 1 + self.rng.below(k));
                }
                let out: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
                Some(self.node("transpose", QOp::Transpose(perm), &[x], &out, ty))
            }
            17 => {
                let total: usize = shape[1..].iter().product();
                let divisor = |r: &mut Rng, n: usize| {
                    let ds: Vec<usize> = (1..=n).filter(|d| n % d == 0).collect();
                    r.pick(&ds)
                };
                let a = divisor(&mut self.rng, total);
                let b = divisor(&mut self.rng, total / a);
                let out = match self.rng.below(4) {
                    0 => vec![shape[0], total],
                    1 => vec![shape[0], a, total / a],
                    2 => vec![shape[0], total, 1, 1],
                    _ => vec![shape[0], a, b, total / a / b],
                };
                Some(self.node("reshape", QOp::Reshape, &[x], &out, ty))
            }
            18 if image => {
                let block = [self.rng.range(1, 2), self.rng.range(1, 3)];
                let c = shape[1] / (block[0] * block[1]);
                if c * block[0] * block[1] != shape[1] {
                    return None;
                }
                let crop = [self.rng.below(block[0] + 1), self.rng.below(block[1] + 1)];
                let h = (shape[2] * block[0]).checked_sub(crop[0]).filter(|&h| h > 0)?;
                let w = (shape[3] * block[1]).checked_sub(crop[1]).filter(|&w| w > 0)?;
                let out = [shape[0], c, self.rng.range(1, h), self.rng.range(1, w)];
                Some(self.node("d2s", QOp::DepthToSpace { block, crop }, &[x], &out, ty))
            }
            19 if image && shape[2] * shape[3] < 400 => {
                let table = |r: &mut Rng, n: usize| -> Vec<u32> {
                    match r.below(3) {
                        0 => (0..2 * n).map(|k| k as u32 / 2).collect(),
                        1 => (0..n).map(|k| k as u32).collect(),
                        _ => (0..r.range(1, n + 3)).map(|_| r.below(n) as u32).collect(),
                    }
                };
                let (rows, cols) = (table(&mut self.rng, shape[2]), table(&mut self.rng, shape[3]));
                let out = [shape[0], shape[1], rows.len(), cols.len()];
                Some(self.node("nearest", QOp::ResizeNearest { rows, cols }, &[x], &out, ty))
            }
            20 if u8_in => {
                let f = self.node("dequantize", QOp::Dequantize, &[x], &shape, QType::F32);
                Some(self.float_op(f))
            }
            21 if !u8_in => Some(self.node("quantize", QOp::Quantize, &[x], &shape, out_type)),
            _ if !u8_in => Some(self.float_op(x)),
            _ => None,
        }
    }

    /// An f32 operation on an f32 value, with the same bits in every engine.
    fn float_op(&mut self, x: QValueId) -> QValueId {
        let shape = self.shape(x);
        let f = QType::F32;
        match self.rng.below(7) {
            0 => {
                let axis = self.rng.range(1, shape.len() - 1);
                self.node("softmax", QOp::Softmax { axis }, &[x], &shape, f)
            }
            1 if shape.len() == 4 => {
                let op = QOp::Lrn { size: self.rng.range(1, 5), alpha: 0.01, beta: 0.75, bias: 1.0 };
                self.node("lrn", op, &[x], &shape, f)
            }
            2 if shape.len() == 4 && shape[2] * shape[3] < 400 => {
                let taps = |r: &mut Rng, n: usize| -> Vec<Tap> {
                    let tap = |r: &mut Rng| {
                        let lo = r.below(n);
                        Tap { lo: lo as u32, hi: (lo + 1).min(n - 1) as u32, frac: r.unit().abs() }
                    };
                    (0..n + 2).map(|_| tap(r)).collect()
                };
                let (rows, cols) = (taps(&mut self.rng, shape[2]), taps(&mut self.rng, shape[3]));
                let out = [shape[0], shape[1], rows.len(), cols.len()];
                self.node("linear", QOp::ResizeLinear { rows, cols }, &[x], &out, f)
            }
            3 if shape.len() == 4 => {
                let slope: Vec<f32> = (0..shape[1]).map(|_| self.rng.unit()).collect();
                let name = self.name("slope");
                let slope = self.b.add_blob_f32(&name, &[shape[1]], &slope);
                self.node("prelu", QOp::PRelu(slope), &[x], &shape, f)
            }
            4 if shape.len() == 4 => {
                let peak = self.node("peak", QOp::Peak, &[x], &[shape[0], 1, 1, 1], f);
                let op = self.rng.pick(&[FloatBinary::Div, FloatBinary::Mul]);
                let op = QOp::Binary { op, lo: f32::NEG_INFINITY, hi: f32::INFINITY };
                self.node("normalized", op, &[x, peak], &shape, f)
            }
            5 => {
                let op = self.rng.pick(&[FloatBinary::Add, FloatBinary::Sub, FloatBinary::Mul]);
                let y = if self.rng.one_in(2) { self.reduced(x) } else { x };
                let op = QOp::Binary { op, lo: -2.0, hi: f32::INFINITY };
                self.node("binary", op, &[x, y], &shape, f)
            }
            _ => {
                let op = QOp::Unary(self.unary());
                self.node("unary", op, &[x], &shape, f)
            }
        }
    }

    /// A slice of `x` that broadcasts against it.
    fn reduced(&mut self, x: QValueId) -> QValueId {
        let shape = self.shape(x);
        let slices: Vec<QSlice> = shape
            .iter()
            .map(|&n| {
                let count = if self.rng.one_in(2) { 1 } else { n };
                QSlice { start: 0, step: 1, count }
            })
            .collect();
        let out: Vec<usize> = slices.iter().map(|s| s.count).collect();
        let ty = self.ty(x);
        self.node("reduced", QOp::Slice(slices), &[x], &out, ty)
    }

    /// Makes the last values outputs and finishes.
    pub(crate) fn finish(mut self, values: &[QValueId]) -> QGraph {
        for &v in values.iter().rev().take(3) {
            let shape = self.shape(v);
            let out = match self.ty(v) {
                QType::F32 if self.b.value(v).name.starts_with("input") => continue,
                QType::F32 => v,
                QType::U8 { .. } => self.node("output", QOp::Dequantize, &[v], &shape, QType::F32),
            };
            self.b.add_output(out);
        }
        self.b.finish().expect("the random graph is valid")
    }
}

fn multiplier_signed(s: f32) -> f32 {
    let m = multiplier(f64::from(s.abs()), 24);
    if s < 0.0 { -m } else { m }
}

/// A graph of about `nodes` random operations.
pub(crate) fn random_graph(seed: u64, nodes: usize) -> QGraph {
    let mut m = Maker::new(seed);
    let shape = [
        if m.rng.one_in(6) { 2 } else { 1 },
        m.rng.pick(&[1, 2, 3, 4, 8, 16, 24, 40]),
        m.rng.range(3, 15),
        m.rng.range(3, 19),
    ];
    let mut values = vec![m.input(&shape)];
    let mut tries = 0;
    while values.len() < nodes && tries < 10 * nodes {
        tries += 1;
        if let Some(v) = m.random_op(&values) {
            let size: usize = m.b.value(v).shape.iter().product();
            values.push(v);
            if size > 60_000 {
                break;
            }
        }
    }
    m.finish(&values)
}

impl Maker {
    fn pool_window(&mut self) -> Window {
        let mut w = self.window(4);
        // A maximum wants every window to touch the map.
        for k in 0..4 {
            w.pads[k] = w.pads[k].min(w.kernel[k % 2] - 1);
        }
        w.dilations = [1, 1];
        w
    }
}

/// Inputs for a graph: mostly within the quantized range, sometimes far outside.
pub(crate) fn random_inputs(graph: &QGraph, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = Rng(seed ^ 0x5eed);
    let mut input = |n: usize| -> Vec<f32> {
        (0..n).map(|_| rng.unit() * if rng.one_in(50) { 1e6 } else { 5.0 }).collect()
    };
    graph.inputs.iter().map(|&i| input(graph.value(i).shape.iter().product())).collect()
}
