//! The program on an emulated board reports what it does on this machine, and runs in the memory that it says.

#[path = "../../follow.rs"]
mod follow;

use qgraph_example_bare_metal::Digits;
use std::process::Command;

/// The sizes of the program's parts in flash and in RAM: its loadable segments.
fn sizes(program: &[u8]) -> (u32, u32) {
    let word = |at: usize| u32::from_le_bytes(program[at..at + 4].try_into().expect("four bytes"));
    let half = |at: usize| usize::from(u16::from_le_bytes([program[at], program[at + 1]]));
    // The head of a 32-bit ELF file says where its segments are listed, how long an entry is, and how many there are.
    let (start, entry, count) = (word(28) as usize, half(42), half(44));
    let (mut flash, mut ram) = (0, 0);
    for at in (0..count).map(|k| start + k * entry) {
        let (kind, address, in_file, in_memory) = (word(at), word(at + 8), word(at + 16), word(at + 20));
        if kind == 1 {
            flash += in_file;
            ram += if address >= 0x2000_0000 { in_memory } else { 0 };
        }
    }
    (flash, ram)
}

#[test]
fn the_board_reports_what_this_machine_does() {
    let here = Command::new(env!("CARGO_BIN_EXE_board")).output().expect("the program starts");
    let here = String::from_utf8(here.stdout).expect("UTF-8");
    let right: Option<u32> = here.lines().nth(5).and_then(|l| l.split(' ').next()?.parse().ok());
    assert!(right.is_some_and(|n| n >= 48) && here.contains(" of 50 digits are right, scores "), "{here}");

    let Some(compiler) = follow::compiler("thumbv7em-none-eabihf", &["qemu-system-arm"]) else { return };
    let board = follow::follow_the_readme(&compiler);
    println!("{board}");
    let memory = board.strip_prefix(&here).unwrap_or_else(|| panic!("{board}instead of\n{here}"));
    let arena = format!("arena {} bytes, stack ", Digits::ARENA_BYTES);
    let stack = memory.strip_prefix(&arena).and_then(|m| m.trim_end().strip_suffix(" bytes"));
    let stack: u32 = stack.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{memory}"));
    assert!(stack < 8 << 10, "{stack} bytes of stack");

    let program = follow::root().join("target/thumbv7em-none-eabihf/release/board");
    let (flash, ram) = sizes(&std::fs::read(program).expect("the program"));
    println!("{flash} bytes of flash, {ram} bytes of RAM besides the stack");
    let arena = Digits::ARENA_BYTES as u32;
    // Nothing but the arena, which no part of the program's own comes near.
    assert!(flash < 192 << 10 && (arena..arena + 1024).contains(&ram), "flash {flash}, RAM {ram}");
}
