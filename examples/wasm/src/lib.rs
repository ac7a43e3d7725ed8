//! A network that reads handwritten digits, as a WebAssembly module without imports. JavaScript writes 256 bytes at [`pixels`], calls
//! [`classify`], and reads ten numbers at [`scores`]: `page/digits.js` does it.

use qgraph_macros::quantized_model;
use qgraph_runtime::{Arena, Model, TensorMut, TensorRef};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

quantized_model!(Digits, "../embedded/digits.qgraph", targets = [], input = u8);

static ARENA: Mutex<Arena<{ Digits::ARENA_BYTES }>> = Mutex::new(Arena::new());

// Atomic, as JavaScript writes and reads them behind Rust's back.
static PIXELS: [AtomicU8; 256] = [const { AtomicU8::new(0) }; 256];
static SCORES: [AtomicU32; 10] = [const { AtomicU32::new(0) }; 10];

/// Where the picture's 16×16 bytes are, row by row, white (255) on black.
#[unsafe(no_mangle)]
pub extern "C" fn pixels() -> *const AtomicU8 {
    PIXELS.as_ptr()
}

/// Where the scores of the ten digits are, as `f32`.
#[unsafe(no_mangle)]
pub extern "C" fn scores() -> *const AtomicU32 {
    SCORES.as_ptr()
}

/// Reads the picture: 1 if it worked, and the scores are there.
#[unsafe(no_mangle)]
pub extern "C" fn classify() -> u32 {
    let pixels: [u8; 256] = std::array::from_fn(|k| PIXELS[k].load(Relaxed));
    let mut scores = [0.0; 10];
    let Ok(mut arena) = ARENA.lock() else { return 0 };
    let run = Digits::new().run(&[TensorRef::U8(&pixels)], &mut [TensorMut::F32(&mut scores)], arena.bytes());
    for (to, score) in SCORES.iter().zip(scores) {
        to.store(score.to_bits(), Relaxed);
    }
    run.is_ok().into()
}
