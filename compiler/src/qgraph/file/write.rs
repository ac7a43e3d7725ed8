//! Integer graph to `.qgraph`.

use super::{FORMAT_VERSION, Graph, LENGTH, METADATA, Metadata, QGraph, table};
use crate::blob::ALIGN;
use crate::error::{Error, Result, Stage};
use qgraph_runtime::requant::Rounding;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The header: strings, then tensors.
struct Header<'a>(&'a QGraph, Metadata<'a>);

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(METADATA, &self.1)?;
        for (name, tensor) in table(&self.0.blobs) {
            map.serialize_entry(&name, &tensor)?;
        }
        map.end()
    }
}

/// The bytes of the file up to the data.
fn head(graph: &QGraph) -> Vec<u8> {
    let json = Graph {
        name: Cow::Borrowed(&graph.name),
        inputs: Cow::Borrowed(&graph.inputs),
        outputs: Cow::Borrowed(&graph.outputs),
        preprocess: graph.preprocess.clone(),
        zero_last: graph.rounding == Rounding::ZeroLast,
        values: Cow::Borrowed(&graph.values),
        nodes: Cow::Borrowed(&graph.nodes),
        blobs: Cow::Borrowed(&graph.blobs),
    };
    let json = serde_json::to_string(&json).expect("plain structs with string keys serialize");
    let mut metadata = Metadata {
        format_version: FORMAT_VERSION.to_string().into(),
        generator: concat!("qgraph ", env!("CARGO_PKG_VERSION")).into(),
        qgraph: json.into(),
        sha256: "".into(),
    };
    metadata.sha256 = metadata.checksum(&graph.data).into();
    let mut bytes = vec![0; LENGTH];
    serde_json::to_writer(&mut bytes, &Header(graph, metadata))
        .expect("plain structs with string keys serialize");
    bytes.resize(bytes.len().next_multiple_of(ALIGN), b' ');
    let length = (bytes.len() - LENGTH) as u64;
    bytes[..LENGTH].copy_from_slice(&length.to_le_bytes());
    bytes
}

/// The file's bytes. The graph must be free of [`verify`](super::super::verify::verify)'s problems. The same graph gives the same bytes.
pub fn to_bytes(graph: &QGraph) -> Vec<u8> {
    let mut bytes = head(graph);
    bytes.extend_from_slice(&graph.data);
    bytes
}

/// Writes the file, by way of a neighbour that is then renamed: nobody ever sees half a file.
pub fn save(graph: &QGraph, path: &Path) -> Result<()> {
    let fail =
        |e: io::Error| Error::new(Stage::File, path.display().to_string(), format!("cannot write: {e}"));
    let mut neighbour = path.as_os_str().to_owned();
    neighbour.push(format!(".{}.tmp", std::process::id()));
    let neighbour = PathBuf::from(neighbour);
    let write = || {
        let mut file = File::create(&neighbour)?;
        file.write_all(&head(graph))?;
        file.write_all(&graph.data)?;
        file.sync_all()?;
        fs::rename(&neighbour, path)
    };
    write().map_err(|e| {
        // Best effort: the error that is reported is the first one.
        let _ = fs::remove_file(&neighbour);
        fail(e)
    })
}
