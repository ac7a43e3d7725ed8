//! The float graph: what import gives, what fusion rewrites, what calibration watches.
//!
//! Every value is f32 with a known shape, in the axis order of the ONNX model (images: N, C, H, W). Nodes
//! stand in topological order, each with exactly one output. Constants are values with data and no
//! producer. Nothing here knows ONNX, integers or layouts.
//!
//! - [`op`]: the operators and their attributes. [`quantized`]: what models that are quantized already add to them.
//! - [`shape`]: output shape of every operator.
//! - [`verify`]: the rules of the IR, checked after every pass.
//! - [`eval`]: the definition of what a graph computes.
//! - `print`: its text.

pub mod eval;
pub mod op;
mod print;
pub mod quantized;
pub mod shape;
pub mod verify;

use qgraph_runtime::requant::Rounding;
use std::sync::Arc;

pub use op::*;
pub use quantized::{Grid, Integers};

/// Index of a value in [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueId(pub u32);

/// A dense f32 tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extents, outermost first. Empty for a scalar.
    pub shape: Vec<usize>,
    /// Elements; as many as the product of `shape`.
    pub data: Arc<[f32]>,
    /// What the elements stand for, if the model has them as integers.
    pub integers: Option<Integers>,
}

impl Tensor {
    /// A tensor of `shape` over `data`. Panics if the counts differ: both come from code, not from files.
    pub fn new(shape: impl Into<Vec<usize>>, data: impl Into<Arc<[f32]>>) -> Self {
        let (shape, data) = (shape.into(), data.into());
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "tensor data does not fill its shape {shape:?}"
        );
        Tensor { shape, data, integers: None }
    }

    /// The same elements as another tensor that they fill.
    pub fn reshaped(self, shape: impl Into<Vec<usize>>) -> Self {
        Tensor { integers: self.integers, ..Tensor::new(shape, self.data) }
    }
}

/// A value: an input, a constant, or a node's output.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Unique in the graph; the ONNX name where there is one.
    pub name: String,
    /// Extents in ONNX axis order.
    pub shape: Vec<usize>,
    /// The content, if constant.
    pub data: Option<Tensor>,
}

/// An operation. Inputs by position, as [`Op`] states them.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the graph; the ONNX name where there is one.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Result.
    pub output: ValueId,
}

/// A float network. See the module for what holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Name of the model.
    pub name: String,
    /// In topological order.
    pub nodes: Vec<Node>,
    /// All values, used or not (passes leave dead ones; [`Graph::compact`] removes them).
    pub values: Vec<Value>,
    /// What the caller gives.
    pub inputs: Vec<ValueId>,
    /// What the caller gets.
    pub outputs: Vec<ValueId>,
    /// How a model rounds that was exported from a network of this compiler, and is followed to the letter. Any other that is quantized already
    /// rounds with zero points last, as ONNX defines it.
    pub rounding: Option<Rounding>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph {
            name: name.into(),
            nodes: vec![],
            values: vec![],
            inputs: vec![],
            outputs: vec![],
            rounding: None,
        }
    }

    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// Mutable access to a value.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0 as usize]
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &[usize] {
        &self.value(id).shape
    }

    /// Content of a constant, `None` for anything else.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.value(id).data.as_ref()
    }

    /// Adds a value without content. The name is made unique by a suffix if it is taken.
    pub fn add_value(&mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>) -> ValueId {
        let name = free_name(name.into(), |n| self.values.iter().any(|v| v.name == n));
        self.values.push(Value { name, shape: shape.into(), data: None });
        ValueId(self.values.len() as u32 - 1)
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let id = self.add_value(name, tensor.shape.clone());
        self.value_mut(id).data = Some(tensor);
        id
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: impl Into<String>, shape: impl Into<Vec<usize>>) -> ValueId {
        let id = self.add_value(name, shape);
        self.inputs.push(id);
        id
    }

    /// Appends a node whose output shape follows from `op` and the inputs ([`shape::infer`]). Node and output get `name`, each
    /// made unique by a suffix if it is taken.
    pub fn add_node(
        &mut self,
        name: impl Into<String>,
        op: Op,
        inputs: impl Into<Vec<ValueId>>,
    ) -> Result<ValueId, String> {
        let (name, inputs) = (name.into(), inputs.into());
        let shapes: Vec<&[usize]> = inputs.iter().map(|&i| self.shape(i)).collect();
        let shape = shape::infer(&op, &shapes)?;
        let output = self.add_value(name.clone(), shape);
        let name = self.free_node_name(name);
        self.nodes.push(Node { name, op, inputs, output });
        Ok(output)
    }

    /// Indices of the nodes that read `id`, in order, one entry per use.
    pub fn consumers(&self, id: ValueId) -> Vec<usize> {
        let uses = |n: &Node| n.inputs.iter().filter(|&&i| i == id).count();
        self.nodes.iter().enumerate().flat_map(|(k, n)| std::iter::repeat_n(k, uses(n))).collect()
    }

    /// Index of the node that produces `id`.
    pub fn producer(&self, id: ValueId) -> Option<usize> {
        self.nodes.iter().position(|n| n.output == id)
    }

    /// True if the model says to which numbers its values are rounded: it was quantized before it was imported.
    pub fn is_quantized(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n.op, Op::Round(_)))
    }

    /// True if the caller sees this value.
    pub fn is_output(&self, id: ValueId) -> bool {
        self.outputs.contains(&id)
    }

    /// Makes every reader of `from`, and the outputs, read `to`.
    pub fn replace_uses(&mut self, from: ValueId, to: ValueId) {
        for n in &mut self.nodes {
            for i in &mut n.inputs {
                if *i == from {
                    *i = to;
                }
            }
        }
        for o in &mut self.outputs {
            if *o == from {
                *o = to;
            }
        }
    }

    /// Drops values that are neither read, produced nor visible, and renumbers the rest in order.
    pub fn compact(&mut self) {
        let mut used = vec![false; self.values.len()];
        let ids = self.nodes.iter().flat_map(|n| n.inputs.iter().chain(std::iter::once(&n.output)));
        for id in ids.chain(&self.inputs).chain(&self.outputs) {
            used[id.0 as usize] = true;
        }
        let mut map = vec![ValueId(u32::MAX); used.len()];
        let mut kept = Vec::new();
        for (k, v) in std::mem::take(&mut self.values).into_iter().enumerate() {
            if used[k] {
                map[k] = ValueId(kept.len() as u32);
                kept.push(v);
            }
        }
        self.values = kept;
        let renumber = |id: &mut ValueId| *id = map[id.0 as usize];
        for n in &mut self.nodes {
            n.inputs.iter_mut().for_each(renumber);
            renumber(&mut n.output);
        }
        self.inputs.iter_mut().for_each(renumber);
        self.outputs.iter_mut().for_each(renumber);
    }

    /// `name` if no node has it, else `name` with the first number that is free.
    pub fn free_node_name(&self, name: impl Into<String>) -> String {
        free_name(name.into(), |n| self.nodes.iter().any(|node| node.name == n))
    }
}

fn free_name(name: String, taken: impl Fn(&str) -> bool) -> String {
    if !taken(&name) {
        return name;
    }
    (1..).map(|k| format!("{name}_{k}")).find(|n| !taken(n)).expect("some number is free")
}
