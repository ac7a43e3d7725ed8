//! ONNX models in code, for tests: a chain of calls, one per input, constant and node; then the bytes of the file.
//!
//!     let bytes = Model::new(13)
//!         .input("x", &[1, 3, 8, 8])
//!         .weight("w", &[4, 3, 3, 3], 7)
//!         .node("Conv", &["x", "w"], &["y"], &[ints("pads", &[1, 1, 1, 1])])
//!         .output("y")
//!         .bytes();

#![allow(dead_code)]

use prost::Message;
use qgraph_compiler::onnx::proto::*;

/// An unfinished model.
#[derive(Clone)]
pub(crate) struct Model(pub(crate) ModelProto);

impl Model {
    /// An empty model of an operator set.
    pub(crate) fn new(opset: i64) -> Self {
        let opset = OperatorSetIdProto { domain: String::new(), version: opset };
        let graph = GraphProto { name: "test".into(), ..Default::default() };
        Model(ModelProto {
            metadata_props: vec![],
            ir_version: 8,
            producer_name: "qgraph tests".into(),
            graph: Some(graph),
            opset_import: vec![opset],
        })
    }

    /// The graph of the file.
    pub(crate) fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.as_mut().expect("the builder always has a graph")
    }

    /// A float input with fixed extents.
    pub(crate) fn input(self, name: &str, shape: &[i64]) -> Self {
        self.input_of(name, shape.iter().map(|&n| Some(Dimension::Value(n))).collect())
    }

    /// A float input whose extents are numbers or symbols: `"N,3,224,224"`.
    pub(crate) fn symbolic_input(self, name: &str, shape: &str) -> Self {
        let dimension = |text: &str| match text.parse() {
            Ok(n) => Some(Dimension::Value(n)),
            Err(_) => Some(Dimension::Param(text.to_owned())),
        };
        self.input_of(name, shape.split(',').map(dimension).collect())
    }

    fn input_of(mut self, name: &str, dims: Vec<Option<Dimension>>) -> Self {
        let dim = dims.into_iter().map(|value| DimensionProto { value }).collect();
        let shape = Some(TensorShapeProto { dim });
        let tensor_type = Some(TensorTypeProto { elem_type: data_type::FLOAT, shape });
        self.graph()
            .input
            .push(ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type }) });
        self
    }

    /// An output; its type is left to inference.
    pub(crate) fn output(mut self, name: &str) -> Self {
        self.graph().output.push(ValueInfoProto { name: name.into(), r#type: None });
        self
    }

    /// A float constant.
    pub(crate) fn floats(self, name: &str, shape: &[i64], data: &[f32]) -> Self {
        self.constant(name, float_tensor(shape, data))
    }

    /// A float constant of seeded numbers in −0.5..0.5.
    pub(crate) fn weight(self, name: &str, shape: &[i64], seed: u64) -> Self {
        let count = shape.iter().product::<i64>() as usize;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let data: Vec<f32> = (0..count).map(|_| next()).collect();
        self.floats(name, shape, &data)
    }

    /// A one-dimensional int64 constant.
    pub(crate) fn ints(self, name: &str, data: &[i64]) -> Self {
        self.constant(name, int_tensor(&[data.len() as i64], data))
    }

    /// A constant of integers of any type of at most 32 bits.
    pub(crate) fn integers(self, name: &str, ty: i32, shape: &[i64], data: &[i32]) -> Self {
        self.constant(
            name,
            TensorProto {
                dims: shape.to_vec(),
                data_type: ty,
                int32_data: data.to_vec(),
                ..Default::default()
            },
        )
    }

    /// Scale and zero point, called `{name}_s` and `{name}_z`.
    pub(crate) fn levels(self, name: &str, scale: f32, ty: i32, zero: i32) -> Self {
        self.floats(&format!("{name}_s"), &[], &[scale]).integers(&format!("{name}_z"), ty, &[], &[zero])
    }

    /// A node of ONNX Runtime's own operators.
    pub(crate) fn microsoft(
        self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Self {
        let mut model = self.node(op, inputs, outputs, attributes);
        model.graph().node.last_mut().expect("a node was added").domain = "com.microsoft".into();
        model
    }

    /// Any constant.
    pub(crate) fn constant(mut self, name: &str, tensor: TensorProto) -> Self {
        self.graph().initializer.push(TensorProto { name: name.into(), ..tensor });
        self
    }

    /// A node without a name.
    pub(crate) fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[AttributeProto],
    ) -> Self {
        let names = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
        self.graph().node.push(NodeProto {
            op_type: op.into(),
            input: names(inputs),
            output: names(outputs),
            attribute: attributes.to_vec(),
            ..Default::default()
        });
        self
    }

    /// Names the last node.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.graph().node.last_mut().expect("a node comes first").name = name.into();
        self
    }

    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }
}

/// A float tensor in `float_data`.
pub(crate) fn float_tensor(shape: &[i64], data: &[f32]) -> TensorProto {
    TensorProto {
        dims: shape.to_vec(),
        data_type: data_type::FLOAT,
        float_data: data.to_vec(),
        ..Default::default()
    }
}

/// An int64 tensor in `int64_data`.
pub(crate) fn int_tensor(shape: &[i64], data: &[i64]) -> TensorProto {
    TensorProto {
        dims: shape.to_vec(),
        data_type: data_type::INT64,
        int64_data: data.to_vec(),
        ..Default::default()
    }
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type, ..Default::default() }
}

/// An integer attribute.
pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, attribute_type::INT) }
}

/// A float attribute.
pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f, ..attribute(name, attribute_type::FLOAT) }
}

/// A text attribute.
pub(crate) fn text(name: &str, s: &str) -> AttributeProto {
    AttributeProto { s: s.into(), ..attribute(name, attribute_type::STRING) }
}

/// A list of integers.
pub(crate) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { ints: ints.to_vec(), ..attribute(name, attribute_type::INTS) }
}

/// A list of floats.
pub(crate) fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    AttributeProto { floats: floats.to_vec(), ..attribute(name, attribute_type::FLOATS) }
}

/// A tensor attribute.
pub(crate) fn tensor(name: &str, t: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(t), ..attribute(name, attribute_type::TENSOR) }
}
