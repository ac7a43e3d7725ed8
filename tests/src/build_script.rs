//! The road through a build script: the source that the macro would make, the same wherever it is made, and errors that name the file.

use crate::support::{temp_dir, workspace_root};
use qgraph_compiler::build::{self, Network};
use qgraph_compiler::lower::InputFormat;
use qgraph_compiler::qgraph::file;
use qgraph_compiler::target::Target;
use qgraph_compiler::{pipeline, quant};
use std::path::{Path, PathBuf};

fn demo(file: &str) -> PathBuf {
    workspace_root().join("compiler/demo").join(file)
}

fn ranges() -> PathBuf {
    workspace_root().join("examples/build_script/ranges.json")
}

/// Model and source, and that they are in the folder.
fn written(network: &Network, folder: &Path) -> (Vec<u8>, String) {
    let source = network.write(folder).unwrap();
    assert_eq!(source, folder.join("digits.rs"));
    (std::fs::read(folder.join("digits.qgraph")).unwrap(), std::fs::read_to_string(source).unwrap())
}

#[test]
fn a_float_model_with_its_ranges_gives_what_the_stages_give() {
    let dir = temp_dir("build_script_onnx");
    let network = build::onnx(demo("digits.onnx"), ranges()).batch(3).input(InputFormat::U8Nhwc);
    let (model, source) = written(&network, dir.path());
    let (fused, _) =
        pipeline::fuse(&pipeline::import(&demo("digits.onnx"), &Default::default()).unwrap()).unwrap();
    let profile = qgraph_compiler::calib::Profile::load(&ranges()).unwrap();
    let graph = pipeline::quantize(&fused, &profile, &quant::Options::default()).unwrap();
    assert!(model == file::to_bytes(&graph));
    for text in
        ["pub struct Digits", "BATCH: usize = 3", "include_bytes!(\"digits.qgraph\")", "mod avx512vnni"]
    {
        assert!(source.contains(text), "{text}");
    }
    let tensors = network.quantize(quant::Options::default().weights(quant::Weights::Tensor));
    assert!(written(&tensors, dir.path()).0 != model, "the options reach quantization");
}

#[test]
fn a_quantized_model_gives_the_same_bytes_in_any_folder() {
    let (here, there) = (temp_dir("build_script_here"), temp_dir("build_script_there"));
    let model = workspace_root().join("examples/embedded/digits.qgraph");
    let copy = there.join("digits.qgraph");
    std::fs::copy(&model, &copy).unwrap();
    let network = |path: &Path| build::qgraph(path).name("Net").targets([Target::avx2()]).threads(2);
    let first = written(&network(&model), here.path());
    assert!(first == written(&network(&copy), there.path()));
    assert!(first.0 == std::fs::read(&model).unwrap());
    assert!(first.1.contains("pub struct Net") && !first.1.contains("avx512vnni"));
}

#[test]
fn errors_name_the_file() {
    let dir = temp_dir("build_script_errors");
    let missing = dir.join("missing.json");
    let foreign = dir.join("foreign.json");
    let text = std::fs::read_to_string(ranges()).unwrap();
    let hash = text.split_once("\"graph\": \"").unwrap().1.split_once('"').unwrap().0;
    std::fs::write(&foreign, text.replace(hash, &"0".repeat(hash.len()))).unwrap();
    let cases = [
        (build::qgraph("missing.qgraph"), "missing.qgraph: cannot be read"),
        (build::qgraph(demo("digits.onnx")), "digits.onnx"),
        (build::onnx("missing.onnx", ranges()), "missing.onnx"),
        (build::onnx(demo("digits.onnx"), &missing), "missing.json"),
        (build::onnx(demo("digits.onnx"), &foreign), "foreign.json"),
        (build::onnx(demo("digits.onnx"), ranges()).name("no type"), "no type"),
        (build::onnx(demo("digits.onnx"), ranges()).batch(0), "batch"),
    ];
    for (network, words) in cases {
        let error = network.write(dir.path()).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    let error = build::onnx(demo("digits.onnx"), ranges()).write(&dir.join("none")).unwrap_err().to_string();
    assert!(error.contains("cannot be written"), "{error}");
}
