//! Makes a [`QGraph`] piece by piece: values, blobs and nodes go in, a verified graph comes out.
//!
//! Blobs are laid one after the other at multiples of 64 bytes, in the order in which they are added. The builder
//! checks nothing on the way: [`Builder::finish`] runs the verifier over the whole.

use super::{Blob, BlobId, BlobType, QGraph, QNode, QOp, QType, QValue, QValueId, verify};
use crate::blob::{ALIGN, Bytes};
use crate::error::{Error, Result, Stage};
use crate::preprocess::Preprocess;
use qgraph_runtime::requant::Rounding;
use std::collections::HashSet;
use std::sync::Arc;

/// A graph in the making. Ids are given in the order of the calls, from 0.
#[derive(Debug, Default)]
pub struct Builder {
    name: String,
    nodes: Vec<QNode>,
    values: Vec<QValue>,
    inputs: Vec<QValueId>,
    outputs: Vec<QValueId>,
    preprocess: Option<Preprocess>,
    rounding: Rounding,
    blobs: Vec<Blob>,
    blob_names: HashSet<String>,
    data: Vec<u8>,
}

impl Builder {
    /// An empty graph of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Builder { name: name.into(), ..Builder::default() }
    }

    /// A new value: unique name, logical shape, element type. Exactly one node (or [`Builder::add_input`]) must produce it.
    pub fn add_value(&mut self, name: impl Into<String>, shape: &[usize], ty: QType) -> QValueId {
        self.values.push(QValue { name: name.into(), shape: shape.to_vec(), ty, factors: Vec::new() });
        QValueId(self.values.len() as u32 - 1)
    }

    /// What the channels of `value` are multiples by: see [`QValue::factors`].
    pub fn set_factors(&mut self, value: QValueId, factors: &[f32]) {
        self.values[value.0 as usize].factors = factors.to_vec();
    }

    /// A new f32 value that the caller gives; inputs stand in the order of these calls.
    pub fn add_input(&mut self, name: impl Into<String>, shape: &[usize]) -> QValueId {
        let id = self.add_value(name, shape, QType::F32);
        self.inputs.push(id);
        id
    }

    /// The caller gets this f32 value; outputs stand in the order of these calls.
    pub fn add_output(&mut self, value: QValueId) {
        self.outputs.push(value);
    }

    /// A node whose result is the existing value `output`. Nodes are added in topological order.
    pub fn add_node(
        &mut self,
        name: impl Into<String>,
        op: QOp,
        inputs: &[QValueId],
        output: QValueId,
    ) -> &mut QNode {
        let node = QNode { name: name.into(), op, inputs: inputs.to_vec(), output, float_reason: None };
        let at = self.nodes.len();
        self.nodes.push(node);
        &mut self.nodes[at]
    }

    /// A node and the value it makes, which gets the node's name.
    pub fn add_op(
        &mut self,
        name: impl Into<String>,
        op: QOp,
        inputs: &[QValueId],
        shape: &[usize],
        ty: QType,
    ) -> QValueId {
        let name = name.into();
        let output = self.add_value(name.clone(), shape, ty);
        self.add_node(name, op, inputs, output);
        output
    }

    /// Constant signed bytes, as stored. A taken name gets a number appended. Panics if `shape` and `data` disagree.
    pub fn add_blob_i8(&mut self, name: &str, shape: &[usize], data: &[i8]) -> BlobId {
        self.add_blob(name, shape, BlobType::I8, data.iter().map(|&x| x as u8))
    }

    /// Constant unsigned bytes, as stored.
    pub fn add_blob_u8(&mut self, name: &str, shape: &[usize], data: &[u8]) -> BlobId {
        self.add_blob(name, shape, BlobType::U8, data.iter().copied())
    }

    /// Constant 32-bit integers.
    pub fn add_blob_i32(&mut self, name: &str, shape: &[usize], data: &[i32]) -> BlobId {
        self.add_blob(name, shape, BlobType::I32, data.iter().flat_map(|x| x.to_le_bytes()))
    }

    /// Constant real numbers.
    pub fn add_blob_f32(&mut self, name: &str, shape: &[usize], data: &[f32]) -> BlobId {
        self.add_blob(name, shape, BlobType::F32, data.iter().flat_map(|x| x.to_le_bytes()))
    }

    fn add_blob(
        &mut self,
        name: &str,
        shape: &[usize],
        ty: BlobType,
        bytes: impl Iterator<Item = u8>,
    ) -> BlobId {
        // The file format keeps the reserved names for itself.
        let name = if name.starts_with(verify::RESERVED) { format!("blob{name}") } else { name.to_owned() };
        let mut unique = name.clone();
        let mut n = 1;
        while !self.blob_names.insert(unique.clone()) {
            n += 1;
            unique = format!("{name}.{n}");
        }
        let offset = self.data.len();
        self.data.extend(bytes);
        let blob = Blob { name: unique, ty, shape: shape.to_vec(), offset };
        assert_eq!(self.data.len() - offset, blob.bytes(), "blob {name}: data and shape {shape:?} differ");
        self.data.resize(self.data.len().next_multiple_of(ALIGN), 0);
        self.blobs.push(blob);
        BlobId(self.blobs.len() as u32 - 1)
    }

    /// How images become the input.
    pub fn set_preprocess(&mut self, preprocess: Option<Preprocess>) {
        self.preprocess = preprocess;
    }

    /// When zero points join; unless this is called, [`Rounding::Fused`].
    pub fn set_rounding(&mut self, rounding: Rounding) {
        self.rounding = rounding;
    }

    /// What is known of a value so far.
    pub fn value(&self, id: QValueId) -> &QValue {
        &self.values[id.0 as usize]
    }

    /// The graph as it stands, unverified: for tests of the verifier.
    pub fn finish_unverified(self) -> QGraph {
        QGraph {
            name: self.name,
            nodes: self.nodes,
            values: self.values,
            inputs: self.inputs,
            outputs: self.outputs,
            preprocess: self.preprocess,
            rounding: self.rounding,
            blobs: self.blobs,
            data: Arc::new(Bytes::from(&self.data[..])),
        }
    }

    /// The graph, if it keeps all rules; else every violation, as errors of [`Stage::Quantize`].
    pub fn finish(self) -> Result<QGraph> {
        let graph = self.finish_unverified();
        Error::all(Stage::Quantize, verify::verify(&graph))?;
        Ok(graph)
    }
}
