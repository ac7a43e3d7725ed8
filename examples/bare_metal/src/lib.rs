//! What the program does on any machine: it reads handwritten digits, with a network that lies in flash and runs in an arena of fixed size.

#![no_std]

use core::fmt::Write;
use qgraph_macros::quantized_model;
use qgraph_runtime::{Arena, Model, RunError, TensorMut, TensorRef};

quantized_model!(pub Digits, "../embedded/digits.qgraph", targets = [], input = u8);

/// What a run works in.
pub type Memory = Arena<{ Digits::ARENA_BYTES }>;

/// Bytes of a digit and its 16×16 pixels, white on black.
const RECORD: usize = 1 + 16 * 16;

/// The first of the demo's digits: a copy, so that the others take no flash.
static RECORDS: [u8; 50 * RECORD] =
    match include_bytes!("../../../compiler/demo/digits_test.bin").first_chunk() {
        Some(records) => *records,
        None => panic!("the file is too short"),
    };

/// Why there is no report.
#[derive(Debug)]
pub enum Failure {
    /// The network refused.
    Run(RunError),
    /// The text could not be written.
    Write,
}

impl From<RunError> for Failure {
    fn from(e: RunError) -> Self {
        Failure::Run(e)
    }
}

impl From<core::fmt::Error> for Failure {
    fn from(_: core::fmt::Error) -> Self {
        Failure::Write
    }
}

/// Reads all digits; writes what it takes some of them for, how many are right, and a sum over the bits of all scores (FNV-1a), which is the
/// same on every machine.
pub fn report(out: &mut impl Write, memory: &mut Memory) -> Result<(), Failure> {
    let model = Digits::new();
    let (records, _) = RECORDS.as_chunks::<RECORD>();
    let (mut right, mut sum) = (0, 0xcbf2_9ce4_8422_2325_u64);
    for (k, [label, pixels @ ..]) in records.iter().enumerate() {
        let mut scores = [0.0; 10];
        model.run(&[TensorRef::U8(pixels)], &mut [TensorMut::F32(&mut scores)], memory.bytes())?;
        for byte in scores.iter().flat_map(|s: &f32| s.to_le_bytes()) {
            sum = (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        let digit = (0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or_default();
        right += usize::from(digit == usize::from(*label));
        if k < 5 {
            writeln!(out, "a {label} is read as {digit}, score {:.2}", scores[digit])?;
        }
    }
    writeln!(out, "{right} of {} digits are right, scores {sum:016x}", records.len())?;
    Ok(())
}
