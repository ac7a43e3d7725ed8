//! A stranger's first ten minutes: a new package with what the README says, and nothing else. The program reads digits; a model that changes
//! is compiled again, one that doesn't is not, and another folder gives the same program.

use crate::support::{temp_dir, workspace_root};
use qgraph_compiler::{build, quant};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The first block of a language in the README's section on programs.
fn block(language: &str) -> String {
    let readme = fs::read_to_string(workspace_root().join("README.md")).unwrap();
    let section = readme.split_once("\n## Inside a program\n").unwrap().1.split_once("\n## ").unwrap().0;
    let text = section.split_once(&format!("\n```{language}\n")).unwrap().1.split_once("\n```\n").unwrap().0;
    format!("{text}\n")
}

/// Runs cargo in a folder; its messages. All packages build in one place, so that what they depend on is compiled once.
fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO"))
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("new_user"))
        .output()
        .unwrap();
    let messages = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "cargo {arguments:?} in {}:\n{messages}", folder.display());
    messages
}

/// Builds a package as its user would, but from the crates that are at hand: whether it was compiled, and the program.
fn program(package: &Path) -> (bool, Vec<u8>) {
    let messages = cargo(package, &["build", "--release", "--offline"]);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new_user/release/digit");
    (
        messages.contains("Compiling digit "),
        fs::read(path.with_extension(std::env::consts::EXE_EXTENSION)).unwrap(),
    )
}

/// What the README's reader does in a folder.
fn follow_the_readme(folder: &Path) {
    cargo(folder, &["new", "digit", "--vcs", "none"]);
    let package = folder.join("digit");
    let root = workspace_root();
    let dependencies = block("toml").replace("\"../qgraph/", &format!("\"{}/", root.display()));
    assert_eq!(dependencies.matches(&root.display().to_string()).count(), 2, "two lines");
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    fs::write(package.join("Cargo.toml"), manifest.replace("[dependencies]\n", &dependencies)).unwrap();
    fs::write(package.join("src/main.rs"), block("rust")).unwrap();
    fs::copy(root.join("examples/embedded/digits.qgraph"), package.join("digits.qgraph")).unwrap();
    // The versions that are at hand.
    fs::copy(root.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
}

/// What the program says of a picture.
fn digit(program: &[u8], folder: &Path, pixels: &[u8]) -> String {
    let (exe, picture) = (folder.join("digit.exe"), folder.join("picture.pgm"));
    fs::write(&picture, [b"P5\n16 16\n255\n", pixels].concat()).unwrap();
    if !exe.exists() {
        fs::write(&exe, program).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&exe, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let out = Command::new(&exe).arg(&picture).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim_end().into()
}

#[test]
fn the_readme_is_all_it_takes() {
    let (here, there) = (temp_dir("new_user"), temp_dir("new_user_elsewhere"));
    follow_the_readme(here.path());
    let here = here.join("digit");

    let (_, first) = program(&here);
    let records = fs::read(workspace_root().join("compiler/demo/digits_test.bin")).unwrap();
    let right =
        records.chunks_exact(257).take(20).filter(|r| digit(&first, &here, &r[1..]) == r[0].to_string());
    let right = right.count();
    assert!(right >= 19, "{right} of 20 are right");

    let (compiled, again) = program(&here);
    assert!(!compiled && again == first, "nothing changed, nothing is compiled");

    // Made after the first program, or cargo would take that for it.
    follow_the_readme(there.path());
    let (compiled, same) = program(&there.join("digit"));
    assert!(compiled && same == first, "another folder gives the same program");

    // The same network, rounded otherwise.
    let demo = workspace_root().join("compiler/demo/digits.onnx");
    let ranges = workspace_root().join("examples/build_script/ranges.json");
    let other = quant::Options::default().weights(quant::Weights::Tensor);
    build::onnx(demo, ranges).quantize(other).write(&here).unwrap();
    let (compiled, second) = program(&here);
    assert!(compiled && second != first, "a model that changed is compiled again");
}
