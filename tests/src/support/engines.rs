//! All engines behind one call: the evaluator, the kernel interpreter for every target, and machine code for every target that
//! this CPU runs.

use qgraph_compiler::blob::Bytes;
use qgraph_compiler::jit::{self, Jit};
use qgraph_compiler::lower::{self, Options};
use qgraph_compiler::plan::Plan;
use qgraph_compiler::plan::interp::Interpreter;
use qgraph_compiler::qgraph::{QGraph, eval};
use qgraph_compiler::target::{Core, Target};
use qgraph_runtime::{Model, RunError, TensorMut, TensorRef};
use std::sync::Arc;

/// Outputs as bits: floats compare exactly, NaN included.
pub(crate) type Outputs = Vec<Vec<u32>>;

fn bits(outputs: Vec<Vec<f32>>) -> Outputs {
    outputs.into_iter().map(|o| o.into_iter().map(f32::to_bits).collect()).collect()
}

/// The definition.
pub(crate) fn evaluate(graph: &QGraph, inputs: &[Vec<f32>]) -> Outputs {
    bits(eval::eval(graph, inputs, &mut |_, _| {}).expect("the evaluator runs a valid graph"))
}

/// Runs a model on given inputs in a dirty arena.
pub(crate) fn run(model: &dyn Model, inputs: &[Vec<f32>]) -> Outputs {
    let inputs: Vec<TensorRef> = inputs.iter().map(|i| TensorRef::F32(i)).collect();
    run_on(&inputs, model, |inputs, outputs, arena| model.run(inputs, outputs, arena))
}

/// The same for any tensors, by any way of running: `run` is given all memory that `model` needs.
pub(crate) fn run_on(
    inputs: &[TensorRef],
    model: &dyn Model,
    run: impl FnOnce(&[TensorRef], &mut [TensorMut], &mut [u8]) -> Result<(), RunError>,
) -> Outputs {
    let mut outputs: Vec<Vec<f32>> =
        (0..model.output_count()).map(|k| vec![f32::NAN; model.output(k).len()]).collect();
    let mut refs: Vec<TensorMut> = outputs.iter_mut().map(|o| TensorMut::F32(o)).collect();
    let mut arena = Bytes::zeroed(model.arena_bytes());
    arena.fill(0xa5);
    run(inputs, &mut refs, &mut arena).expect("inputs fit");
    bits(outputs)
}

/// The plan of a graph, verified.
pub(crate) fn plan(graph: &QGraph, target: &Target, options: &Options) -> Arc<Plan> {
    let plan = lower::schedule(graph, target, options).expect("the graph can be scheduled");
    let problems = qgraph_compiler::plan::verify::verify(&plan);
    assert!(problems.is_empty(), "{problems:#?}\n{graph}\n{plan}");
    Arc::new(plan)
}

/// The target with so small an L2 cache that small maps do not fit: one thread goes through them in bands.
pub(crate) fn small_cache(target: Target) -> Target {
    let core = Core { l2: 2048, ..target.core };
    Target { core, ..target }
}

/// Every engine other than the evaluator that runs here, by name.
pub(crate) fn engines(graph: &QGraph, options: &Options) -> Vec<(String, Box<dyn Model>)> {
    engines_of(&Target::ALL, graph, options)
}

fn engines_of(targets: &[Target], graph: &QGraph, options: &Options) -> Vec<(String, Box<dyn Model>)> {
    let mut engines: Vec<(String, Box<dyn Model>)> = Vec::new();
    for target in targets {
        let plan = plan(graph, target, options);
        let interp = Interpreter::new(Arc::clone(&plan)).expect("a verified plan");
        engines.push((format!("interp {target}"), Box::new(interp)));
        if target.native() {
            let jit = Jit::compile(plan, &jit::Options::default()).expect("the plan compiles");
            engines.push((format!("jit {target}"), Box::new(jit)));
        }
    }
    engines
}

/// Asserts that a batch gives each image the bits that the evaluator gives it alone.
pub(crate) fn assert_batch_equal(graph: &QGraph, images: &[Vec<Vec<f32>>], what: &str) {
    let join = |k: usize| images.iter().flat_map(|image| image[k].iter().copied()).collect::<Vec<f32>>();
    let inputs: Vec<Vec<f32>> = (0..graph.inputs.len()).map(join).collect();
    let alone: Vec<Outputs> = images.iter().map(|image| evaluate(graph, image)).collect();
    let options = Options { batch: images.len(), ..Options::default() };
    let banded = engines_of(&[small_cache(Target::avx512vnni())], graph, &options);
    for (name, engine) in engines(graph, &options).into_iter().chain(banded) {
        for (k, found) in run(&*engine, &inputs).iter().enumerate() {
            let expected: Vec<u32> = alone.iter().flat_map(|a| a[k].iter().copied()).collect();
            assert!(
                *found == expected,
                "{what}: {name} differs in output {k} of a batch of {}\n{graph}",
                images.len()
            );
        }
    }
}

/// Asserts that all engines give the evaluator's bits.
pub(crate) fn assert_equal(graph: &QGraph, inputs: &[Vec<f32>], what: &str) {
    let expected = evaluate(graph, inputs);
    let banded = Target::ALL.map(small_cache);
    for (targets, keep_values) in [(&Target::ALL, false), (&Target::ALL, true), (&banded, false)] {
        for (name, engine) in engines_of(targets, graph, &Options { keep_values, ..Options::default() }) {
            let found = run(&*engine, inputs);
            for (k, (e, f)) in expected.iter().zip(&found).enumerate() {
                if let Some(at) = (0..e.len()).find(|&i| e[i] != f[i]) {
                    let (e, f) = (f32::from_bits(e[at]), f32::from_bits(f[at]));
                    panic!(
                        "{what}: {name} (keep_values {keep_values}) differs in output {k} at {at}: {f} for {e}\n{graph}"
                    );
                }
            }
        }
    }
}
