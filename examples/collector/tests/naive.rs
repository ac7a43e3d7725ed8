//! The program on the demo's network: its ranges are those of the mode `naive`, and so is the network.

use qgraph_compiler::calib::{self, Mode};
use qgraph_compiler::graph::Tensor;
use qgraph_compiler::preprocess::Preprocess;
use qgraph_compiler::qgraph::file;
use qgraph_compiler::{onnx, pipeline};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The network of `qgraph demo`, with its digits: records of a label and 16×16 pixels.
fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compiler/demo").join(name)
}

fn calibrate(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_calibrate")).args(args).output().expect("the program starts")
}

#[test]
fn ranges_are_those_of_naive() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = dir.path().join("digits.qgraph");
    let out = calibrate(&[&demo("digits.onnx"), &demo("digits_calib.bin"), Path::new("0.00392"), &model]);
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));

    let preprocess = Preprocess { scale: 0.00392, ..Preprocess::default() };
    let graph = pipeline::import(&demo("digits.onnx"), &onnx::Options::default()).expect("it imports");
    let (fused, _) = pipeline::fuse(&graph).expect("it fuses");
    let records = std::fs::read(demo("digits_calib.bin")).expect("the demo's digits");
    let pixels = |record: &[u8]| record[1..].iter().map(|&p| preprocess.normalize(p, 0)).collect::<Vec<_>>();
    let digits: Vec<_> = records.chunks_exact(257).map(pixels).collect();
    let mut samples = digits.into_iter().map(|x| Ok(vec![Tensor::new([1, 1, 16, 16], x)]));
    let options = calib::Options::new(Mode::Naive).preprocess(preprocess.clone());
    let naive = pipeline::calibrate(&fused, &mut samples, options).expect("it calibrates");
    let expected: Vec<String> =
        naive.ranges.iter().map(|(value, r)| format!("{value} {} {}", r.min, r.max)).collect();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 8 && lines[lines.len() - 1].starts_with("wrote "), "{text}");
    assert_eq!(lines[..lines.len() - 1], expected);
    let network = pipeline::quantize(&fused, &naive, &Default::default()).expect("it quantizes");
    assert_eq!(std::fs::read(&model).expect("a file"), file::to_bytes(&network));
}

#[test]
fn says_what_is_wrong() {
    let [model, samples, out] = ["missing.onnx", "images", "out.qgraph"].map(Path::new);
    for (args, words) in [
        (&[][..], "usage:"),
        (&[model, samples, Path::new("much"), out][..], "usage:"),
        (&[model, samples, Path::new("1"), out][..], "missing.onnx"),
    ] {
        let out = calibrate(args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && text.contains(words), "{args:?}: {text}");
    }
}
