//! The program on the demo's digits.

use std::path::Path;
use std::process::{Command, Output};

fn digits(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_digits")).args(args).output().expect("the program starts")
}

#[test]
fn reads_digits() {
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compiler/demo/digits_test.bin");
    let out = digits(&[&test]);
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let (right, all) =
        text.trim_end().strip_suffix(" digits").and_then(|t| t.split_once(" of ")).expect("a count");
    let (right, all): (usize, usize) = (right.parse().expect("a number"), all.parse().expect("a number"));
    assert!(all == 397 && right >= 385, "{text}");
}

#[test]
fn says_what_is_wrong() {
    for (args, words) in [(&[][..], "usage:"), (&[Path::new("missing.bin")][..], "missing.bin")] {
        let out = digits(args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && text.contains(words), "{args:?}: {text}");
    }
}
