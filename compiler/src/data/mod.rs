//! Samples for calibration and evaluation.
//!
//! In: a folder of images, one image, an array file, CIFAR-10 records, MNIST idx, or the word `random`; the shapes of the network's
//! inputs; the preprocessing. Out: [`Samples`], one at a time, in an order that depends on nothing but the files.
//! Holds: one sample is in memory, whatever the size of the set; a sample has exactly the elements of the inputs' shapes, all
//! finite; every error names its file and the cure. Not here: batches, and anything about the network but its inputs.
//!
//! - `pixels`: decoded pixels through the preprocessing; `jpeg` decodes, `resize` is the filter.
//! - `folder`: image files, with or without a label file.
//! - `array`: `.npy` and `.npz`; `npy` is the format.
//! - `records`: CIFAR-10 `.bin`, MNIST idx.
//! - `labels`: label files and class names.
//! - `random`: seeded noise.

mod array;
mod folder;
mod jpeg;
mod labels;
mod npy;
mod pixels;
mod random;
mod records;
mod resize;

use crate::error::{Error, Result, Stage};
use crate::preprocess::Preprocess;
use std::path::{Path, PathBuf};

pub use labels::class_names;
pub use npy::write_npy;
pub use random::{RANDOM_SEED, Random};
pub use resize::resize_bilinear;

/// One input of the network: what a sample has to fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its name; `.npz` files find their arrays by it.
    pub name: String,
    /// Its shape with batch 1, in the network's own axis order.
    pub shape: Vec<usize>,
}

impl Input {
    /// Number of elements of one sample.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Which samples of a set are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pick {
    /// All. Of `random`, [`Samples::RANDOM_COUNT`].
    #[default]
    All,
    /// The first so many, or all if there are fewer.
    First(usize),
    /// So many, spread evenly over the set (sets are often sorted by class), or all if there are fewer.
    Spread(usize),
}

/// How a set is read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The network's inputs, in order.
    pub inputs: Vec<Input>,
    /// How 8-bit values become inputs. Float arrays and noise are taken as they are.
    pub preprocess: Preprocess,
    /// A CSV `file,label` (for arrays and records: one row per sample in order, `file` may be absent) or MNIST idx labels. Without
    /// it: `labels.csv` in the folder or `FOLDER.csv` beside it, if it has that header, and `…-labels-idx1-…` beside `…-images-idx3-…`.
    pub labels: Option<PathBuf>,
    /// Which samples.
    pub pick: Pick,
}

impl Options {
    fn check(&self, spec: &str) -> Result<()> {
        if self.inputs.is_empty() {
            return Err(failure(spec, "the network has no input to fill"));
        }
        if let Some(input) = self.inputs.iter().find(|i| i.elements() == 0) {
            return Err(failure(
                spec,
                format!("the input {} has the empty shape {:?}", input.name, input.shape),
            ));
        }
        if matches!(self.pick, Pick::First(0) | Pick::Spread(0)) {
            return Err(failure(spec, "0 samples asked for: ask for at least 1"));
        }
        Ok(())
    }
}

/// What the network is given once.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// File name, with `#k` (from 0) if the file holds several.
    pub name: String,
    /// Class index, if known.
    pub label: Option<usize>,
    /// One tensor per input, row-major in the input's shape.
    pub inputs: Vec<Vec<f32>>,
}

/// A set of samples by index. Streams read forward only, so indices are asked in ascending order.
trait Source {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether samples carry labels.
    fn labelled(&self) -> bool;
    /// Sample `index`; not less than any asked before.
    fn get(&mut self, index: usize) -> Result<Sample>;
}

/// An iterator over the samples of a set; see the module. After an error it may go on: each sample stands alone in a folder.
pub struct Samples {
    source: Box<dyn Source>,
    pick: Pick,
    next: usize,
}

impl Samples {
    /// How many samples `random` gives if nobody says.
    pub const RANDOM_COUNT: usize = 8;

    /// Opens the set named by `spec`. Reads headers and labels, not the samples.
    ///
    /// - a folder of `.png`, `.jpg`, `.jpeg`, or one such file;
    /// - `.npy` of the input's shape or [N, …] of it, f32, f64 or u8; `.npz` with one such array per input, by name;
    /// - `.bin`: CIFAR-10 records, or records of a label byte and the input's own planes;
    /// - MNIST images: `idx3-ubyte` in the name, `.gz` or not;
    /// - `random`: noise uniform in (−1, 1) from [`RANDOM_SEED`].
    ///
    /// # Errors
    /// Nothing there, an unknown kind of file, an empty set, labels that do not fit, preprocessing that does not fit the input.
    pub fn open(spec: &str, options: &Options) -> Result<Samples> {
        options.check(spec)?;
        Samples::new(spec, open_source(spec, options)?, options.pick)
    }

    /// CIFAR-10 records (see `.bin` in [`Samples::open`]) that are in memory; `name` stands for the file.
    ///
    /// # Errors
    /// As [`Samples::open`].
    pub fn from_records(name: &str, bytes: &'static [u8], options: &Options) -> Result<Samples> {
        options.check(name)?;
        let source = records::Records::from_bytes(Path::new(name), bytes, options)?;
        Samples::new(name, Box::new(source), options.pick)
    }

    fn new(spec: &str, source: Box<dyn Source>, pick: Pick) -> Result<Samples> {
        if source.len() == 0 {
            return Err(failure(spec, "no samples in it"));
        }
        Ok(Samples { source, pick, next: 0 })
    }

    /// How many samples this gives in all.
    pub fn len(&self) -> usize {
        match self.pick {
            Pick::All => self.source.len(),
            Pick::First(n) | Pick::Spread(n) => n.min(self.source.len()),
        }
    }

    /// Never true for an opened set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether samples carry labels.
    pub fn labelled(&self) -> bool {
        self.source.labelled()
    }
}

impl Iterator for Samples {
    type Item = Result<Sample>;

    fn next(&mut self) -> Option<Result<Sample>> {
        let (k, len) = (self.next, self.len());
        if k >= len {
            return None;
        }
        self.next += 1;
        let index = match self.pick {
            Pick::All | Pick::First(_) => k,
            Pick::Spread(_) => (k as u128 * self.source.len() as u128 / len as u128) as usize,
        };
        Some(self.source.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.len() - self.next;
        (left, Some(left))
    }
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Samples({} of {}, next {})", self.len(), self.source.len(), self.next)
    }
}

fn open_source(spec: &str, options: &Options) -> Result<Box<dyn Source>> {
    let path = Path::new(spec);
    if path.is_dir() {
        return Ok(Box::new(folder::Folder::open(path, options)?));
    }
    // A file of that name would be meant, if there were one.
    if spec == "random" && !path.exists() {
        return Ok(Box::new(random::Noise::new(options)));
    }
    if !path.exists() {
        return Err(failure(
            spec,
            "no such file or folder: give a folder of images, a file, or the word `random`",
        ));
    }
    match Kind::of(path) {
        Some(Kind::Image) => Ok(Box::new(folder::Folder::single(path, options)?)),
        Some(Kind::Npy) => Ok(Box::new(array::Arrays::npy(path, options)?)),
        Some(Kind::Npz) => Ok(Box::new(array::Arrays::npz(path, options)?)),
        Some(Kind::Bin) => Ok(Box::new(records::Records::bin(path, options)?)),
        Some(Kind::Idx) => Ok(Box::new(records::Records::idx(path, options)?)),
        None => Err(failure(
            spec,
            "unknown kind of file: give .png, .jpg, .npy, .npz, CIFAR-10 records (.bin) or MNIST images (…idx3-ubyte, .gz)",
        )),
    }
}

/// What a file is, by its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Npy,
    Npz,
    Bin,
    Idx,
}

impl Kind {
    fn of(path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        if name.contains("idx3-ubyte") || name.contains("idx3.ubyte") {
            return Some(Kind::Idx);
        }
        match name.rsplit_once('.')?.1 {
            "png" | "jpg" | "jpeg" => Some(Kind::Image),
            "npy" => Some(Kind::Npy),
            "npz" => Some(Kind::Npz),
            "bin" => Some(Kind::Bin),
            _ => None,
        }
    }
}

/// An error of this stage about a file.
fn failure(subject: impl AsRef<Path>, message: impl Into<String>) -> Error {
    Error::new(Stage::Data, subject.as_ref().display().to_string(), message)
}

/// The single input of the network, for sources that can fill only one.
fn only_input<'a>(subject: &Path, options: &'a Options) -> Result<&'a Input> {
    match options.inputs.as_slice() {
        [input] => Ok(input),
        inputs => {
            let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
            Err(failure(
                subject,
                format!(
                    "the network has {} inputs ({}): give an .npz with one array of each name, or `random`",
                    names.len(),
                    names.join(", ")
                ),
            ))
        }
    }
}
