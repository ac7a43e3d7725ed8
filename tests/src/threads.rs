//! One run on several threads: the same bits for any number of threads and images, no allocation, refusals.

mod bands;
mod pool;
mod races;
mod split;

use crate::support::engines::{self, Outputs, run};
use crate::support::random_graph::{ConvCase, Maker, random_graph, random_inputs};
use crate::support::{allocated, allocations, workspace_root};
use qgraph_compiler::blob::Bytes;
use qgraph_compiler::graph::Tensor;
use qgraph_compiler::jit::{self, Jit};
use qgraph_compiler::lower::{self, Options};
use qgraph_compiler::plan::split::Split;
use qgraph_compiler::qgraph::{QGraph, Window};
use qgraph_compiler::runner::{Engine, Parallel};
use qgraph_compiler::target::Target;
use qgraph_compiler::{onnx, pipeline};
use qgraph_runtime::{Model, Pool, RunError, TensorMut, TensorRef, cpu};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The network of `qgraph demo`, quantized on noise, and in float.
fn demo() -> [QGraph; 2] {
    let bytes = std::fs::read(workspace_root().join("compiler/demo/digits.onnx")).expect("the demo network");
    let imported = onnx::import_bytes(&bytes, &onnx::Options::default()).expect("it imports");
    let (fused, _) = pipeline::fuse(&imported).expect("it fuses");
    let shape = fused.shape(fused.inputs[0]).to_vec();
    let noise: Vec<f32> =
        (0..shape.iter().product::<usize>()).map(|i| (i * 37 % 256) as f32 / 255.0).collect();
    let mut samples = std::iter::once(Ok(vec![Tensor::new(shape, noise)]));
    let profile = pipeline::calibrate(&fused, &mut samples, Default::default()).expect("it runs");
    [
        pipeline::quantize(&fused, &profile, &Default::default()).expect("it quantizes"),
        pipeline::float(&fused).expect("it is float"),
    ]
}

/// Convolutions of every kind, large enough that threads share them: dense, strided with a residual, depthwise, pointwise.
fn convolutions(seed: u64) -> QGraph {
    let mut m = Maker::new(seed);
    let channels = m.rng.pick(&[8, 20, 64, 80]);
    let outputs = m.rng.pick(&[48, 100, 160]);
    let map = [m.rng.range(15, 30), m.rng.range(15, 30)];
    let window = |kernel: usize, stride: usize| Window {
        kernel: [kernel; 2],
        strides: [stride; 2],
        dilations: [1; 2],
        pads: [kernel / 2; 4],
    };
    let case = |channels, outputs, groups, window, residual| ConvCase {
        channels,
        outputs,
        groups,
        window,
        residual,
        to_float: false,
        sane: true,
    };
    let x = m.input(&[1, channels, map[0], map[1]]);
    let mut conv = |x, c, residual| m.conv(x, &c, residual).expect("the window fits");
    let a = conv(x, case(channels, outputs, 1, window(3, 1), false), None);
    let b = conv(a, case(outputs, outputs, outputs, window(5, 1), false), None);
    let c = conv(b, case(outputs, outputs, 1, window(1, 1), true), Some(a));
    let d = conv(c, case(outputs, channels, 1, window(1, 2), false), None);
    m.finish(&[d, c])
}

/// Runs a model on a pool, in a dirty arena.
fn run_on(pool: &mut Pool, model: &dyn Model, inputs: &[Vec<f32>]) -> Outputs {
    let inputs: Vec<TensorRef> = inputs.iter().map(|i| TensorRef::F32(i)).collect();
    engines::run_on(&inputs, model, |inputs, outputs, arena| model.run_on(pool, inputs, outputs, arena))
}

/// Engines that run here.
fn engines() -> Vec<(Engine, Target)> {
    let mut engines = vec![(Engine::Interp, Target::portable())];
    if cpu::avx512_vnni() {
        engines.push((Engine::Jit, Target::avx512vnni()));
    }
    engines
}

fn parallel(graph: &QGraph, (engine, target): &(Engine, Target), batch: usize, threads: usize) -> Parallel {
    let options = Options { batch, ..Options::default() };
    Parallel::new(graph, *engine, target, &options, threads).expect("the graph compiles")
}

/// Asserts that any number of threads gives on any batch what one thread gives image by image.
fn assert_any(graph: &QGraph, cases: &[(usize, usize)], what: &str) {
    let most = cases.iter().map(|c| c.1).max().expect("cases");
    let images: Vec<Vec<Vec<f32>>> = (0..most as u64).map(|k| random_inputs(graph, k)).collect();
    let mut pool = Pool::new(8).expect("eight threads");
    for engine in engines() {
        let one = parallel(graph, &engine, 1, 1);
        let expected: Vec<Outputs> = images.iter().map(|x| run(&one, x)).collect();
        for &(threads, batch) in cases {
            let model = parallel(graph, &engine, batch, threads);
            let join = |k: usize| images[..batch].iter().flat_map(|x| x[k].clone()).collect();
            let inputs: Vec<Vec<f32>> = (0..model.input_count()).map(join).collect();
            let join = |k: usize| expected[..batch].iter().flat_map(|y| y[k].clone()).collect();
            let outputs: Outputs = (0..model.output_count()).map(join).collect();
            let what = format!("{what} on {}, {threads} threads, batch {batch}", engine.0.name());
            assert!(run_on(&mut pool, &model, &inputs) == outputs, "{what}: run_on");
            assert!(run(&model, &inputs) == outputs, "{what}: run");
        }
    }
}

/// How often threads meet in one image: more than never means that they share its work.
fn barriers(graph: &QGraph, threads: usize) -> usize {
    let plan = lower::schedule(graph, &Target::avx512vnni(), &Options::default()).expect("it is scheduled");
    Split::new(&plan, threads).barriers()
}

#[test]
fn the_demo_network_on_any_threads_and_batch() {
    let cases: Vec<_> = (1..=8).flat_map(|t| [1, 2, 3, 5, 8, 13, 33].map(|b| (t, b))).collect();
    for graph in demo() {
        assert!((2..=8).all(|t| barriers(&graph, t) > 1), "nothing is shared:\n{graph}");
        assert_any(&graph, &cases, &graph.name);
    }
}

#[test]
fn convolutions_on_any_threads_and_batch() {
    for seed in 0..6 {
        let graph = convolutions(seed);
        assert!((2..=8).all(|t| barriers(&graph, t) > 1), "nothing is shared:\n{graph}");
        assert_any(&graph, &[(2, 1), (3, 1), (4, 2), (5, 1), (8, 1), (2, 3)], &graph.name);
    }
}

#[test]
fn random_graphs_on_any_threads_and_batch() {
    for seed in 0..60 {
        let graph = random_graph(seed, 10);
        let cases = [(2, 1), (1 + seed as usize % 8, 1 + seed as usize % 33), (8, 1 + seed as usize % 9)];
        assert_any(&graph, &cases, &graph.name);
    }
}

#[test]
fn a_run_on_threads_allocates_on_none() {
    let graph = convolutions(7);
    let images = random_inputs(&graph, 7);
    for engine in engines() {
        for (threads, batch) in [(2, 1), (4, 6)] {
            let model = parallel(&graph, &engine, batch, threads);
            let mut pool = Pool::new(threads).expect("threads");
            let inputs: Vec<Vec<f32>> = images.iter().map(|x| x.repeat(batch)).collect();
            let inputs: Vec<TensorRef> = inputs.iter().map(|x| TensorRef::F32(x)).collect();
            let mut outputs: Vec<Vec<f32>> =
                (0..model.output_count()).map(|k| vec![0.0; model.output(k).len()]).collect();
            let mut outputs: Vec<TensorMut> = outputs.iter_mut().map(|y| TensorMut::F32(y)).collect();
            let mut arena = Bytes::zeroed(model.arena_bytes());
            let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            let count = |pool: &mut Pool| {
                pool.run(threads, &|w| counts[w.index()].store(allocated(), Ordering::Relaxed));
                counts.iter().map(|c| c.load(Ordering::Relaxed)).collect::<Vec<_>>()
            };
            let before = count(&mut pool);
            let here = allocations(|| {
                for _ in 0..20 {
                    model.run_on(&mut pool, &inputs, &mut outputs, &mut arena).expect("inputs fit");
                }
            });
            let after = count(&mut pool);
            assert_eq!((here, &after[1..]), (0, &before[1..]), "{}, {threads} threads", engine.0.name());
        }
    }
}

#[test]
fn profiles_add_up_threads_and_change_no_bit() {
    if !cpu::avx512_vnni() {
        return println!("skipped: this CPU has no AVX-512 VNNI");
    }
    let graph = convolutions(8);
    let options = Options { batch: 2, ..Options::default() };
    let plan = Arc::new(lower::schedule(&graph, &Target::avx512vnni(), &options).expect("it is scheduled"));
    let images = random_inputs(&graph, 8);
    let inputs: Vec<Vec<f32>> = images.iter().map(|x| x.repeat(2)).collect();
    let plain = Jit::compile(Arc::clone(&plan), &jit::Options::default()).expect("it compiles");
    let profiled = jit::Options { threads: 2, profile: true, ..jit::Options::default() };
    let profiled = Jit::compile(Arc::clone(&plan), &profiled).expect("it compiles");
    let mut pool = Pool::new(2).expect("two threads");
    assert!(run_on(&mut pool, &profiled, &inputs) == run(&plain, &inputs));
    let cycles = profiled.take_cycles().expect("a profile");
    assert_eq!(cycles.len(), plan.steps.len());
    assert!(cycles.iter().all(|&c| c > 0), "{cycles:?}");
    let names: Vec<&str> = profiled.code().symbols().iter().map(|s| &*s.name).collect();
    assert!(names.contains(&"entry") && names.contains(&"entry of thread 1"), "{names:?}");
    let listing = profiled.code().disassemble("entry of thread 1").expect("a symbol");
    assert!(listing.contains("call qword ptr [rbp+wait]"), "{listing}");
}

#[test]
fn refusals_say_what_is_missing() {
    let [graph, _] = demo();
    for engine in engines() {
        for batch in [1, 7] {
            let model = parallel(&graph, &engine, batch, 3);
            assert_eq!(model.threads(), 3);
            let input = vec![0.5; model.input(0).len()];
            let mut output = vec![0.0; model.output(0).len()];
            let mut arena = Bytes::zeroed(model.arena_bytes());
            let mut run = |pool: &mut Pool, bytes: usize| {
                let (x, mut y) = ([TensorRef::F32(&input)], [TensorMut::F32(&mut output)]);
                model.run_on(pool, &x, &mut y, &mut arena[..bytes])
            };
            let bytes = model.arena_bytes();
            let mut two = Pool::new(2).expect("threads");
            let refused = run(&mut two, bytes).unwrap_err();
            assert_eq!(refused, RunError::Pool { expected: 3, found: 2 });
            assert_eq!(
                refused.to_string(),
                "run: the model runs on 3 threads, the pool has 2 (see threads())"
            );
            let mut four = Pool::new(4).expect("threads");
            let short = RunError::Arena { expected: bytes, found: bytes - 64 };
            assert_eq!(run(&mut four, bytes - 64), Err(short));
            assert_eq!(run(&mut four, bytes), Ok(()));
        }
    }
    for (batch, threads) in [(0, 1), (1, 0)] {
        let options = Options { batch, ..Options::default() };
        let none = Parallel::new(&graph, Engine::Interp, &Target::portable(), &options, threads);
        assert!(none.err().expect("refused").to_string().contains("at least one image and one thread"));
    }
}
