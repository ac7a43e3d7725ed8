//! Reads a file of digits, eight at a time, with a network that the build script compiled, and counts those read right.

use qgraph_runtime::{Arena, Model, TensorMut, TensorRef};
use std::process::ExitCode;

/// What the build script wrote.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}
use generated::Digits;

/// A record is the digit and its 16×16 pixels.
const PIXELS: usize = 16 * 16;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path] = &args[..] else {
        eprintln!("usage: digits RECORDS");
        return ExitCode::from(2);
    };
    match count(path) {
        Ok((right, all)) => {
            println!("{right} of {all} digits");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("digits: {path}: {e}");
            ExitCode::from(2)
        }
    }
}

/// How many records are read right, of how many.
fn count(path: &str) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let file = std::fs::read(path)?;
    let (records, rest) = file.as_chunks::<{ 1 + PIXELS }>();
    if !rest.is_empty() {
        return Err(format!("{} bytes are no whole number of records of {}", file.len(), 1 + PIXELS).into());
    }
    let model = Digits::new();
    let mut arena = Box::new(Arena::<{ Digits::ARENA_BYTES }>::new());
    // The last batch may be short: the rest of it is whatever the one before left there.
    let (mut pixels, mut scores) = ([0; Digits::BATCH * PIXELS], [0.0; Digits::BATCH * 10]);
    let mut right = 0;
    for batch in records.chunks(Digits::BATCH) {
        for (to, record) in pixels.chunks_exact_mut(PIXELS).zip(batch) {
            to.copy_from_slice(&record[1..]);
        }
        model.run(&[TensorRef::U8(&pixels)], &mut [TensorMut::F32(&mut scores)], arena.bytes())?;
        for (scores, record) in scores.chunks_exact(10).zip(batch) {
            let best = (0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            right += usize::from(best == Some(record[0].into()));
        }
    }
    Ok((right, records.len()))
}
