//! The text of generated Rust: reviewed for a small model, the same each time, without warnings, without `std`, and what is refused.

use super::whole::{given, rest};
use super::{Case, LINK, Machine, options};
use crate::support::random_graph::{ConvCase, Maker};
use crate::support::rustc;
use crate::support::{hex, temp_dir, workspace_root};
use qgraph_compiler::qgraph::{QGraph, Window, file};
use qgraph_compiler::rust::{self, Code, Options, Weights};
use qgraph_compiler::target::Target;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// One convolution, behind a quantization.
fn small() -> QGraph {
    let mut m = Maker::new(3);
    let x = m.input(&[1, 3, 4, 4]);
    let window = Window { kernel: [1, 1], strides: [1, 1], dilations: [1, 1], pads: [0; 4] };
    let conv =
        ConvCase { channels: 3, outputs: 4, groups: 1, window, residual: false, to_float: true, sane: true };
    let y = m.conv(x, &conv, None).expect("the window fits");
    m.finish(&[y])
}

/// The small model for two targets.
fn case() -> Case {
    let mut case = Case::of_graph("small", &small(), 1, 1);
    case.plans.retain(|p| [Target::portable(), Target::avx512vnni()].contains(&p.target));
    case
}

#[test]
fn source_of_a_small_model() {
    let source = case().source();
    // The hash of the file is that of a file whose numbers are random, and tables are no reading.
    let lines = source.lines().filter(|l| !l.contains("\\0") && !l.contains("\\x"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(case().source(), source);
}

#[test]
fn assembly_of_a_small_model() {
    let mut case = case();
    case.options.code = Code::Assembly;
    let source = case.source();
    // What is not as in Rust.
    let module = source.split_once("\nmod avx512vnni {").unwrap().1;
    let lines = module.lines().filter(|l| !l.contains("\\0") && !l.contains("\\x"));
    insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"));
    assert_eq!(case.source(), source);
}

/// Of networks that a file or integers make, for all targets: the same on every machine that this test runs on. A change of what is generated
/// changes them (`INSTA_UPDATE=always`).
#[test]
fn hashes_of_sources() {
    let digits = file::load(&workspace_root().join("examples/embedded/digits.qgraph")).unwrap();
    let mut lines = String::new();
    for (name, graph) in [("digits", digits), ("rest", rest()), ("qdq", given("qdq"))] {
        for (batch, threads) in [(1, 1), (3, 2)] {
            for code in [Code::Rust, Code::Assembly] {
                let mut case = Case::of_graph(name, &graph, batch, 1);
                (case.options.code, case.options.threads) = (code, threads);
                let source = case.source();
                let hash = hex(&Sha256::digest(&source)[..16]);
                let count = source.lines().count();
                let _ =
                    writeln!(lines, "{name} {code:?} batch {batch} threads {threads}: {hash}, {count} lines");
            }
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn sources_compile_without_std_and_without_warnings() {
    let dir = Machine::here().with_runtime("rust-no-std", &[]);
    let mut case = case();
    std::fs::write(dir.join("small.qgraph"), &case.file).unwrap();
    let all = [(false, true), (true, true), (true, false)].map(|(s, w)| (Code::Rust, s, w));
    let assembly = [(Code::Assembly, false, true), (Code::Assembly, true, true)];
    for (code, standalone, weights) in all.into_iter().chain(assembly) {
        (case.options.code, case.options.standalone) = (code, standalone);
        case.options.weights = options("small").weights;
        if !weights {
            case.options.weights = Weights::External;
        }
        std::fs::write(dir.join("model.rs"), case.source()).unwrap();
        // A program that has the model for itself uses a part of it.
        let make = if weights { "Net::new()" } else { "Net::new(&[]).unwrap()" };
        let used = format!(
            "mod private;\nuse private::{{Net, runtime::Model}};\n/// Bytes.\npub fn bytes() -> usize {{ {make}.arena_bytes() }}\n"
        );
        let library =
            "//! A program.\n#![no_std]\n#![deny(warnings, missing_docs)]\n/// A model.\npub mod model;\n";
        std::fs::write(dir.join("lib.rs"), format!("{library}{used}")).unwrap();
        std::fs::copy(dir.join("model.rs"), dir.join("private.rs")).unwrap();
        let link = if standalone { &[][..] } else { &LINK[..] };
        for edition in ["2021", "2024"] {
            let arguments = ["--crate-type", "rlib", "--emit", "metadata", "--edition", edition, "lib.rs"];
            rustc(dir.path(), &[link, &arguments].concat());
        }
    }
}

#[test]
fn another_file_does_not_compile() {
    let dir = temp_dir("rust-stamp");
    let mut case = case();
    case.options.standalone = true;
    std::fs::write(dir.join("model.rs"), case.source()).unwrap();
    case.file[case.stamp.start] ^= 1;
    std::fs::write(dir.join("small.qgraph"), &case.file).unwrap();
    std::fs::write(dir.join("lib.rs"), "#![no_std]\npub mod model;\n").unwrap();
    let compile =
        || rustc(dir.path(), &["--crate-type", "rlib", "--emit", "metadata", "--edition", "2024", "lib.rs"]);
    let refused = std::panic::catch_unwind(compile).unwrap_err();
    let refused = refused.downcast::<String>().unwrap();
    assert!(refused.contains("not the one that this was generated from"), "{refused}");
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let case = case();
    let plans: Vec<_> = case.plans.iter().map(|p| (**p).clone()).collect();
    let emit = |plans: &[_], file: &[u8], options: &Options| {
        rust::emit(plans, &[], file, 0..0, options).unwrap_err().to_string()
    };
    let fine = options("small");
    let refused = emit(&plans, &case.file, &Options { name: "7 nets".into(), threads: 0, ..fine.clone() });
    assert!(
        refused.contains("7 nets: is no name for a type") && refused.contains("at least one thread"),
        "{refused}"
    );
    assert!(emit(&plans[1..], &case.file, &fine).contains("targets: the first plan must be portable"));
    assert!(emit(&plans, b"another file", &fine).contains("small.qgraph: does not end with the weights"));
    let twice = [plans[0].clone(), plans[1].clone(), plans[1].clone()];
    assert!(emit(&twice, &case.file, &fine).contains("avx512vnni: is not another target"));
    let copied = Options { weights: Weights::External, copied: true, ..fine.clone() };
    assert!(emit(&plans, &case.file, &copied).contains("weights: that the program hands over"));
    let assembly = Options { code: Code::Assembly, ..fine.clone() };
    assert!(emit(&plans, &case.file, &assembly).contains("assembly: is not that of the plans"));
    let mut wrong = plans.clone();
    wrong[1].inputs[0].name.push('x');
    assert!(emit(&wrong, &case.file, &fine).contains("avx512vnni: is not another target"));
    wrong[1].arena_bytes = 0;
    assert!(emit(&wrong, &case.file, &fine).contains("emit: "));
}
