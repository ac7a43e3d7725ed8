//! The program on the demo's network: quantized here, classified there.

use qgraph_compiler::data::{self, Input, Samples};
use qgraph_compiler::graph::Tensor;
use qgraph_compiler::preprocess::Preprocess;
use qgraph_compiler::qgraph::file;
use qgraph_compiler::{calib, onnx, pipeline};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The network of `qgraph demo`, with its digits: records of a label and 16×16 pixels.
fn demo(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compiler/demo").join(name)
}

fn quantize(to: &Path) -> qgraph_compiler::Result<()> {
    let graph = pipeline::import(&demo("digits.onnx"), &onnx::Options::default())?;
    let (fused, _) = pipeline::fuse(&graph)?;
    let preprocess = Preprocess { scale: 1.0 / 255.0, ..Preprocess::default() };
    let options = data::Options {
        inputs: vec![Input { name: "x".into(), shape: vec![1, 1, 16, 16] }],
        preprocess: preprocess.clone(),
        ..data::Options::default()
    };
    let digits = Samples::open(demo("digits_calib.bin").to_str().expect("a path in UTF-8"), &options)?;
    let mut digits =
        digits.map(|digit| Ok(digit?.inputs.into_iter().map(|x| Tensor::new([1, 1, 16, 16], x)).collect()));
    let profile = pipeline::calibrate(&fused, &mut digits, calib::Options::default().preprocess(preprocess))?;
    file::save(&pipeline::quantize(&fused, &profile, &Default::default())?, to)
}

fn classify(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_classify")).args(args).output().expect("the program starts")
}

#[test]
fn classifies_digits() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let model = dir.path().join("digits.qgraph");
    quantize(&model).expect("the demo quantizes");
    let names = dir.path().join("names.txt");
    std::fs::write(&names, "zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n").expect("writes");
    let records = std::fs::read(demo("digits_test.bin")).expect("the demo's digits");
    let mut right = 0;
    for (k, record) in records.chunks_exact(257).take(20).enumerate() {
        let png = dir.path().join(format!("{k}.png"));
        image::save_buffer(&png, &record[1..], 16, 16, image::ColorType::L8).expect("a PNG");
        let out = classify(&[&model, &png, &names]);
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        let lines: Vec<&str> = text.lines().collect();
        // Which engine, how long, then the best five.
        let engine = lines[0].starts_with("machine code for avx512vnni")
            || lines[0].starts_with("kernel interpreter: ");
        assert!(engine && lines.len() == 7, "{text}");
        let best: Vec<&str> = lines[2].split_whitespace().collect();
        let class: usize = best[0].parse().expect("a class");
        let name = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][class];
        assert_eq!(best[2], name, "{text}");
        right += usize::from(class == usize::from(record[0]));
    }
    assert!(right >= 19, "only {right} of 20 digits are right");
}

#[test]
fn says_what_is_wrong() {
    let missing = Path::new("missing.qgraph");
    for (args, words) in [
        (&[][..], "usage:"),
        (&[missing][..], "usage:"),
        (&[missing, Path::new("x.png")][..], "missing.qgraph"),
        (&[&demo("digits.onnx"), Path::new("x.png")][..], "digits.onnx"),
    ] {
        let out = classify(args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && text.contains(words), "{args:?}: {text}");
    }
}
