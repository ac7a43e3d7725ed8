//! Whole networks as parts of a program that is not optimized, as Rust and as assembly: the evaluator's bytes on every instruction set of this
//! CPU, on a small stack. Models of the repository here, those of the data folder for `real`; the large ones as assembly, and some as Rust
//! that is optimized. With `QGRAPH_ALL_AS_RUST` set all are compiled as Rust too, which takes half an hour.

use super::{Case, Code, Machine, check_optimized};
use crate::support::engines::{self, assert_equal, evaluate};
use crate::support::random_graph::{ConvCase, Maker, random_inputs};
use crate::support::{data_dir, workspace_root};
use qgraph_compiler::qgraph::{QGraph, QOp, Window, file};
use qgraph_compiler::target::{Isa, Target};
use qgraph_compiler::{onnx, pipeline, quant};
use std::path::Path;
use std::time::Instant;

/// Multiply-accumulates above which Rust that is not optimized takes too long.
const MANY: u64 = 1 << 24;

/// Networks of more that are compiled as Rust too, optimized, which takes up to half a minute each. Between them, and with [`rest`], they have the
/// kinds of steps of the others.
const LARGE_AS_RUST: [&str; 5] =
    ["yolox_nano", "resnet50v2_trunk", "squeezenet1.1", "super_resolution_10", "ultraface_rfb_320"];

/// Depthwise windows of 5×5 over whole and odd vectors of channels, averages of bytes, channels that become pixels.
pub(super) fn rest() -> QGraph {
    let mut m = Maker::new(11);
    let conv = |[channels, outputs, groups]: [usize; 3], kernel: usize, stride: usize| ConvCase {
        channels,
        outputs,
        groups,
        window: Window {
            kernel: [kernel; 2],
            strides: [stride; 2],
            dilations: [1; 2],
            pads: [kernel / 2; 4],
        },
        residual: false,
        to_float: false,
        sane: true,
    };
    let x = m.input(&[1, 88, 20, 20]);
    let x = m.conv(x, &conv([88, 88, 88], 5, 1), None).expect("the window fits");
    let x = m.conv(x, &conv([88, 88, 88], 5, 2), None).expect("the window fits");
    let window = Window { kernel: [3; 2], strides: [1; 2], dilations: [1; 2], pads: [1; 4] };
    let (ty, average) = (m.any_type(), QOp::AvgPool { window, count_include_pad: false, ratio: 0.75 });
    let x = m.node("average", average, &[x], &[1, 88, 10, 10], ty);
    let x = m.conv(x, &conv([88, 36, 1], 1, 1), None).expect("the window fits");
    let (ty, to_space) = (m.ty(x), QOp::DepthToSpace { block: [2; 2], crop: [0; 2] });
    let y = m.node("to_space", to_space, &[x], &[1, 9, 20, 20], ty);
    m.finish(&[y])
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
    if LARGE_AS_RUST.contains(&name) || std::env::var_os("QGRAPH_ALL_AS_RUST").is_some() {
        let (start, lines) = (Instant::now(), rust.source().lines().count());
        check_optimized(&module, &machine, &[rust], "opt-level=1");
        println!(
            "{name}: {macs} multiply-accumulates, {lines} lines of Rust: {} s",
            start.elapsed().as_secs()
        );
    } else {
        println!("skipped: {name}: as Rust ({macs} multiply-accumulates); as assembly it gives the same");
    }
}

/// A model of the repository that is quantized already.
pub(super) fn given(name: &str) -> QGraph {
    given_at(&workspace_root().join(format!("tests/given/{name}.onnx")))
}

fn given_at(path: &Path) -> QGraph {
    let graph = pipeline::fuse(&onnx::import(path, &Default::default()).unwrap()).unwrap().0;
    pipeline::quantize_given(&graph, &quant::Options::default()).unwrap()
}

#[test]
fn models_that_came_quantized_are_the_same_everywhere() {
    let Some(data) = data_dir() else { return };
    let files = std::fs::read_dir(data.join("models/int8")).expect("there are models");
    for path in files.map(|f| f.expect("an entry").path()) {
        let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let graph = given_at(&path);
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
        add(name, &given(name));
    }
    // Its ranges are found at run time.
    let float = onnx::import(&root.join("compiler/demo/digits.onnx"), &Default::default()).unwrap();
    let fused = pipeline::fuse(&float).unwrap().0;
    add("dynamic", &pipeline::quantize_dynamic(&fused, &quant::Options::default()).unwrap());
    check_optimized("repository", &Machine::here(), &cases, "opt-level=0");
    let skipped = Target::ALL.iter().filter(|t| t.isa != Isa::Portable && !t.native()).count();
    println!("{} programs on {} targets", cases.len(), Target::ALL.len() - skipped);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn kinds_of_steps_that_no_other_model_has_are_the_same_everywhere() {
    let graph = rest();
    let image = random_inputs(&graph, 8);
    assert_equal(&graph, &image, "rest");
    let [rust, assembly] = both("rest", &graph, &image);
    // Not optimized, a window of 25 taps would put 270 KB on the stack: a place for each intermediate vector.
    check_optimized("rest", &Machine::here(), &[rust], "opt-level=1");
    check_optimized("rest-asm", &Machine::here(), &[assembly], "opt-level=0");
}
