//! How exact an integer graph is, layer by layer, held against the float graph that it was made of.
//!
//! In: both graphs, and sample by sample the values that both gave. Out: for every node of the integer graph a [`Layer`] with what was measured, and
//! which layers add most noise. Memory does not grow with the samples. Not here: running the graphs, times.
//!
//! - `meter`: the statistics of one value.

mod meter;

use crate::graph::{Graph, Op};
use crate::qgraph::{QGraph, QOp, QType};
use crate::quant;
use std::collections::{HashMap, HashSet};

pub use meter::Meter;

/// A node of the integer graph, and how exact its value is.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Name of the node.
    pub node: String,
    /// What it does: [`QOp::label`].
    pub op: String,
    /// Name of its value.
    pub value: String,
    /// The value's extents.
    pub shape: Vec<usize>,
    /// The value's type.
    pub ty: QType,
    /// Reads or gives bytes.
    pub integer: bool,
    /// Why it runs in float, in an otherwise integer network.
    pub float_reason: Option<String>,
    /// What was measured of the value. Nothing ([`Meter::count`]) if the float graph has no such value.
    pub meter: Meter,
    /// `quantize --exclude` knows it by its name, and would take work from integers to float.
    pub excludable: bool,
    /// The value of the float graph that this one stands for; where that graph rounds it to the same grid itself, what it is rounded to.
    exact: String,
    /// Layers whose values it reads.
    operands: Vec<usize>,
}

/// All layers of a network. See the module.
#[derive(Clone, Debug)]
pub struct Assessment {
    layers: Vec<Layer>,
    by_value: HashMap<String, usize>,
}

impl Assessment {
    /// Nothing measured yet. `fused` is the graph that `quantized` was made of.
    pub fn new(fused: &Graph, quantized: &QGraph) -> Assessment {
        let named: HashSet<&str> = fused.nodes.iter().map(|n| &n.name[..]).collect();
        let rounds: Vec<(&str, QType, &str)> = fused
            .nodes
            .iter()
            .filter_map(|n| match n.op {
                Op::Round(grid) => {
                    let ty = QType::U8 { scale: grid.scale, zero_point: grid.zero };
                    Some((&fused.value(n.inputs[0]).name[..], ty, &fused.value(n.output).name[..]))
                }
                _ => None,
            })
            .collect();
        let mut a = Assessment { layers: Vec::new(), by_value: HashMap::new() };
        for (node, placement) in quantized.nodes.iter().zip(quant::summary(quantized)) {
            let value = quantized.value(node.output);
            let operand = node.inputs.first().map(|&i| quantized.value(i).name.as_str());
            let exact = match node.op {
                // Conversions give what they are given.
                QOp::Quantize | QOp::Dequantize => operand.map(|x| match a.by_value.get(x) {
                    Some(&k) => a.layers[k].exact.clone(),
                    None => x.to_string(),
                }),
                _ => None,
            };
            let operands = node
                .inputs
                .iter()
                .filter_map(|&i| a.by_value.get(&quantized.value(i).name))
                .copied()
                .collect();
            let computes = matches!(
                node.op,
                QOp::Conv(_)
                    | QOp::Affine { .. }
                    | QOp::Add { .. }
                    | QOp::Mul { .. }
                    | QOp::Table(_)
                    | QOp::AvgPool { .. }
            );
            let exact = exact.unwrap_or_else(|| value.name.clone());
            let rounded = rounds.iter().find(|(x, ty, _)| *x == exact && *ty == value.ty);
            let exact = rounded.map_or(exact, |(.., y)| y.to_string());
            a.by_value.insert(value.name.clone(), a.layers.len());
            a.layers.push(Layer {
                node: node.name.clone(),
                op: node.op.label(),
                value: value.name.clone(),
                shape: value.shape.clone(),
                ty: value.ty,
                integer: placement.integer,
                float_reason: placement.reason,
                meter: Meter::new(value),
                excludable: computes && placement.integer && named.contains(&node.name[..]),
                exact,
                operands,
            });
        }
        a
    }

    /// A value of the integer graph for a sample, dense row-major as real numbers, and all values of the float graph for the same sample.
    /// Values that the float graph does not have are passed over.
    pub fn add(&mut self, exact: &HashMap<String, Vec<f32>>, name: &str, found: &[f32]) {
        let Some(&k) = self.by_value.get(name) else { return };
        let layer = &mut self.layers[k];
        if let Some(exact) = exact.get(&layer.exact).filter(|e| e.len() == found.len()) {
            layer.meter.add(exact, found);
        }
    }

    /// In the order of computation.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The noise that comes with what a layer reads, as a part of the signal's energy: that of its worst operand.
    fn incoming(&self, k: usize) -> f64 {
        let of = |&o: &usize| match self.layers[o].meter.count() {
            0 => self.incoming(o),
            _ => self.layers[o].meter.noise(),
        };
        self.layers[k].operands.iter().map(of).fold(0.0, f64::max)
    }

    /// How much more noise a layer's value has than what it reads, as a part of the signal's energy; negative if the layer takes noise away, 0
    /// if nothing was measured.
    pub fn added_noise(&self, k: usize) -> f64 {
        let meter = &self.layers[k].meter;
        if meter.count() == 0 { 0.0 } else { meter.noise() - self.incoming(k) }
    }

    /// At most so many integer layers that add noise, which `quantize --exclude` can keep in float; the worst first.
    pub fn worst(&self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.layers.len())
            .filter(|&k| self.layers[k].excludable && self.added_noise(k) > 0.0)
            .collect();
        all.sort_by(|&a, &b| self.added_noise(b).total_cmp(&self.added_noise(a)).then(a.cmp(&b)));
        all.truncate(count);
        all
    }

    /// The options of `quantize` that keep these layers in float, as a shell takes them.
    pub fn exclude(&self, layers: &[usize]) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_./:-".contains(c);
        let word = |&k: &usize| match &self.layers[k].node {
            name if !name.is_empty() && name.chars().all(plain) => format!("--exclude {name}"),
            name => format!("--exclude '{}'", name.replace('\'', "'\\''")),
        };
        layers.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}
