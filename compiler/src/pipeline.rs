//! The spine: import, fuse, calibrate, quantize, schedule, jit, emit; and export. No other file knows the order.
//!
//! ```no_run
//! use qgraph_compiler::{pipeline, target::Target};
//! # fn main() -> qgraph_compiler::Result<()> {
//! let graph = pipeline::import("resnet50.onnx".as_ref(), &Default::default())?;
//! let (fused, _) = pipeline::fuse(&graph)?;
//! let sample = qgraph_compiler::graph::Tensor::new([1, 3, 224, 224], vec![0.5; 3 * 224 * 224]);
//! let mut samples = std::iter::once(Ok(vec![sample]));
//! let profile = pipeline::calibrate(&fused, &mut samples, Default::default())?;
//! let quantized = pipeline::quantize(&fused, &profile, &Default::default())?;
//! let plan = pipeline::schedule(&quantized, &Target::detect(), &Default::default())?;
//! let model = pipeline::jit(plan, 1)?;
//! println!("{} bytes of arena", model.arena_bytes());
//! # Ok(())
//! # }
//! ```

use crate::assembly::Assembly;
use crate::calib::{self, Profile};
use crate::error::Result;
use crate::fuse::{self, Event};
use crate::graph::{Graph, Tensor};
use crate::lower;
use crate::onnx;
use crate::plan::Plan;
use crate::qgraph::QGraph;
use crate::quant;
use crate::runner::{self, DynModel, Engine, Runner};
use crate::target::Target;
#[cfg(feature = "rust")]
use crate::{qgraph, rust};
use std::path::Path;
use std::sync::Arc;

// The content of an ONNX file, and whether ONNX Runtime computes the same; from fused to integer graph within a limit of accuracy, without
// ranges, and from a model that is quantized already.
pub use crate::export::{is_exact as exports_exactly, onnx as export};
pub use crate::{fallback::quantize_within, fuse::fuse_for, quant::quantize_dynamic, quant::quantize_given};

/// model.onnx → graph.
pub fn import(path: &Path, options: &onnx::Options) -> Result<Graph> {
    onnx::import(path, options)
}

/// Graph → fused graph, and what was done and declined. A network that is to round otherwise than by default is fused by [`fuse_for`].
pub fn fuse(graph: &Graph) -> Result<(Graph, Vec<Event>)> {
    fuse::fuse(graph)
}

/// Fused graph and samples → ranges of all values. Samples run in f32, compiled where this CPU allows.
pub fn calibrate(
    fused: &Graph,
    samples: &mut dyn Iterator<Item = Result<Vec<Tensor>>>,
    options: calib::Options<'_, '_>,
) -> Result<Profile> {
    calib::calibrate(fused, samples, &mut watched(fused, options.threads)?, options)
}

/// Fused graph and samples → what every calibration mode would make of every value, for people to look at.
pub fn survey(
    fused: &Graph,
    samples: &mut dyn Iterator<Item = Result<Vec<Tensor>>>,
) -> Result<Vec<calib::Survey>> {
    calib::survey(fused, samples, &mut watched(fused, 1)?)
}

/// Runs a float graph, compiled where this CPU allows, and shows its values.
fn watched(fused: &Graph, threads: usize) -> Result<Box<calib::RunFn<'static>>> {
    let target = Target::detect();
    let keep = lower::Options { keep_values: true, ..lower::Options::default() };
    let engine = Engine::best(&target);
    let mut runner = Runner::threaded(&quant::float(fused)?, engine, &target, &keep, threads)?;
    Ok(Box::new(move |inputs: &[Tensor], observe: &mut dyn FnMut(&str, &[f32])| {
        let inputs: Vec<Vec<f32>> = inputs.iter().map(|t| t.data.to_vec()).collect();
        runner.run(&inputs)?;
        runner.values(observe);
        Ok(())
    }))
}

/// Fused graph and ranges → integer graph, the content of a `.qgraph`.
pub fn quantize(fused: &Graph, profile: &Profile, options: &quant::Options) -> Result<QGraph> {
    quant::quantize(fused, profile, options)
}

/// The same network in f32 throughout: naive from an imported graph, fused from a fused one.
pub fn float(graph: &Graph) -> Result<QGraph> {
    quant::float(graph)
}

/// Integer graph → plan for a target.
pub fn schedule(graph: &QGraph, target: &Target, options: &lower::Options) -> Result<Plan> {
    lower::schedule(graph, target, options)
}

/// Plan → machine code, ready to run, on up to `threads` threads.
pub fn jit(plan: Plan, threads: usize) -> Result<Box<DynModel>> {
    runner::compile(Arc::new(plan), Engine::Jit, threads)
}

/// A `.qgraph`'s graph and bytes → Rust source with kernels for some targets; plain Rust for any CPU is always among them.
#[cfg(feature = "rust")]
pub fn rust(
    graph: &QGraph,
    file: &[u8],
    targets: &[Target],
    options: &lower::Options,
    source: &rust::Options,
) -> Result<String> {
    let others = Target::ALL.into_iter().skip(1).filter(|t| targets.contains(t));
    let all = std::iter::once(Target::portable()).chain(others);
    let plans = all.map(|t| lower::schedule(graph, &t, options)).collect::<Result<Vec<_>>>()?;
    let assemblies = match source.code {
        rust::Code::Rust => Ok(Vec::new()),
        rust::Code::Assembly => plans[1..].iter().map(|p| assembly(p, source.threads)).collect(),
    };
    rust::emit(&plans, &assemblies?, file, qgraph::file::stamp(file).unwrap_or_default(), source)
}

/// Machine code of a plan as text, function by function.
pub fn assembly(plan: &Plan, threads: usize) -> Result<Assembly> {
    runner::assembly(plan, threads)
}

/// What of a plan [`emit`] shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Steps and addresses.
    Plan,
    /// The kernels.
    Kernels,
    /// Machine code of the kernels and steps, as text for an assembler.
    Asm,
}

/// The text of a plan, its kernels or its machine code. (Graphs print themselves.)
pub fn emit(plan: Plan, what: Emit) -> Result<String> {
    match what {
        Emit::Plan => Ok(plan.to_string()),
        Emit::Kernels => Ok(plan.kernels.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
        #[cfg(feature = "jit")]
        Emit::Asm => Ok(runner::code(&plan, 1)?.assembly(&plan.name)),
        #[cfg(not(feature = "jit"))]
        Emit::Asm => assembly(&plan, 1).map(|_| String::new()),
    }
}
