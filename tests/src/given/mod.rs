//! Models that are quantized already, as ONNX Runtime makes them: every number is taken over, every operator gives what its definition
//! says in exact arithmetic, rounded. The references are plain loops in f64, written here.
//!
//! - [`qdq`]: QuantizeLinear and DequantizeLinear around float operators. [`qlinear`]: operators on integers.
//! - [`exported`]: what `export-onnx` writes, read again. [`fixtures`]: models and outputs of ONNX Runtime itself.
//! - [`refused`]: models that contradict themselves or that integers cannot follow.

pub(crate) mod exported;
mod fixtures;
mod qdq;
mod qlinear;
mod refused;

use crate::support::engines::{assert_equal, evaluate};
use crate::support::model_builder::{Model, ints};
use qgraph_compiler::graph::Graph;
use qgraph_compiler::onnx::{Options, import_bytes, proto::data_type::*};
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::{Error, pipeline, quant};

/// A scale and a zero point in the model's own type.
#[derive(Clone, Copy)]
struct Levels {
    scale: f32,
    ty: i32,
    zero: i32,
}

const X: Levels = Levels { scale: 0.02, ty: UINT8, zero: 120 };
const X_SIGNED: Levels = Levels { scale: 0.02, ty: INT8, zero: -9 };

impl Levels {
    fn bounds(self) -> (f64, f64) {
        if self.ty == INT8 { (-128.0, 127.0) } else { (0.0, 255.0) }
    }

    /// The integer of a real number.
    fn quantize(self, x: f64) -> f64 {
        let (lo, hi) = self.bounds();
        ((x / f64::from(self.scale)).round_ties_even() + f64::from(self.zero)).clamp(lo, hi)
    }

    /// The real number nearest to `x` that has an integer.
    fn round(self, x: f64) -> f64 {
        (self.quantize(x) - f64::from(self.zero)) * f64::from(self.scale)
    }
}

/// Seeded numbers in −1..1.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// Seeded integers in −`most`..=`most`.
fn integers(count: usize, most: i32, seed: u64) -> Vec<i32> {
    noise(count, seed).iter().map(|x| (x * most as f32).round() as i32).collect()
}

fn fused(model: &Model) -> Graph {
    let graph = import_bytes(&model.bytes(), &Options::default()).unwrap_or_else(|e| panic!("{e}"));
    pipeline::fuse(&graph).unwrap_or_else(|e| panic!("{e}")).0
}

fn quantized(model: &Model) -> QGraph {
    let fused = fused(model);
    pipeline::quantize_given(&fused, &quant::Options::default()).unwrap_or_else(|e| panic!("{e}\n{fused}"))
}

/// A network that was exported and read back.
pub(crate) fn again(graph: &QGraph) -> Result<QGraph, Error> {
    let imported = import_bytes(&pipeline::export(graph)?, &Options::default())?;
    pipeline::quantize_given(&pipeline::fuse(&imported)?.0, &quant::Options::default())
}

/// The nodes that run in float, conversions aside, with reasons.
fn floats(graph: &QGraph) -> Vec<String> {
    let float = |p: &quant::Placement| !p.integer && !p.border;
    let text = |p: &quant::Placement| format!("{}: {}", p.node, p.reason.clone().unwrap_or_default());
    quant::summary(graph).iter().filter(|p| float(p)).map(text).collect()
}

/// Runs a model on all engines, which must agree; its output as real numbers.
fn run(model: &Model, inputs: &[Vec<f32>]) -> Vec<f64> {
    let graph = quantized(model);
    assert_equal(&graph, inputs, "a given model");
    evaluate(&graph, inputs)[0].iter().map(|&bits| f64::from(f32::from_bits(bits))).collect()
}

/// Asserts that a model runs in integers throughout, and gives the integers of `y` that are nearest to `exact`.
#[track_caller]
fn assert_rounds(model: &Model, inputs: &[Vec<f32>], y: Levels, exact: &[f64]) {
    let graph = quantized(model);
    assert_eq!(floats(&graph), [""; 0], "{graph}");
    let found = run(model, inputs);
    assert_eq!(found.len(), exact.len());
    let (lo, hi) = y.bounds();
    let mut inner = 0;
    for (i, (found, exact)) in found.iter().zip(exact).enumerate() {
        let found = (found / f64::from(y.scale)).round() + f64::from(y.zero);
        let exact = (exact / f64::from(y.scale) + f64::from(y.zero)).clamp(lo, hi);
        // f32 rounds the product and the sum: what lies that near to the middle of two integers may go to either.
        assert!((found - exact).abs() <= 0.5001, "element {i} is {found} for {exact}\n{graph}");
        inner += usize::from(found > lo && found < hi);
    }
    assert!(2 * inner > exact.len(), "only {inner} of {} results are within the range", exact.len());
}

/// A model with the input x `[1, 3, 5, 6]` and its integers, called `q`.
fn started(x: Levels) -> Model {
    Model::new(13).input("x", &[1, 3, 5, 6]).levels("x", x.scale, x.ty, x.zero).node(
        "QuantizeLinear",
        &["x", "x_s", "x_z"],
        &["q"],
        &[],
    )
}

/// The same numbers for its input, and what is left of them.
fn input(x: Levels) -> (Vec<Vec<f32>>, Vec<f64>) {
    let data: Vec<f32> = noise(90, 1).iter().map(|v| v * 2.0).collect();
    let rounded = data.iter().map(|&v| x.round(f64::from(v))).collect();
    (vec![data], rounded)
}

/// Convolution of `[1, C, h, w]` with `[M, C/groups, 3, 3]`, padding 1.
fn conv3x3(x: &[f64], extents: [usize; 3], w: &[f64], b: &[f64], groups: usize) -> Vec<f64> {
    let [channels, h, width] = extents;
    let (outputs, per_group) = (b.len(), channels / groups);
    let mut y = Vec::new();
    for m in 0..outputs {
        let first = m * groups / outputs * per_group;
        for (i, j) in (0..h).flat_map(|i| (0..width).map(move |j| (i, j))) {
            let mut sum = b[m];
            for (c, u, v) in (0..per_group).flat_map(|c| (0..9).map(move |t| (c, t / 3, t % 3))) {
                let (row, col) = (i + u, j + v);
                if (1..=h).contains(&row) && (1..=width).contains(&col) {
                    let at = ((first + c) * h + row - 1) * width + col - 1;
                    sum += x[at] * w[(m * per_group + c) * 9 + u * 3 + v];
                }
            }
            y.push(sum);
        }
    }
    y
}

const PADDED: fn() -> Vec<qgraph_compiler::onnx::proto::AttributeProto> =
    || vec![ints("kernel_shape", &[3, 3]), ints("pads", &[1, 1, 1, 1])];

/// `q · scale`, a scale for each `inner` elements in turn.
fn scaled(q: &[i32], scales: &[f32], inner: usize) -> Vec<f64> {
    q.iter().enumerate().map(|(i, &q)| f64::from(q) * f64::from(scales[i / inner % scales.len()])).collect()
}
