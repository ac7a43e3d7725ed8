//! The program that the tests of generated Rust compile: runs models on every instruction set that this CPU has, on the inputs of files, and
//! writes outputs to files. Folder: its argument. The test adds the models, and `run_cases`, which runs each. All run on threads of small
//! stacks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

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

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect()
}

/// Bytes of a stack that hold what a run puts there, however large the model: not optimized too, but for depthwise windows of 5×5 in Rust.
const STACK: usize = 128 << 10;

/// Runs one model: `$make` gives it for a target, `$threads` is none or the threads of a pool, `$skipped` counts targets that are left out.
macro_rules! run {
    ($module:ident, $folder:expr, $threads:tt, $skipped:literal, |$target:ident| $make:expr) => {{
        let folder = $folder;
        std::thread::scope(|s| {
            let run = || run!(@here $module, folder, $threads, $skipped, |$target| $make);
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(s, run).unwrap().join().unwrap();
        });
    }};
    (@here $module:ident, $folder:ident, $threads:tt, $skipped:literal, |$target:ident| $make:expr) => {{
        use $module::runtime::{Dtype, Model, RunError, TensorMut, TensorRef};
        use $module::{Net, Target};
        let name = stringify!($module);
        let all = std::fs::read($folder.join(format!("{name}.in"))).unwrap();
        let (mut at, mut bytes, mut numbers) = (0, Vec::new(), Vec::new());
        for x in Net::INPUTS {
            let n = x.len() * x.dtype.size();
            bytes.push(&all[at..at + n]);
            numbers.push(floats(&all[at..at + n]));
            at += n;
        }
        let inputs = Net::INPUTS.iter().zip(bytes.iter().zip(&numbers));
        let inputs: Vec<TensorRef> = inputs
            .map(|(x, (b, f))| if x.dtype == Dtype::U8 { TensorRef::U8(b) } else { TensorRef::F32(f) })
            .collect();
        for $target in Target::ALL.into_iter().skip($skipped).filter(|t| t.runs_here()) {
            let model: Net = $make;
            assert_eq!((model.target(), model.arena_bytes()), ($target, Net::ARENA_BYTES));
            for threaded in [false, true].into_iter().take($threads) {
                let mut arena = vec![Line([0xa5; 64]); Net::ARENA_BYTES / 64];
                // SAFETY: lines are bytes.
                let arena = unsafe {
                    std::slice::from_raw_parts_mut(arena.as_mut_ptr().cast::<u8>(), Net::ARENA_BYTES)
                };
                let mut bytes: Vec<Vec<u8>> = Net::OUTPUTS.iter().map(|y| vec![7; y.len()]).collect();
                let mut numbers: Vec<Vec<f32>> = Net::OUTPUTS.iter().map(|y| vec![f32::NAN; y.len()]).collect();
                let outputs = Net::OUTPUTS.into_iter().zip(bytes.iter_mut().zip(&mut numbers));
                let mut outputs: Vec<TensorMut> = outputs
                    .map(|(y, (b, f))| if y.dtype == Dtype::U8 { TensorMut::U8(b) } else { TensorMut::F32(f) })
                    .collect();
                if threaded {
                    run!(@threaded $threads, $module, model, &inputs, &mut outputs, arena);
                } else {
                    let before = ALLOCATIONS.load(Ordering::Relaxed);
                    model.run(&inputs, &mut outputs, arena).unwrap();
                    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "a run allocates");
                }
                drop(outputs);
                let mut found = Vec::new();
                for (k, y) in Net::OUTPUTS.iter().enumerate() {
                    match y.dtype {
                        Dtype::U8 => found.extend(&bytes[k]),
                        Dtype::F32 => found.extend(numbers[k].iter().flat_map(|f| f.to_le_bytes())),
                    }
                }
                let how = if threaded { "threads" } else { "one" };
                let file = format!("{name}.{}.{how}", format!("{:?}", $target).to_lowercase());
                std::fs::write($folder.join(file), found).unwrap();
            }
            // Wrong calls are refused.
            let mut arena = [Line([0; 64])];
            // SAFETY: a line is bytes.
            let arena = unsafe { std::slice::from_raw_parts_mut(arena.as_mut_ptr().cast::<u8>(), 64) };
            let expected = RunError::InputCount { expected: Net::INPUTS.len(), found: 0 };
            assert_eq!(model.run(&[], &mut [], arena), Err(expected));
        }
    }};
    (@threaded 1, $module:ident, $model:ident, $inputs:expr, $outputs:expr, $arena:ident) => {
        $model.run($inputs, $outputs, $arena).unwrap()
    };
    (@threaded $threads:literal, $module:ident, $model:ident, $inputs:expr, $outputs:expr, $arena:ident) => {{
        use $module::runtime::Pool;
        assert_eq!($model.threads(), $threads);
        let few = Pool::new($threads - 1).unwrap().threads();
        let refused = RunError::Pool { expected: $threads, found: few };
        assert_eq!($model.run_on(&mut Pool::new(few).unwrap(), $inputs, $outputs, $arena), Err(refused));
        let mut pool = Pool::new($threads).unwrap();
        $model.run_on(&mut pool, $inputs, $outputs, $arena).unwrap()
    }};
}

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    run_cases(Path::new(&folder));
}
