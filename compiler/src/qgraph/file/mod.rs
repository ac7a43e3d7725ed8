//! The `.qgraph` file: a safetensors file whose metadata holds the graph. Any safetensors tool can open it.
//!
//! ```text
//! u64 little endian     length of the header; 8 + length is a multiple of 64
//! header                JSON, filled with spaces at the end:
//!   "__metadata__"      strings: format_version, generator, qgraph (the graph as JSON), sha256
//!   blob name           dtype, shape, data_offsets; in the order of the blobs
//!   "__pad_K"           U8: up to 63 zero bytes after blob K
//! data                  the bytes of the tensors, each blob at a multiple of 64
//! ```
//!
//! The format allows no holes between tensors, so what aligns them is tensors too. The checksum covers the other three strings and
//! the data; the table of tensors follows from the graph and must be exactly what the writer would write. So a file of which
//! one bit is flipped is refused. The same graph gives the same bytes.
//!
//! Reader and writer are written out here instead of taken from the crate `safetensors`, which orders tensors by
//! itself and so cannot align them; the tests open our files with it.

mod read;
mod write;

pub use read::{from_bytes, load};
pub use write::{save, to_bytes};

use super::{Blob, BlobType, QGraph, QNode, QValue, QValueId};
use crate::blob::ALIGN;
use crate::preprocess::Preprocess;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::ops::Range;

/// Version of the format that is written, and the newest that is read.
pub const FORMAT_VERSION: u32 = 1;

/// Longest header, as in safetensors itself.
const MAX_HEADER: usize = 100_000_000;

/// Bytes before the header.
const LENGTH: usize = 8;

/// The graph but for its bytes: what the string `qgraph` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Graph<'a> {
    name: Cow<'a, str>,
    inputs: Cow<'a, [QValueId]>,
    outputs: Cow<'a, [QValueId]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preprocess: Option<Preprocess>,
    /// [`Rounding::ZeroLast`](qgraph_runtime::requant::Rounding).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    zero_last: bool,
    values: Cow<'a, [QValue]>,
    nodes: Cow<'a, [QNode]>,
    blobs: Cow<'a, [Blob]>,
}

/// A tensor of the header.
#[derive(PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor<'a> {
    dtype: Cow<'a, str>,
    shape: Cow<'a, [usize]>,
    data_offsets: [usize; 2],
}

/// The strings of the header.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata<'a> {
    format_version: Cow<'a, str>,
    generator: Cow<'a, str>,
    qgraph: Cow<'a, str>,
    sha256: Cow<'a, str>,
}

/// Name under which the strings stand among the tensors.
const METADATA: &str = "__metadata__";

impl Metadata<'_> {
    /// Checksum of the strings (each after its length, so that they cannot run into each other) and the data.
    fn checksum(&self, data: &[u8]) -> String {
        let mut hash = Sha256::new();
        for s in [&self.format_version, &self.generator, &self.qgraph] {
            hash.update((s.len() as u64).to_le_bytes());
            hash.update(s.as_bytes());
        }
        hash.update(data);
        hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// The bytes of a file that tell it from any other: its checksum. `None` if this is no `.qgraph`.
pub fn stamp(file: &[u8]) -> Option<Range<usize>> {
    let key = b"\"sha256\":\"";
    // In the strings of the graph quotes are escaped, so this is not among them.
    let start = file.windows(key.len()).position(|w| w == key)? + key.len();
    let end = start + 64;
    (end <= file.len()).then_some(start..end)
}

/// The tensors that hold these blobs, in the order of the data. Sizes must have been checked.
fn table(blobs: &[Blob]) -> Vec<(Cow<'_, str>, Tensor<'_>)> {
    let mut table = Vec::with_capacity(2 * blobs.len());
    let mut at = 0;
    for (k, blob) in blobs.iter().enumerate() {
        let dtype = match blob.ty {
            BlobType::I8 => "I8",
            BlobType::U8 => "U8",
            BlobType::I32 => "I32",
            BlobType::F32 => "F32",
        };
        let end = at + blob.bytes();
        let tensor =
            Tensor { dtype: dtype.into(), shape: Cow::Borrowed(&blob.shape), data_offsets: [at, end] };
        table.push((Cow::Borrowed(&blob.name[..]), tensor));
        at = end.next_multiple_of(ALIGN);
        if at > end {
            let shape = vec![at - end].into();
            let tensor = Tensor { dtype: "U8".into(), shape, data_offsets: [end, at] };
            table.push((format!("__pad_{k}").into(), tensor));
        }
    }
    table
}
