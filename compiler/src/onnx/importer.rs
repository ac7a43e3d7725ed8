//! The walk over a model: opset, inputs, nodes in order, outputs.
//!
//! In: a decoded, untrusted model. Out: a verified graph, or everything wrong with the model at once. Holds: after a node
//! that fails, its results are unknown and what only fails because of that is not reported. Nodes that no output depends on
//! are left out. Not here: what operators mean (the handlers, through [`super::context`]).

use super::context::NodeContext;
use super::external::Folder;
use super::literal::Literal;
use super::operators::{Lookup, lookup};
use super::proto::{
    Dimension, FUSED_ZERO_POINTS, GraphProto, ModelProto, TypeProto, ValueInfoProto, data_type,
};
use super::quantized::{Levels, Reads, reads};
use super::tensor::Reader;
use super::{Options, Outcome};
use crate::error::{Error, Problem, Result, Stage};
use crate::graph::shape::infer;
use crate::graph::{self, Graph, Op, Tensor, ValueId};
use qgraph_runtime::requant::Rounding;
use std::collections::{HashMap, HashSet};

/// Operator sets that the handlers know.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=22;

/// Most elements that folding may create in one import: shapes are small, transposed weights are not.
const MAX_FOLDED: usize = 1 << 28;

/// What is known about a named ONNX value.
#[derive(Clone)]
pub(super) enum Known {
    /// A constant, not (yet) in the graph.
    Literal(Literal),
    /// A value of the graph.
    Value(ValueId),
    /// A computed tensor of integers: the value of the graph is the real numbers that they stand for.
    Quantized(ValueId, Levels),
    /// Its producer failed, which has been reported.
    Unknown,
}

/// State of one import.
pub(super) struct Importer {
    pub(super) graph: Graph,
    pub(super) opset: i64,
    known: HashMap<String, Known>,
    /// Literals that entered the graph.
    constants: HashMap<String, ValueId>,
    /// Names read by a node that an output depends on, or by the caller.
    live: HashSet<String>,
    value_names: Names,
    node_names: Names,
    folded: usize,
    problems: Vec<Problem>,
}

/// Builds the graph of `model`.
pub(super) fn run(model: &ModelProto, folder: Option<Folder>, options: &Options) -> Result<Graph> {
    let fail = |message: String| Error::new(Stage::Import, "", message);
    let proto = model.graph.as_ref().ok_or_else(|| fail("is not an ONNX model: it has no graph".into()))?;
    let mut importer = Importer {
        graph: Graph::new(if proto.name.is_empty() { "model" } else { &proto.name }),
        opset: opset(model).map_err(fail)?,
        known: HashMap::new(),
        constants: HashMap::new(),
        live: HashSet::new(),
        value_names: Names::default(),
        node_names: Names::default(),
        folded: 0,
        problems: vec![],
    };
    let exported = model.metadata_props.iter().find(|p| p.key == FUSED_ZERO_POINTS);
    importer.graph.rounding =
        exported.map(|p| if p.value == "true" { Rounding::Fused } else { Rounding::ZeroLast });
    let live = importer.find_live(proto);
    importer.reserve_names(proto);
    importer.read_initializers(proto, Reader::new(folder));
    importer.add_inputs(proto, options);
    for (k, node) in proto.node.iter().enumerate().filter(|(k, _)| live[*k]) {
        importer.add_node(k, node);
    }
    importer.add_outputs(proto);
    Error::all(Stage::Import, importer.problems)?;
    Error::all(Stage::Import, graph::verify::verify(&importer.graph))?;
    Ok(importer.graph)
}

fn opset(model: &ModelProto) -> Outcome<i64> {
    let ours = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    let import = model.opset_import.iter().find(|o| ours(&o.domain));
    let version = import.ok_or("is not an ONNX model, or a very old one: it names no operator set")?.version;
    if OPSETS.contains(&version) {
        return Ok(version);
    }
    let (first, last) = (OPSETS.start(), OPSETS.end());
    Err(format!(
        "uses operator set {version}, but {first} to {last} are supported: export it with opset_version={}, or \
         convert it with onnx.version_converter",
        if version < *first { 13 } else { *last }
    ))
}

impl Importer {
    /// Which nodes an output depends on. Also fills `live`.
    fn find_live(&mut self, proto: &GraphProto) -> Vec<bool> {
        self.live.extend(proto.output.iter().map(|o| o.name.clone()));
        let mut nodes = vec![false; proto.node.len()];
        for (k, node) in proto.node.iter().enumerate().rev() {
            if node.output.iter().any(|o| !o.is_empty() && self.live.contains(o)) {
                nodes[k] = true;
                self.live.extend(node.input.iter().filter(|i| !i.is_empty()).cloned());
            }
        }
        nodes
    }

    /// Keeps every name of the model for the value that has it there.
    fn reserve_names(&mut self, proto: &GraphProto) {
        let inputs = proto.input.iter().map(|i| &i.name);
        let initializers = proto.initializer.iter().map(|i| &i.name);
        for name in inputs.chain(initializers).chain(proto.node.iter().flat_map(|n| &n.output)) {
            self.value_names.reserve(name);
        }
        proto.node.iter().for_each(|n| self.node_names.reserve(&n.name));
    }

    fn read_initializers(&mut self, proto: &GraphProto, mut reader: Reader) {
        for tensor in proto.initializer.iter().filter(|t| self.live.contains(&t.name)).collect::<Vec<_>>() {
            let known = match reader.read(tensor) {
                Ok(literal) => Known::Literal(literal),
                Err(e) => {
                    self.problem(&tensor.name, e);
                    Known::Unknown
                }
            };
            self.define(&tensor.name, known);
        }
    }

    fn add_inputs(&mut self, proto: &GraphProto, options: &Options) {
        let constants: HashSet<&str> = proto.initializer.iter().map(|t| t.name.as_str()).collect();
        let inputs: Vec<_> = proto.input.iter().filter(|i| !constants.contains(&i.name[..])).collect();
        let mut given = HashMap::new();
        for (name, shape) in &options.shapes {
            if !inputs.iter().any(|i| i.name == *name) {
                let known: Vec<_> = inputs.iter().map(|i| describe(i)).collect();
                self.problem(
                    name,
                    format!(
                        "a shape is given for an input that the model does not have: it has {}",
                        known.join(", ")
                    ),
                );
            } else if given.insert(name.as_str(), shape).is_some() {
                self.problem(name, "two shapes are given for this input");
            }
        }
        // A symbol that a given shape decides holds for all inputs.
        let mut symbols = HashMap::new();
        for input in &inputs {
            let (Some(dims), Some(shape)) = (dims(input), given.get(&input.name[..])) else { continue };
            for (dim, &extent) in dims.iter().zip(shape.iter()) {
                if let Some(Dimension::Param(symbol)) = dim {
                    symbols.insert(symbol.clone(), extent);
                }
            }
        }
        for input in inputs {
            let shape = input_shape(input, given.get(&input.name[..]).map(|s| &s[..]), &symbols);
            let shape = shape.and_then(|s| infer(&Op::Identity, &[&s]));
            let known = match shape {
                Ok(shape) => {
                    let id = self.push_value(input.name.clone(), shape);
                    self.graph.inputs.push(id);
                    Known::Value(id)
                }
                Err(e) => {
                    self.problem(&input.name, e);
                    Known::Unknown
                }
            };
            self.define(&input.name, known);
        }
    }

    fn add_node(&mut self, index: usize, node: &super::proto::NodeProto) {
        let first_output = node.output.iter().find(|o| !o.is_empty()).map_or("", |o| o.as_str());
        let name = match &node.name[..] {
            "" => self.node_names.fresh(&format!("{}_{first_output}", node.op_type)),
            name => self.node_names.claim(name),
        };
        let subject = if node.name.is_empty() {
            format!("node {index} ({}, giving {first_output:?})", node.op_type)
        } else {
            format!("{} ({})", node.name, node.op_type)
        };
        let problems_before = self.problems.len();
        let handler = match lookup(node) {
            Lookup::Handler(handler) => Some(handler),
            Lookup::Unsupported(reason) => {
                self.problem(&subject, reason);
                None
            }
        };
        let mut computable = handler.is_some();
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            match self.known.get(input) {
                Some(Known::Unknown) => computable = false,
                Some(_) => {}
                None => {
                    computable = false;
                    self.problem(
                        &subject,
                        format!("reads {input:?}, which no earlier node computes: sort the model, or export it again"),
                    );
                    // Said once.
                    self.known.insert(input.clone(), Known::Unknown);
                }
            }
        }
        let mut results = HashMap::new();
        let levels = self.levels(node);
        if let Err(reason) = &levels {
            self.problem(&subject, reason);
        }
        if let (Some(handler), Ok(levels)) = (handler.filter(|_| computable), levels) {
            let mut context = NodeContext::new(self, node, name);
            let outcome = handler(&mut context);
            if let Some(levels) = levels {
                context.results_are(levels);
            }
            results = context.into_results();
            if let Err(reason) = outcome {
                self.problem(&subject, reason);
                results.clear();
            }
        }
        for (k, output) in node.output.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
            let known = results.remove(&k).unwrap_or(Known::Unknown);
            let failed = !computable || self.problems.len() > problems_before;
            if matches!(known, Known::Unknown) && !failed && self.live.contains(output) {
                self.problem(
                    &subject,
                    format!("its output {k} ({output:?}) is not supported: only the first is"),
                );
            }
            self.define(output, known);
        }
    }

    /// The levels of what a node gives, if it moves integers about; an error if it can make nothing of those that it reads.
    fn levels(&self, node: &super::proto::NodeProto) -> Outcome<Option<Levels>> {
        let mut found = None;
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            let levels = match self.known.get(input) {
                Some(Known::Quantized(_, levels)) => *levels,
                _ => continue,
            };
            match reads(&node.op_type) {
                Reads::Integers => return Ok(None),
                Reads::Moves if found.is_none_or(|f| f == levels) => found = Some(levels),
                Reads::Moves => return Err("joins integers of different scales or zero points".into()),
                Reads::Real => {
                    let cure = "put DequantizeLinear before it";
                    return Err(format!("computes with the integers of {input:?} as they are: {cure}"));
                }
            }
        }
        Ok(found)
    }

    fn add_outputs(&mut self, proto: &GraphProto) {
        if proto.output.is_empty() {
            self.problem("", "the model has no output");
        }
        let computed: HashSet<ValueId> = self.graph.nodes.iter().map(|n| n.output).collect();
        let mut given = HashSet::new();
        for output in &proto.output {
            let name = &output.name;
            match self.known.get(name).cloned() {
                Some(Known::Unknown) => {}
                None => self.problem(name, "is an output that nothing computes"),
                Some(Known::Value(id)) => {
                    // An output of its own, so that later stages may write it.
                    if computed.contains(&id) && given.insert(id) {
                        self.graph.outputs.push(id);
                    } else {
                        self.identity_output(name, id);
                    }
                }
                Some(Known::Quantized(..)) => self.problem(
                    name,
                    "is an output of integers: only float outputs are supported, end with DequantizeLinear",
                ),
                Some(Known::Literal(literal)) => match self.constant(name, &literal) {
                    Ok(id) => self.identity_output(name, id),
                    Err(e) => self.problem(name, e),
                },
            }
        }
    }

    fn identity_output(&mut self, name: &str, source: ValueId) {
        let (node, value) = (self.node_names.fresh(name), self.value_names.fresh(name));
        match self.push_node(node, value, Op::Identity, vec![source]) {
            Ok(id) => self.graph.outputs.push(id),
            Err(e) => self.problem(name, e),
        }
    }

    fn define(&mut self, name: &str, known: Known) {
        // A second definition keeps the first: which one is meant cannot be known.
        if self.known.contains_key(name) {
            // An input read too early stands here as unknown, which has been reported.
            if !matches!(self.known[name], Known::Unknown) {
                self.problem(
                    name,
                    "is defined twice: names of values must be unique, export the model again",
                );
            }
            return;
        }
        self.known.insert(name.to_owned(), known);
    }

    fn problem(&mut self, subject: &str, message: impl Into<String>) {
        self.problems.push(Problem { subject: subject.to_owned(), message: message.into() });
    }

    /// What is known about `name`.
    pub(super) fn known(&self, name: &str) -> Option<&Known> {
        self.known.get(name)
    }

    /// True if somebody reads `name`.
    pub(super) fn is_live(&self, name: &str) -> bool {
        self.live.contains(name)
    }

    /// A value name that the model does not use.
    pub(super) fn fresh_value(&mut self, name: &str) -> String {
        self.value_names.fresh(name)
    }

    /// A node name that the model does not use.
    pub(super) fn fresh_node(&mut self, name: &str) -> String {
        self.node_names.fresh(name)
    }

    /// Counts elements that folding is about to create.
    pub(super) fn spend(&mut self, elements: usize) -> Outcome {
        self.folded = self.folded.saturating_add(elements);
        if self.folded > MAX_FOLDED {
            return Err(format!("constants computed from constants exceed {MAX_FOLDED} elements"));
        }
        Ok(())
    }

    /// The literal called `name` as a constant of the graph, added at first use.
    pub(super) fn constant(&mut self, name: &str, literal: &Literal) -> Outcome<ValueId> {
        if let Some(&id) = self.constants.get(name) {
            return Ok(id);
        }
        let id = self.push_constant(name.to_owned(), literal)?;
        self.constants.insert(name.to_owned(), id);
        Ok(id)
    }

    /// Adds a constant under a name that is free.
    pub(super) fn push_constant(&mut self, name: String, literal: &Literal) -> Outcome<ValueId> {
        let data = literal.as_floats().ok_or_else(|| {
            format!(
                "{name:?} holds integers: integer tensors are supported in the computation of shapes only"
            )
        })?;
        if let Some(bad) = data.iter().find(|x| !x.is_finite()) {
            return Err(format!("the constant {name:?} holds {bad}: the weights are damaged"));
        }
        infer(&Op::Identity, &[&literal.shape]).map_err(|e| format!("the constant {name:?}: {e}"))?;
        let id = self.push_value(name, literal.shape.clone());
        let integers = literal.integers.clone();
        self.graph.value_mut(id).data =
            Some(Tensor { integers, ..Tensor::new(&literal.shape[..], data.clone()) });
        Ok(id)
    }

    /// Appends a node; both names are free.
    pub(super) fn push_node(
        &mut self,
        name: String,
        output: String,
        op: Op,
        inputs: Vec<ValueId>,
    ) -> Outcome<ValueId> {
        let shapes: Vec<&[usize]> = inputs.iter().map(|&i| self.graph.shape(i)).collect();
        let shape = infer(&op, &shapes)?;
        let output = self.push_value(output, shape);
        self.graph.nodes.push(graph::Node { name, op, inputs, output });
        Ok(output)
    }

    /// Not [`Graph::add_value`], which searches all names: a hostile model has very many.
    fn push_value(&mut self, name: String, shape: Vec<usize>) -> ValueId {
        self.graph.values.push(graph::Value { name, shape, data: None });
        ValueId(self.graph.values.len() as u32 - 1)
    }
}

/// Names in use.
#[derive(Default)]
struct Names {
    /// How many suffixes of a name have been tried.
    taken: HashMap<String, usize>,
    /// Reserved names whose owner has come.
    claimed: HashSet<String>,
}

impl Names {
    fn reserve(&mut self, name: &str) {
        self.taken.insert(name.to_owned(), 0);
    }

    /// A reserved name for its owner; a second owner gets another.
    fn claim(&mut self, name: &str) -> String {
        if self.claimed.insert(name.to_owned()) { name.to_owned() } else { self.fresh(name) }
    }

    fn fresh(&mut self, name: &str) -> String {
        let name = if name.is_empty() { "value" } else { name };
        let mut candidate = name.to_owned();
        while self.taken.contains_key(&candidate) {
            let tried = self.taken.entry(name.to_owned()).or_insert(0);
            *tried += 1;
            candidate = format!("{name}_{tried}");
        }
        self.taken.insert(candidate.clone(), 0);
        candidate
    }
}

fn tensor_type(ty: &Option<TypeProto>) -> Option<&super::proto::TensorTypeProto> {
    ty.as_ref()?.tensor_type.as_ref()
}

/// The stated extents of an input; `None` if not even the rank is known.
fn dims(input: &ValueInfoProto) -> Option<Vec<Option<Dimension>>> {
    let shape = tensor_type(&input.r#type)?.shape.as_ref()?;
    // Exporters write 0 and −1 for unknown.
    let known = |d: &Dimension| !matches!(d, Dimension::Value(n) if *n <= 0);
    Some(shape.dim.iter().map(|d| d.value.clone().filter(known)).collect())
}

/// Name and stated shape, for messages.
fn describe(input: &ValueInfoProto) -> String {
    let extent = |d: &Option<Dimension>| match d {
        Some(Dimension::Value(n)) => n.to_string(),
        Some(Dimension::Param(symbol)) => symbol.clone(),
        None => "?".into(),
    };
    match dims(input) {
        Some(dims) => format!("{} ({})", input.name, dims.iter().map(extent).collect::<Vec<_>>().join("x")),
        None => format!("{} (shape unknown)", input.name),
    }
}

fn input_shape(
    input: &ValueInfoProto,
    given: Option<&[usize]>,
    symbols: &HashMap<String, usize>,
) -> Outcome<Vec<usize>> {
    let ty = tensor_type(&input.r#type).ok_or("is an input without a tensor type")?;
    if !matches!(ty.elem_type, data_type::FLOAT | data_type::FLOAT16 | data_type::BFLOAT16) {
        return Err(format!(
            "is an input of {}: only float inputs are supported",
            data_type::name(ty.elem_type)
        ));
    }
    let stated = dims(input);
    if let Some(given) = given {
        return match stated {
            Some(stated) if stated.len() != given.len() => {
                Err(format!("the shape {given:?} is given, but the input is {}", describe(input)))
            }
            _ => Ok(given.to_vec()),
        };
    }
    let cure = format!("give its shape, for example --shape {}=1x3x224x224", input.name);
    let stated = stated.ok_or_else(|| format!("is an input of unknown shape: {cure}"))?;
    let extent = |(axis, dim): (usize, &Option<Dimension>)| match dim {
        Some(Dimension::Value(n)) => usize::try_from(*n).map_err(|e| e.to_string()),
        Some(Dimension::Param(symbol)) if symbols.contains_key(symbol) => Ok(symbols[symbol]),
        _ if axis == 0 => Ok(1),
        _ => Err(format!("axis {axis} of the input {} is not a number: {cure}", describe(input))),
    };
    stated.iter().enumerate().map(extent).collect()
}
