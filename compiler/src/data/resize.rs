//! Bilinear resizing with antialiasing, bit for bit as Pillow's `Image.resize(…, BILINEAR)` on 8-bit images: models are trained and
//! judged on images made by it. Interleaved 8-bit channels in and out. Not here: which sizes to ask for.

/// Pillow's fixed-point weights: 8 bits for the value, 2 for headroom.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The input pixels of one output pixel and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes `pixels` (rows of `width` pixels of `channels` bytes) to `to` (width, height). A triangle filter whose support grows with the
/// reduction; horizontal, then vertical, rounded to 8 bits in between. Panics if `pixels` does not hold the image or a side is 0.
pub fn resize_bilinear(pixels: &[u8], width: usize, channels: usize, to: (usize, usize)) -> Vec<u8> {
    let height = pixels.len() / (width * channels);
    let wide = if to.0 == width { pixels.to_vec() } else { horizontal(pixels, width, channels, to.0) };
    if to.1 == height { wide } else { vertical(&wide, to.0 * channels, to.1) }
}

fn horizontal(pixels: &[u8], width: usize, channels: usize, to: usize) -> Vec<u8> {
    let windows = windows(width, to);
    let mut out = Vec::with_capacity(pixels.len() / width * to);
    for row in pixels.chunks_exact(width * channels) {
        for w in &windows {
            for c in 0..channels {
                let taps = row[w.first * channels + c..].iter().step_by(channels);
                out.push(weighted(taps, &w.weights));
            }
        }
    }
    out
}

fn vertical(pixels: &[u8], row: usize, to: usize) -> Vec<u8> {
    let windows = windows(pixels.len() / row, to);
    let mut out = Vec::with_capacity(row * to);
    let mut sums = vec![0i32; row];
    for w in &windows {
        sums.fill(1 << (PRECISION_BITS - 1));
        for (line, weight) in pixels[w.first * row..].chunks_exact(row).zip(&w.weights) {
            for (sum, &p) in sums.iter_mut().zip(line) {
                *sum += i32::from(p) * weight;
            }
        }
        out.extend(sums.iter().map(|&s| clip(s)));
    }
    out
}

fn weighted<'a>(taps: impl Iterator<Item = &'a u8>, weights: &[i32]) -> u8 {
    let half = 1 << (PRECISION_BITS - 1);
    clip(taps.zip(weights).fold(half, |sum, (&p, w)| sum + i32::from(p) * w))
}

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// The windows of an axis of `from` pixels reduced or enlarged to `to`. Arithmetic in f64 in Pillow's order.
fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let inverse = 1.0 / support;
    let window = |k: usize| {
        let center = (k as f64 + 0.5) * scale;
        // Casts of floats saturate at 0.
        let first = (center - support + 0.5) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let triangle = |x: f64| (1.0 - x.abs()).max(0.0);
        let raw: Vec<f64> = (first..end).map(|i| triangle((i as f64 - center + 0.5) * inverse)).collect();
        // Never 0: the pixel under the centre has weight.
        let sum: f64 = raw.iter().sum();
        let fixed = |w: &f64| (w / sum * f64::from(1u32 << PRECISION_BITS) + 0.5) as i32;
        Window { first, weights: raw.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected bytes are Pillow 13.0's.
    #[test]
    fn equals_pillow() {
        let grey: Vec<u8> =
            (0..64).map(|i| (i % 8, i / 8)).map(|(x, y)| (x * 31 + y * 7 + x * y * 3) as u8).collect();
        let to = |w, h| resize_bilinear(&grey, 8, 1, (w, h));
        assert_eq!(to(5, 3), [22, 74, 128, 177, 178, 42, 104, 168, 155, 66, 61, 135, 168, 77, 106]);
        assert_eq!(
            to(8, 3),
            [
                8, 42, 76, 111, 145, 179, 193, 167, 25, 66, 108, 149, 191, 183, 66, 65, 41, 90, 139, 187,
                162, 49, 77, 126
            ]
        );
        assert_eq!(
            to(3, 8),
            [
                34, 109, 183, 45, 126, 207, 55, 144, 158, 65, 155, 82, 76, 172, 106, 86, 147, 70, 96, 165,
                95, 106, 103, 100
            ]
        );
        assert_eq!(to(1, 1), [116]);
        assert_eq!(
            to(13, 11)[..26],
            [
                0, 13, 32, 51, 70, 89, 109, 128, 147, 166, 185, 204, 217, 4, 18, 38, 58, 78, 98, 119, 139,
                159, 180, 200, 220, 234
            ]
        );
        assert_eq!(to(8, 8), grey);
        let at =
            |x: usize, y: usize| [(x * 31 + y * 7) as u8, (x * 5 + y * 50) as u8, (200 + x * y * 11) as u8];
        let rgb: Vec<u8> = (0..15).flat_map(|i| at(i % 5, i / 5)).collect();
        assert_eq!(
            resize_bilinear(&rgb, 5, 3, (4, 2)),
            [
                11, 20, 201, 47, 26, 206, 83, 32, 211, 119, 38, 215, 19, 82, 205, 55, 88, 225, 91, 94, 153,
                127, 100, 107
            ]
        );
    }
}
