//! The text of machine code, assembled by rustc (LLVM), gives the bytes of the JIT.

use crate::support::random_graph::random_graph;
use crate::support::{hex, rustc, temp_dir};
use qgraph_compiler::jit::{Code, Options};
use qgraph_compiler::target::Target;
use qgraph_compiler::{lower, pipeline};
use std::fmt::Write as _;
use std::process::Command;

/// Codes of several networks, targets, batches and threads in one program, which prints the bytes of each as a line of hex digits.
#[test]
#[cfg(target_arch = "x86_64")]
fn llvm_assembles_the_same_bytes() {
    let dir = temp_dir("assembly");
    let (mut program, mut expected) = (String::from("use std::arch::global_asm;\n"), Vec::new());
    let mut prints = String::new();
    for (seed, nodes) in [(1, 12), (2, 12), (3, 16), (4, 20)] {
        for target in Target::ALL.iter().filter(|t| t.needs().is_some()) {
            let batch = 1 + seed as usize % 2;
            let options = lower::Options { batch, ..Default::default() };
            let plan = pipeline::schedule(&random_graph(seed, nodes), target, &options).expect("schedules");
            for vbmi in [false, true] {
                let options = Options { vbmi, threads: 1 + seed as usize % 3, ..Options::default() };
                let code = Code::assemble(&plan, &options).expect("assembles");
                let name = format!("n{}", expected.len());
                std::fs::write(dir.path().join(format!("{name}.s")), code.assembly(&name)).expect("writes");
                let _ = writeln!(program, "global_asm!(include_str!(\"{name}.s\"), options(raw));");
                let _ = writeln!(
                    program,
                    "unsafe extern \"C\" {{ static {name}_begin: u8; static {name}_end: u8; }}"
                );
                let _ = writeln!(prints, "    print(&raw const {name}_begin, &raw const {name}_end);");
                expected.push(code.bytes().to_vec());
            }
        }
    }
    program += "fn print(from: *const u8, to: *const u8) {
    // SAFETY: called below with the first and the last label of one piece of assembly.
    let bytes = unsafe { std::slice::from_raw_parts(from, to.offset_from(from) as usize) };
    println!(\"{}\", bytes.iter().map(|b| format!(\"{b:02x}\")).collect::<String>());
}
fn main() {\n";
    program += &prints;
    program += "}\n";
    std::fs::write(dir.path().join("main.rs"), program).expect("writes");
    rustc(dir.path(), &["--edition=2024", "-Cdebuginfo=0", "main.rs", "-o", "main"]);
    let printed = Command::new(dir.path().join("main")).output().expect("it runs").stdout;
    let printed = String::from_utf8(printed).expect("hex digits");
    assert_eq!(printed.lines().count(), expected.len());
    for (k, (found, expected)) in printed.lines().zip(&expected).enumerate() {
        let expected = hex(expected);
        if found != expected {
            let at = found.bytes().zip(expected.bytes()).take_while(|(a, b)| a == b).count() / 2;
            panic!("code n{k} differs at byte {at:#x} of {}", expected.len() / 2);
        }
    }
}
