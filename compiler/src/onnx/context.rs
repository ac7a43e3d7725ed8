//! What the handler of one node sees: attributes, operands, and where results go.
//!
//! In: an untrusted node whose operands are all known. Out: nodes of the graph, or constants. Holds: attributes have the type
//! that is asked for; an operand outside of the node's list is absent, not a panic. Not here: the meaning of any operator.

use super::Outcome;
use super::importer::{Importer, Known};
use super::literal::{Elements, Literal, broadcast_strides, count, dense_strides, walk};
use super::proto::{AttributeProto, NodeProto, attribute_type};
use super::quantized::Levels;
use super::tensor::Reader;
use crate::graph::{Op, ValueId};
use std::collections::HashMap;

/// One node being imported.
pub(super) struct NodeContext<'a> {
    importer: &'a mut Importer,
    node: &'a NodeProto,
    name: String,
    /// The node's own name goes to the node that gives its (first) result, others get suffixes.
    name_free: bool,
    results: HashMap<usize, Known>,
}

impl<'a> NodeContext<'a> {
    pub(super) fn new(importer: &'a mut Importer, node: &'a NodeProto, name: String) -> Self {
        NodeContext { importer, node, name, name_free: true, results: HashMap::new() }
    }

    /// By output position.
    pub(super) fn into_results(self) -> HashMap<usize, Known> {
        self.results
    }

    /// Version of the operator set.
    pub(super) fn opset(&self) -> i64 {
        self.importer.opset
    }

    /// The operator's ONNX name.
    pub(super) fn op_type(&self) -> &'a str {
        &self.node.op_type
    }

    fn attribute(&self, name: &str, ty: i32, what: &str) -> Outcome<Option<&'a AttributeProto>> {
        match self.node.attribute.iter().find(|a| a.name == name) {
            // Very old files state no type.
            Some(a) if a.r#type == ty || a.r#type == 0 => Ok(Some(a)),
            Some(_) => Err(format!("attribute {name} is not {what}")),
            None => Ok(None),
        }
    }

    /// True if the attribute is there.
    pub(super) fn has_attribute(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|a| a.name == name)
    }

    /// An integer attribute.
    pub(super) fn int(&self, name: &str, default: i64) -> Outcome<i64> {
        Ok(self.attribute(name, attribute_type::INT, "an integer")?.map_or(default, |a| a.i))
    }

    /// A float attribute.
    pub(super) fn float(&self, name: &str, default: f32) -> Outcome<f32> {
        Ok(self.attribute(name, attribute_type::FLOAT, "a float")?.map_or(default, |a| a.f))
    }

    /// A float attribute that enters the graph.
    pub(super) fn finite(&self, name: &str, default: f32) -> Outcome<f32> {
        let x = self.float(name, default)?;
        if x.is_finite() { Ok(x) } else { Err(format!("attribute {name} is {x}")) }
    }

    /// A list of integers.
    pub(super) fn ints(&self, name: &str) -> Outcome<Option<&'a [i64]>> {
        Ok(self.attribute(name, attribute_type::INTS, "a list of integers")?.map(|a| &a.ints[..]))
    }

    /// A list of floats.
    pub(super) fn floats(&self, name: &str) -> Outcome<Option<&'a [f32]>> {
        Ok(self.attribute(name, attribute_type::FLOATS, "a list of floats")?.map(|a| &a.floats[..]))
    }

    /// A string.
    pub(super) fn string(&self, name: &str, default: &'a str) -> Outcome<&'a str> {
        match self.attribute(name, attribute_type::STRING, "a string")? {
            Some(a) => std::str::from_utf8(&a.s).map_err(|_| format!("attribute {name} is not text")),
            None => Ok(default),
        }
    }

    /// A tensor. External data makes no sense in an attribute and is refused.
    pub(super) fn tensor(&self, name: &str) -> Outcome<Option<Literal>> {
        let Some(a) = self.attribute(name, attribute_type::TENSOR, "a tensor")? else { return Ok(None) };
        let tensor = a.t.as_ref().ok_or_else(|| format!("attribute {name} holds no tensor"))?;
        Reader::new(None).read(tensor).map(Some).map_err(|e| format!("attribute {name}: {e}"))
    }

    /// Number of operands listed, absent ones included.
    pub(super) fn input_count(&self) -> usize {
        self.node.input.len()
    }

    /// Number of results listed.
    pub(super) fn output_count(&self) -> usize {
        self.node.output.len()
    }

    /// True if somebody reads result `k`.
    pub(super) fn output_is_read(&self, k: usize) -> bool {
        self.node.output.get(k).is_some_and(|o| !o.is_empty() && self.importer.is_live(o))
    }

    /// Name of operand `k`, if it is there.
    pub(super) fn input_name(&self, k: usize) -> Option<&'a str> {
        self.node.input.get(k).map(String::as_str).filter(|name| !name.is_empty())
    }

    fn known(&self, k: usize) -> Option<&Known> {
        self.importer.known(self.input_name(k)?)
    }

    /// True if operand `k` is there.
    pub(super) fn has(&self, k: usize) -> bool {
        self.input_name(k).is_some()
    }

    /// Operand `k` if it is constant.
    pub(super) fn literal(&self, k: usize) -> Option<&Literal> {
        match self.known(k)? {
            Known::Literal(literal) => Some(literal),
            Known::Value(_) | Known::Quantized(..) | Known::Unknown => None,
        }
    }

    /// All operands, if they are constant and none is absent.
    pub(super) fn literals(&self) -> Option<Vec<Literal>> {
        (0..self.input_count()).map(|k| self.literal(k).cloned()).collect()
    }

    /// How operand `k` stands for real numbers, if it is a computed tensor of integers.
    pub(super) fn levels(&self, k: usize) -> Option<Levels> {
        match self.known(k)? {
            Known::Quantized(_, levels) => Some(*levels),
            Known::Literal(_) | Known::Value(_) | Known::Unknown => None,
        }
    }

    /// Operand `k`, which must be constant; `what` names it in the message.
    pub(super) fn required(&self, k: usize, what: &str) -> Outcome<Literal> {
        if !self.has(k) {
            return Err(format!("has no {what} (input {k})"));
        }
        let literal = self.literal(k).cloned();
        literal.ok_or_else(|| format!("the {what} is computed at run time; only a constant is supported"))
    }

    /// A list of integers in operand `k`, `None` if the operand is absent.
    pub(super) fn int_list(&self, k: usize, what: &str) -> Outcome<Option<Vec<i64>>> {
        if !self.has(k) {
            return Ok(None);
        }
        let literal = self.required(k, what)?;
        let ints = literal.as_ints().ok_or_else(|| format!("the {what} (input {k}) are not integers"))?;
        Ok(Some(ints.to_vec()))
    }

    /// One number in operand `k`, `None` if the operand is absent.
    pub(super) fn scalar(&self, k: usize, what: &str) -> Outcome<Option<f32>> {
        if !self.has(k) {
            return Ok(None);
        }
        match &self.required(k, what)?.data {
            Elements::Float(x) if x.len() == 1 => Ok(Some(x[0])),
            Elements::Int(x) if x.len() == 1 => Ok(Some(x[0] as f32)),
            _ => Err(format!("the {what} (input {k}) is not one number")),
        }
    }

    /// Axes: operand 1 since opset `since`, an attribute before.
    pub(super) fn axes(&self, since: i64) -> Outcome<Option<Vec<i64>>> {
        if self.opset() >= since {
            self.int_list(1, "axes")
        } else {
            Ok(self.ints("axes")?.map(<[_]>::to_vec))
        }
    }

    /// Shape of operand `k`.
    pub(super) fn shape(&self, k: usize) -> Outcome<Vec<usize>> {
        match self.known(k) {
            Some(Known::Literal(literal)) => Ok(literal.shape.clone()),
            Some(Known::Value(id) | Known::Quantized(id, _)) => Ok(self.importer.graph.shape(*id).to_vec()),
            Some(Known::Unknown) | None => Err(format!("has no input {k}")),
        }
    }

    /// Operand `k` as a value of the graph.
    pub(super) fn input(&mut self, k: usize) -> Outcome<ValueId> {
        let name = self.input_name(k).ok_or_else(|| format!("has no input {k}"))?;
        match self.importer.known(name).cloned() {
            Some(Known::Value(id) | Known::Quantized(id, _)) => Ok(id),
            Some(Known::Literal(literal)) => self.importer.constant(name, &literal),
            Some(Known::Unknown) | None => Err(format!("has no input {k}")),
        }
    }

    /// Shape of a value of the graph.
    pub(super) fn shape_of(&self, id: ValueId) -> &[usize] {
        self.importer.graph.shape(id)
    }

    /// Counts elements about to be created from constants.
    pub(super) fn spend(&mut self, elements: usize) -> Outcome {
        self.importer.spend(elements)
    }

    /// A new constant, named after the node.
    pub(super) fn constant(&mut self, suffix: &str, literal: &Literal) -> Outcome<ValueId> {
        let name = self.importer.fresh_value(&format!("{}.{suffix}", self.name));
        self.importer.push_constant(name, literal)
    }

    /// A node on the way to the result.
    pub(super) fn step(&mut self, suffix: &str, op: Op, inputs: impl Into<Vec<ValueId>>) -> Outcome<ValueId> {
        let name = format!("{}.{suffix}", self.name);
        let (node, value) = (self.importer.fresh_node(&name), self.importer.fresh_value(&name));
        self.importer.push_node(node, value, op, inputs.into())
    }

    /// The node that gives the first result.
    pub(super) fn finish(&mut self, op: Op, inputs: impl Into<Vec<ValueId>>) -> Outcome {
        self.finish_output(0, op, inputs)
    }

    /// The node that gives result `k`.
    pub(super) fn finish_output(&mut self, k: usize, op: Op, inputs: impl Into<Vec<ValueId>>) -> Outcome {
        let node = if std::mem::take(&mut self.name_free) {
            self.name.clone()
        } else {
            self.importer.fresh_node(&format!("{}.{k}", self.name))
        };
        // Inference first: a name is only used up by a node that exists.
        let value = match self.node.output.get(k).filter(|o| !o.is_empty()) {
            Some(output) => output.clone(),
            None => self.importer.fresh_value(&node),
        };
        let id = self.importer.push_node(node, value, op, inputs.into())?;
        self.results.insert(k, Known::Value(id));
        Ok(())
    }

    /// The node gives integers of `levels`: `op` is a rounding to them, or moves such.
    pub(super) fn finish_integers(
        &mut self,
        op: Op,
        inputs: impl Into<Vec<ValueId>>,
        levels: Levels,
    ) -> Outcome {
        self.finish(op, inputs)?;
        self.results_are(levels);
        Ok(())
    }

    /// The node's result is `op`, rounded to integers of `levels`. The model's names go to `op`.
    pub(super) fn finish_rounded(
        &mut self,
        op: Op,
        inputs: impl Into<Vec<ValueId>>,
        levels: Levels,
    ) -> Outcome {
        self.finish(op, inputs)?;
        let Some(Known::Value(real)) = self.results.get(&0).cloned() else {
            return Err("has no result".into());
        };
        let rounded = self.step("round", Op::Round(levels.grid), [real])?;
        self.results.insert(0, Known::Quantized(rounded, levels));
        Ok(())
    }

    /// What was computed are integers of `levels`.
    pub(super) fn results_are(&mut self, levels: Levels) {
        for known in self.results.values_mut() {
            if let Known::Value(id) = *known {
                *known = Known::Quantized(id, levels);
            }
        }
    }

    /// The first result is a constant.
    pub(super) fn finish_literal(&mut self, literal: Literal) {
        self.finish_literal_output(0, literal);
    }

    /// Result `k` is a constant.
    pub(super) fn finish_literal_output(&mut self, k: usize, literal: Literal) {
        self.results.insert(k, Known::Literal(literal));
    }

    /// Result `k` is operand 0, moved about by `op` (Reshape, Transpose or Slice): at once if it is constant.
    pub(super) fn finish_moved(&mut self, k: usize, op: Op) -> Outcome {
        let Some(literal) = self.literal(0).cloned() else {
            let x = self.input(0)?;
            return self.finish_output(k, op, [x]);
        };
        let moved = match &op {
            Op::Reshape(shape) => {
                let literal = Literal { shape: shape.clone(), ..literal };
                if count(shape)? != literal.data.len() {
                    return Err(format!("{} elements do not fill {shape:?}", literal.data.len()));
                }
                literal
            }
            Op::Transpose(perm) => {
                self.spend(literal.data.len())?;
                let strides = dense_strides(&literal.shape);
                let shape: Vec<_> = perm.iter().map(|&p| literal.shape[p]).collect();
                let strides: Vec<_> = perm.iter().map(|&p| strides[p]).collect();
                literal.pick(shape.clone(), walk(&shape, 0, &strides))
            }
            Op::Slice(axes) => {
                let shape: Vec<_> = axes.iter().map(|a| a.count).collect();
                self.spend(count(&shape)?)?;
                let dense = dense_strides(&literal.shape);
                let offset: usize = axes.iter().zip(&dense).map(|(a, &s)| a.start * s as usize).sum();
                let strides: Vec<_> = axes.iter().zip(&dense).map(|(a, &s)| a.step.wrapping_mul(s)).collect();
                literal.pick(shape.clone(), walk(&shape, offset, &strides))
            }
            other => return Err(format!("{other} of a constant is not supported")),
        };
        self.finish_literal_output(k, moved);
        Ok(())
    }

    /// `literal` spread to `shape` by numpy broadcasting, which must be possible.
    pub(super) fn expand(&mut self, literal: &Literal, shape: &[usize]) -> Outcome<Literal> {
        self.spend(count(shape)?)?;
        let strides = broadcast_strides(&literal.shape, shape);
        Ok(literal.pick(shape.to_vec(), walk(shape, 0, &strides)))
    }
}

/// `axis` counted from 0; negative ones count from the end.
pub(super) fn axis_in(axis: i64, rank: usize) -> Outcome<usize> {
    let counted = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| format!("axis {axis} does not exist: the tensor has {rank} axes"))
}

/// Distinct axes in ascending order, counted from 0.
pub(super) fn axes_in(axes: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    let mut counted = axes.iter().map(|&a| axis_in(a, rank)).collect::<Outcome<Vec<_>>>()?;
    counted.sort_unstable();
    if counted.windows(2).any(|w| w[0] == w[1]) {
        return Err(format!("axes {axes:?} name one axis twice"));
    }
    Ok(counted)
}
