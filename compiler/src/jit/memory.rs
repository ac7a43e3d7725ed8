//! Executable memory, and names of its parts for `perf`.
//!
//! W^X: pages are written, then made executable, never both. dynasmrt does the system calls.

use super::code::Code;
use dynasmrt::mmap::{ExecutableBuffer, MutableBuffer};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Code that can run.
pub(super) struct Memory {
    buffer: ExecutableBuffer,
}

impl Memory {
    /// Copies the code (never empty: it has an entry) into pages of its own.
    pub(super) fn new(code: &Code) -> io::Result<Memory> {
        let mut buffer = MutableBuffer::new(code.bytes.len())?;
        buffer.set_len(code.bytes.len());
        buffer.copy_from_slice(&code.bytes);
        Ok(Memory { buffer: buffer.make_exec()? })
    }

    /// Address of the first byte.
    pub(super) fn start(&self) -> *const u8 {
        self.buffer.as_ptr()
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
