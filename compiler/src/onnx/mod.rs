//! ONNX to graph. ONNX words end here.
//!
//! In: a model file (opsets 7 to 22, float or quantized) and the shapes the caller fixes. Out: a verified [`Graph`] with every shape known;
//! values carry the names of ONNX tensors. Holds: nothing in a file makes import panic, read outside of the model's folder or
//! allocate more than the file's own content warrants; everything unsupported is reported at once.
//!
//! - [`proto`]: the file format.
//! - `tensor`, `external`, `literal`: constants.
//! - `importer`: inputs, the walk over nodes, outputs; `context`: what one node's handler sees.
//! - `operators`: which handler takes which operator; `conv`, `dense`, `pool`, `arithmetic`, `normalize`, `layout`, `select`,
//!   `resize`: the handlers, by family. `quantized`: those of models that are quantized already.
//! - `fold`: integer and float arithmetic on constants, which is how computed shapes disappear.

mod arithmetic;
mod context;
mod conv;
mod dense;
mod external;
mod fold;
mod importer;
mod layout;
mod literal;
mod normalize;
mod operators;
mod pool;
pub mod proto;
mod quantized;
mod resize;
mod select;
mod tensor;

use crate::error::{Error, Result, Stage};
use crate::graph::Graph;
use crate::magic::Magic;
use external::Folder;
use prost::Message;
use prost::bytes::Bytes;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Most bytes of a model file: the limit of protobuf itself. Larger weights are external data.
const MAX_FILE: u64 = 2 << 30;

/// Result of what is about one node or tensor; whoever calls adds its name.
type Outcome<T = ()> = std::result::Result<T, String>;

/// What the caller decides at import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Shapes of inputs by name, replacing symbolic or other dimensions. Symbolic dimensions not named become 1 if they are the
    /// first axis, and are an error otherwise.
    pub shapes: Vec<(String, Vec<usize>)>,
}

/// Reads a model file; errors name it. External data is read from the model's folder only.
pub fn import(path: &Path, options: &Options) -> Result<Graph> {
    let fail = |message: String| Error::new(Stage::Import, path.display().to_string(), message);
    let cannot = |e: std::io::Error| fail(format!("cannot read: {e}"));
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(fail("is not a file".into()));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that grows meanwhile is noticed too.
    if metadata.len() <= MAX_FILE {
        File::open(path).map_err(cannot)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(cannot)?;
    }
    if metadata.len() > MAX_FILE || bytes.len() as u64 > MAX_FILE {
        return Err(fail("is larger than 2 GiB: save the weights as external data beside the model".into()));
    }
    let folder = Folder::of(path).map_err(cannot)?;
    decode(bytes.into(), Some(folder), options).map_err(|e| e.in_file(path))
}

/// Reads a model from memory; external data is refused.
pub fn import_bytes(bytes: &[u8], options: &Options) -> Result<Graph> {
    decode(Bytes::copy_from_slice(bytes), None, options)
}

fn decode(bytes: Bytes, folder: Option<Folder>, options: &Options) -> Result<Graph> {
    let fail = |message: &str| Error::new(Stage::Import, "", message);
    match Magic::of(&bytes) {
        Magic::Empty => return Err(fail("is not an ONNX model, it is empty: export or download it again")),
        Magic::LfsPointer => {
            return Err(fail("is a git-LFS pointer, not the model: run `git lfs pull`"));
        }
        Magic::Safetensors => {
            let message = "is a .qgraph (or another safetensors file), not an ONNX model: give the float .onnx, or name it .qgraph";
            return Err(fail(message));
        }
        Magic::Onnx | Magic::Other => {}
    }
    let model = proto::ModelProto::decode(bytes).map_err(|e| {
        fail(&format!("is not an ONNX model, or is damaged: {e}: export or download it again"))
    })?;
    importer::run(&model, folder, options)
}
