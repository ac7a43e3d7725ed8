//! What the tests of examples for other machines share: an example is built and run as its README says. That needs a compiler that
//! `examples/toolchains.sh` leaves in cargo's target folder; where it is missing a test says that it skips, for what it builds would make every
//! `cargo test` longer.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The compiler for a target (called as `rustc` is), if `programs` are there too, which run what it makes. `None`, and why on stdout, if not.
pub(crate) fn compiler(target: &str, programs: &[&str]) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("cargo's target folder");
    let compiler = folder.join("toolchains").join(target);
    let missing = if compiler.is_file() {
        programs.iter().find(|name| program(&[name]).is_none()).map(|name| name.to_string())
    } else {
        Some(format!("compiler for {target}"))
    };
    match missing {
        Some(missing) => {
            println!("skipped: no {missing} (run examples/toolchains.sh)");
            None
        }
        None => Some(compiler),
    }
}

/// The first of these programs that this machine has.
pub(crate) fn program<'a>(names: &[&'a str]) -> Option<&'a str> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    names.iter().copied().find(found)
}

/// Runs what the README of this example shows, line by line, from the root of the repository, once for all tests; what that prints.
pub(crate) fn follow_the_readme(compiler: &Path) -> &'static str {
    static PRINTED: OnceLock<String> = OnceLock::new();
    PRINTED.get_or_init(|| {
        let example = Path::new(env!("CARGO_MANIFEST_DIR"));
        let readme = std::fs::read_to_string(example.join("README.md")).expect("a README");
        let commands: Vec<&str> = readme.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        assert!(commands.iter().any(|c| c.starts_with("cargo ")), "{commands:#?}");
        let out = Command::new("bash")
            .args(["-euc", &commands.join("\n")])
            .current_dir(root())
            .env("RUSTC", compiler)
            // The README's paths are those of who has set nothing.
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .expect("bash");
        let printed = String::from_utf8_lossy(&out.stdout);
        let messages = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{commands:#?}\n{printed}{messages}");
        printed.into_owned()
    })
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders up").into()
}
