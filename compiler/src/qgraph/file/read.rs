//! `.qgraph` to integer graph, trusting nothing.
//!
//! In this order: lengths, header, version, checksum, graph, table of tensors, and then every rule of
//! [`verify`](super::super::verify). Memory grows only with what the file really holds.

use super::super::shape::elements;
use super::super::verify::{MAX_ITEMS, verify};
use super::{FORMAT_VERSION, Graph, LENGTH, MAX_HEADER, METADATA, Metadata, QGraph, Tensor, table};
use crate::blob::{ALIGN, Bytes};
use crate::error::{Error, Result, Stage};
use crate::magic::Magic;
use qgraph_runtime::requant::Rounding;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Largest file.
const MAX_FILE: u64 = 1 << 34;

/// The header, read.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow, rename = "__metadata__")]
    metadata: Metadata<'a>,
    #[serde(flatten)]
    tensors: BTreeMap<String, Tensor<'a>>,
}

/// Reads and validates; trusts nothing.
///
/// Errors (stage `file`): not a `.qgraph` (and what it is instead, where that can be told), truncated, damaged, made by a newer
/// version, or breaking a rule of the integer graph.
pub fn from_bytes(bytes: &[u8]) -> Result<QGraph> {
    parse(bytes).map_err(|message| Error::new(Stage::File, "", message)).and_then(|graph| {
        Error::all(Stage::File, verify(&graph))?;
        Ok(graph)
    })
}

/// Reads and validates a file, as [`from_bytes`] does; errors name it.
pub fn load(path: &Path) -> Result<QGraph> {
    let fail = |message: String| Error::new(Stage::File, path.display().to_string(), message);
    let metadata = fs::metadata(path).map_err(|e| fail(format!("cannot read: {e}")))?;
    if !metadata.is_file() {
        return Err(fail("is not a file".into()));
    }
    let length = metadata.len();
    if length > MAX_FILE {
        return Err(fail(format!("{length} bytes are more than {MAX_FILE}: not a .qgraph")));
    }
    let bytes = fs::read(path).map_err(|e| fail(format!("cannot read: {e}")))?;
    from_bytes(&bytes).map_err(|e| e.in_file(path))
}

/// All but the rules of the graph.
fn parse(bytes: &[u8]) -> std::result::Result<QGraph, String> {
    if let Some(what) = mistaken(bytes) {
        return Err(what.into());
    }
    let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or("truncated: shorter than 8 bytes")?;
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER as u64 {
        return Err(format!("not a .qgraph: its header would have {length} bytes"));
    }
    let length = length as usize;
    let header = rest.get(..length).ok_or_else(|| format!("truncated: the header needs {length} bytes"))?;
    let data = &rest[length..];
    let header = std::str::from_utf8(header).map_err(|_| "not a .qgraph: its header is not text")?;
    let header = read_header(header)?;
    if !(LENGTH + length).is_multiple_of(ALIGN) {
        return Err(format!("the data does not start at a multiple of {ALIGN} bytes"));
    }
    check_version(&header.metadata.format_version)?;
    // Before the checksum, so that the common case is called by its name.
    let end = header.tensors.values().map(|t| t.data_offsets[1]).max().unwrap_or(0);
    if end != data.len() {
        let what = if end > data.len() { "truncated" } else { "damaged" };
        return Err(format!("{what}: {end} bytes of data are needed, {} are there", data.len()));
    }
    if header.metadata.checksum(data) != header.metadata.sha256 {
        return Err("damaged: the checksum does not match; copy or make it again".into());
    }
    let graph: Graph =
        serde_json::from_str(&header.metadata.qgraph).map_err(|e| format!("the graph: {e}"))?;
    let mut blobs = graph.blobs.into_owned();
    if blobs.len() > MAX_ITEMS {
        return Err(format!("more than {MAX_ITEMS} blobs"));
    }
    for blob in &blobs {
        elements(&blob.shape).map_err(|e| format!("blob '{}': {e}", blob.name))?;
    }
    let expected = table(&blobs);
    let same = |(name, tensor): &(Cow<str>, Tensor)| header.tensors.get(&**name) == Some(tensor);
    if expected.len() != header.tensors.len() || !expected.iter().all(same) {
        return Err("damaged: the table of tensors does not fit the graph".into());
    }
    let mut at = 0;
    for blob in &mut blobs {
        blob.offset = at;
        at = (at + blob.bytes()).next_multiple_of(ALIGN);
    }
    Ok(QGraph {
        name: graph.name.into_owned(),
        nodes: graph.nodes.into_owned(),
        values: graph.values.into_owned(),
        inputs: graph.inputs.into_owned(),
        outputs: graph.outputs.into_owned(),
        preprocess: graph.preprocess,
        rounding: if graph.zero_last { Rounding::ZeroLast } else { Rounding::Fused },
        blobs,
        data: Arc::new(Bytes::from(data)),
    })
}

/// What else people hand over, told by its first bytes.
fn mistaken(bytes: &[u8]) -> Option<&'static str> {
    match Magic::of(bytes) {
        Magic::Empty => Some("is empty"),
        Magic::LfsPointer => Some("is a git-LFS pointer, not the file itself: run `git lfs pull`"),
        Magic::Onnx => Some("is an ONNX model: make a .qgraph of it with `qgraph quantize`"),
        Magic::Safetensors | Magic::Other => None,
    }
}

fn read_header(text: &str) -> std::result::Result<Header<'_>, String> {
    serde_json::from_str(text).map_err(|e| {
        // A safetensors file of somebody else, or one of ours that a later version made with other strings.
        let parsed: Option<BTreeMap<String, serde_json::Value>> = serde_json::from_str(text).ok();
        let Some(entries) = parsed else {
            return format!("not a .qgraph: its header is not JSON ({e})");
        };
        let Some(metadata) = entries.get(METADATA).filter(|m| m.get("qgraph").is_some()) else {
            return "is a safetensors file without a graph: make a .qgraph with `qgraph quantize`".into();
        };
        let version = metadata.get("format_version").and_then(|v| v.as_str()).unwrap_or("1");
        check_version(version).err().unwrap_or_else(|| format!("damaged: the header: {e}"))
    })
}

fn check_version(version: &str) -> std::result::Result<(), String> {
    match version.parse::<u32>() {
        Ok(FORMAT_VERSION) if version == FORMAT_VERSION.to_string() => Ok(()),
        Ok(v) if v > FORMAT_VERSION => Err(format!(
            "made by a newer qgraph (format {v}; this one reads up to {FORMAT_VERSION}): update qgraph"
        )),
        _ => Err(format!("damaged: format version '{version}'")),
    }
}
