//! Reads a handwritten digit off a picture. Network, weights and C library are in the executable: it runs where there is nothing but a
//! kernel, and starts in a millisecond.

use qgraph_macros::quantized_model;
use qgraph_runtime::{Arena, Model, TensorMut, TensorRef};
use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

quantized_model!(Digits, "../embedded/digits.qgraph", targets = [avx2, avx512vnni], input = u8);

/// All memory that a run takes.
static ARENA: Mutex<Arena<{ Digits::ARENA_BYTES }>> = Mutex::new(Arena::new());

/// Counts allocations, to show that a run makes none.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What the program says.
struct Answer {
    digit: usize,
    arena: usize,
    allocations: usize,
    time: Duration,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path] = &args[..] else {
        eprintln!("usage: static-digit PICTURE.pgm");
        return ExitCode::from(2);
    };
    match read(path) {
        Ok(Answer { digit, arena, allocations, time }) => {
            println!("{digit}");
            println!("arena {arena} bytes, {allocations} allocations, {} us", time.as_micros());
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("static-digit: {path}: {e}");
            ExitCode::from(2)
        }
    }
}

/// Reads a picture of 16×16, white on black.
fn read(path: &str) -> Result<Answer, Box<dyn std::error::Error>> {
    let file = std::fs::read(path)?;
    let pixels = match file.strip_prefix(b"P5\n16 16\n255\n") {
        Some(pixels) if pixels.len() == 256 => pixels,
        _ => {
            return Err(
                "is no binary PGM of 16×16 (such as `convert -resize '16x16!' -depth 8` writes)".into()
            );
        }
    };
    let mut arena = ARENA.lock().map_err(|e| e.to_string())?;
    let (model, mut scores) = (Digits::new(), [0.0; 10]);

    let (before, start) = (ALLOCATIONS.load(Ordering::Relaxed), Instant::now());
    model.run(&[TensorRef::U8(pixels)], &mut [TensorMut::F32(&mut scores)], arena.bytes())?;
    let (time, after) = (start.elapsed(), ALLOCATIONS.load(Ordering::Relaxed));

    let digit = (0..10).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or_default();
    Ok(Answer { digit, arena: arena.bytes().len(), allocations: after - before, time })
}
