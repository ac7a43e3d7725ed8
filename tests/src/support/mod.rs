//! What several test modules share: where the real models and images are, scratch folders, a count of allocations.

#![allow(dead_code)]

pub(crate) mod engines;
#[path = "../../../examples/follow.rs"]
pub(crate) mod follow;
pub(crate) mod model_builder;
pub(crate) mod random_graph;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder with real models and images: `QGRAPH_DATA`, else `../shared/data` beside the workspace. `None` (said on
/// stdout, so that a run without data is seen to be one) if it is not there: the caller returns.
pub(crate) fn data_dir() -> Option<PathBuf> {
    let dir = match std::env::var_os("QGRAPH_DATA") {
        Some(dir) => PathBuf::from(dir),
        None => workspace_root().join("../shared/data"),
    };
    if dir.join("models").is_dir() {
        Some(dir)
    } else {
        println!("skipped: no data in {} (set QGRAPH_DATA)", dir.display());
        None
    }
}

/// Root of the workspace.
pub(crate) fn workspace_root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests package lies in the workspace").to_path_buf()
}

/// Bytes as hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A scratch folder that is removed when dropped.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Path of a file in it.
    pub(crate) fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A folder that stays behind harms nobody; a panic in drop would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Python, by `QGRAPH_PYTHON` or as `python3`, if it has a module; else says that the test is skipped.
pub(crate) fn python(module: &str) -> Option<Command> {
    let python = std::env::var_os("QGRAPH_PYTHON").unwrap_or_else(|| "python3".into());
    let found = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !found.is_ok_and(|o| o.status.success()) {
        println!("skipped: {} has no module {module}", python.display());
        return None;
    }
    Some(Command::new(python))
}

/// This machine's compiler: `RUSTC`, else `rustc`.
pub(crate) fn compiler() -> PathBuf {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()).into()
}

/// Runs a compiler that is called as `rustc` is, in a folder.
pub(crate) fn compile(compiler: &Path, folder: &Path, arguments: &[&str]) {
    let out = Command::new(compiler).current_dir(folder).args(arguments).output();
    let out = out.expect("rustc runs (RUSTC names another)");
    assert!(out.status.success(), "rustc {arguments:?}:\n{}", String::from_utf8_lossy(&out.stderr));
}

/// Runs `rustc` in a folder.
pub(crate) fn rustc(folder: &Path, arguments: &[&str]) {
    compile(&compiler(), folder, arguments);
}

/// A fresh, empty folder; `name` only helps to recognise it.
pub(crate) fn temp_dir(name: &str) -> TempDir {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let k = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("qgraph-{}-{k}-{name}", std::process::id()));
    // A folder left by a killed run with the same process id.
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("the temporary folder is writable");
    TempDir(dir)
}

/// Counts the allocations of each thread, so that a test can say that something makes none.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counter any more.
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// Allocations that this thread has made so far.
pub(crate) fn allocated() -> usize {
    ALLOCATIONS.get()
}

/// Allocations that `f` makes on this thread.
pub(crate) fn allocations(f: impl FnOnce()) -> usize {
    let before = allocated();
    f();
    allocated() - before
}
