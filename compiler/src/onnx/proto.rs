//! The part of the ONNX format that import reads, as protobuf messages.
//!
//! In and out: bytes, by `prost`'s derive (field numbers are those of `onnx.proto`; fields not listed here are skipped).
//! Holds: nothing beyond what protobuf itself promises; every number is untrusted. `onnx.proto` is proto2, but no field that
//! import reads means one thing absent and another at its default, so scalars are plain. Not here: subgraphs, training,
//! functions, sparse tensors.

use prost::bytes::Bytes;

/// A model file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelProto {
    /// Version of the file format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// Who wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The network.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    /// Operator sets, one per domain.
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    /// What else is known of it.
    #[prost(message, repeated, tag = "14")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// Key in [`ModelProto::metadata_props`] of models that `export` wrote of networks with fused zero points: that is how they round.
pub const FUSED_ZERO_POINTS: &str = "qgraph.fused_zero_points";

/// Version of a domain's operators.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSetIdProto {
    /// Empty or `ai.onnx` for the standard operators.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// Version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// A network: nodes in topological order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GraphProto {
    /// Operations.
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    /// Name of the network.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants, by name.
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    /// What the caller gives; in old models also the initializers.
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    /// What the caller gets.
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// An operation on named values.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeProto {
    /// Names of operands; empty for one left out.
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    /// Names of results; empty for one left out.
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    /// May be empty.
    #[prost(string, tag = "3")]
    pub name: String,
    /// Operator.
    #[prost(string, tag = "4")]
    pub op_type: String,
    /// Attributes, by name.
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    /// Domain of the operator.
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named attribute; which field holds depends on `type`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type 1.
    #[prost(float, tag = "2")]
    pub f: f32,
    /// Type 2.
    #[prost(int64, tag = "3")]
    pub i: i64,
    /// Type 3.
    #[prost(bytes = "vec", tag = "4")]
    pub s: Vec<u8>,
    /// Type 4.
    #[prost(message, optional, tag = "5")]
    pub t: Option<TensorProto>,
    /// Type 6.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// Type 7.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// One of [`attribute_type`]; 0 in very old files.
    #[prost(int32, tag = "20")]
    pub r#type: i32,
}

/// Values of [`AttributeProto::type`](AttributeProto).
pub mod attribute_type {
    /// `f`
    pub const FLOAT: i32 = 1;
    /// `i`
    pub const INT: i32 = 2;
    /// `s`
    pub const STRING: i32 = 3;
    /// `t`
    pub const TENSOR: i32 = 4;
    /// `floats`
    pub const FLOATS: i32 = 6;
    /// `ints`
    pub const INTS: i32 = 7;
}

/// A constant. The content is in `raw_data` (little-endian), in the field for its type, or in another file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    /// Extents.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// One of [`data_type`].
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// FLOAT.
    #[prost(float, repeated, packed = "true", tag = "4")]
    pub float_data: Vec<f32>,
    /// Integers of at most 32 bits, BOOL, and the bits of FLOAT16 and BFLOAT16.
    #[prost(int32, repeated, packed = "true", tag = "5")]
    pub int32_data: Vec<i32>,
    /// INT64.
    #[prost(int64, repeated, packed = "true", tag = "7")]
    pub int64_data: Vec<i64>,
    /// Name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Any type but STRING.
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    /// DOUBLE.
    #[prost(double, repeated, packed = "true", tag = "10")]
    pub double_data: Vec<f64>,
    /// UINT32, UINT64.
    #[prost(uint64, repeated, packed = "true", tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Where the content is if `data_location` is 1: keys `location`, `offset`, `length`.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// 0: here. 1: in another file.
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// Values of [`TensorProto::data_type`](TensorProto) and of [`TensorTypeProto::elem_type`](TensorTypeProto).
pub mod data_type {
    /// f32
    pub const FLOAT: i32 = 1;
    /// u8
    pub const UINT8: i32 = 2;
    /// i8
    pub const INT8: i32 = 3;
    /// u16
    pub const UINT16: i32 = 4;
    /// i16
    pub const INT16: i32 = 5;
    /// i32
    pub const INT32: i32 = 6;
    /// i64
    pub const INT64: i32 = 7;
    /// text
    pub const STRING: i32 = 8;
    /// one byte, 0 or 1
    pub const BOOL: i32 = 9;
    /// IEEE half precision
    pub const FLOAT16: i32 = 10;
    /// f64
    pub const DOUBLE: i32 = 11;
    /// u32
    pub const UINT32: i32 = 12;
    /// u64
    pub const UINT64: i32 = 13;
    /// upper half of an f32
    pub const BFLOAT16: i32 = 16;

    /// Name of a type, for messages.
    pub fn name(data_type: i32) -> &'static str {
        match data_type {
            FLOAT => "float32",
            UINT8 => "uint8",
            INT8 => "int8",
            UINT16 => "uint16",
            INT16 => "int16",
            INT32 => "int32",
            INT64 => "int64",
            STRING => "string",
            BOOL => "bool",
            FLOAT16 => "float16",
            DOUBLE => "float64",
            UINT32 => "uint32",
            UINT64 => "uint64",
            BFLOAT16 => "bfloat16",
            _ => "an unknown type",
        }
    }
}

/// A key and a value.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StringStringEntryProto {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Name and type of an input or output.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfoProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A type; without `tensor_type` it is a sequence, map or the like.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TypeProto {
    /// A dense tensor.
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Type of a dense tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorTypeProto {
    /// One of [`data_type`].
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    /// Absent if even the rank is unknown.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// Extents of a tensor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShapeProto {
    /// Outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// One extent: a number, a symbol, or unknown.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DimensionProto {
    /// What is known.
    #[prost(oneof = "Dimension", tags = "1, 2")]
    pub value: Option<Dimension>,
}

/// A stated extent.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Dimension {
    /// A number; some exporters write 0 or −1 for unknown.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// A symbol.
    #[prost(string, tag = "2")]
    Param(String),
}
