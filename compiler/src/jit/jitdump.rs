//! The jitdump format of `perf`: the code itself beside its names, so that `perf inject --jit` can annotate it.
//!
//! A file is a header and one record for each symbol. `perf record` learns of the file by seeing it mapped as executable.

use super::code::Code;
use std::path::{Path, PathBuf};
use std::{fs, io};

const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;
const HEADER: usize = 40;
/// ELF's number for x86-64.
const MACHINE: u32 = 62;
/// Record: code was loaded. Bytes before its name.
const LOAD: u32 = 0;
const LOAD_HEADER: usize = 56;

/// The header of a file of process `pid`, made at `time`.
fn header(pid: u32, time: u64) -> Vec<u8> {
    let words = [MAGIC, VERSION, HEADER as u32, MACHINE, 0, pid];
    let longs = [time, 0];
    let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_ne_bytes()).collect();
    bytes.extend(longs.iter().flat_map(|w| w.to_ne_bytes()));
    bytes
}

/// One record for each symbol of code that lies at `address`, to stand at byte `at` of the file.
fn records(code: &Code, address: u64, pid: u32, time: u64, at: u64) -> Vec<u8> {
    let mut out = Vec::new();
    // Steps lie inside their entry.
    for s in code.symbols.iter().filter(|s| !s.is_step()) {
        let (name, bytes) = (format!("qgraph::{}\0", s.name), &code.bytes[s.offset..s.offset + s.len]);
        let size = LOAD_HEADER + name.len() + bytes.len();
        let start = address + s.offset as u64;
        // Every record of a process needs a number of its own.
        let index = at + out.len() as u64;
        out.extend([LOAD, size as u32].iter().flat_map(|w| w.to_ne_bytes()));
        out.extend(time.to_ne_bytes());
        out.extend([pid, pid].iter().flat_map(|w| w.to_ne_bytes()));
        out.extend([start, start, bytes.len() as u64, index].iter().flat_map(|w| w.to_ne_bytes()));
        out.extend(name.as_bytes());
        out.extend(bytes);
    }
    out
}

/// Appends to `folder/jit-PID.dump`, and shows the file to `perf record`. `time`: nanoseconds of the monotonic clock, as `perf record -k 1` takes
/// them.
pub(super) fn write(code: &Code, address: u64, folder: &Path, time: u64) -> io::Result<PathBuf> {
    let pid = std::process::id();
    let path = folder.join(format!("jit-{pid}.dump"));
    let mut file = fs::OpenOptions::new().create(true).read(true).append(true).open(&path)?;
    let mut bytes = Vec::new();
    let at = match file.metadata()?.len() {
        0 => {
            bytes = header(pid, time);
            HEADER as u64
        }
        len => len,
    };
    bytes.extend(records(code, address, pid, time, at));
    io::Write::write_all(&mut file, &bytes)?;
    show(&file)?;
    Ok(path)
}

/// Maps the file as executable and lets go of it: `perf record` keeps the event.
#[cfg(target_os = "linux")]
fn show(file: &fs::File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let (length, protection) = (HEADER, libc::PROT_READ | libc::PROT_EXEC);
    // SAFETY: a new private mapping of an open file, at an address that the system chooses; nothing reads or runs it.
    let map = unsafe {
        libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
    };
    if map == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping made above, of that length.
    unsafe { libc::munmap(map, length) };
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn show(_: &fs::File) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "perf is a tool of Linux"))
}
