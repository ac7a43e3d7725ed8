//! The integer graph in the making, seen from the float graph: values by their float id, in whichever form is asked for.
//!
//! Holds: a value has at most one u8 and one f32 form; conversions are made where first needed and then shared. Inputs and
//! outputs of the network keep their names in f32; for other values the form that is computed has the name.

use super::decide::{Decisions, Run};
use super::dynamic::AROUND;
use super::ranges::{Grid, Scales};
use super::weights::Scaling;
use crate::calib::Channels;
use crate::error::Result;
use crate::graph::{Graph, ValueId};
use crate::preprocess::Preprocess;
use crate::qgraph::builder::Builder;
use crate::qgraph::{FloatBinary, QGraph, QNode, QOp, QType, QValueId};
use qgraph_runtime::requant::Rounding;
use std::collections::{BTreeMap, HashMap, HashSet};

/// How the weights and biases of layers become integers.
#[derive(Clone, Copy, Default)]
pub(super) struct Numbers<'a> {
    pub(super) scaling: Scaling,
    /// What operands hold, by value name: [`crate::calib::Profile::channels`].
    pub(super) channels: Option<&'a BTreeMap<String, Channels>>,
    /// Biases make up for what rounding the weights adds to means.
    pub(super) correct_biases: bool,
    /// They are integers in the model already.
    pub(super) given: bool,
    /// How the integer graph rounds.
    pub(super) rounding: Rounding,
}

/// The state of emission.
pub(super) struct Emit<'a> {
    pub(super) graph: &'a Graph,
    pub(super) decisions: &'a Decisions,
    pub(super) scales: &'a Scales,
    pub(super) numbers: Numbers<'a>,
    pub(super) builder: Builder,
    u8s: Vec<Option<QValueId>>,
    f32s: Vec<Option<QValueId>>,
    /// Inputs of which only the rounded form is read.
    rounded: HashSet<ValueId>,
    /// What an Identity gives is what it takes.
    aliases: HashMap<ValueId, ValueId>,
    /// What [`Emit::normalized`] has made, by its operand.
    normalized: HashMap<QValueId, [QValueId; 2]>,
    /// The operand of each Reshape, by its result.
    reshaped: HashMap<QValueId, QValueId>,
    value_names: HashSet<String>,
    node_names: HashSet<String>,
}

impl<'a> Emit<'a> {
    pub(super) fn new(
        graph: &'a Graph,
        decisions: &'a Decisions,
        scales: &'a Scales,
        numbers: Numbers<'a>,
    ) -> Self {
        let mut e = Emit {
            graph,
            decisions,
            scales,
            numbers,
            builder: Builder::new(&graph.name),
            u8s: vec![None; graph.values.len()],
            f32s: vec![None; graph.values.len()],
            rounded: HashSet::new(),
            aliases: HashMap::new(),
            normalized: HashMap::new(),
            reshaped: HashMap::new(),
            value_names: HashSet::new(),
            // Names of the model's nodes are theirs.
            node_names: graph.nodes.iter().map(|n| n.name.clone()).collect(),
        };
        e.builder.set_rounding(numbers.rounding);
        for &i in &graph.inputs {
            let value = graph.value(i);
            e.value_names.insert(value.name.clone());
            e.f32s[i.0 as usize] = Some(e.builder.add_input(&value.name, &value.shape));
        }
        e
    }

    /// The integer of a real number that is known now.
    pub(super) fn quantized(&self, x: f32, to: Grid) -> u8 {
        self.numbers.rounding.quantize(x, to.scale, to.zero)
    }

    /// A new value; a taken name gets a number appended.
    pub(super) fn value(&mut self, name: &str, shape: &[usize], ty: QType) -> QValueId {
        let name = unique(&mut self.value_names, name);
        self.builder.add_value(name, shape, ty)
    }

    /// The main node of float node `k`, with its name and the reason why it is float.
    pub(super) fn main(&mut self, k: usize, op: QOp, inputs: &[QValueId], output: QValueId) {
        let reason = match &self.decisions.run[k] {
            Run::Float(reason) => reason.clone(),
            Run::Integer | Run::IntegerToFloat | Run::Dynamic | Run::Skip => None,
        };
        self.note_reshape(&op, inputs, output);
        self.builder.add_node(&self.graph.nodes[k].name, op, inputs, output).float_reason = reason;
    }

    /// A node that helps a float node, under a name of its own.
    pub(super) fn helper(
        &mut self,
        name: &str,
        op: QOp,
        inputs: &[QValueId],
        output: QValueId,
    ) -> &mut QNode {
        let name = unique(&mut self.node_names, name);
        self.note_reshape(&op, inputs, output);
        self.builder.add_node(name, op, inputs, output)
    }

    fn note_reshape(&mut self, op: &QOp, inputs: &[QValueId], output: QValueId) {
        if *op == QOp::Reshape {
            self.reshaped.insert(output, inputs[0]);
        }
    }

    /// The value that `v` names in the end.
    pub(super) fn resolve(&self, mut v: ValueId) -> ValueId {
        while let Some(&to) = self.aliases.get(&v) {
            v = to;
        }
        v
    }

    /// `v` is another name of `of`.
    pub(super) fn alias(&mut self, v: ValueId, of: ValueId) {
        self.aliases.insert(v, of);
    }

    /// The new value for the float graph's `v` as it is computed: on its grid or f32.
    pub(super) fn define(&mut self, v: ValueId, grid: Option<Grid>) -> QValueId {
        let value = self.graph.value(v);
        let visible = self.graph.is_output(v) || self.graph.inputs.contains(&v);
        let second = self.u8s[v.0 as usize].is_some() || self.f32s[v.0 as usize].is_some();
        let name = match grid {
            Some(_) if visible || second => format!("{}/u8", value.name),
            None if second && !visible => format!("{}/f32", value.name),
            Some(_) | None => value.name.clone(),
        };
        let id = self.value(&name, &value.shape, grid.map_or(QType::F32, Grid::ty));
        if let Some(multiples) = self.scales.multiples(v) {
            self.builder.set_factors(id, &multiples.after);
        }
        let forms = if grid.is_some() { &mut self.u8s } else { &mut self.f32s };
        forms[v.0 as usize] = Some(id);
        id
    }

    /// Stands in for the result of a node that could not be emitted.
    pub(super) fn placeholder(&mut self, v: ValueId) {
        let forms = (self.u8s[v.0 as usize], self.f32s[v.0 as usize]);
        if forms == (None, None) {
            let grid = self.scales.of(v).ok();
            self.define(v, grid);
        }
    }

    /// Operand `v` in f32.
    pub(super) fn f32(&mut self, v: ValueId) -> std::result::Result<QValueId, String> {
        let v = self.resolve(v);
        self.round_input(v)?;
        if let Some(id) = self.f32s[v.0 as usize] {
            return Ok(id);
        }
        let name = self.graph.value(v).name.clone();
        if let Some(t) = self.graph.constant(v) {
            let blob = self.builder.add_blob_f32(&name, &t.shape, &t.data);
            let id = self.define(v, None);
            self.helper(&name, QOp::Constant(blob), &[], id);
            return Ok(id);
        }
        let q = self.u8s[v.0 as usize].ok_or_else(|| format!("reads '{name}' before it is computed"))?;
        let id = self.define(v, None);
        self.helper(&format!("{name}/dequantize"), QOp::Dequantize, &[q], id);
        Ok(id)
    }

    /// Where the model gives an input a grid, all that reads it takes it rounded: from here on its form in f32 is that.
    fn round_input(&mut self, v: ValueId) -> std::result::Result<(), String> {
        let given = self.numbers.given && self.graph.inputs.contains(&v) && self.scales.of(v).is_ok();
        if given && self.rounded.insert(v) {
            let q = self.u8(v)?;
            let value = self.graph.value(v);
            let id = self.value(&format!("{}/rounded", value.name), &value.shape, QType::F32);
            self.helper(&format!("{}/dequantize", value.name), QOp::Dequantize, &[q], id);
            self.f32s[v.0 as usize] = Some(id);
        }
        Ok(())
    }

    /// Operand `v` in u8, on its grid.
    pub(super) fn u8(&mut self, v: ValueId) -> std::result::Result<QValueId, String> {
        let v = self.resolve(v);
        if let Some(id) = self.u8s[v.0 as usize] {
            return Ok(id);
        }
        let grid = self.scales.of(v)?;
        let name = self.graph.value(v).name.clone();
        if let Some(t) = self.graph.constant(v) {
            let bytes: Vec<u8> = t.data.iter().map(|&x| self.quantized(x, grid)).collect();
            let blob = self.builder.add_blob_u8(&name, &t.shape, &bytes);
            let id = self.define(v, Some(grid));
            self.helper(&name, QOp::Constant(blob), &[], id);
            return Ok(id);
        }
        let x = self.f32s[v.0 as usize].ok_or_else(|| format!("reads '{name}' before it is computed"))?;
        let id = self.define(v, Some(grid));
        self.helper(&format!("{name}/quantize"), QOp::Quantize, &[x], id);
        Ok(id)
    }

    /// `x` `[N,C,H,W]` in f32, divided by the largest magnitude of each image, on a grid; and the magnitudes.
    pub(super) fn normalized(&mut self, x: QValueId, grid: Grid) -> [QValueId; 2] {
        if let Some(&made) = self.normalized.get(&x) {
            return made;
        }
        let (name, shape) = (self.builder.value(x).name.clone(), self.builder.value(x).shape.clone());
        let mut node = |part: &str, op: QOp, inputs: &[QValueId], shape: &[usize], ty: QType| {
            let name = format!("{name}/{part}");
            let id = self.value(&name, shape, ty);
            let reason = (ty == QType::F32).then(|| AROUND.into());
            self.helper(&name, op, inputs, id).float_reason = reason;
            id
        };
        let peak = node("peak", QOp::Peak, &[x], &[shape[0], 1, 1, 1], QType::F32);
        let divide = QOp::Binary { op: FloatBinary::Div, lo: f32::NEG_INFINITY, hi: f32::INFINITY };
        let part = node("part", divide, &[x, peak], &shape, QType::F32);
        let made = [node("part/u8", QOp::Quantize, &[part], &shape, grid.ty()), peak];
        self.normalized.insert(x, made);
        made
    }

    /// Operand `v` as node `k` reads it: f32 if it runs in float or finds its grid at run time, else u8.
    pub(super) fn operand(&mut self, k: usize, v: ValueId) -> std::result::Result<QValueId, String> {
        match self.decisions.run[k] {
            Run::Float(_) | Run::Dynamic => self.f32(v),
            Run::Integer | Run::IntegerToFloat | Run::Skip => self.u8(v),
        }
    }

    /// The grid of node `k`'s result; `None` if it gives f32.
    pub(super) fn grid(&self, k: usize) -> std::result::Result<Option<Grid>, String> {
        match self.decisions.run[k] {
            Run::Integer => self.scales.of(self.decisions.output(self.graph, k)).map(Some),
            Run::IntegerToFloat | Run::Dynamic | Run::Float(_) | Run::Skip => Ok(None),
        }
    }

    /// The four-dimensional value that `q` was flattened from, if its batch is `rows`.
    pub(super) fn unflattened(&self, mut q: QValueId, rows: usize) -> Option<QValueId> {
        loop {
            q = *self.reshaped.get(&q)?;
            let shape = &self.builder.value(q).shape;
            if shape.len() == 4 && shape[0] == rows {
                return Some(q);
            }
        }
    }

    /// `q` in another shape.
    pub(super) fn view(&mut self, q: QValueId, shape: &[usize], name: &str) -> QValueId {
        if self.builder.value(q).shape == shape {
            return q;
        }
        let ty = self.builder.value(q).ty;
        let id = self.value(name, shape, ty);
        self.helper(name, QOp::Reshape, &[q], id);
        id
    }

    /// The verified graph.
    pub(super) fn finish(mut self, preprocess: Option<Preprocess>) -> Result<QGraph> {
        use crate::error::{Error, Stage};
        let mut taken = HashSet::new();
        for &o in &self.graph.outputs {
            let name = self.graph.value(o).name.clone();
            let mut id = self.f32(o).map_err(|e| Error::new(Stage::Quantize, &name, e))?;
            if self.graph.inputs.contains(&self.resolve(o)) || taken.contains(&id) {
                let shape = self.builder.value(id).shape.clone();
                let copy = self.value(&format!("{name}/copy"), &shape, QType::F32);
                self.helper(&format!("{name}/copy"), QOp::Reshape, &[id], copy);
                id = copy;
            }
            taken.insert(id);
            self.builder.add_output(id);
        }
        self.builder.set_preprocess(preprocess);
        let graph = prune(self.builder.finish_unverified());
        Error::all(Stage::Quantize, crate::qgraph::verify::verify(&graph))?;
        Ok(graph)
    }
}

/// `name`, or with a number if it is taken.
fn unique(taken: &mut HashSet<String>, name: &str) -> String {
    let mut candidate = name.to_owned();
    let mut n = 1;
    while !taken.insert(candidate.clone()) {
        n += 1;
        candidate = format!("{name}.{n}");
    }
    candidate
}

/// Suffix of a dense layer's result before it loses its two axes of extent 1.
pub(super) const IMAGE: &str = "/4d";

/// Drops reshapes whose result nobody reads: dense layers look through them. The value before such a reshape takes the
/// model's name, so that reports still find it. Only reshapes can be dead, so no blob is.
fn prune(mut graph: QGraph) -> QGraph {
    let mut read = vec![false; graph.values.len()];
    for &v in graph.outputs.iter().chain(&graph.inputs) {
        read[v.0 as usize] = true;
    }
    let mut nodes = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if node.op == QOp::Reshape && !read[node.output.0 as usize] {
            let name = graph.value(node.output).name.clone();
            let source = &mut graph.values[node.inputs[0].0 as usize];
            if source.name.strip_suffix(IMAGE) == Some(&name) {
                source.name = name;
            }
            continue;
        }
        for v in node.inputs.iter().chain([&node.output]) {
            read[v.0 as usize] = true;
        }
        nodes.push(node);
    }
    nodes.reverse();
    graph.nodes = nodes;

    let mut ids = vec![QValueId(u32::MAX); read.len()];
    let mut kept = Vec::new();
    for (k, value) in std::mem::take(&mut graph.values).into_iter().enumerate() {
        if read[k] {
            ids[k] = QValueId(kept.len() as u32);
            kept.push(value);
        }
    }
    graph.values = kept;
    let renumber = |v: &mut QValueId| *v = ids[v.0 as usize];
    for n in &mut graph.nodes {
        n.inputs.iter_mut().for_each(renumber);
        renumber(&mut n.output);
    }
    graph.inputs.iter_mut().chain(&mut graph.outputs).for_each(renumber);
    graph
}
