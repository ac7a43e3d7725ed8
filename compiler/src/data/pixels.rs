//! Decoded pixels to one input tensor, exactly as [`crate::preprocess`] states.
//!
//! In: an image file or 8-bit pixels. Out: the tensor in the network's layout. Colours become grey by ITU-R 601 luma for inputs of one channel
//! (Pillow's `L`), grey is replicated for inputs of three; alpha is dropped, EXIF orientation is not applied (as in Pillow's `open`).

use super::jpeg::{self, Refusal};
use super::{Input, failure, resize_bilinear};
use crate::error::Result;
use crate::magic::Magic;
use crate::preprocess::{InputLayout, Preprocess};
use std::io::Cursor;
use std::path::Path;

/// More pixels than any network input needs; a limit for hostile images and extreme shapes.
pub(super) const MAX_PIXELS: u64 = 1 << 26;

/// An 8-bit image: rows of interleaved channels, grey or RGB.
pub(super) struct Pixels {
    pub(super) width: usize,
    pub(super) height: usize,
    /// 1 or 3.
    pub(super) channels: usize,
    pub(super) data: Vec<u8>,
}

impl Pixels {
    /// Decodes a PNG or JPEG file; what the file is, its content decides. Kinds of JPEG that [`jpeg`] does not cover may differ from
    /// Pillow by a few levels.
    fn decode(path: &Path) -> Result<Pixels> {
        let fail = |what: String| failure(path, format!("{what}: give a readable PNG or JPEG"));
        let bytes = std::fs::read(path).map_err(|e| fail(format!("cannot be read ({e})")))?;
        if Magic::of(&bytes) == Magic::LfsPointer {
            return Err(failure(path, "is a git-LFS pointer, not the image: run `git lfs pull`"));
        }
        if bytes.starts_with(b"\xff\xd8") {
            match jpeg::decode(&bytes) {
                Ok(pixels) => return Ok(pixels),
                Err(Refusal::Corrupt(what)) => return Err(fail(format!("does not decode ({what})"))),
                Err(Refusal::Unsupported) => {}
            }
        }
        let reader = image::ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let reader = reader.map_err(|e| fail(format!("cannot be read ({e})")))?;
        let image = reader.decode().map_err(|e| fail(format!("does not decode ({e})")))?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, data) = if image.color().has_color() {
            (3, image.into_rgb8().into_raw())
        } else {
            (1, image.into_luma8().into_raw())
        };
        Ok(Pixels { width, height, channels, data })
    }

    /// As many channels as the input has.
    fn with_channels(self, channels: usize) -> Pixels {
        let data = match (self.channels, channels) {
            (3, 1) => self.data.chunks_exact(3).map(luma).collect(),
            (1, 3) => self.data.iter().flat_map(|&g| [g, g, g]).collect(),
            _ => self.data,
        };
        Pixels { data, channels, ..self }
    }

    fn resized(self, width: usize, height: usize) -> std::result::Result<Pixels, String> {
        if (width, height) == (self.width, self.height) {
            return Ok(self);
        }
        // The pass over rows comes first and makes an image of the new width and the old height.
        if width as u64 * height.max(self.height) as u64 > MAX_PIXELS {
            return Err(format!(
                "{}x{} pixels are too many to resize to {width}x{height}",
                self.width, self.height
            ));
        }
        let data = resize_bilinear(&self.data, self.width, self.channels, (width, height));
        Ok(Pixels { width, height, data, ..self })
    }

    fn cropped(self, side: usize) -> std::result::Result<Pixels, String> {
        if side > self.width || side > self.height {
            return Err(format!(
                "{}x{} pixels are too few to crop {side}x{side}: resize to at least {side} first, or crop less",
                self.width, self.height
            ));
        }
        let (left, top, n) = ((self.width - side) / 2, (self.height - side) / 2, self.channels);
        let rows = self.data.chunks_exact(self.width * n).skip(top).take(side);
        let data = rows.flat_map(|row| &row[left * n..(left + side) * n]).copied().collect();
        Ok(Pixels { width: side, height: side, data, ..self })
    }
}

/// Pillow's fixed-point ITU-R 601 luma.
fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

/// An input that takes images, with its preprocessing.
pub(super) struct ImageInput {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    preprocess: Preprocess,
}

impl ImageInput {
    /// Checks that `input` is an image of 1 or 3 channels in the stated layout. `subject` is the set, for the error.
    pub(super) fn new(subject: &Path, input: &Input, preprocess: &Preprocess) -> Result<ImageInput> {
        let (channels, height, width) = match (preprocess.layout, input.shape.as_slice()) {
            (InputLayout::Nchw, &[1, c, h, w] | &[c, h, w]) => (c, h, w),
            (InputLayout::Nhwc, &[1, h, w, c] | &[h, w, c]) => (c, h, w),
            _ => (0, 0, 0),
        };
        if channels != 1 && channels != 3 {
            let (layout, other) = match preprocess.layout {
                InputLayout::Nchw => ("[1, C, H, W]", "nhwc"),
                InputLayout::Nhwc => ("[1, H, W, C]", "nchw"),
            };
            return Err(failure(
                subject,
                format!(
                    "the input {} has shape {:?}, which is no image {layout} of 1 or 3 channels: give arrays (.npy) or the layout {other}",
                    input.name, input.shape
                ),
            ));
        }
        preprocess.validate(channels).map_err(|what| failure(subject, what))?;
        Ok(ImageInput { channels, height, width, preprocess: preprocess.clone() })
    }

    /// The tensor of an image file.
    pub(super) fn file(&self, path: &Path) -> Result<Vec<f32>> {
        self.tensor(Pixels::decode(path)?).map_err(|what| failure(path, what))
    }

    /// The tensor of decoded pixels.
    pub(super) fn tensor(&self, pixels: Pixels) -> std::result::Result<Vec<f32>, String> {
        let mut p = pixels.with_channels(self.channels);
        if p.width == 0 || p.height == 0 {
            return Err("the image is empty".into());
        }
        if let Some(side) = self.preprocess.resize {
            let (short, long) = (p.width.min(p.height), p.width.max(p.height));
            let long = usize::try_from(side as u128 * long as u128 / short as u128).unwrap_or(usize::MAX);
            let side = side as usize;
            let (width, height) = if p.width <= p.height { (side, long) } else { (long, side) };
            p = p.resized(width, height)?;
        }
        if let Some(side) = self.preprocess.crop {
            p = p.cropped(side as usize)?;
        }
        p = p.resized(self.width, self.height)?;
        Ok(self.preprocess.tensor(&p.data, self.channels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preprocess::ChannelOrder;

    fn input(shape: &[usize], preprocess: Preprocess) -> ImageInput {
        let input = Input { name: "x".into(), shape: shape.to_vec() };
        ImageInput::new(Path::new("set"), &input, &preprocess).unwrap()
    }

    /// Expected bytes are Pillow 13.0's `convert("L")`.
    #[test]
    fn luma_equals_pillow() {
        let at =
            |x: usize, y: usize| [(x * 31 + y * 7) as u8, (x * 5 + y * 50) as u8, (200 + x * y * 11) as u8];
        let data: Vec<u8> = (0..15).flat_map(|i| at(i % 5, i / 5)).collect();
        let grey = Pixels { width: 5, height: 3, channels: 3, data }.with_channels(1);
        assert_eq!(grey.data, [23, 35, 47, 59, 72, 54, 68, 81, 95, 108, 86, 100, 115, 101, 115]);
    }

    #[test]
    fn orders_channels_and_axes() {
        let pixels = || Pixels { width: 2, height: 1, channels: 3, data: vec![1, 2, 3, 4, 5, 6] };
        let with = |layout, order, shape: &[usize]| {
            let mean = vec![0.0, 10.0, 20.0];
            input(shape, Preprocess { layout, order, mean, ..Preprocess::default() })
                .tensor(pixels())
                .unwrap()
        };
        use {ChannelOrder::*, InputLayout::*};
        assert_eq!(with(Nchw, Rgb, &[1, 3, 1, 2]), [1., 4., -8., -5., -17., -14.]);
        assert_eq!(with(Nchw, Bgr, &[1, 3, 1, 2]), [3., 6., -8., -5., -19., -16.]);
        assert_eq!(with(Nhwc, Rgb, &[1, 1, 2, 3]), [1., -8., -17., 4., -5., -14.]);
        assert_eq!(with(Nhwc, Bgr, &[1, 1, 2, 3]), [3., -8., -19., 6., -5., -16.]);
    }

    #[test]
    fn resizes_the_shorter_side_then_crops_then_fits() {
        // 8x4, value = 10·column: resized to 4x2 and cropped to its 2x2 centre.
        let data: Vec<u8> = (0..32).map(|i| (i % 8) * 10).collect();
        let pixels = || Pixels { width: 8, height: 4, channels: 1, data: data.clone() };
        let with = |resize, crop, side| {
            let p = Preprocess { resize, crop, ..Preprocess::default() };
            input(&[1, 1, side, side], p).tensor(pixels())
        };
        let half = resize_bilinear(&data, 8, 1, (4, 2));
        let expected: Vec<f32> = [half[1], half[2], half[5], half[6]].map(f32::from).to_vec();
        assert_eq!(with(Some(2), Some(2), 2).unwrap(), expected);
        assert_eq!(with(None, Some(4), 4).unwrap()[..4], [20., 30., 40., 50.]);
        assert_eq!(with(None, None, 1).unwrap().len(), 1);
        assert!(with(None, Some(5), 5).unwrap_err().contains("too few"));
        assert!(with(Some(1 << 30), None, 5).unwrap_err().contains("too many"));
    }
}
