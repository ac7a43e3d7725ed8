//! Networks that `quantized_model!` puts into this very program: the bits of the JIT's and the interpreter's engines, behind the same trait.

use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::runner::{Engine, Runner};
use qgraph_compiler::target::Target;
use qgraph_macros::quantized_model;
use qgraph_runtime::{Arena, Model, Pool, RunError, TensorMut, TensorRef};
use std::sync::Mutex;

quantized_model!(Digits, "../examples/embedded/digits.qgraph", targets = [avx2, avxvnni, avx512vnni]);
quantized_model!(
    pub(crate) Pixels,
    "../examples/embedded/digits.qgraph",
    input = u8,
    batch = 3,
    threads = 2,
);
quantized_model!(
    Machine,
    "../examples/embedded/digits.qgraph",
    code = "asm",
    targets = [avx2, avxvnni, avx512vnni]
);
quantized_model!(
    MachinePixels,
    "../examples/embedded/digits.qgraph",
    code = "asm",
    input = u8,
    batch = 3,
    threads = 2
);

/// The `.qgraph` of all.
fn graph() -> QGraph {
    file::from_bytes(include_bytes!("../../examples/embedded/digits.qgraph")).expect("the example's model")
}

/// Records of a label and 16×16 pixels.
fn digits(count: usize) -> Vec<Vec<u8>> {
    let records = include_bytes!("../../compiler/demo/digits_test.bin");
    records.chunks_exact(257).take(count).map(|r| r[1..].to_vec()).collect()
}

/// What the kernel interpreter says of each.
fn expected(digits: &[Vec<u8>]) -> Vec<Vec<f32>> {
    let graph = graph();
    let mut runner = Runner::new(&graph, Engine::Interp, &Target::portable(), &Options::default()).unwrap();
    let preprocess = graph.preprocess.clone().expect("stored with the model");
    digits.iter().map(|d| runner.run(&[preprocess.tensor(d, 1)]).unwrap()[0].clone()).collect()
}

/// Runs any model on f32 images, one by one: what a program that knows the trait only can do.
fn scores(model: &dyn Model, images: &[Vec<f32>]) -> Vec<Vec<f32>> {
    static ARENA: Mutex<Arena<{ Digits::ARENA_BYTES }>> = Mutex::new(Arena::new());
    let mut arena = ARENA.lock().unwrap();
    assert!(model.arena_bytes() <= Digits::ARENA_BYTES);
    let run = |image: &Vec<f32>| {
        let mut y = vec![0.0; model.output(0).len()];
        model.run(&[TensorRef::F32(image)], &mut [TensorMut::F32(&mut y)], arena.bytes()).unwrap();
        y
    };
    images.iter().map(run).collect()
}

#[test]
fn a_type_gives_the_engines_bits_on_every_instruction_set() {
    let digits = digits(12);
    let expected = expected(&digits);
    let preprocess = graph().preprocess.expect("stored with the model");
    let images: Vec<Vec<f32>> = digits.iter().map(|d| preprocess.tensor(d, 1)).collect();
    assert_eq!((Digits::INPUTS[0].shape, Digits::OUTPUTS[0].shape), (&[1, 1, 16, 16][..], &[1, 10][..]));
    for target in Digits::TARGETS {
        match Digits::on(target) {
            Some(model) => assert_eq!(scores(&model, &images), expected, "{target:?}"),
            None => println!("skipped: this CPU has no {}", target.name()),
        }
    }
    for target in Machine::TARGETS {
        match Machine::on(target) {
            Some(model) => assert_eq!(scores(&model, &images), expected, "{target:?} as assembly"),
            None => println!("skipped: this CPU has no {target:?}"),
        }
    }
    assert_eq!(scores(&Digits::default(), &images), expected);
    // As an expression, and by the JIT: nothing but the constructor differs.
    assert_eq!(scores(&quantized_model!("../examples/embedded/digits.qgraph"), &images), expected);
    let target = Target::detect();
    if Engine::best(&target) == Engine::Jit {
        let plan = qgraph_compiler::pipeline::schedule(&graph(), &target, &Options::default()).unwrap();
        assert_eq!(scores(&*qgraph_compiler::pipeline::jit(plan, 1).unwrap(), &images), expected);
    }
}

#[test]
fn pixels_in_batches_on_threads_give_the_same() {
    static ARENA: Mutex<Arena<{ Pixels::ARENA_BYTES }>> = Mutex::new(Arena::new());
    let digits = digits(3);
    let expected: Vec<f32> = expected(&digits).concat();
    let images = digits.concat();
    let mut arena = ARENA.lock().unwrap();
    let mut y = vec![0.0; 30];
    assert_eq!((Pixels::BATCH, Pixels::ARENA_BYTES), (3, MachinePixels::ARENA_BYTES));
    for model in [&Pixels::new() as &dyn Model, &MachinePixels::new()] {
        assert_eq!(model.threads(), 2);
        y.fill(0.0);
        model.run(&[TensorRef::U8(&images)], &mut [TensorMut::F32(&mut y)], arena.bytes()).unwrap();
        assert_eq!(y, expected);
        y.fill(0.0);
        let (x, out) = ([TensorRef::U8(&images)], &mut [TensorMut::F32(&mut y)]);
        model.run_on(&mut Pool::new(2).unwrap(), &x, out, arena.bytes()).unwrap();
        assert_eq!(y, expected);
    }
    let model = Pixels::new();
    // Sizes are checked as everywhere.
    let few = model.run(&[TensorRef::U8(&images[1..])], &mut [TensorMut::F32(&mut y)], arena.bytes());
    assert!(few.is_err());
    let small = model.run(&[TensorRef::U8(&images)], &mut [TensorMut::F32(&mut y)], &mut []);
    assert!(matches!(small, Err(RunError::Arena { .. })), "{small:?}");
}
