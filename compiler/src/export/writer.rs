//! The ONNX model in the making: names, constants, nodes, and the two forms of every u8 value.
//!
//! Of a u8 value v there are three tensors: the real numbers before rounding, called like the value; the integers; what these stand for, which
//! readers take. Holds: names of the graph are kept, others are made unique.

use crate::onnx::proto::*;
use crate::qgraph::{BlobId, BlobType, QGraph, QType, QValueId};
use prost::Message;
use qgraph_runtime::requant::Rounding;
use std::collections::{HashMap, HashSet};

/// Operator set that is written: the first with Gelu.
const OPSET: i64 = 20;

pub(super) struct Writer<'a> {
    pub(super) graph: &'a QGraph,
    out: GraphProto,
    values: HashSet<String>,
    nodes: HashSet<String>,
    /// What readers of a u8 value take.
    real: HashMap<QValueId, String>,
    /// Its integers.
    integers: HashMap<QValueId, String>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(graph: &'a QGraph) -> Self {
        let mut out = GraphProto { name: graph.name.clone(), ..Default::default() };
        let info = |&v: &QValueId| {
            let extent = |&n: &usize| DimensionProto { value: Some(Dimension::Value(n as i64)) };
            let shape = Some(TensorShapeProto { dim: graph.value(v).shape.iter().map(extent).collect() });
            let tensor_type = Some(TensorTypeProto { elem_type: data_type::FLOAT, shape });
            ValueInfoProto { name: graph.value(v).name.clone(), r#type: Some(TypeProto { tensor_type }) }
        };
        out.input = graph.inputs.iter().map(info).collect();
        out.output = graph.outputs.iter().map(info).collect();
        let values = graph.values.iter().map(|v| v.name.clone()).collect();
        let nodes = graph.nodes.iter().map(|n| n.name.clone()).collect();
        Writer { graph, out, values, nodes, real: HashMap::new(), integers: HashMap::new() }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        let opset = OperatorSetIdProto { domain: String::new(), version: OPSET };
        let model = ModelProto {
            ir_version: 9,
            producer_name: "qgraph".into(),
            graph: Some(self.out),
            opset_import: vec![opset],
            metadata_props: vec![StringStringEntryProto {
                key: FUSED_ZERO_POINTS.into(),
                value: (self.graph.rounding == Rounding::Fused).to_string(),
            }],
        };
        model.encode_to_vec()
    }

    /// A name for a tensor that the graph does not have.
    pub(super) fn fresh(&mut self, name: &str) -> String {
        unique(&mut self.values, name)
    }

    fn fresh_node(&mut self, name: &str) -> String {
        unique(&mut self.nodes, name)
    }

    /// A node under a name of the graph, which only its main node may take.
    pub(super) fn named(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        output: &str,
        attribute: Vec<AttributeProto>,
    ) {
        self.out.node.push(NodeProto {
            name: name.into(),
            op_type: op.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: vec![output.into()],
            attribute,
            domain: String::new(),
        });
    }

    /// A node that helps another, with a new tensor called like it; gives that.
    pub(super) fn step(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        attribute: Vec<AttributeProto>,
    ) -> String {
        let (node, output) = (self.fresh_node(name), self.fresh(name));
        self.named(&node, op, inputs, &output, attribute);
        output
    }

    /// A node that helps another and gives a tensor of the graph.
    pub(super) fn helper(&mut self, name: &str, op: &str, inputs: &[&str], output: &str) {
        let node = self.fresh_node(name);
        self.named(&node, op, inputs, output, vec![]);
    }

    /// What readers of a value take: real numbers.
    pub(super) fn real(&self, v: QValueId) -> String {
        self.real.get(&v).unwrap_or(&self.graph.value(v).name).clone()
    }

    /// The integers of a u8 value.
    pub(super) fn integers(&self, v: QValueId) -> String {
        self.integers.get(&v).unwrap_or(&self.graph.value(v).name).clone()
    }

    /// The tensor called like the value is computed; if it is u8, it is rounded and dequantized.
    pub(super) fn finish(&mut self, v: QValueId) {
        let name = self.graph.value(v).name.clone();
        if let QType::U8 { .. } = self.graph.value(v).ty {
            let (node, q) = (self.fresh_node(&format!("{name}/round")), self.fresh(&format!("{name}/q")));
            self.round(&node, &name, v, q);
        }
    }

    /// A value that is another rounded: its own name is that of its integers.
    pub(super) fn quantize(&mut self, node: &str, x: &str, v: QValueId) {
        let q = self.graph.value(v).name.clone();
        self.round(node, x, v, q);
    }

    fn round(&mut self, node: &str, x: &str, v: QValueId, q: String) {
        let [scale, zero] = self.levels(v);
        self.named(node, "QuantizeLinear", &[x, &scale, &zero], &q, vec![]);
        self.integers_are(v, q);
    }

    /// What a clamp before the rounding of `v` takes of `sum`. Where zero points come last it is rounded as well, to the same integers as rounding
    /// keeps order: ONNX Runtime has integers only for operators that are rounded at once.
    pub(super) fn apart(&mut self, sum: String, v: QValueId) -> String {
        if self.graph.rounding == Rounding::Fused || self.graph.value(v).ty == QType::F32 {
            return sum;
        }
        let [scale, zero] = self.levels(v);
        let q = self.step(&format!("{sum}/q"), "QuantizeLinear", &[&sum, &scale, &zero], vec![]);
        self.step(&format!("{sum}/real"), "DequantizeLinear", &[&q, &scale, &zero], vec![])
    }

    /// The integers of a u8 value are this tensor.
    pub(super) fn integers_are(&mut self, v: QValueId, q: String) {
        let [scale, zero] = self.levels(v);
        let name = format!("{}/real", self.graph.value(v).name);
        let real = self.step(&name, "DequantizeLinear", &[&q, &scale, &zero], vec![]);
        self.integers.insert(v, q);
        self.real.insert(v, real);
    }

    /// A float value that is a u8 value dequantized.
    pub(super) fn dequantize(&mut self, node: &str, x: QValueId, v: QValueId) {
        let [scale, zero] = self.levels(x);
        let (q, name) = (self.integers(x), self.graph.value(v).name.clone());
        self.named(node, "DequantizeLinear", &[&q, &scale, &zero], &name, vec![]);
    }

    /// Scale and zero point of a u8 value as constants.
    fn levels(&mut self, v: QValueId) -> [String; 2] {
        let value = self.graph.value(v);
        let QType::U8 { scale, zero_point } = value.ty else { return [String::new(), String::new()] };
        let [s, z] = ["scale", "zero_point"].map(|role| format!("{}/{role}", value.name));
        if self.values.insert(s.clone()) {
            self.tensor(s.clone(), data_type::FLOAT, &[], scale.to_le_bytes().to_vec());
            self.tensor(z.clone(), data_type::UINT8, &[], vec![zero_point]);
        }
        [s, z]
    }

    fn tensor(&mut self, name: String, data_type: i32, shape: &[usize], raw: Vec<u8>) {
        let dims = shape.iter().map(|&n| n as i64).collect();
        let tensor = TensorProto { dims, data_type, name, raw_data: raw.into(), ..Default::default() };
        self.out.initializer.push(tensor);
    }

    /// A constant; gives its name.
    pub(super) fn constant(&mut self, name: &str, data_type: i32, shape: &[usize], raw: Vec<u8>) -> String {
        let name = self.fresh(name);
        self.tensor(name.clone(), data_type, shape, raw);
        name
    }

    /// A constant of floats; gives its name.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], data: &[f32]) -> String {
        let raw = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(name, data_type::FLOAT, shape, raw)
    }

    /// A constant list of integers; gives its name.
    pub(super) fn ints(&mut self, name: &str, data: &[i64]) -> String {
        let raw = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        self.constant(name, data_type::INT64, &[data.len()], raw)
    }

    /// A value that is a constant.
    pub(super) fn constant_value(&mut self, blob: BlobId, v: QValueId) {
        let (value, raw) = (self.graph.value(v), self.graph.blob_bytes(blob).to_vec());
        let shape = value.shape.clone();
        match self.graph.blob(blob).ty {
            BlobType::U8 | BlobType::I8 => {
                let q = self.constant(&format!("{}/q", value.name), data_type::UINT8, &shape, raw);
                self.integers_are(v, q);
            }
            BlobType::F32 | BlobType::I32 => self.tensor(value.name.clone(), data_type::FLOAT, &shape, raw),
        }
    }
}

/// `name`, or with a number if it is taken.
fn unique(taken: &mut HashSet<String>, name: &str) -> String {
    let candidates = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{name}.{n}")));
    let free = candidates.into_iter().find(|c| taken.insert(c.clone()));
    free.expect("some number is free")
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type, ..Default::default() }
}

/// An integer attribute.
pub(super) fn int(name: &str, i: usize) -> AttributeProto {
    AttributeProto { i: i as i64, ..attribute(name, attribute_type::INT) }
}

/// A float attribute.
pub(super) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, attribute_type::FLOAT) }
}

/// A text attribute.
pub(super) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.into(), ..attribute(name, attribute_type::STRING) }
}

/// A list of integers.
pub(super) fn ints(name: &str, ints: &[usize]) -> AttributeProto {
    let ints = ints.iter().map(|&n| n as i64).collect();
    AttributeProto { ints, ..attribute(name, attribute_type::INTS) }
}
