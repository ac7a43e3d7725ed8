//! Assembly in generated Rust, as rustc has put it into a program, is the JIT's code, byte for byte.

use iced_x86::{Decoder, DecoderOptions};
use qgraph_compiler::jit;
use qgraph_compiler::plan::Plan;

/// Every kernel and entry of the plan's code is in the program's file, but for the distances that the linker puts into calls.
pub(super) fn assert_within(program: &[u8], plan: &Plan, threads: usize) {
    let options = jit::Options { vbmi: false, threads, ..Default::default() };
    let code = jit::Code::assemble(plan, &options).expect("the source was made of it");
    for symbol in code.symbols().iter().filter(|s| !s.name.starts_with("step ")) {
        let bytes = &code.bytes()[symbol.offset..][..symbol.len];
        let mut expected: Vec<Option<u8>> = bytes.iter().copied().map(Some).collect();
        for i in Decoder::with_ip(64, bytes, 0, DecoderOptions::NONE).into_iter() {
            if i.is_call_near() {
                let at = i.ip() as usize;
                expected[at + 1..at + i.len()].fill(None);
            }
        }
        // Functions start at multiples of 64, and so do they in the file.
        let found = program.chunks(64).enumerate().any(|(k, _)| {
            let here = &program[64 * k..];
            here.len() >= expected.len()
                && expected.iter().zip(here).all(|(e, found)| e.is_none_or(|e| e == *found))
        });
        assert!(found, "{} for {}: the program has other code", symbol.name, plan.target);
    }
}
