//! Preprocessing of images from end to end, held against Pillow's bilinear antialiased resize: against what it gave once, to the bit, and where Python has
//! it (`QGRAPH_PYTHON` names another), against what it gives now, within a level.

use crate::support::{python, temp_dir, workspace_root};
use qgraph_compiler::data::{Input, Options, Samples};
use qgraph_compiler::preprocess::{InputLayout, Preprocess};
use std::path::Path;

/// A case, and what Pillow 13.0 made of it by `tests/pillow.py`.
struct Case {
    /// Width, height.
    image: [u32; 2],
    resize: Option<u32>,
    crop: Option<u32>,
    /// Of the network's input.
    side: usize,
    /// Of all bytes.
    sum: u64,
    /// Byte n·k/12 + k of n.
    some: [u8; 12],
}

const CASES: [Case; 4] = [
    Case {
        image: [500, 375],
        resize: Some(256),
        crop: Some(224),
        side: 224,
        sum: 19_182_012,
        some: [80, 103, 91, 64, 184, 184, 180, 170, 156, 143, 186, 165],
    },
    // Upright, and larger afterwards; neither resized nor cut, and fitted without its aspect.
    Case {
        image: [120, 200],
        resize: Some(96),
        crop: Some(80),
        side: 80,
        sum: 2_439_667,
        some: [133, 153, 110, 72, 225, 98, 191, 147, 97, 172, 115, 105],
    },
    Case {
        image: [40, 30],
        resize: Some(64),
        crop: Some(56),
        side: 56,
        sum: 907_958,
        some: [19, 150, 57, 29, 115, 78, 53, 67, 101, 88, 83, 125],
    },
    Case {
        image: [100, 70],
        resize: None,
        crop: None,
        side: 48,
        sum: 844_684,
        some: [2, 41, 62, 53, 52, 147, 191, 78, 184, 161, 119, 103],
    },
];

impl Case {
    /// The image as a file.
    fn save(&self, path: &Path) {
        let at = |x: u32, y: u32| {
            image::Rgb([x * 3 + y * y / 7, x * y / 5 + 40, (x ^ y) * 5 + x].map(|c| c as u8))
        };
        image::RgbImage::from_fn(self.image[0], self.image[1], at).save(path).unwrap();
    }

    /// What the network gets of it, before normalization.
    fn read(&self, path: &Path) -> Vec<u8> {
        let (resize, crop) = (self.resize, self.crop);
        let preprocess = Preprocess { layout: InputLayout::Nhwc, resize, crop, ..Preprocess::default() };
        let input = Input { name: "x".into(), shape: vec![1, self.side, self.side, 3] };
        let options = Options { inputs: vec![input], preprocess, ..Options::default() };
        let sample = Samples::open(path.to_str().unwrap(), &options).unwrap().next().unwrap().unwrap();
        sample.inputs[0].iter().map(|&x| x as u8).collect()
    }
}

#[test]
fn images_are_prepared_as_pillow_once_did() {
    let dir = temp_dir("pillow");
    for case in &CASES {
        case.save(&dir.join("image.png"));
        let found = case.read(&dir.join("image.png"));
        let some: Vec<u8> = (0..12).map(|k| found[found.len() * k / 12 + k]).collect();
        assert_eq!(some, case.some, "{:?}", case.image);
        assert_eq!(found.iter().map(|&x| u64::from(x)).sum::<u64>(), case.sum, "{:?}", case.image);
    }
}

#[test]
fn images_are_prepared_as_pillow_does() {
    let dir = temp_dir("pillow-now");
    for case in &CASES {
        let path = dir.join("image.png");
        case.save(&path);
        let Some(mut command) = python("PIL") else { return };
        command.arg(workspace_root().join("tests/pillow.py")).arg(&path);
        command.args(
            [case.resize.unwrap_or(0), case.crop.unwrap_or(0), case.side as u32].map(|n| n.to_string()),
        );
        let out = command.output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let found = case.read(&path);
        assert_eq!(found.len(), out.stdout.len());
        let most = found.iter().zip(&out.stdout).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(most <= Some(1), "{:?}: {most:?} levels apart", case.image);
    }
}
