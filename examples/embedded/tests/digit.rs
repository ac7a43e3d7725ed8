//! The program on the demo's digits: records of a label and 16×16 pixels.

use std::path::Path;
use std::process::{Command, Output};

fn digit(args: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_digit")).args(args).output().expect("the program starts")
}

#[test]
fn reads_digits() {
    let dir = tempfile::tempdir().expect("a scratch folder");
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compiler/demo/digits_test.bin");
    let records = std::fs::read(test).expect("the demo's digits");
    let mut right = 0;
    for (k, record) in records.chunks_exact(257).take(20).enumerate() {
        let png = dir.path().join(format!("{k}.png"));
        image::save_buffer(&png, &record[1..], 16, 16, image::ColorType::L8).expect("a PNG");
        let out = digit(&[&png]);
        let text = String::from_utf8(out.stdout).expect("UTF-8");
        assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
        let (found, scores) = text.trim_end().split_once('\n').expect("two lines");
        assert_eq!(scores.split(' ').count(), 10, "{text}");
        right += usize::from(found == record[0].to_string());
    }
    assert!(right >= 19, "only {right} of 20 digits are right");
}

#[test]
fn says_what_is_wrong() {
    for (args, words) in [(&[][..], "usage:"), (&[Path::new("missing.png")][..], "missing.png")] {
        let out = digit(args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && text.contains(words), "{args:?}: {text}");
    }
}
