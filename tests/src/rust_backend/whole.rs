//! Whole networks as parts of a program that is not optimized, as Rust and as assembly: the evaluator's bytes on every instruction set of this
//! CPU, on a small stack. Models of the repository here, the small ones of the data folder for `real`.

use super::{Case, Code, Machine, check_optimized};
use crate::support::engines::{self, assert_equal, evaluate};
use crate::support::random_graph::random_inputs;
use crate::support::{data_dir, workspace_root};
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::target::{Isa, Target};
use qgraph_compiler::{onnx, pipeline, quant};
use std::path::Path;

/// Multiply-accumulates above which code that is not optimized takes too long.
const MANY: u64 = 1 << 24;

/// Whether a network is small enough; says so if it is not.
fn small(name: &str, graph: &QGraph) -> bool {
    let plan = engines::plan(graph, &Target::portable(), &Default::default());
    let macs: u64 = plan.steps.iter().map(|s| s.macs).sum();
    if macs > MANY {
        println!("skipped: {name}: as a part of an unoptimized program ({macs} multiply-accumulates)");
    }
    macs <= MANY
}

/// A network as Rust and as assembly, with the evaluator's bytes for an image.
fn both(name: &str, graph: &QGraph, image: &[Vec<f32>]) -> [Case; 2] {
    let mut rust = Case::of_images(name, graph, &[image.to_vec()]);
    let expected: Vec<u8> = evaluate(graph, image).into_iter().flatten().flat_map(u32::to_le_bytes).collect();
    rust.expected = Some(expected.clone());
    let mut assembly = Case::of_images(&format!("{name}_asm"), graph, &[image.to_vec()]);
    // Plain Rust is in the other already.
    (assembly.options.code, assembly.skipped, assembly.expected) = (Code::Assembly, 1, Some(expected));
    [rust, assembly]
}

/// Asserts that a network gives the evaluator's bytes for an image where it is a part of a program.
pub(crate) fn assert_programs(name: &str, graph: &QGraph, image: &[Vec<f32>]) {
    if !cfg!(target_arch = "x86_64") {
        println!("skipped: {name}: programs with assembly for x86-64");
        return;
    }
    if !small(name, graph) {
        return;
    }
    let name = format!("net_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    check_optimized(&name, &Machine::here(), &both(&name, graph, image), "opt-level=0");
}

/// A model that is quantized already.
fn given(path: &Path) -> QGraph {
    let graph = pipeline::fuse(&onnx::import(path, &Default::default()).unwrap()).unwrap().0;
    pipeline::quantize_given(&graph, &quant::Options::default()).unwrap()
}

#[test]
fn models_that_came_quantized_are_the_same_everywhere() {
    let Some(data) = data_dir() else { return };
    let files = std::fs::read_dir(data.join("models/int8")).expect("there are models");
    for path in files.map(|f| f.expect("an entry").path()) {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let graph = given(&path);
        if !small(&name, &graph) {
            continue;
        }
        let image = random_inputs(&graph, 6);
        let expected = evaluate(&graph, &image);
        for (engine, model) in engines::engines(&graph, &Default::default()) {
            assert!(engines::run(&*model, &image) == expected, "{name}: {engine} differs");
        }
        assert_programs(&name, &graph, &image);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn models_of_the_repository_are_the_same_everywhere() {
    let root = workspace_root();
    let mut cases = Vec::new();
    let mut add = |name: &str, graph: &QGraph| {
        let image = random_inputs(graph, 5);
        assert_equal(graph, &image, name);
        cases.extend(both(name, graph, &image));
    };
    for path in ["examples/embedded/digits.qgraph", "tests/frozen/v1_tiny.qgraph"] {
        let stem = path.rsplit_once('/').unwrap().1.strip_suffix(".qgraph").unwrap();
        add(stem, &file::load(&root.join(path)).unwrap());
    }
    for name in ["qdq", "qlinear", "qdq_s8"] {
        add(name, &given(&root.join(format!("tests/given/{name}.onnx"))));
    }
    check_optimized("repository", &Machine::here(), &cases, "opt-level=0");
    let skipped = Target::ALL.iter().filter(|t| t.isa != Isa::Portable && !t.native()).count();
    println!("{} programs on {} targets", cases.len(), Target::ALL.len() - skipped);
}
