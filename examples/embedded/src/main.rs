//! Reads a handwritten digit off a picture, with a network that is a part of the program.

use image::imageops::FilterType;
use qgraph_macros::quantized_model;
use qgraph_runtime::{Arena, Model, TensorMut, TensorRef};
use std::process::ExitCode;
use std::sync::Mutex;

quantized_model!(Digits, "digits.qgraph", targets = [avx2, avx512vnni], input = u8);

/// What a run needs, known when the program is compiled.
static ARENA: Mutex<Arena<{ Digits::ARENA_BYTES }>> = Mutex::new(Arena::new());

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path] = &args[..] else {
        eprintln!("usage: digit IMAGE");
        return ExitCode::from(2);
    };
    match read(path) {
        Ok((digit, scores)) => {
            println!("{digit}");
            println!("{}", scores.map(|s| format!("{s:.2}")).join(" "));
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("digit: {path}: {e}");
            ExitCode::from(2)
        }
    }
}

/// The digit on a picture, and the score of each.
fn read(path: &str) -> Result<(usize, [f32; 10]), Box<dyn std::error::Error>> {
    // White on black, 16×16 as the network takes it.
    let picture = image::open(path)?.to_luma8();
    let pixels = image::imageops::resize(&picture, 16, 16, FilterType::Triangle).into_raw();
    let mut scores = [0.0; 10];
    let mut arena = ARENA.lock().map_err(|e| e.to_string())?;
    Digits::new().run(&[TensorRef::U8(&pixels)], &mut [TensorMut::F32(&mut scores)], arena.bytes())?;
    let best = (0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    Ok((best.unwrap_or_default(), scores))
}
