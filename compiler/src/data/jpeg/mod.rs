//! Baseline JPEG to pixels, bit for bit as libjpeg-turbo (hence Pillow) decodes it: the accuracy of published models is
//! measured on its pixels, and a decoder that rounds otherwise moves the top-1 of 500 pictures by two or three.
//!
//! In: the bytes of a file. Out: grey or RGB pixels. Covered: Huffman-coded sequential JPEG of 8 bits, grey or YCbCr, sampled 4:4:4, 4:2:2
//! or 4:2:0. Everything else (progressive, CMYK, …) is [`Refusal::Unsupported`], for a decoder that is not bit-exact.
//! Holds: no input panics, no size of a buffer is taken from the file unchecked.
//!
//! - this file: segments, the frame, and the order of blocks.
//! - `bits`: bits and Huffman codes.
//! - `samples`: inverse DCT, chroma upsampling, colour.

mod bits;
mod samples;
#[cfg(test)]
mod tests;

use super::pixels::{MAX_PIXELS, Pixels};
use bits::{Bits, Huffman};

/// Why there are no pixels.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another kind of JPEG.
    Unsupported,
    /// A damaged file: what is wrong.
    Corrupt(&'static str),
}

use Refusal::{Corrupt, Unsupported};

type Result<T> = std::result::Result<T, Refusal>;

/// Where the coefficients of a block go, in the order they are coded.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7,
    14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39,
    46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// Tables that segments define, and the frame.
#[derive(Default)]
struct Decoder {
    quantizers: [Option<[u16; 64]>; 4],
    dc: [Option<Huffman>; 4],
    ac: [Option<Huffman>; 4],
    restart_interval: usize,
    jfif: bool,
    adobe_transform: Option<u8>,
    frame: Option<Frame>,
}

/// The image and its components.
struct Frame {
    width: usize,
    height: usize,
    /// Largest sampling factors: horizontal, vertical.
    h: usize,
    v: usize,
    components: Vec<Component>,
}

/// A plane of samples.
struct Component {
    id: u8,
    h: usize,
    v: usize,
    quantizer: usize,
    /// Samples that belong to the image.
    width: usize,
    height: usize,
    /// Samples a row of `plane`, a multiple of 8; the plane has whole MCUs.
    stride: usize,
    plane: Vec<u8>,
    done: bool,
}

/// A component's part in a scan.
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// Decodes a file that starts with FF D8.
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels> {
    let mut decoder = Decoder::default();
    let mut rest = bytes.get(2..).unwrap_or(&[]);
    // Bytes before a marker are skipped, as libjpeg does (with a warning).
    let is_marker = |w: &[u8]| w[0] == 0xFF && !matches!(w[1], 0 | 0xFF | 0xD0..=0xD7);
    while let Some(at) = rest.windows(2).position(is_marker) {
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            0xD9 => break,
            0x01 | 0xD8 => continue,
            _ => {}
        }
        let length = rest.get(..2).map(|b| usize::from(b[0]) << 8 | usize::from(b[1]));
        let segment = length.and_then(|n| rest.get(2..n)).ok_or(Corrupt("a segment is cut off"))?;
        rest = &rest[2 + segment.len()..];
        match marker {
            0xC0 | 0xC1 => decoder.frame(segment)?,
            0xC4 => decoder.huffman_tables(segment)?,
            0xC2 | 0xC3 | 0xC5..=0xCF => return Err(Unsupported),
            0xDB => decoder.quantizers(segment)?,
            0xDD => decoder.restart_interval = u16_at(segment, 0)?.into(),
            0xDA => rest = decoder.scan(segment, rest)?,
            0xE0 => decoder.jfif |= segment.starts_with(b"JFIF\0"),
            0xEE if segment.starts_with(b"Adobe") => decoder.adobe_transform = segment.get(11).copied(),
            _ => {}
        }
    }
    let frame = decoder.frame.ok_or(Corrupt("no image in it"))?;
    if frame.components.iter().any(|c| !c.done) {
        return Err(Corrupt("cut off before the last scan"));
    }
    Ok(samples::pixels(&frame))
}

fn u8_at(bytes: &[u8], at: usize) -> Result<u8> {
    bytes.get(at).copied().ok_or(Corrupt("a segment is too short"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_be_bytes([u8_at(bytes, at)?, u8_at(bytes, at + 1)?]))
}

impl Decoder {
    fn quantizers(&mut self, mut segment: &[u8]) -> Result<()> {
        while let [head, body @ ..] = segment {
            let (wide, slot) = (usize::from(head >> 4 != 0), usize::from(head & 15));
            let slot = self.quantizers.get_mut(slot).ok_or(Corrupt("a quantizer with a number above 3"))?;
            let mut table = [0; 64];
            for (k, &natural) in ZIGZAG.iter().enumerate() {
                let value = if wide == 1 { u16_at(body, 2 * k)? } else { u8_at(body, k)?.into() };
                table[usize::from(natural)] = value;
            }
            *slot = Some(table);
            segment = &body[64 << wide..];
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<()> {
        while let [head, body @ ..] = segment {
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            let slot = tables
                .get_mut(usize::from(head & 15))
                .ok_or(Corrupt("a code table with a number above 3"))?;
            let counts = body.get(..16).ok_or(Corrupt("a code table is too short"))?;
            let total: usize = counts.iter().map(|&c| usize::from(c)).sum();
            let symbols = body.get(16..16 + total).ok_or(Corrupt("a code table is too short"))?;
            *slot = Some(Huffman::new(counts, symbols).ok_or(Corrupt("a code table with too many codes"))?);
            segment = &body[16 + total..];
        }
        Ok(())
    }

    fn frame(&mut self, s: &[u8]) -> Result<()> {
        let (height, width) = (usize::from(u16_at(s, 1)?), usize::from(u16_at(s, 3)?));
        let count = u8_at(s, 5)?;
        // Height 0 means that a later segment states it.
        if u8_at(s, 0)? != 8 || height == 0 || !matches!(count, 1 | 3) {
            return Err(Unsupported);
        }
        if self.frame.is_some() || width == 0 {
            return Err(Corrupt("a second frame, or an empty one"));
        }
        if (width * height) as u64 > MAX_PIXELS {
            return Err(Corrupt("more pixels than are read"));
        }
        let mut sampling = Vec::new();
        for k in 0..usize::from(count) {
            let factors = u8_at(s, 7 + 3 * k)?;
            sampling.push((u8_at(s, 6 + 3 * k)?, factors >> 4, factors & 15, u8_at(s, 8 + 3 * k)?));
        }
        let luma = if count == 1 { (1, 1) } else { (sampling[0].1, sampling[0].2) };
        let chroma = sampling[1..].iter().all(|&(_, h, v, _)| (h, v) == (1, 1));
        let ids: Vec<u8> = sampling.iter().map(|c| c.0).collect();
        let rgb = count == 3 && !self.jfif && (self.adobe_transform == Some(0) || ids == *b"RGB");
        if !matches!(luma, (1, 1) | (2, 1) | (2, 2)) || !chroma || rgb {
            return Err(Unsupported);
        }
        let (max_h, max_v) = (usize::from(luma.0), usize::from(luma.1));
        let component = |&(id, h, v, quantizer): &(u8, u8, u8, u8)| {
            // A lone component is not interleaved: its factors mean nothing.
            let (h, v) = if count == 1 { (1, 1) } else { (usize::from(h), usize::from(v)) };
            let stride = width.div_ceil(8 * max_h) * 8 * h;
            let rows = height.div_ceil(8 * max_v) * 8 * v;
            let (width, height) = ((width * h).div_ceil(max_h), (height * v).div_ceil(max_v));
            let plane = vec![0; stride * rows];
            Component { id, h, v, quantizer: quantizer.into(), width, height, stride, plane, done: false }
        };
        let components = sampling.iter().map(component).collect();
        self.frame = Some(Frame { width, height, h: max_h, v: max_v, components });
        Ok(())
    }

    /// Decodes the scan that follows the header `s`; gives what follows it.
    fn scan<'a>(&mut self, s: &[u8], data: &'a [u8]) -> Result<&'a [u8]> {
        let frame = self.frame.as_mut().ok_or(Corrupt("a scan without a frame"))?;
        let mut parts = Vec::new();
        for k in 0..usize::from(u8_at(s, 0)?) {
            let (id, tables) = (u8_at(s, 1 + 2 * k)?, u8_at(s, 2 + 2 * k)?);
            let component = frame.components.iter().position(|c| c.id == id && !c.done);
            let component = component.ok_or(Corrupt("a scan of an unknown or finished component"))?;
            frame.components[component].done = true;
            parts.push(Part { component, dc: usize::from(tables >> 4), ac: usize::from(tables & 15) });
        }
        let mut steps = Vec::new();
        for part in &parts {
            let c = &frame.components[part.component];
            let table =
                |tables: &'_ [Option<Huffman>; 4], k: usize| tables.get(k).is_some_and(Option::is_some);
            let quantizer = self.quantizers.get(c.quantizer).copied().flatten();
            if !table(&self.dc, part.dc) || !table(&self.ac, part.ac) {
                return Err(Corrupt("a scan without its tables"));
            }
            steps.push(quantizer.ok_or(Corrupt("a scan without its tables"))?);
        }
        // One component: one block after the other. Several: MCUs of h·v blocks each.
        let (across, down) = match parts.as_slice() {
            [] => return Err(Corrupt("a scan of nothing")),
            [one] => {
                let c = &frame.components[one.component];
                (c.width.div_ceil(8), c.height.div_ceil(8))
            }
            _ => (frame.width.div_ceil(8 * frame.h), frame.height.div_ceil(8 * frame.v)),
        };
        let alone = parts.len() == 1;
        let mut bits = Bits::new(data);
        let mut last_dc = [0i32; 3];
        for mcu in 0..across * down {
            if self.restart_interval > 0 && mcu > 0 && mcu % self.restart_interval == 0 {
                bits.restart()?;
                last_dc = [0; 3];
            }
            for (part, quantizer) in parts.iter().zip(&steps) {
                let c = &mut frame.components[part.component];
                let (h, v) = if alone { (1, 1) } else { (c.h, c.v) };
                let (Some(dc), Some(ac)) = (&self.dc[part.dc], &self.ac[part.ac]) else {
                    return Err(Corrupt("a scan without its tables"));
                };
                for block in 0..h * v {
                    let x = mcu % across * h + block % h;
                    let y = mcu / across * v + block / h;
                    let coefficients = bits.block(dc, ac, &mut last_dc[part.component], quantizer)?;
                    samples::inverse_dct(&coefficients, &mut c.plane[y * 8 * c.stride + x * 8..], c.stride);
                }
            }
        }
        Ok(bits.rest())
    }
}
