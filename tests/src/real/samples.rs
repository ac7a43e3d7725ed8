//! The sets of the data folder as samples: a network's input, and the right answer in the form that is scored.
//!
//! What the library reads, the library reads; here are the framings that it has no options for (letterbox, signed bytes) and labels that are
//! no classes.

use super::models::{Frame, Input, Truths};
use qgraph_compiler::data::{self, Options, Samples, resize_bilinear};
use qgraph_compiler::preprocess::{ChannelOrder, InputLayout, Preprocess};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// One sample.
pub(super) struct Sample {
    /// Its place in the set.
    pub(super) index: usize,
    pub(super) input: Vec<f32>,
    pub(super) truth: Truth,
}

/// The right answer.
pub(super) enum Truth {
    Unknown,
    Class(usize),
    /// Classes of the pixels, 255 for unlabelled ones, in rows of the picture's part of the input.
    Mask {
        width: usize,
        classes: Vec<u8>,
    },
    Boxes(Vec<Object>),
}

/// Something in a picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub(super) class: usize,
    /// Left, top, right, bottom in pixels of the input.
    pub(super) corners: [f32; 4],
}

/// All samples of a set in order, as inputs of `shape`. A file that is not as expected is a panic with its name.
pub(super) fn samples<'a>(
    data: &Path,
    how: &'a Input,
    set: &str,
    truths: Truths,
    shape: &[usize],
) -> Box<dyn Iterator<Item = Sample> + 'a> {
    let images = data.join("images");
    let path = images.join(set);
    match how.frame {
        Frame::Letterbox(fill) => {
            let side = shape[2];
            let boxes = match truths {
                Truths::Boxes(file) => boxes(&images.join(file), &path, side),
                _ => HashMap::new(),
            };
            let masks = match truths {
                Truths::Masks(folder) => Some(images.join(folder)),
                _ => None,
            };
            let truth = move |picture: &Path| {
                let name = picture.file_name().expect("a file").to_string_lossy().into_owned();
                match &masks {
                    Some(folder) => mask(&folder.join(&name).with_extension("png"), side),
                    None => Some(boxes.get(&name).map_or(Truth::Unknown, |b| Truth::Boxes(b.clone()))),
                }
            };
            let known = pictures(&path).into_iter().filter_map(move |p| truth(&p).map(|t| (p, t)));
            Box::new(known.enumerate().map(move |(index, (picture, truth))| Sample {
                index,
                input: letterbox(&picture, how, side, fill),
                truth,
            }))
        }
        Frame::Signed => {
            let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let (mean, std) = (how.mean[0], how.std[0]);
            let value = move |&b: &u8| (f32::from(b as i8) - mean) / std;
            let labels = match truths {
                Truths::Classes(file) => classes(&images.join(file)),
                _ => Vec::new(),
            };
            let inputs: Vec<Vec<f32>> = bytes
                .chunks_exact(shape.iter().product())
                .map(|record| record.iter().map(value).collect())
                .collect();
            Box::new(inputs.into_iter().enumerate().map(move |(index, input)| {
                let truth = labels.get(index).map_or(Truth::Unknown, |&class| Truth::Class(class));
                Sample { index, input, truth }
            }))
        }
        Frame::Stretch | Frame::Crop(_) => {
            let options = Options {
                inputs: vec![data::Input { name: "x".into(), shape: shape.to_vec() }],
                preprocess: preprocess(how),
                labels: match truths {
                    Truths::Classes(file) => Some(images.join(file)),
                    _ => None,
                },
                ..Options::default()
            };
            let known = truths != Truths::Unknown;
            let samples = Samples::open(&path.to_string_lossy(), &options).unwrap_or_else(|e| panic!("{e}"));
            Box::new(samples.enumerate().map(move |(index, sample)| {
                let mut sample = sample.unwrap_or_else(|e| panic!("{e}"));
                let truth = sample.label.filter(|_| known).map_or(Truth::Unknown, Truth::Class);
                Sample { index, input: sample.inputs.remove(0), truth }
            }))
        }
    }
}

fn preprocess(input: &Input) -> Preprocess {
    Preprocess {
        order: input.order,
        mean: input.mean.to_vec(),
        std: input.std.to_vec(),
        crop: match input.frame {
            Frame::Crop(side) => Some(side),
            _ => None,
        },
        ..Preprocess::default()
    }
}

/// The pictures of a folder by name.
fn pictures(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

fn size(picture: &Path) -> [usize; 2] {
    let (w, h) = image::image_dimensions(picture).unwrap_or_else(|e| panic!("{}: {e}", picture.display()));
    [w as usize, h as usize]
}

/// Width and height of a picture whose longer side becomes `side`.
fn fitted([w, h]: [usize; 2], side: usize) -> [usize; 2] {
    let ratio = side as f64 / w.max(h) as f64;
    [w, h].map(|n| (n as f64 * ratio).round() as usize)
}

fn letterbox(picture: &Path, input: &Input, side: usize, fill: u8) -> Vec<f32> {
    let [w, h] = size(picture);
    let options = Options {
        inputs: vec![data::Input { name: "pixels".into(), shape: vec![1, h, w, 3] }],
        preprocess: Preprocess { layout: InputLayout::Nhwc, ..Preprocess::default() },
        ..Options::default()
    };
    let mut samples = Samples::open(&picture.to_string_lossy(), &options).unwrap_or_else(|e| panic!("{e}"));
    let sample = samples.next().expect("a picture").unwrap_or_else(|e| panic!("{e}"));
    let pixels: Vec<u8> = sample.inputs[0].iter().map(|&x| x as u8).collect();
    let [width, height] = fitted([w, h], side);
    let pixels = resize_bilinear(&pixels, w, 3, (width, height));
    let mut planes = Vec::with_capacity(3 * side * side);
    let tables = preprocess(input).tables(3);
    for (channel, table) in tables.iter().enumerate() {
        let source = if input.order == ChannelOrder::Bgr { 2 - channel } else { channel };
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let inside = x < width && y < height;
            let value = if inside { pixels[(y * width + x) * 3 + source] } else { fill };
            planes.push(table[usize::from(value)]);
        }
    }
    planes
}

/// A mask, resized as its picture by taking the nearest pixel. Some pictures have none.
fn mask(path: &Path, side: usize) -> Option<Truth> {
    if !path.is_file() {
        return None;
    }
    let image = image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_luma8();
    let (w, h) = (image.width() as usize, image.height() as usize);
    let [width, height] = fitted([w, h], side);
    let near = |i: usize, from: usize, to: usize| ((i as f64 + 0.5) * from as f64 / to as f64) as u32;
    let pixel = |x, y| image.get_pixel(near(x, w, width), near(y, h, height)).0[0];
    let classes = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| pixel(x, y));
    Some(Truth::Mask { width, classes: classes.collect() })
}

/// Rows of a CSV file behind its header.
fn rows(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

fn classes(path: &Path) -> Vec<usize> {
    let class = |row: Vec<String>| row[0].parse().expect("a class is a number");
    rows(path).into_iter().map(class).collect()
}

/// Columns `file,class,cx,cy,w,h`, relative to the picture.
fn boxes(path: &Path, folder: &Path, side: usize) -> HashMap<String, Vec<Object>> {
    let mut boxes: HashMap<String, Vec<Object>> = HashMap::new();
    for row in rows(path) {
        let number = |k: usize| row[k].parse::<f32>().expect("a coordinate is a number");
        let [w, h] = size(&folder.join(&row[0])).map(|n| n as f32);
        let (sx, sy) = (side as f32 / w.max(h) * w, side as f32 / w.max(h) * h);
        let [cx, cy, w, h] = [number(2) * sx, number(3) * sy, number(4) * sx, number(5) * sy];
        let corners = [cx - w / 2.0, cy - h / 2.0, cx + w / 2.0, cy + h / 2.0];
        let class = row[1].parse().expect("a class is a number");
        boxes.entry(row[0].clone()).or_default().push(Object { class, corners });
    }
    boxes
}

/// The columns p1… of a `top5.csv`, row by row.
pub(super) fn top5(path: &Path) -> Vec<Vec<usize>> {
    let class = |cell: &String| cell.parse().expect("a class is a number");
    rows(path).iter().map(|row| row[2..].iter().map(class).collect()).collect()
}
