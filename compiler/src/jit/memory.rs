//! Executable memory, and names of its parts for `perf`.
//!
//! W^X: pages are written, then made executable, never both. memmap2 does the system calls.

use super::code::Code;
use memmap2::{Mmap, MmapMut};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Code that can run.
pub(super) struct Memory {
    pages: Mmap,
}

impl Memory {
    /// Copies the code (never empty: it has an entry) into pages of its own.
    pub(super) fn new(code: &Code) -> io::Result<Memory> {
        let mut pages = MmapMut::map_anon(code.bytes.len())?;
        pages.copy_from_slice(&code.bytes);
        Ok(Memory { pages: pages.make_exec()? })
    }

    /// Address of the first byte.
    pub(super) fn start(&self) -> *const u8 {
        self.pages.as_ptr()
    }

    /// Appends the symbols to `/tmp/perf-PID.map`, where `perf report` looks for the names of generated code.
    pub(super) fn write_perf_map(&self, code: &Code) -> io::Result<PathBuf> {
        let path = PathBuf::from(format!("/tmp/perf-{}.map", std::process::id()));
        let mut text = String::new();
        for s in code.symbols.iter().filter(|s| !s.is_step()) {
            let _ = writeln!(text, "{:x} {:x} qgraph::{}", self.start() as usize + s.offset, s.len, s.name);
        }
        std::fs::OpenOptions::new().create(true).append(true).open(&path)?.write_all(text.as_bytes())?;
        Ok(path)
    }
}
