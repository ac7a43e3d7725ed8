//! What a file is, told by its first bytes: models get mixed up, and a reader that is handed the wrong one says which it is.

/// Bytes that [`Magic::of`] looks at.
pub const MAGIC_BYTES: usize = 32;

/// A guess that is only for choosing a reader or for a message: the readers trust nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// No byte in it.
    Empty,
    /// What git leaves in place of a file that LFS holds.
    LfsPointer,
    /// An ONNX model.
    Onnx,
    /// A safetensors file, as every `.qgraph` is.
    Safetensors,
    /// Something else, or something damaged.
    Other,
}

impl Magic {
    /// Of a file that begins with `bytes`.
    pub fn of(bytes: &[u8]) -> Magic {
        match bytes {
            [] => Magic::Empty,
            _ if bytes.starts_with(b"version https://git-lfs") => Magic::LfsPointer,
            // The length of a JSON header (no real one has 4 GiB), then the header.
            [_, _, _, _, 0, 0, 0, 0, b'{', ..] => Magic::Safetensors,
            // Protobuf: field 1 (IR version, a small number), then one of the fields 2 to 8.
            [0x08, 1..=20, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42, ..] => Magic::Onnx,
            _ => Magic::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_files_apart() {
        assert_eq!(Magic::of(b""), Magic::Empty);
        assert_eq!(Magic::of(b"version https://git-lfs.github.com/spec/v1\noid"), Magic::LfsPointer);
        assert_eq!(Magic::of(b"\x38\x01\0\0\0\0\0\0{\"__metadata__\""), Magic::Safetensors);
        assert_eq!(Magic::of(b"\x08\x08\x12\x07pytorch"), Magic::Onnx);
        assert_eq!(Magic::of(b"\x89PNG\r\n"), Magic::Other);
        assert_eq!(Magic::of(b"\x08"), Magic::Other);
    }
}
