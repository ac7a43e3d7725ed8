//! The module in Node, with the bits of this machine's own code, and on the page, where a browser draws digits.

#[path = "../../follow.rs"]
mod follow;

use qgraph_macros::quantized_model;
use qgraph_runtime::{Arena, Model, TensorMut, TensorRef};
use std::path::Path;
use std::process::Command;

quantized_model!(Digits, "../embedded/digits.qgraph", targets = [avx2, avx512vnni], input = u8);

const TARGET: &str = "wasm32-unknown-unknown";

/// Runs a script of this folder; what it prints.
fn node(script: &str, argument: &Path) -> String {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let out = Command::new("node").arg(tests.join(script)).arg(argument).output().expect("node");
    assert!(out.status.success(), "{script}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

#[test]
fn node_gives_the_bits_of_this_machine() {
    let Some(compiler) = follow::compiler(TARGET, &["node"]) else { return };
    let printed = follow::follow_the_readme(&compiler);
    assert!(printed.starts_with("7: ") && printed.lines().count() == 1, "{printed}");

    let demo = follow::root().join("compiler/demo/digits_test.bin");
    let records = std::fs::read(&demo).expect("the demo's digits");
    let (model, mut arena) = (Digits::new(), Arena::<{ Digits::ARENA_BYTES }>::new());
    let printed = node("scores.mjs", &demo);
    let found: Vec<&str> = printed.lines().collect();
    assert_eq!(found.len(), records.len() / 257);
    for (found, record) in found.iter().zip(records.chunks_exact(257)) {
        let mut scores = [0.0; 10];
        let pixels = TensorRef::U8(&record[1..]);
        model.run(&[pixels], &mut [TensorMut::F32(&mut scores)], arena.bytes()).expect("a run");
        assert_eq!(*found, scores.map(|s: f32| s.to_bits().to_string()).join(" "));
    }
}

#[test]
fn the_page_reads_what_is_drawn() {
    let Some(compiler) = follow::compiler(TARGET, &["node"]) else { return };
    let Some(browser) = follow::program(&["chromium", "chromium-browser", "google-chrome"]) else {
        println!("skipped: no browser (run examples/toolchains.sh)");
        return;
    };
    follow::follow_the_readme(&compiler);
    let printed = node("browser.mjs", Path::new(browser));
    let drawn: Vec<&str> = printed.lines().collect();
    assert_eq!(drawn, [0, 1, 2, 3, 4, 7].map(|d| format!("drawn {d}, read {d}")));
}
