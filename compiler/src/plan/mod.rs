//! The plan: a whole network as a list of steps over one arena, every address a constant.
//!
//! A step is kernel calls over grids, or one call of a runtime function. Steps run in order; within a step all
//! grid points of all calls are independent of each other, so they may run in any order or in parallel.
//! The verifier proves every access of every call in bounds. Plans know kernels and memory, not operators.
//!
//! - [`verify`]: the proof; `area` and `deeds`: what calls and steps touch, and when that is apart.
//! - `repeated`: leaves out what memory holds already.
//! - [`cost`]: what kernels and steps are expected to take.
//! - [`split`]: which thread does what, if several run a plan.
//! - [`interp`]: runs a plan with the kernel interpreter, on any machine, for any target.
//! - `print`: its text.
//! - `read`: values out of the arena, where a [`Place`] says.

mod area;
pub mod cost;
mod deeds;
pub mod interp;
mod print;
mod read;
mod repeated;
pub mod split;
pub mod verify;

use crate::kernel::Kernel;
use crate::target::Target;
use qgraph_runtime::functions::Function;
use qgraph_runtime::{Dtype, TensorDesc};
use std::sync::Arc;

/// A region of memory that pointers start in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Scratch memory of one run; activations live here.
    Arena,
    /// Activations that the steps of one image leave for those of the whole batch: an equal part of the arena's end per image.
    Carried,
    /// The data section of the `.qgraph`, read in place.
    Weights,
    /// Small tables derived by scheduling: permuted scales, lookup controls, depthwise weights.
    Consts,
    /// Input k of the model.
    Input(usize),
    /// Output k of the model.
    Output(usize),
}

/// An address: space and byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ptr {
    /// Where.
    pub space: Space,
    /// Byte from its start.
    pub offset: usize,
}

/// One loop of a call's grid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GridDim {
    /// Number of points, at least 1.
    pub extent: usize,
    /// Bytes by which each argument moves per point; as many as the kernel has parameters.
    pub advance: Vec<i64>,
}

/// A kernel over a grid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Index into [`Plan::kernels`].
    pub kernel: usize,
    /// Where each parameter points at grid point 0.
    pub args: Vec<Ptr>,
    /// Outermost first; empty for a single point.
    pub grid: Vec<GridDim>,
}

/// A runtime function and its pointers, as the function's documentation orders them.
#[derive(Clone, Debug, PartialEq)]
pub struct FunctionCall {
    /// Which, with its extents and strides.
    pub function: Function,
    /// Its pointers.
    pub args: Vec<Ptr>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// Kernel calls, independent of each other.
    Kernels(Vec<Call>),
    /// One runtime function.
    Function(FunctionCall),
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Node of the graph this belongs to.
    pub layer: String,
    /// What it does there: `conv`, `fill halo`, `copy`, …
    pub what: &'static str,
    /// Multiply-accumulates, 0 for anything but convolutions.
    pub macs: u64,
    /// The work.
    pub work: Work,
}

/// An input or output of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Io {
    /// Its name.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Extents of one batch (the first includes [`Plan::batch`]).
    pub shape: Vec<usize>,
    /// Bytes of one image.
    pub image_bytes: usize,
}

impl Io {
    /// As the model describes it.
    pub fn desc(&self) -> TensorDesc<'_> {
        TensorDesc { name: &self.name, dtype: self.dtype, shape: &self.shape }
    }
}

/// Where a value of the graph lives, for probes (calibration, per-layer comparison).
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// Name of the value.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Real value of an element: `scale·(q − zero_point)`; `(1, 0)` for f32.
    pub affine: (f32, u8),
    /// Its first element.
    pub ptr: Ptr,
    /// Logical extents, ONNX axis order.
    pub shape: Vec<usize>,
    /// Bytes between neighbours along each logical axis.
    pub strides: Vec<usize>,
}

/// A piece of the arena and when it is in use, for reports: what the arena's size comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// First byte in [`Space::Arena`].
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
    /// The step that may write it first.
    pub first: usize,
    /// The step that may read it last.
    pub last: usize,
}

/// A schedule of a network. See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Name of the model.
    pub name: String,
    /// What its kernels are written for.
    pub target: Target,
    /// Images per run.
    pub batch: usize,
    /// The first so many steps describe one image; engines repeat them for each, moving inputs and outputs by [`Io::image_bytes`] and
    /// [`Space::Carried`] by [`Plan::carried_bytes`]. The steps behind them describe all images at once, from the first one's pointers.
    pub head: usize,
    /// Bytes that a run needs, a multiple of 64: [`Space::Arena`], then [`Space::Carried`] of every image.
    pub arena_bytes: usize,
    /// Bytes of [`Space::Carried`] of one image, a multiple of 64.
    pub carried_bytes: usize,
    /// Content of [`Space::Weights`].
    pub weights: Arc<crate::blob::Bytes>,
    /// Content of [`Space::Consts`].
    pub consts: Arc<crate::blob::Bytes>,
    /// Inputs.
    pub inputs: Vec<Io>,
    /// Outputs.
    pub outputs: Vec<Io>,
    /// Distinct kernels; equal nests share one.
    pub kernels: Vec<Kernel>,
    /// In order.
    pub steps: Vec<Step>,
    /// Values with a place of their own that still hold after a run. All of them if the plan was made with
    /// `keep_values`; else only what nothing overwrites.
    pub places: Vec<Place>,
    /// Every piece of the arena. Pieces that share bytes are not in use at the same time.
    pub blocks: Vec<Block>,
}

impl Plan {
    /// Bytes of a space, as steps see it that describe `images` images.
    pub fn space_bytes(&self, space: Space, images: usize) -> usize {
        match space {
            Space::Arena => self.carried_offset(),
            Space::Carried => images.saturating_mul(self.carried_bytes),
            Space::Weights => self.weights.len(),
            Space::Consts => self.consts.len(),
            Space::Input(k) => images.saturating_mul(self.inputs[k].image_bytes),
            Space::Output(k) => images.saturating_mul(self.outputs[k].image_bytes),
        }
    }

    /// Where in a run's memory [`Space::Carried`] of the first image starts.
    pub fn carried_offset(&self) -> usize {
        self.arena_bytes - self.batch * self.carried_bytes
    }

    /// Images that a step describes.
    pub fn images(&self, step: usize) -> usize {
        if step < self.head { 1 } else { self.batch }
    }

    /// Multiply-accumulates of one image.
    pub fn macs(&self) -> u64 {
        let step = |(i, s): (usize, &Step)| s.macs / self.images(i) as u64;
        self.steps.iter().enumerate().map(step).sum()
    }
}
