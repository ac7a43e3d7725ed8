//! Whole networks as parts of a program that is not optimized, as Rust and as assembly: the evaluator's bytes on every instruction set of this
//! CPU, on a small stack. Models of the repository here, those of the data folder for `real`; the large ones as assembly, and some as Rust
//! that is optimized.

use super::{Case, Code, Machine, check_optimized};
use crate::support::engines::{self, assert_equal, evaluate};
use crate::support::random_graph::random_inputs;
use crate::support::{data_dir, workspace_root};
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::target::{Isa, Target};
use qgraph_compiler::{onnx, pipeline, quant};
use std::path::Path;

/// Multiply-accumulates above which Rust that is not optimized takes too long.
const MANY: u64 = 1 << 24;

/// Networks of more that are compiled as Rust too, optimized, which takes up to half a minute each. Between them they have the kinds of steps of the
/// others, but for average pools that stay in bytes, depthwise windows of 5×5 and depth to space.
const LARGE_AS_RUST: [&str; 5] =
    ["yolox_nano", "resnet50v2_trunk", "squeezenet1.1", "super_resolution_10", "ultraface_rfb_320"];

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
    let module = format!("net_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    let (machine, cases) = (Machine::here(), both(&module, graph, image));
    let plan = engines::plan(graph, &Target::portable(), &Default::default());
    let macs: u64 = plan.steps.iter().map(|s| s.macs).sum();
    if macs <= MANY {
        check_optimized(&module, &machine, &cases, "opt-level=0");
        return;
    }
    let [rust, assembly] = cases;
    check_optimized(&module, &machine, &[assembly], "opt-level=0");
    if LARGE_AS_RUST.contains(&name) {
        check_optimized(&module, &machine, &[rust], "opt-level=1");
    } else {
        println!("skipped: {name}: as Rust ({macs} multiply-accumulates); as assembly it gives the same");
    }
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
    // Its ranges are found at run time.
    let float = onnx::import(&root.join("compiler/demo/digits.onnx"), &Default::default()).unwrap();
    let fused = pipeline::fuse(&float).unwrap().0;
    add("dynamic", &pipeline::quantize_dynamic(&fused, &quant::Options::default()).unwrap());
    check_optimized("repository", &Machine::here(), &cases, "opt-level=0");
    let skipped = Target::ALL.iter().filter(|t| t.isa != Isa::Portable && !t.native()).count();
    println!("{} programs on {} targets", cases.len(), Target::ALL.len() - skipped);
}
