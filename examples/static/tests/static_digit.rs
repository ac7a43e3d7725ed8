//! The program as one file that needs no other: it starts at once, and runs in the memory that it says.

#[path = "../../follow.rs"]
mod follow;

use qgraph_macros::quantized_model;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

quantized_model!(Digits, "../embedded/digits.qgraph", targets = [avx2, avx512vnni], input = u8);

/// The digit, and what is said of the run.
fn answer(program: &Path, picture: &Path) -> (String, String) {
    let out = Command::new(program).arg(picture).output().expect("the program starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let (digit, run) = text.trim_end().split_once('\n').expect("two lines");
    (digit.into(), run.into())
}

#[test]
fn one_file_answers_at_once() {
    let Some(compiler) = follow::compiler("x86_64-unknown-linux-gnu", &["ldd"]) else { return };
    let printed = follow::follow_the_readme(&compiler);
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    assert!(matches!(lines[..], ["statically linked", "7", _]), "{printed}");

    let program = follow::root().join("target/x86_64-unknown-linux-gnu/release/static-digit");
    let dir = tempfile::tempdir().expect("a scratch folder");
    let records =
        std::fs::read(follow::root().join("compiler/demo/digits_test.bin")).expect("the demo's digits");
    let (mut right, mut shortest) = (0, Duration::MAX);
    for (k, record) in records.chunks_exact(257).take(50).enumerate() {
        let picture = dir.path().join(format!("{k}.pgm"));
        std::fs::write(&picture, [b"P5\n16 16\n255\n", &record[1..]].concat()).expect("a picture");
        let start = Instant::now();
        let (digit, run) = answer(&program, &picture);
        shortest = shortest.min(start.elapsed());
        right += usize::from(digit == record[0].to_string());
        let memory = format!("arena {} bytes, 0 allocations, ", Digits::ARENA_BYTES);
        assert!(run.starts_with(&memory), "{run}");
    }
    let size = std::fs::metadata(&program).expect("the program").len();
    println!("{size} bytes, from start to end {shortest:.2?}, {right} of 50 digits right");
    assert!(right >= 48, "only {right} of 50 digits are right");
    // The fastest of many starts: the others wait for other programs.
    assert!(shortest < Duration::from_millis(5), "from start to end {shortest:?}");
    assert!(size < 2 << 20, "{size} bytes");
}

#[test]
fn says_what_is_wrong() {
    for (args, words) in [
        (&[][..], "usage:"),
        (&["missing.pgm"][..], "missing.pgm"),
        (&["Cargo.toml"][..], "Cargo.toml: is no binary PGM"),
    ] {
        let out =
            Command::new(env!("CARGO_BIN_EXE_static-digit")).args(args).output().expect("the program starts");
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && text.contains(words), "{args:?}: {text}");
    }
}
