//! An integer (or all-float) graph made ready to run by one of the engines, with buffers of its own.
//!
//! In: a [`QGraph`]. Out: a [`Runner`]: f32 or pixels in, f32 out, and, if asked for, every value in between. All engines give the same bits on integer
//! paths; they differ in speed and in what machine they need.

use crate::assembly::Assembly;
use crate::blob::Bytes;
use crate::error::{Error, Result, Stage};
use crate::lower::{self, InputFormat, Options};
use crate::plan::interp::Interpreter;
use crate::plan::{Io, Plan};
use crate::preprocess::{InputLayout, Preprocess};
use crate::qgraph::eval::Data;
use crate::qgraph::{QGraph, QType, QValue, eval};
use crate::target::Target;
use qgraph_runtime::model::check_inputs;
use qgraph_runtime::{Model, Pool, RunError, TensorMut, TensorRef};
use std::collections::HashMap;
use std::sync::Arc;

mod parallel;

pub use parallel::Parallel;

/// Who runs the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Machine code.
    Jit,
    /// The kernel interpreter on the same kernels.
    Interp,
    /// The definition, operator by operator.
    Eval,
}

impl Engine {
    /// The fastest engine that runs kernels of this target here.
    pub fn best(target: &Target) -> Engine {
        if cfg!(feature = "jit") && target.native() { Engine::Jit } else { Engine::Interp }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Jit => "jit",
            Engine::Interp => "interp",
            Engine::Eval => "eval",
        }
    }
}

/// A runnable of a plan, shareable between threads.
pub type DynModel = dyn Model + Send + Sync;

/// The machine code of a plan for every CPU of its target, with entries for up to `threads` threads: it looks bytes up without AVX-512 VBMI.
/// Whatever machine makes it, the same.
#[cfg(feature = "jit")]
pub fn code(plan: &Plan, threads: usize) -> Result<crate::jit::Code> {
    crate::jit::Code::assemble(plan, &crate::jit::Options { threads, vbmi: false, ..Default::default() })
}

/// The same as text.
#[cfg(feature = "jit")]
pub fn assembly(plan: &Plan, threads: usize) -> Result<Assembly> {
    Ok(code(plan, threads)?.functions())
}

/// Not in this build.
#[cfg(not(feature = "jit"))]
pub fn assembly(_: &Plan, _: usize) -> Result<Assembly> {
    let message = "qgraph-compiler was built without its feature `jit`: switch it on";
    Err(Error::new(Stage::Jit, "assembly", message))
}

/// Makes a plan runnable, on up to `threads` threads that share each image. `jit` on a machine that cannot run the plan's target is an error, never another engine.
pub fn compile(plan: Arc<Plan>, engine: Engine, threads: usize) -> Result<Box<DynModel>> {
    match engine {
        #[cfg(feature = "jit")]
        Engine::Jit => {
            let options = crate::jit::Options { threads, ..Default::default() };
            Ok(Box::new(crate::jit::Jit::compile(plan, &options)?))
        }
        #[cfg(not(feature = "jit"))]
        Engine::Jit => {
            Err(Error::new(Stage::Jit, "", "built without the feature `jit`; use the engine interp"))
        }
        Engine::Interp => Ok(Box::new(Interpreter::threaded(plan, threads)?)),
        Engine::Eval => Err(Error::new(Stage::Run, "", "the evaluator runs graphs, not plans")),
    }
}

enum Ready {
    Compiled { model: Parallel, pool: Pool, arena: Bytes },
    Evaluated { graph: Box<QGraph>, inputs: Vec<Io>, format: InputFormat, values: Vec<(String, Vec<f32>)> },
}

/// A network with its buffers. See the module.
pub struct Runner {
    ready: Ready,
    keep_values: bool,
    /// Values that hold multiples, by name.
    multiples: HashMap<String, QValue>,
    outputs: Vec<Vec<f32>>,
}

impl Runner {
    /// Makes `graph` ready on `engine`, with kernels for `target`, on one thread.
    pub fn new(graph: &QGraph, engine: Engine, target: &Target, options: &Options) -> Result<Runner> {
        Runner::threaded(graph, engine, target, options, 1)
    }

    /// The same on several threads.
    pub fn threaded(
        graph: &QGraph,
        engine: Engine,
        target: &Target,
        options: &Options,
        threads: usize,
    ) -> Result<Runner> {
        let keep_values = options.keep_values;
        let multiples = graph.values.iter().filter(|v| keep_values && !v.factors.is_empty());
        let multiples = multiples.map(|v| (v.name.clone(), v.clone())).collect();
        if engine == Engine::Eval {
            for (what, one) in [("batch", options.batch == 1), ("threads", threads == 1)] {
                if !one {
                    let message = "the evaluator runs one image at a time, on one thread";
                    return Err(Error::new(Stage::Run, what, message));
                }
            }
            let (inputs, format) = (lower::inputs(graph, options)?, options.input);
            let ready =
                Ready::Evaluated { graph: Box::new(graph.clone()), inputs, format, values: Vec::new() };
            return Ok(Runner { ready, keep_values, multiples, outputs: Vec::new() });
        }
        let model = Parallel::new(graph, engine, target, options, threads)?;
        let pool = pool(threads)?;
        let arena = Bytes::zeroed(model.arena_bytes());
        let outputs = (0..model.output_count()).map(|k| vec![0.0; model.output(k).len()]).collect();
        Ok(Runner { ready: Ready::Compiled { model, pool, arena }, keep_values, multiples, outputs })
    }

    /// The plan, unless the evaluator runs.
    pub fn plan(&self) -> Option<&Arc<Plan>> {
        match &self.ready {
            Ready::Compiled { model, .. } => Some(model.plan()),
            Ready::Evaluated { .. } => None,
        }
    }

    /// [`Runner::run_on`] for inputs of f32.
    pub fn run(&mut self, inputs: &[Vec<f32>]) -> Result<&[Vec<f32>]> {
        let inputs: Vec<TensorRef> = inputs.iter().map(|i| TensorRef::F32(i)).collect();
        self.run_on(&inputs)
    }

    /// Runs on inputs in order, each in the format of [`Options::input`]; gives the outputs, each dense row-major in its shape.
    pub fn run_on(&mut self, inputs: &[TensorRef<'_>]) -> Result<&[Vec<f32>]> {
        match &mut self.ready {
            Ready::Compiled { model, pool, arena } => {
                let mut outputs: Vec<TensorMut> =
                    self.outputs.iter_mut().map(|o| TensorMut::F32(o)).collect();
                model.run_on(pool, inputs, &mut outputs, arena).map_err(refused)?;
            }
            Ready::Evaluated { graph, inputs: wanted, format, values } => {
                check_inputs(wanted.len(), |k| wanted[k].desc(), inputs).map_err(refused)?;
                let network = |(x, io): (&TensorRef, &Io)| in_network_order(graph, *format, &io.shape, x);
                let inputs: Vec<Vec<f32>> = inputs.iter().zip(&*wanted).map(network).collect();
                values.clear();
                let keep = self.keep_values;
                let types: Vec<(String, QType)> = if keep {
                    graph.values.iter().map(|v| (v.name.clone(), v.ty)).collect()
                } else {
                    Vec::new()
                };
                let affine = |name: &str| match types.iter().find(|t| t.0 == name) {
                    Some((_, QType::U8 { scale, zero_point })) => (*scale, *zero_point),
                    _ => (1.0, 0),
                };
                let mut observe = |name: &str, data: &Data| {
                    if keep {
                        let (s, z) = affine(name);
                        let real = |&q: &u8| qgraph_runtime::requant::dequantize(q, s, z);
                        let data = match data {
                            Data::F32(x) => x.clone(),
                            Data::U8(q) => q.iter().map(real).collect(),
                        };
                        values.push((name.to_string(), data));
                    }
                };
                self.outputs = eval::eval(graph, &inputs, &mut observe)?;
            }
        }
        Ok(&self.outputs)
    }

    /// Shows every value of the last run, as real numbers of the float graph, dense row-major in its logical shape. Only after
    /// [`Options::keep_values`].
    pub fn values(&self, mut see: impl FnMut(&str, &[f32])) {
        if !self.keep_values {
            return;
        }
        let mut see = |name: &str, mut held: Vec<f32>| {
            if let Some(value) = self.multiples.get(name) {
                value.divide(&mut held);
            }
            see(name, &held);
        };
        match &self.ready {
            Ready::Compiled { model, arena, .. } => {
                for place in &model.plan().places {
                    see(&place.name, place.read_f32(arena));
                }
            }
            Ready::Evaluated { values, .. } => values.iter().for_each(|(name, v)| see(name, v.clone())),
        }
    }
}

/// What a format means: the f32 in the ONNX model's axis order that a tensor of the given shape stands for.
fn in_network_order(graph: &QGraph, format: InputFormat, shape: &[usize], x: &TensorRef) -> Vec<f32> {
    let none = Preprocess::default();
    let preprocess = graph.preprocess.as_ref().unwrap_or(&none);
    let image: usize = shape.iter().skip(1).product();
    match *x {
        TensorRef::U8(x) => {
            x.chunks_exact(image).flat_map(|image| preprocess.tensor(image, shape[3])).collect()
        }
        TensorRef::F32(x) if format == InputFormat::F32Nhwc && preprocess.layout == InputLayout::Nchw => {
            let (c, plane) = (shape[3], image / shape[3]);
            let planes =
                |x: &[f32]| -> Vec<f32> { (0..image).map(|i| x[i % plane * c + i / plane]).collect() };
            x.chunks_exact(image).flat_map(planes).collect()
        }
        TensorRef::F32(x) => x.to_vec(),
    }
}

/// Starts threads.
pub fn pool(threads: usize) -> Result<Pool> {
    let refused =
        |e| Error::new(Stage::Run, "threads", format!("the system gives no {threads} threads: {e}"));
    Pool::new(threads).map_err(refused)
}

fn refused(e: RunError) -> Error {
    Error::new(Stage::Run, "", e.to_string())
}
