//! Coefficients to pixels with libjpeg's integer arithmetic: the accurate inverse DCT (`islow`), triangle-filter chroma upsampling
//! ("fancy"), YCbCr to RGB in 16-bit fixed point.

use super::super::pixels::Pixels;
use super::{Component, Frame};

/// Inverse DCT of a block (rows of 8, dequantized) into `out`, `stride` samples a row.
pub(super) fn inverse_dct(block: &[i32; 64], out: &mut [u8], stride: usize) {
    let mut columns = [0i64; 64];
    for k in 0..8 {
        let column = transform(std::array::from_fn(|i| block[8 * i + k].into()));
        for (i, x) in column.into_iter().enumerate() {
            // 2 bits more than an integer are kept.
            columns[8 * i + k] = (x + (1 << 10)) >> 11;
        }
    }
    for (i, row) in columns.chunks_exact(8).enumerate() {
        let row = transform(std::array::from_fn(|k| row[k]));
        for (to, x) in out[i * stride..].iter_mut().zip(row) {
            *to = (((x + (1 << 17)) >> 18) + 128).clamp(0, 255) as u8;
        }
    }
}

/// One dimension, 13 fractional bits (Loeffler, Ligtenberg, Moschytz 1989). i64 because hostile coefficients exceed i32.
fn transform(x: [i64; 8]) -> [i64; 8] {
    let z = (x[2] + x[6]) * 4433;
    let (e2, e3) = (z - x[6] * 15137, z + x[2] * 6270);
    let (e0, e1) = ((x[0] + x[4]) << 13, (x[0] - x[4]) << 13);
    let even = [e0 + e3, e1 + e2, e1 - e2, e0 - e3];
    let z5 = (x[7] + x[3] + x[5] + x[1]) * 9633;
    let z1 = (x[7] + x[1]) * -7373;
    let z2 = (x[5] + x[3]) * -20995;
    let z3 = (x[7] + x[3]) * -16069 + z5;
    let z4 = (x[5] + x[1]) * -3196 + z5;
    let odd = [x[1] * 12299 + z1 + z4, x[3] * 25172 + z2 + z3, x[5] * 16819 + z2 + z4, x[7] * 2446 + z1 + z3];
    std::array::from_fn(|i| if i < 4 { even[i] + odd[i] } else { even[7 - i] - odd[7 - i] })
}

/// The image of a frame whose components are all decoded.
pub(super) fn pixels(frame: &Frame) -> Pixels {
    let (width, height) = (frame.width, frame.height);
    let rows = |c: &Component, y: usize| c.plane[y * c.stride..][..c.width].to_vec();
    let [luma, cb, cr] = frame.components.as_slice() else {
        let grey = &frame.components[0];
        return Pixels {
            width,
            height,
            channels: 1,
            data: (0..height).flat_map(|y| rows(grey, y)).collect(),
        };
    };
    let mut data = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        let (cb, cr) = (upsampled_row(cb, frame, y), upsampled_row(cr, frame, y));
        for ((&l, &b), &r) in luma.plane[y * luma.stride..][..width].iter().zip(&cb).zip(&cr) {
            data.extend(rgb(l, b, r));
        }
    }
    Pixels { width, height, channels: 3, data }
}

/// Row `y` of a chroma plane at the image's resolution; a few samples longer than the image may be.
fn upsampled_row(c: &Component, frame: &Frame, y: usize) -> Vec<u8> {
    let row = |y: usize| &c.plane[y * c.stride..][..c.width];
    let near = row(y / frame.v);
    if (frame.h, frame.v) == (1, 1) {
        return near.to_vec();
    }
    // libjpeg does not filter planes of at most two columns.
    if c.width <= 2 {
        return near.iter().flat_map(|&x| [x, x]).collect();
    }
    if frame.v == 1 {
        let line: Vec<i32> = near.iter().map(|&x| x.into()).collect();
        return doubled(&line, 2, [1, 2]);
    }
    let other = if y.is_multiple_of(2) { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(c.height - 1) };
    let line: Vec<i32> =
        near.iter().zip(row(other)).map(|(&a, &b)| 3 * i32::from(a) + i32::from(b)).collect();
    doubled(&line, 4, [8, 7])
}

/// Twice as many samples, each 3/4 of the near one and 1/4 of the next; `bits` are shifted out after adding `bias` (left, right), which
/// alternates so that errors do not add up to a shift.
fn doubled(line: &[i32], bits: u32, bias: [i32; 2]) -> Vec<u8> {
    let last = line.len() - 1;
    let mix = |near: i32, far: i32, bias: i32| ((3 * near + far + bias) >> bits) as u8;
    let both = |i: usize| {
        let (left, right) = (line[i.saturating_sub(1)], line[(i + 1).min(last)]);
        [mix(line[i], left, bias[0]), mix(line[i], right, bias[1])]
    };
    (0..=last).flat_map(both).collect()
}

fn rgb(luma: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, b, r) = (i32::from(luma), i32::from(cb) - 128, i32::from(cr) - 128);
    const HALF: i32 = 1 << 15;
    let red = y + ((91881 * r + HALF) >> 16);
    let green = y + ((-22554 * b - 46802 * r + HALF) >> 16);
    let blue = y + ((116130 * b + HALF) >> 16);
    [red, green, blue].map(|x| x.clamp(0, 255) as u8)
}
