//! Scheduling: operators become kernels over a planned arena. Operators end here.
//!
//! In: a verified [`QGraph`] and a [`Target`]. Out: a [`Plan`] whose every address is a constant. What holds: integer results do not
//! depend on the target. Not here: what kernels mean (`kernel`), the proof of bounds (`plan::verify`).
//!
//! - `memory`: which storage every value gets (views, concatenation and residuals in place, halos).
//! - `batch`: which nodes run for all images of a batch at once.
//! - `layout`: strides and loop nests over elements.
//! - `draft`: the plan being written; shares kernels and constants, places the arena.
//! - `choice`: how layers are cut, as data.
//! - `conv`, `tile`, `prefetch`, `epilogue`, `depthwise`, `rows`, `window`, `sliding`, `channelwise`: convolutions.
//! - `input`: how inputs are given and where they go, quantization; `pixels`: inputs of bytes.
//! - `elementwise`, `pool`, `moves`, `border`, `float`: everything else.

mod batch;
mod border;
mod channelwise;
mod choice;
mod conv;
mod depthwise;
mod draft;
mod elementwise;
mod epilogue;
mod float;
mod input;
mod layout;
mod memory;
mod moves;
mod pixels;
mod pool;
mod prefetch;
mod rows;
mod sliding;
mod tile;
mod unpack;
mod window;

use crate::error::{Error, Result, Stage};
use crate::plan::{Block, Io, Place as PlanPlace, Plan, Ptr, Space};
use crate::qgraph::{QGraph, QNode, QOp, QType, QValueId};
use crate::target::Target;
pub use choice::{Choice, Choices, Tunable};
use conv::TileCosts;
use draft::{At, Base, Draft, Place, Storage};
pub use input::inputs;
use layout::Layout;
use memory::Memory;
use qgraph_runtime::Dtype;
use std::sync::Arc;

/// What the caller decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Images per run.
    pub batch: usize,
    /// Give every value memory of its own, so that all can be read after a run (probes).
    pub keep_values: bool,
    /// How inputs are given.
    pub input: InputFormat,
    /// How layers are cut, instead of what the cost model chooses.
    pub choices: Choices,
}

impl Default for Options {
    fn default() -> Self {
        Options { batch: 1, keep_values: false, input: InputFormat::default(), choices: Choices::default() }
    }
}

/// How the caller gives all inputs. The same image gives the same bits in every format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InputFormat {
    /// f32 as the network takes them, in the ONNX model's axis order.
    #[default]
    F32,
    /// The same numbers in the order N, H, W, C. Only images, which have four axes.
    F32Nhwc,
    /// Pixels as image decoders give them: bytes in the order N, H, W, C, grey or red, green, blue, of the input's size. What the network
    /// takes is made of them as the graph's [`Preprocess`](crate::preprocess::Preprocess) says, and without one `x = u8`.
    U8Nhwc,
}

/// Largest arena a plan may have.
const ARENA_LIMIT: usize = 1 << 36;

/// Schedules a network for a target. The graph must be valid ([`crate::qgraph::verify`]).
pub fn schedule(graph: &QGraph, target: &Target, options: &Options) -> Result<Plan> {
    tunable(graph, target, options).map(|done| done.0)
}

/// The same, and which layers can be cut in which other ways.
pub fn tunable(graph: &QGraph, target: &Target, options: &Options) -> Result<(Plan, Vec<Tunable>)> {
    if options.batch == 0 {
        return Err(Error::new(Stage::Schedule, "batch", "a run must have at least one image"));
    }
    let inputs = inputs(graph, options)?;
    let mut draft = Draft::default();
    let memory = memory::assign(graph, options.batch, options.keep_values, &mut draft);
    let format = options.input;
    let mut lower = Lower {
        graph,
        target,
        format,
        choices: &options.choices,
        draft,
        memory,
        time: 0,
        starts: Vec::new(),
        costs: TileCosts::default(),
        tunables: Vec::new(),
    };
    lower.stage_inputs();
    let mut tail_steps = None;
    for (k, node) in graph.nodes.iter().enumerate() {
        lower.time = k;
        lower.starts.push(lower.draft.steps.len());
        if k == lower.memory.tail {
            lower.memory.enter_tail(options.batch);
            tail_steps = Some(lower.draft.steps.len());
        }
        lower.node(node)?;
    }
    lower.time = graph.nodes.len();
    lower.starts.push(lower.draft.steps.len());
    lower.copy_outputs();
    let head = tail_steps.unwrap_or(lower.draft.steps.len());
    let mut tunables = std::mem::take(&mut lower.tunables);
    let mut plan = lower.finish(options, head, inputs)?;
    let kept = plan.drop_repeated();
    tunables.iter_mut().for_each(|t| t.step = kept[t.step]);
    Ok((plan, tunables))
}

/// The graph being scheduled and what is written so far.
struct Lower<'a> {
    graph: &'a QGraph,
    target: &'a Target,
    format: InputFormat,
    choices: &'a Choices,
    draft: Draft,
    memory: Memory,
    /// Number of the node being lowered: the lifetime of its temporary memory.
    time: usize,
    /// The first step of every node so far. (What is before the first node is its own.)
    starts: Vec<usize>,
    costs: TileCosts,
    /// Dense layers so far.
    tunables: Vec<Tunable>,
}

impl Lower<'_> {
    fn place(&self, id: QValueId) -> &Place {
        &self.memory.places[id.0 as usize]
    }

    fn ty(&self, id: QValueId) -> QType {
        self.graph.value(id).ty
    }

    /// Scale and zero point of a u8 value.
    fn affine(&self, id: QValueId) -> (f32, u8) {
        match self.ty(id) {
            QType::U8 { scale, zero_point } => (scale, zero_point),
            QType::F32 => (1.0, 0),
        }
    }

    fn is_u8(&self, id: QValueId) -> bool {
        matches!(self.ty(id), QType::U8 { .. })
    }

    /// A blob where the file has it.
    fn weights(&self, id: crate::qgraph::BlobId) -> At {
        At { base: Base::Fixed(Space::Weights), offset: self.graph.blob(id).offset }
    }

    /// Memory for the time of one node.
    fn temporary(&mut self, layout: Layout) -> Place {
        let id = self.draft.storage(layout.bytes, self.time, self.time);
        Place { base: At { base: Base::Storage(id), offset: 0 }, layout }
    }

    fn refuse<T>(&self, node: &QNode, message: impl Into<String>) -> Result<T> {
        Err(Error::new(Stage::Schedule, &node.name, message))
    }

    /// Outputs that no kernel wrote directly are copied to dense row-major memory.
    fn copy_outputs(&mut self) {
        for (k, &id) in self.graph.outputs.iter().enumerate() {
            let from = self.place(id).clone();
            if from.base.base == Base::Fixed(Space::Output(k)) {
                continue;
            }
            let name = self.graph.value(id).name.clone();
            let to = Place {
                base: At { base: Base::Fixed(Space::Output(k)), offset: 0 },
                layout: Layout::dense(&from.layout.shape, 4),
            };
            self.copy(&name, "write output", &from, &to);
        }
    }

    fn node(&mut self, node: &QNode) -> Result<()> {
        self.fill_halo(&node.name, node.output);
        match &node.op {
            QOp::Quantize => self.quantize(node),
            QOp::Dequantize => self.dequantize(node),
            QOp::Conv(conv) => self.conv(node, conv)?,
            QOp::Affine { scale, offset, lo, hi } => self.affine_node(node, *scale, *offset, *lo, *hi),
            QOp::Add { a, b, k, lo, hi } => self.add(node, *a, *b, *k, *lo, *hi),
            QOp::Mul { scale, lo, hi } => self.mul(node, *scale, *lo, *hi),
            QOp::Binary { op, lo, hi } => self.binary(node, *op, *lo, *hi),
            QOp::Table(table) => self.table(node, *table),
            QOp::Unary(unary) => self.unary(node, *unary),
            QOp::PRelu(slope) => self.prelu(node, *slope),
            QOp::MaxPool(window) => self.max_pool(node, window),
            QOp::AvgPool { window, count_include_pad, ratio } => {
                self.avg_pool(node, window, *count_include_pad, *ratio)?;
            }
            QOp::Concat { axis } => self.concat(node, *axis),
            QOp::Slice(axes) => self.slice(node, axes),
            QOp::Pad { pads, fill } => self.pad(node, pads, *fill),
            QOp::Transpose(perm) => self.transpose(node, perm),
            QOp::Reshape => self.reshape(node),
            QOp::DepthToSpace { block, crop } => self.depth_to_space(node, *block, *crop),
            QOp::ResizeNearest { rows, cols } => self.resize_nearest(node, rows, cols),
            QOp::ResizeLinear { rows, cols } => self.resize_linear(node, rows, cols),
            QOp::Softmax { axis } => self.softmax(node, *axis),
            QOp::Lrn { size, alpha, beta, bias } => self.lrn(node, *size, *alpha, *beta, *bias),
            QOp::Peak => self.peak(node),
            QOp::Constant(blob) => self.constant(node, *blob),
        }
        Ok(())
    }

    fn finish(self, options: &Options, head: usize, inputs: Vec<Io>) -> Result<Plan> {
        let Lower { graph, target, draft, memory, starts, .. } = self;
        let storages = draft.storages.clone();
        let (scratch_bytes, offsets, steps, kernels, consts) = draft.finish();
        let carried_bytes = memory.carried_bytes;
        let arena_bytes = scratch_bytes.saturating_add(carried_bytes.saturating_mul(options.batch));
        if arena_bytes > ARENA_LIMIT {
            let message = format!(
                "activations need {arena_bytes} bytes; the limit is {ARENA_LIMIT}: use a smaller input shape"
            );
            return Err(Error::new(Stage::Schedule, &graph.name, message));
        }
        let output = |&id: &QValueId| {
            let v = graph.value(id);
            input::describe(&v.name, Dtype::F32, v.shape.clone(), options.batch)
        };
        let mut places = Vec::new();
        for (k, v) in graph.values.iter().enumerate() {
            let place = &memory.places[k];
            if let (true, Base::Storage(s)) = (memory.lasting[k], place.base.base) {
                let (dtype, affine) = match v.ty {
                    QType::F32 => (Dtype::F32, (1.0, 0)),
                    QType::U8 { scale, zero_point } => (Dtype::U8, (scale, zero_point)),
                };
                let offset = offsets[s] + place.base.offset + place.layout.origin;
                let ptr = Ptr { space: Space::Arena, offset };
                let (name, shape, strides) = (v.name.clone(), v.shape.clone(), place.layout.strides.clone());
                places.push(PlanPlace { name, dtype, affine, ptr, shape, strides });
            }
        }
        let block = |(s, &offset): (&Storage, &usize)| {
            let first = if s.first == 0 { 0 } else { starts[s.first] };
            let end = starts.get(s.last + 1).copied().unwrap_or(steps.len());
            Block { offset, bytes: s.bytes, first, last: end.max(first + 1) - 1 }
        };
        let blocks = storages.iter().zip(&offsets).map(block).collect();
        Ok(Plan {
            name: graph.name.clone(),
            target: target.clone(),
            batch: options.batch,
            head,
            arena_bytes,
            carried_bytes,
            weights: Arc::clone(&graph.data),
            consts: Arc::new(consts),
            inputs,
            outputs: graph.outputs.iter().map(output).collect(),
            kernels,
            steps,
            places,
            blocks,
        })
    }
}
