//! Where the elements of a value lie: strides per logical axis, halo, and loop nests over them.
//!
//! A 4-D value is stored N, H, W, C with a pixel stride of its channels rounded up to 16 bytes (u8 values of up to three channels, which are
//! images, stay dense) and a halo of rows and columns around each image. Any other rank is stored
//! row-major, its last axis rounded up to 16 bytes.

/// Rounds up to a multiple of 16 bytes: the granularity of channels.
pub(super) fn round16(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}

/// Rows and columns around an image: top, left, bottom, right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Halo {
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) bottom: usize,
    pub(super) right: usize,
}

impl Halo {
    /// The smallest halo that contains both.
    pub(super) fn union(self, o: Halo) -> Halo {
        Halo {
            top: self.top.max(o.top),
            left: self.left.max(o.left),
            bottom: self.bottom.max(o.bottom),
            right: self.right.max(o.right),
        }
    }

    /// True if there is none.
    pub(super) fn is_empty(self) -> bool {
        self == Halo::default()
    }
}

/// Placement of a value relative to where its memory starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Logical extents.
    pub(super) shape: Vec<usize>,
    /// Bytes between neighbours, per logical axis.
    pub(super) strides: Vec<usize>,
    /// Byte of the first element.
    pub(super) origin: usize,
    /// Bytes of an element.
    pub(super) esz: usize,
    /// Bytes of the memory it needs, from 0.
    pub(super) bytes: usize,
    /// Around each image.
    pub(super) halo: Halo,
}

impl Layout {
    /// The layout of a value in the arena.
    pub(super) fn arena(shape: &[usize], esz: usize, halo: Halo) -> Layout {
        if let &[n, c, h, w] = shape {
            let pixel = if esz == 1 && c <= 3 { c } else { round16(c * esz) };
            let row = (w + halo.left + halo.right) * pixel;
            let image = (h + halo.top + halo.bottom) * row;
            return Layout {
                shape: shape.to_vec(),
                strides: vec![image, esz, row, pixel],
                origin: halo.top * row + halo.left * pixel,
                esz,
                // Kernels read dwords and may pass the last pixel of an unpadded image by three bytes.
                bytes: n * image + 16,
                halo,
            };
        }
        let mut strides = vec![esz; shape.len()];
        let mut step = esz;
        for (k, &extent) in shape.iter().enumerate().rev() {
            strides[k] = step;
            step *= extent;
            if k + 1 == shape.len() {
                step = round16(step);
            }
        }
        Layout { shape: shape.to_vec(), strides, origin: 0, esz, bytes: step, halo: Halo::default() }
    }

    /// Dense row-major, as inputs, outputs and constants are.
    pub(super) fn dense(shape: &[usize], esz: usize) -> Layout {
        let mut strides = vec![esz; shape.len()];
        let mut step = esz;
        for (k, &extent) in shape.iter().enumerate().rev() {
            strides[k] = step;
            step *= extent;
        }
        Layout { shape: shape.to_vec(), strides, origin: 0, esz, bytes: step, halo: Halo::default() }
    }

    /// Bytes between pixels, rows, images of a 4-D layout.
    pub(super) fn pixel(&self) -> usize {
        self.strides[3]
    }

    /// Bytes between rows.
    pub(super) fn row(&self) -> usize {
        self.strides[2]
    }

    /// Bytes between images.
    pub(super) fn image(&self) -> usize {
        self.strides[0]
    }
}

/// A loop over elements: an extent and, per operand, the bytes it moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dim {
    pub(super) extent: usize,
    pub(super) steps: Vec<i64>,
}

/// Orders loops so that the first operand moves least innermost, drops single iterations, and merges loops that are one
/// for all operands. The result walks the same elements.
pub(super) fn canonical(dims: impl IntoIterator<Item = Dim>) -> Vec<Dim> {
    let mut dims: Vec<Dim> = dims.into_iter().filter(|d| d.extent > 1).collect();
    dims.sort_by_key(|d| std::cmp::Reverse(d.steps[0].abs()));
    let mut merged: Vec<Dim> = Vec::new();
    for d in dims {
        if let Some(outer) = merged.last_mut()
            && outer.steps.iter().zip(&d.steps).all(|(&o, &i)| o == i * d.extent as i64)
        {
            outer.extent *= d.extent;
            outer.steps = d.steps;
            continue;
        }
        merged.push(d);
    }
    merged
}
