//! Arrays as samples: `.npy` for networks of one input, `.npz` with one array per input. Read forward, one sample at a time.
//!
//! An array has the input's shape (one sample) or [N, …] of it; a leading batch of 1 may be left out. Floats are taken as they are; u8 goes
//! through scale, mean and std, in the axis and channel order the network has (nothing is resized or reordered).

use super::npy::{self, Dtype, Header};
use super::{Input, Options, Sample, Source, failure, labels, only_input};
use crate::error::Result;
use crate::preprocess::{InputLayout, Preprocess};
use flate2::read::DeflateDecoder;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// One array per input, all of the same number of samples.
pub(super) struct Arrays {
    path: PathBuf,
    arrays: Vec<Array>,
    /// Sample the readers stand before.
    position: usize,
    count: usize,
    labels: Option<Vec<usize>>,
}

/// An array and the input it fills.
struct Array {
    reader: Box<dyn Read>,
    dtype: Dtype,
    input: Input,
    channels: Channels,
}

impl Arrays {
    pub(super) fn npy(path: &Path, options: &Options) -> Result<Arrays> {
        let input = only_input(path, options)?;
        let file = File::open(path).map_err(|e| failure(path, format!("cannot be opened ({e})")))?;
        let size = file.metadata().map_err(|e| failure(path, format!("cannot be read ({e})")))?.len();
        let (array, count) =
            Array::open(path, Box::new(BufReader::new(file)), size, input, &options.preprocess)?;
        Arrays::new(path, vec![array], count, options)
    }

    pub(super) fn npz(path: &Path, options: &Options) -> Result<Arrays> {
        let fail =
            |e: &dyn std::fmt::Display| failure(path, format!("not a readable .npz ({e}): use numpy.savez"));
        let file = File::open(path).map_err(|e| failure(path, format!("cannot be opened ({e})")))?;
        let mut archive = zip::ZipArchive::new(BufReader::new(file)).map_err(|e| fail(&e))?;
        let names =
            archive.file_names().map(|n| Ok(n?.into_owned())).collect::<zip::result::ZipResult<Vec<_>>>();
        let names = names.map_err(|e| fail(&e))?;
        let (mut arrays, mut counts) = (Vec::new(), Vec::new());
        for input in &options.inputs {
            let wanted = format!("{}.npy", input.name);
            let alone = options.inputs.len() == 1 && names.len() == 1;
            let name = if alone { &names[0] } else { &wanted };
            let Some(index) = archive.index_for_name(name) else {
                let message = format!(
                    "no array {} in it (only {}): save one array per input",
                    input.name,
                    names.join(", ")
                );
                return Err(failure(path, message));
            };
            let entry = archive.by_index_raw(index).map_err(|e| fail(&e))?;
            let method = entry.compression();
            let (packed, size) = (entry.compressed_size(), entry.size());
            let start = entry.data_start().ok_or_else(|| fail(&"an entry without data"))?;
            drop(entry);
            // A handle of its own for each array: they are read side by side.
            let mut file = File::open(path).map_err(|e| fail(&e))?;
            file.seek(SeekFrom::Start(start)).map_err(|e| fail(&e))?;
            let packed = BufReader::new(file).take(packed);
            let reader: Box<dyn Read> = match method {
                zip::CompressionMethod::Stored => Box::new(packed),
                zip::CompressionMethod::DEFLATE => Box::new(BufReader::new(DeflateDecoder::new(packed))),
                other => return Err(fail(&format!("compressed by {other}"))),
            };
            let (array, count) = Array::open(path, reader, size, input, &options.preprocess)?;
            arrays.push(array);
            counts.push(count);
        }
        if counts.iter().any(|c| *c != counts[0]) {
            return Err(failure(
                path,
                format!("arrays of {counts:?} samples: save the same number for every input"),
            ));
        }
        Arrays::new(path, arrays, counts[0], options)
    }

    fn new(path: &Path, arrays: Vec<Array>, count: usize, options: &Options) -> Result<Arrays> {
        let labels = options.labels.as_deref().map(|l| labels::in_order(l, count)).transpose()?;
        Ok(Arrays { path: path.into(), arrays, position: 0, count, labels })
    }
}

impl Source for Arrays {
    fn len(&self) -> usize {
        self.count
    }

    fn labelled(&self) -> bool {
        self.labels.is_some()
    }

    fn get(&mut self, index: usize) -> Result<Sample> {
        let file = self.path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        let mut sample = Sample { name: format!("{file}#{index}"), label: None, inputs: Vec::new() };
        for array in &mut self.arrays {
            let tensor = array.sample(index - self.position);
            sample
                .inputs
                .push(tensor.map_err(|what| failure(&self.path, format!("sample {index}: {what}")))?);
        }
        self.position = index + 1;
        sample.label = self.labels.as_ref().map(|l| l[index]);
        Ok(sample)
    }
}

impl Array {
    /// Reads the header; `size` is that of header and elements. Gives the number of samples too.
    fn open(
        path: &Path,
        mut reader: Box<dyn Read>,
        size: u64,
        input: &Input,
        preprocess: &Preprocess,
    ) -> Result<(Array, usize)> {
        let Header { dtype, shape, bytes, offset } =
            npy::read_header(&mut reader).map_err(|what| failure(path, what))?;
        let Some(count) = samples(&shape, &input.shape) else {
            let message = format!(
                "an array of shape {shape:?} does not fill the input {} of shape {:?}: give that shape, or [N, …] of it",
                input.name, input.shape
            );
            return Err(failure(path, message));
        };
        if size.saturating_sub(offset) < bytes {
            return Err(failure(path, format!("cut off: the array of shape {shape:?} needs {bytes} bytes")));
        }
        let channels = match dtype {
            Dtype::U8 => Channels::new(&input.shape, preprocess).map_err(|what| failure(path, what))?,
            Dtype::F32 { .. } | Dtype::F64 { .. } => Channels { inner: 1, tables: vec![] },
        };
        Ok((Array { reader, dtype, input: input.clone(), channels }, count))
    }

    /// The sample after `skip` more.
    fn sample(&mut self, skip: usize) -> std::result::Result<Vec<f32>, String> {
        let mut bytes = vec![0; self.input.elements() * self.dtype.bytes()];
        for _ in 0..=skip {
            self.reader.read_exact(&mut bytes).map_err(|e| format!("cannot be read ({e})"))?;
        }
        if self.dtype == Dtype::U8 {
            return Ok(self.channels.normalize(&bytes));
        }
        let tensor = self.dtype.to_f32(&bytes);
        match tensor.iter().position(|x| !x.is_finite()) {
            None => Ok(tensor),
            Some(k) => {
                Err(format!("element {k} of {} is {}: give finite numbers", self.input.name, tensor[k]))
            }
        }
    }
}

/// How many samples of the `input`'s shape an array has, `None` if it is none of that shape.
fn samples(array: &[usize], input: &[usize]) -> Option<usize> {
    let one = match input {
        [1, rest @ ..] => rest,
        all => all,
    };
    match array {
        a if a == input || a == one => Some(1),
        [n, rest @ ..] if rest == one || rest == input => Some(*n),
        _ => None,
    }
}

/// The normalization of 8-bit elements: which channel an element belongs to.
struct Channels {
    /// Elements of one channel that follow each other.
    inner: usize,
    tables: Vec<[f32; 256]>,
}

impl Channels {
    fn new(shape: &[usize], preprocess: &Preprocess) -> std::result::Result<Channels, String> {
        if preprocess.mean.len().max(preprocess.std.len()) <= 1 {
            preprocess.validate(1)?;
            return Ok(Channels { inner: 1, tables: preprocess.tables(1) });
        }
        let (channels, inner) = match (preprocess.layout, shape) {
            (InputLayout::Nchw, &[_, c, h, w] | &[c, h, w]) => (c, h * w),
            (InputLayout::Nhwc, &[_, _, _, c] | &[_, _, c]) => (c, 1),
            _ => {
                return Err(format!(
                    "mean and std per channel, but {shape:?} is no image: give one entry each"
                ));
            }
        };
        preprocess.validate(channels)?;
        Ok(Channels { inner, tables: preprocess.tables(channels) })
    }

    fn normalize(&self, bytes: &[u8]) -> Vec<f32> {
        let channels = bytes.chunks(self.inner).zip(self.tables.iter().cycle());
        channels.flat_map(|(run, table)| run.iter().map(|&b| table[b as usize])).collect()
    }
}
