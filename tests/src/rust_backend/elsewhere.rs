//! Generated Rust on another processor, by an emulator: the bytes of this machine's interpreter. `examples/toolchains.sh` finds the compiler and
//! the emulator; without them the test skips.

use super::{Case, Machine, check, graphs, words};
use crate::qgraph_file::graphs::everything;
use crate::support::follow;

#[test]
fn aarch64_gives_the_interpreters_bytes() {
    let emulator = "qemu-aarch64";
    let Some(compiler) = follow::compiler("aarch64-unknown-linux-musl", &[emulator]) else { return };
    // The C library comes with the compiler, and so does a linker: nothing else is needed.
    let arguments = &["--target", "aarch64-unknown-linux-musl", "-C", "linker=rust-lld"];
    let machine = Machine { compiler, arguments, emulator: Some(emulator) };
    // Every operation, every word of the kernels, and both in disorder.
    let mut all = Case::of_graph("everything", &everything(), 1, 7);
    all.any_nan = true;
    let mut cases = graphs();
    cases.extend([all, words::case()]);
    check("rust-aarch64", &machine, &cases);
}
