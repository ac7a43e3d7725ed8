//! Results against ONNX Runtime. Float ones in both steps that are not exact: `graph::eval` ≈ ONNX Runtime, compiled float ≈ `graph::eval`
//! (the oracle ladder of DESIGN.md, section 6). The tolerances stand here and nowhere else; everything else is equality,
//! that of quantized models with ONNX Runtime among it.
//!
//! The cases come from `tests/ort/cases.py`: one small model for every operator, attribute and opset. Real models are compared by the
//! same two functions, in `real`.

use crate::support::{engines, python, workspace_root};
use qgraph_compiler::graph::{self, Graph, Tensor};
use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::runner::{Engine, Runner};
use qgraph_compiler::target::Target;
use qgraph_compiler::{onnx, pipeline};
use std::path::{Path, PathBuf};

/// How far a float may be off, in units of the largest magnitude of its tensor: single operators and small networks add up few numbers.
const ONE_OPERATOR: f32 = 1e-5;
/// The same for whole networks, whose many layers each add up in their own order.
const NETWORK: f32 = 1e-4;

/// What is wrong with `found`, if so: another number of elements, or one too far off.
fn difference(found: &[f32], expected: &[f32], tolerance: f32) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{} elements instead of {}", found.len(), expected.len()));
    }
    let bound = tolerance * expected.iter().fold(1.0, |m: f32, x| m.max(x.abs()));
    // NaN is never within.
    let near = |k: usize| found[k] == expected[k] || (found[k] - expected[k]).abs() <= bound;
    let far = |k: &usize| !near(*k);
    let at = (0..found.len()).find(far)?;
    Some(format!("element {at} is {} instead of {} (± {bound:e})", found[at], expected[at]))
}

/// Asserts that the outputs of a whole network are those that ONNX Runtime or the evaluator gave.
#[track_caller]
pub(crate) fn assert_network(found: &[f32], expected: &[f32], what: &str) {
    if let Some(difference) = difference(found, expected, NETWORK) {
        panic!("{what}: {difference}");
    }
}

/// The array of an .npy file of little-endian f32 in row-major order.
fn npy(path: &Path) -> Tensor {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(bytes[..8], *b"\x93NUMPY\x01\0", "{}", path.display());
    let end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..end]).expect("a header is text");
    assert!(header.contains("'<f4'") && header.contains("'fortran_order': False"), "{header}");
    let (_, shape) = header.split_once("'shape': (").expect("a header states the shape");
    let (shape, _) = shape.split_once(')').expect("a shape ends");
    let extents = shape.split(',').map(str::trim).filter(|n| !n.is_empty());
    let shape: Vec<usize> = extents.map(|n| n.parse().expect("an extent is a number")).collect();
    let data: Vec<f32> =
        bytes[end..].chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    Tensor::new(shape, data)
}

/// The files `NAME.in0.npy`, … as far as there are any.
pub(crate) fn arrays(dir: &Path, name: &str, role: &str) -> Vec<Tensor> {
    let paths = (0..).map(|k| dir.join(format!("{name}.{role}{k}.npy")));
    paths.take_while(|p| p.is_file()).map(|p| npy(&p)).collect()
}

/// Outputs of a float network that is compiled for this machine, and of the same on the portable target.
fn compiled(float: &QGraph, inputs: &[Vec<f32>]) -> Result<Vec<Vec<Vec<f32>>>, String> {
    let here = Target::detect();
    let engines = [(Engine::best(&here), here), (Engine::Interp, Target::portable())];
    let run = |(engine, target): (Engine, Target)| {
        let mut runner = Runner::new(float, engine, &target, &Options::default())?;
        runner.run(inputs).map(<[_]>::to_vec)
    };
    engines.into_iter().map(|e| run(e).map_err(|e| e.to_string())).collect()
}

/// Everything that is wrong with one case, each with the road that it was found on.
fn case(dir: &Path, name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut problem = |road: &str, what: String| problems.push(format!("{name}: {road}: {what}"));
    let (inputs, expected) = (arrays(dir, name, "in"), arrays(dir, name, "out"));
    let flat: Vec<Vec<f32>> = inputs.iter().map(|t| t.data.to_vec()).collect();
    let naive = match onnx::import(&dir.join(format!("{name}.onnx")), &Default::default()) {
        Ok(graph) => graph,
        Err(e) => return vec![format!("{name}: {e}")],
    };
    let (fused, _) = pipeline::fuse(&naive).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (road, graph) in [("naive", &naive), ("fused", &fused)] {
        let values = evaluate(graph, &inputs);
        let shapes = |list: &[Tensor]| list.iter().map(|t| t.shape.clone()).collect::<Vec<_>>();
        if shapes(&values) != shapes(&expected) {
            problem(road, format!("shapes {:?} instead of {:?}", shapes(&values), shapes(&expected)));
            continue;
        }
        for (found, expected) in values.iter().zip(&expected) {
            let wrong = difference(&found.data, &expected.data, ONE_OPERATOR);
            wrong.into_iter().for_each(|w| problem(&format!("{road} evaluated"), w));
        }
        match pipeline::float(graph).map_err(|e| e.to_string()).and_then(|q| compiled(&q, &flat)) {
            Err(e) => problem(&format!("{road} compiled"), e),
            Ok(runs) => {
                for (found, value) in runs.iter().flat_map(|run| run.iter().zip(&values)) {
                    let wrong = difference(found, &value.data, ONE_OPERATOR);
                    wrong.into_iter().for_each(|w| problem(&format!("{road} compiled"), w));
                }
            }
        }
    }
    problems
}

/// Outputs of a float graph by its definition.
pub(crate) fn evaluate(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    graph::eval::eval(graph, inputs, &mut |_, _| {}).unwrap_or_else(|e| panic!("{}: {e}", graph.name))
}

/// The folder of the cases, and those that a list of it names.
fn cases(list: &str) -> Option<(PathBuf, Vec<String>)> {
    let Some(dir) = std::env::var_os("QGRAPH_ORT_CASES").map(PathBuf::from) else {
        println!("skipped: QGRAPH_ORT_CASES names no folder (tests/ort/cases.py fills one)");
        return None;
    };
    let list = dir.join(list);
    let text = std::fs::read_to_string(&list).unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    Some((dir, text.lines().map(String::from).collect()))
}

/// True if ONNX Runtime's kernels here add weights of 8 bits up exactly, else says that the test is skipped: without VNNI they saturate.
pub(crate) fn has_exact_sums() -> bool {
    #[cfg(target_arch = "x86_64")]
    let exact = is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    let exact = false;
    if !exact {
        println!("skipped: it is ONNX Runtime's kernels for x86-64 with VNNI that are followed");
    }
    exact
}

/// Runs the models of a folder by `tests/ort/run.py`; false if Python has no ONNX Runtime here, which is said.
pub(crate) fn run(dir: &Path) -> bool {
    let Some(mut python) = python("onnxruntime") else { return false };
    let out = python.arg(workspace_root().join("tests/ort/run.py")).arg(dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    true
}

/// Models that are quantized already give the integers that ONNX Runtime gives: of convolutions, dense layers, sums, means and roundings.
#[test]
fn quantized_models_exactly() {
    #[cfg(target_arch = "x86_64")]
    let followed = is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let followed = false;
    if !followed {
        println!("skipped: it is ONNX Runtime's kernels for x86-64 with AVX2 that are followed");
        return;
    }
    let Some((dir, names)) = cases("given.txt") else { return };
    assert!(names.len() >= 60, "only {} cases", names.len());
    let (mut problems, mut elements) = (Vec::new(), 0);
    for name in &names {
        let imported = onnx::import(&dir.join(format!("{name}.onnx")), &Default::default());
        let fused =
            pipeline::fuse(&imported.unwrap_or_else(|e| panic!("{e}"))).unwrap_or_else(|e| panic!("{e}")).0;
        let graph =
            pipeline::quantize_given(&fused, &Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let inputs: Vec<Vec<f32>> = arrays(&dir, name, "in").iter().map(|t| t.data.to_vec()).collect();
        engines::assert_equal(&graph, &inputs, name);
        let expected: Vec<u32> = arrays(&dir, name, "out")[0].data.iter().map(|x| x.to_bits()).collect();
        let found = &engines::evaluate(&graph, &inputs)[0];
        assert_eq!(found.len(), expected.len(), "{name}");
        let far = found.iter().zip(&expected).filter(|(f, e)| f != e).count();
        if far > 0 {
            problems.push(format!("{name}: {far} of {}", expected.len()));
        }
        elements += expected.len();
    }
    assert!(problems.is_empty(), "differ in\n{}", problems.join("\n"));
    println!("{} cases, {elements} elements", names.len());
}

#[test]
fn every_operator() {
    let Some((dir, names)) = cases("cases.txt") else { return };
    assert!(names.len() >= 1000, "only {} cases", names.len());
    let problems: Vec<String> = names.iter().flat_map(|name| case(&dir, name)).collect();
    assert!(
        problems.is_empty(),
        "{} problems in {} cases:\n{}",
        problems.len(),
        names.len(),
        problems.join("\n")
    );
    println!("{} cases", names.len());
}
