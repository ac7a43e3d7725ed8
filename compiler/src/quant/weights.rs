//! Weights and biases of a layer in integers, and weights in the order of their blobs.
//!
//! In: real weights `[M, C/groups, kh, kw]`, real biases `[M]`, the grids of input and output. Out: i8 weights in the same order, i32
//! biases with the zero point folded in, one f32 multiplier per output channel. Holds: weights are −127..=127; 255·Σ|q| + |b'| < 2^31;
//! multipliers are in range.

use super::conv::phases;
use super::options::Weights;
use super::ranges::Grid;
use super::transposed;
use crate::graph::{Graph, Node, Op};
use crate::qgraph::layout::WeightShape;
use qgraph_runtime::requant::{MULTIPLIER_RANGE, Rounding, given_multiplier, multiplier};

/// The bound that no accumulator may reach.
const ACCUMULATOR: f64 = (1u64 << 31) as f64;

/// A layer's constants, channel by channel.
#[derive(Debug)]
pub(super) struct Channels {
    pub(super) weight: Vec<i8>,
    pub(super) bias: Vec<i32>,
    pub(super) scale: Vec<f32>,
}

/// Where a layer stands: the grids of what it reads and gives (floats if `None`), and how it rounds onto the second.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) x: Grid,
    pub(super) y: Option<Grid>,
    pub(super) rounding: Rounding,
}

/// How weights get their scales.
#[derive(Clone, Copy, Default)]
pub(super) struct Scaling {
    pub(super) sharing: Weights,
    /// Weights are cut off where that makes their squared error least.
    pub(super) clip: bool,
}

/// What each tap of an output channel reads, where calibration knows it: channels of a group in turn, groups one after the other.
#[derive(Default)]
pub(super) struct Read {
    /// On the mean: what rounding the weights adds to the mean of a sum is taken off its bias.
    pub(super) means: Option<Vec<f64>>,
    /// The mean of the squares: what an error of the weight counts for.
    pub(super) squares: Option<Vec<f64>>,
}

/// Quantizes a layer.
pub(super) fn quantize(
    weight: &[f32],
    bias: &[f32],
    place: Place,
    scaling: Scaling,
    read: &Read,
) -> Result<Channels, String> {
    let taps = weight.len() / bias.len().max(1);
    let [means, squares] = [&read.means, &read.squares].map(|list| {
        // Of what the taps of an output channel read.
        move |c: usize| {
            let list = list.as_ref()?;
            let groups = list.len() / taps.max(1);
            Some(&list[c * groups / bias.len() * taps..][..taps])
        }
    });
    let kernel = |c: usize| (&weight[c * taps..(c + 1) * taps], squares(c));
    let shared = (scaling.sharing == Weights::Tensor)
        .then(|| end(&(0..bias.len()).map(kernel).collect::<Vec<_>>(), scaling.clip));
    let mut channels = Channels {
        weight: Vec::with_capacity(weight.len()),
        bias: Vec::with_capacity(bias.len()),
        scale: Vec::with_capacity(bias.len()),
    };
    for (c, &b) in bias.iter().enumerate() {
        let kernel = kernel(c);
        let end = shared.unwrap_or_else(|| end(std::slice::from_ref(&kernel), scaling.clip));
        let (bias, scale) = channel(kernel.0, b, end, place, means(c), &mut channels.weight)
            .map_err(|e| format!("output channel {c}: {e}; keep this layer in float"))?;
        channels.bias.push(bias);
        channels.scale.push(scale);
    }
    Ok(channels)
}

/// Ends that are tried when weights are cut off, from the largest weight to a quarter of it by equal factors.
const ENDS: u32 = 32;

/// The magnitude at which weights that share a scale end: the largest, or what makes their squared error least, by what they read.
fn end(kernels: &[(&[f32], Option<&[f64]>)], clip: bool) -> f64 {
    let weights = kernels.iter().flat_map(|(w, _)| w.iter());
    let largest = f64::from(weights.fold(0f32, |m, w| m.max(w.abs())));
    if !clip || largest == 0.0 {
        return largest;
    }
    let error = |end: f64| -> f64 {
        let scale = end / 127.0;
        let of = |w: f32| {
            let w = f64::from(w);
            ((w / scale).round_ties_even().clamp(-127.0, 127.0) * scale - w).powi(2)
        };
        let kernel = |&(w, squares): &(&[f32], Option<&[f64]>)| -> f64 {
            match squares {
                Some(squares) => w.iter().zip(squares).map(|(&w, square)| of(w) * square).sum(),
                None => w.iter().map(|&w| of(w)).sum(),
            }
        };
        kernels.iter().map(kernel).sum()
    };
    let ends = (0..=ENDS).map(|k| largest * (-2.0 * f64::from(k) / f64::from(ENDS)).exp2());
    let errors = ends.map(|end| (error(end), end));
    errors.reduce(|best, next| if next.0 < best.0 { next } else { best }).map_or(largest, |(_, end)| end)
}

/// Quantizes one channel, whose weights end at `largest`: appends its weights, gives its bias and multiplier.
fn channel(
    w: &[f32],
    b: f32,
    largest: f64,
    Place { x, y, rounding }: Place,
    means: Option<&[f64]>,
    out: &mut Vec<i8>,
) -> Result<(i32, f32), String> {
    let bias = f64::from(b) / x.step();
    let finest = if largest > 0.0 {
        largest / 127.0
    } else {
        // A dead channel gives its bias: any scale will do that resolves it.
        match y {
            Some(y) => y.step() / x.step() / 256.0,
            None if b != 0.0 => bias.abs() / 2f64.powi(22),
            None => 1.0 / x.step(),
        }
    };
    let least = match y {
        Some(y) => MULTIPLIER_RANGE.0 * y.step() / x.step(),
        None => 2.0 * f64::from(f32::MIN_POSITIVE) / x.step(),
    };
    let start = out.len();
    let mut scale = finest.max(least * (1.0 + 1e-6)).max(f64::from(f32::MIN_POSITIVE));
    // A bias too large for the scale of its weights is saved at the cost of their resolution. Each round goes most of the way.
    for _ in 0..64 {
        let s = f64::from(scale as f32);
        out.truncate(start);
        out.extend(w.iter().map(|&w| (f64::from(w) / s).round_ties_even().clamp(-127.0, 127.0) as i8));
        let added: f64 = means.map_or(0.0, |means| {
            let of = |((&q, &w), mean): ((&i8, &f32), &f64)| (f64::from(q) * s - f64::from(w)) * mean;
            out[start..].iter().zip(w).zip(means).map(of).sum()
        });
        let (folded, reach) = fold(&out[start..], ((bias - added / x.step()) / s).round_ties_even(), x);
        if reach < ACCUMULATOR {
            let round = |y: Grid| match rounding {
                Rounding::Fused => multiplier(x.step() * s / y.step()),
                Rounding::ZeroLast => given_multiplier(rounding, x.scale, s as f32, y.scale),
            };
            return Ok((folded as i32, multiplier_of(x.step() * s, y, round)?));
        }
        scale *= reach / ACCUMULATOR * 1.001;
        if scale > f64::from(f32::MAX) {
            break;
        }
    }
    Err("its sum does not fit 32 bits at any weight scale".into())
}

/// A bias, in steps of the sum, with the zero point of the inputs folded in; and the bound of what the accumulator can reach.
fn fold(weights: &[i8], bias: f64, x: Grid) -> (f64, f64) {
    let sum: i64 = weights.iter().map(|&q| i64::from(q)).sum();
    let magnitude: i64 = weights.iter().map(|&q| i64::from(q).abs()).sum();
    let folded = bias - x.offset() * sum as f64;
    (folded, 255.0 * magnitude as f64 + folded.abs())
}

/// What a sum of steps `product` is multiplied by: `round` has it where the result has a grid.
fn multiplier_of(product: f64, y: Option<Grid>, round: impl Fn(Grid) -> Option<f32>) -> Result<f32, String> {
    match y {
        Some(y) => round(y)
            .ok_or_else(|| format!("its multiplier {:e} lies outside 2^-64 to 2^8", product / y.step())),
        None => Some(product as f32)
            .filter(|s| s.is_normal())
            .ok_or_else(|| format!("its scale {product:e} is not a normal number")),
    }
}

/// A layer's integers as the model has them.
pub(super) struct Given {
    weight: Vec<i8>,
    /// One for each output channel.
    steps: Vec<f32>,
    /// In real numbers, and as integers of a step where the model has such.
    bias: Vec<(f64, Option<(i32, f64)>)>,
}

/// The integers behind the weights and biases of a layer; the error is a reason why the layer cannot run in integers.
pub(super) fn given(graph: &Graph, node: &Node) -> Result<Given, String> {
    let constant = |i: usize| node.inputs.get(i).and_then(|&v| graph.constant(v));
    let (Some(weight), Some(bias)) = (constant(1), constant(2)) else {
        return Err("its weights are not constant".into());
    };
    let integers = weight.integers.as_ref().ok_or("the model does not quantize its weights")?;
    let mut q: Vec<f32> = integers.q.iter().map(|&q| q as f32).collect();
    let mut steps: Vec<f32> = (0..q.len()).map(|i| integers.step(i)).collect();
    let outputs = bias.data.len();
    let mut copies = 1;
    if let Op::ConvTranspose(conv) = &node.op {
        let phases = phases(graph, node, conv)?;
        let channels = graph.shape(node.inputs[0])[1];
        let turn = |w: &[f32]| transposed::weights(conv, &phases, w, channels, outputs);
        (q, steps) = (turn(&q), turn(&steps));
        copies = conv.strides[0] * conv.strides[1];
    }
    if let Some(bad) = q.iter().find(|q| q.abs() > 127.0) {
        return Err(format!("a weight is {bad} steps from its zero point; integers of -127 to 127 are run"));
    }
    let channels = outputs * copies;
    let taps = q.len() / channels.max(1);
    let step = |c: usize| {
        // Steps of 0 stand where the layout of a transposed convolution adds zeros.
        let mut own = steps[c * taps..(c + 1) * taps].iter().copied().filter(|&s| s != 0.0);
        let first = own.next().unwrap_or(1.0);
        own.all(|s| s == first).then_some(first)
    };
    let steps = (0..channels).map(step).collect::<Option<Vec<_>>>();
    let steps = steps.ok_or("the scales of its weights do not run along its output channels")?;
    let of = |c: usize| {
        let c = c % outputs;
        let given = bias.integers.as_ref().map(|i| (i.q[c], f64::from(i.step(c))));
        (given.map_or(f64::from(bias.data[c]), |(q, step)| f64::from(q) * step), given)
    };
    Ok(Given { weight: q.iter().map(|&q| q as i8).collect(), steps, bias: (0..channels).map(of).collect() })
}

impl Given {
    /// The constants of a layer.
    pub(super) fn channels(self, Place { x, y, rounding }: Place) -> Result<Channels, String> {
        let (mut biases, mut scales) = (Vec::new(), Vec::new());
        let taps = self.weight.len() / self.bias.len().max(1);
        for (c, &(real, given)) in self.bias.iter().enumerate() {
            let fail = |e: String| format!("output channel {c}: {e}; keep this layer in float");
            let product = x.step() * f64::from(self.steps[c]);
            // The bias has the steps of the sum, up to the rounding of their product.
            let bias = match given {
                Some((q, step)) if (step / product - 1.0).abs() < 1e-6 => f64::from(q),
                _ => (real / product).round_ties_even(),
            };
            let (folded, reach) = fold(&self.weight[c * taps..][..taps], bias, x);
            if reach >= ACCUMULATOR {
                return Err(fail("its sum does not fit 32 bits".into()));
            }
            let round = |y: Grid| given_multiplier(rounding, x.scale, self.steps[c], y.scale);
            biases.push(folded as i32);
            scales.push(multiplier_of(product, y, round).map_err(fail)?);
        }
        Ok(Channels { weight: self.weight, bias: biases, scale: scales })
    }
}

/// Weights `[M, C/groups, kh, kw]` in the order of their blob; what the layout adds is zero.
pub(super) fn pack<T: Copy + Default>(shape: &WeightShape, weight: &[T]) -> Vec<T> {
    let mut blob = vec![T::default(); shape.len()];
    let [kh, kw] = shape.kernel;
    for (i, &w) in weight.iter().enumerate() {
        let (tap, c) = (i % (kh * kw), i / (kh * kw) % shape.ci);
        blob[shape.index(i / (kh * kw * shape.ci), c, tap / kw, tap % kw)] = w;
    }
    blob
}
