//! Tensor content kept in files beside the model.
//!
//! In: the untrusted `location`, `offset` and `length` of a tensor. Out: its bytes. Holds: no file outside of the model's
//! folder is opened, whether named by an absolute path, by `..` or through a symbolic link; nothing is allocated for bytes
//! that the file does not have. Not here: what the bytes mean ([`super::tensor`]).

use super::Outcome;
use super::proto::StringStringEntryProto;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The folder of a model, with links resolved.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// The folder that `model` lies in.
    pub(super) fn of(model: &Path) -> std::io::Result<Self> {
        let parent = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Folder(parent.canonicalize()?))
    }

    /// Exactly `expected` bytes from where `entries` say.
    pub(super) fn read(&self, entries: &[StringStringEntryProto], expected: u64) -> Outcome<Vec<u8>> {
        let entry = |key: &str| entries.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str, default: u64| match entry(key) {
            Some(text) => text.trim().parse().map_err(|_| format!("external {key} {text:?} is not a number")),
            None => Ok(default),
        };
        let location = entry("location").ok_or("its content is in another file, but no location is given")?;
        let (offset, length) = (number("offset", 0)?, number("length", expected)?);
        if length != expected {
            return Err(format!("its content takes {expected} bytes, but {length} are in {location:?}"));
        }
        let mut file = self.open(location)?;
        let failed = |e: std::io::Error| format!("cannot read {location:?}: {e}");
        let size = file.metadata().map_err(failed)?.len();
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(format!("needs {length} bytes at {offset} of {location:?}, which has {size}"));
        }
        let length = usize::try_from(length).map_err(|_| "is too large for this machine".to_string())?;
        let mut bytes = vec![0; length];
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        file.read_exact(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }

    fn open(&self, location: &str) -> Outcome<File> {
        let outside =
            || format!("external data {location:?} is not inside the model's folder, which is refused");
        let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
        if !Path::new(location).components().all(inside) {
            return Err(outside());
        }
        let failed = |e: std::io::Error| {
            format!("cannot open external data {location:?} in {}: {e}", self.0.display())
        };
        let path = self.0.join(location).canonicalize().map_err(failed)?;
        if !path.starts_with(&self.0) {
            return Err(outside());
        }
        // Opening a pipe would wait for a writer.
        if !path.is_file() {
            return Err(format!("external data {location:?} is not a file"));
        }
        File::open(path).map_err(failed)
    }
}
