//! Files of equal records: CIFAR-10 `.bin` and MNIST idx images. Read forward, one record at a time.

use super::pixels::{ImageInput, Pixels};
use super::{Options, Sample, Source, failure, labels, only_input};
use crate::error::Result;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Channels, height and width of a CIFAR-10 record, after its label byte.
const CIFAR: [usize; 3] = [3, 32, 32];

/// A file of 8-bit images, planes one after the other.
pub(super) struct Records {
    path: PathBuf,
    reader: Box<dyn Read>,
    /// Record the reader stands before.
    position: usize,
    count: usize,
    /// Channels, height, width of a record.
    shape: [usize; 3],
    /// Each record starts with its label.
    label_byte: bool,
    labels: Option<Vec<usize>>,
    input: ImageInput,
}

impl Records {
    /// A label byte, then planes of bytes: of the input's own size (channels, rows, columns), or 3×32×32 as CIFAR-10 has it.
    pub(super) fn bin(path: &Path, options: &Options) -> Result<Records> {
        let bytes =
            std::fs::metadata(path).map_err(|e| failure(path, format!("cannot be read ({e})")))?.len();
        Records::labelled(path, bytes, labels::open(path)?, options)
    }

    /// The content of a `.bin`; `path` is for messages.
    pub(super) fn from_bytes(path: &Path, bytes: &'static [u8], options: &Options) -> Result<Records> {
        Records::labelled(path, bytes.len() as u64, Box::new(bytes), options)
    }

    fn labelled(path: &Path, bytes: u64, reader: Box<dyn Read>, options: &Options) -> Result<Records> {
        let input = ImageInput::new(path, only_input(path, options)?, &options.preprocess)?;
        let own = [input.channels, input.height, input.width];
        let record = |shape: [usize; 3]| 1 + shape.iter().product::<usize>() as u64;
        let Some(shape) = [own, CIFAR].into_iter().find(|&s| bytes.is_multiple_of(record(s))) else {
            let (own_bytes, cifar_bytes) = (record(own), record(CIFAR));
            return Err(failure(
                path,
                format!(
                    "{bytes} bytes are no whole number of records of {own_bytes} bytes (a label, then the input's planes {own:?}) \
                     or of {cifar_bytes} (CIFAR-10): give such a file, or .npy"
                ),
            ));
        };
        let count = (bytes / record(shape)) as usize;
        let labels = options.labels.as_deref().map(|l| labels::in_order(l, count)).transpose()?;
        Ok(Records { path: path.into(), reader, position: 0, count, shape, label_byte: true, labels, input })
    }

    /// MNIST's image files; labels are taken from the file beside it if none are given.
    pub(super) fn idx(path: &Path, options: &Options) -> Result<Records> {
        let input = ImageInput::new(path, only_input(path, options)?, &options.preprocess)?;
        let mut reader = labels::open(path)?;
        let header = labels::idx_header(path, &mut reader, 3)?;
        let (count, shape) = (header[0], [1, header[1], header[2]]);
        // No decoder of ours makes larger images; a hostile header must not choose the size of a buffer.
        if shape[1].checked_mul(shape[2]).is_none_or(|n| n == 0 || n > 1 << 26) {
            return Err(failure(
                path,
                format!("images of {}x{} pixels: not an MNIST file", shape[2], shape[1]),
            ));
        }
        let labels = options.labels.clone().or_else(|| labels_beside(path));
        let labels = labels.as_deref().map(|l| labels::in_order(l, count)).transpose()?;
        Ok(Records { path: path.into(), reader, position: 0, count, shape, label_byte: false, labels, input })
    }
}

impl Source for Records {
    fn len(&self) -> usize {
        self.count
    }

    fn labelled(&self) -> bool {
        self.label_byte || self.labels.is_some()
    }

    fn get(&mut self, index: usize) -> Result<Sample> {
        let [channels, height, width] = self.shape;
        let plane = height * width;
        let record = usize::from(self.label_byte) + channels * plane;
        let mut bytes = vec![0; record];
        while self.position <= index {
            let read = self.reader.read_exact(&mut bytes);
            read.map_err(|e| failure(&self.path, format!("record {} cannot be read ({e})", self.position)))?;
            self.position += 1;
        }
        let (head, planes) = bytes.split_at(usize::from(self.label_byte));
        let label = match &self.labels {
            Some(labels) => Some(labels[index]),
            None => head.first().map(|&b| b.into()),
        };
        let data = (0..plane).flat_map(|i| (0..channels).map(move |c| planes[c * plane + i])).collect();
        let tensor = self.input.tensor(Pixels { width, height, channels, data });
        let tensor = tensor.map_err(|what| failure(&self.path, what))?;
        let file = self.path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        Ok(Sample { name: format!("{file}#{index}"), label, inputs: vec![tensor] })
    }
}

/// `…-labels-idx1-…` for `…-images-idx3-…`.
fn labels_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let other = path.with_file_name(name.replace("images", "labels").replace("idx3", "idx1"));
    (other != path && other.is_file()).then_some(other)
}
