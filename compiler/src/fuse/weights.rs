//! Scaling the weights of convolutions and dense layers per channel, in f64, rounded once.

use super::rewrite::set_constant;
use crate::graph::{Conv, ConvTranspose, Graph, Op, Tensor};

/// Axis of the output channels in an output of `rank` axes.
pub(super) fn output_axis(op: &Op, rank: usize) -> usize {
    if matches!(op, Op::Dense(_)) { rank - 1 } else { 1 }
}

/// Axis of the input channels in an input of `rank` axes.
pub(super) fn input_axis(op: &Op, rank: usize) -> usize {
    output_axis(op, rank)
}

/// Makes the layer give `scale[m]·y + shift[m]` instead of y. `Err` (nothing changed) if a number leaves the range of f32.
pub(super) fn scale_outputs(graph: &mut Graph, k: usize, scale: &[f64], shift: &[f64]) -> Result<(), String> {
    let (weight, bias) = parameters(graph, k)?;
    let op = &graph.nodes[k].op;
    let (c, m) = (graph.shape(graph.nodes[k].inputs[0]), scale.len());
    let at = Channels::of(op, &weight.shape, c[input_axis(op, c.len())], m);
    let weights = weight.data.iter().enumerate().map(|(i, &w)| w as f64 * scale[at.output(i)]);
    let biases = bias.data.iter().enumerate().map(|(m, &b)| b as f64 * scale[m] + shift[m]);
    let (weights, biases) = (narrow(weights)?, narrow(biases)?);
    replace(graph, k, &weight, weights, biases);
    Ok(())
}

/// Makes the layer read x where it read `scale[c]·x + shift[c]`; exact only where no padding is read, unless every shift is 0.
/// `Err` (nothing changed) if a number leaves the range of f32.
pub(super) fn scale_inputs(graph: &mut Graph, k: usize, scale: &[f64], shift: &[f64]) -> Result<(), String> {
    let (weight, bias) = parameters(graph, k)?;
    let op = &graph.nodes[k].op;
    let at = Channels::of(op, &weight.shape, scale.len(), bias.data.len());
    let mut biases: Vec<f64> = bias.data.iter().map(|&b| b as f64).collect();
    let mut weights = Vec::with_capacity(weight.data.len());
    for (i, &w) in weight.data.iter().enumerate() {
        let c = at.input(i);
        biases[at.output(i)] += w as f64 * shift[c];
        weights.push(w as f64 * scale[c]);
    }
    let (weights, biases) = (narrow(weights.into_iter())?, narrow(biases.into_iter())?);
    replace(graph, k, &weight, weights, biases);
    Ok(())
}

fn parameters(graph: &Graph, k: usize) -> Result<(Tensor, Tensor), String> {
    let constant = |p: usize| graph.nodes[k].inputs.get(p).and_then(|&id| graph.constant(id)).cloned();
    let found = constant(1).zip(constant(2)).ok_or("its weights are not constant")?;
    match found.0.integers {
        Some(_) => Err("its weights are integers of the model".into()),
        None => Ok(found),
    }
}

fn replace(graph: &mut Graph, k: usize, weight: &Tensor, weights: Vec<f32>, biases: Vec<f32>) {
    let bias = Tensor::new([biases.len()], biases);
    set_constant(graph, k, 1, "weight", Tensor::new(weight.shape.clone(), weights));
    set_constant(graph, k, 2, "bias", bias);
}

fn narrow(values: impl Iterator<Item = f64>) -> Result<Vec<f32>, String> {
    let finite = |v: f64| Some(v as f32).filter(|v| v.is_finite());
    values.map(finite).collect::<Option<_>>().ok_or_else(|| "a weight would leave the range of f32".into())
}

/// Which channels the elements of a weight tensor connect.
struct Channels {
    /// Elements per index of axis 0, of axis 1.
    strides: [usize; 2],
    /// Extent of axis 1.
    inner: usize,
    /// Indices of axis 0 in a group.
    per_group: usize,
    /// Axis 0 counts input channels.
    transposed: bool,
}

impl Channels {
    fn of(op: &Op, shape: &[usize], inputs: usize, outputs: usize) -> Channels {
        let taps: usize = shape[2..].iter().product();
        let transposed = matches!(op, Op::ConvTranspose(_));
        let mut groups = 1;
        if let Op::Conv(Conv { groups: n, .. }) | Op::ConvTranspose(ConvTranspose { groups: n, .. }) = op {
            groups = *n;
        }
        let outer = if transposed { inputs } else { outputs };
        Channels { strides: [shape[1] * taps, taps], inner: shape[1], per_group: outer / groups, transposed }
    }

    fn outer_and_inner(&self, i: usize) -> [usize; 2] {
        let outer = i / self.strides[0];
        [outer, outer / self.per_group * self.inner + i / self.strides[1] % self.inner]
    }

    /// Output channel of element `i`.
    fn output(&self, i: usize) -> usize {
        self.outer_and_inner(i)[self.transposed as usize]
    }

    /// Input channel of element `i`.
    fn input(&self, i: usize) -> usize {
        self.outer_and_inner(i)[1 - self.transposed as usize]
    }
}
