//! The `.npy` format: a header that says type and shape, then the elements.
//!
//! Read here by hand because headers come from anywhere: what is not understood is an error, sizes are checked, nothing recurses.

use super::failure;
use crate::error::Result;
use std::io::{Read, Write};
use std::path::Path;

/// Longer than any header numpy writes for a plain array.
const MAX_HEADER: usize = 1 << 16;

/// Element types that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    U8,
    F32 { big_endian: bool },
    F64 { big_endian: bool },
}

impl Dtype {
    /// Bytes of one element.
    pub(super) fn bytes(self) -> usize {
        match self {
            Dtype::U8 => 1,
            Dtype::F32 { .. } => 4,
            Dtype::F64 { .. } => 8,
        }
    }

    /// Bytes of floats as f32; a u8 is taken as a number.
    pub(super) fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        let four = |b: &[u8]| [b[0], b[1], b[2], b[3]];
        let eight = |b: &[u8]| [b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]];
        match self {
            Dtype::U8 => bytes.iter().map(|&b| b.into()).collect(),
            Dtype::F32 { big_endian: false } => {
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes(four(b))).collect()
            }
            Dtype::F32 { big_endian: true } => {
                bytes.chunks_exact(4).map(|b| f32::from_be_bytes(four(b))).collect()
            }
            Dtype::F64 { big_endian: false } => {
                bytes.chunks_exact(8).map(|b| f64::from_le_bytes(eight(b)) as f32).collect()
            }
            Dtype::F64 { big_endian: true } => {
                bytes.chunks_exact(8).map(|b| f64::from_be_bytes(eight(b)) as f32).collect()
            }
        }
    }
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Bytes of the elements.
    pub(super) bytes: u64,
    /// Bytes of the header.
    pub(super) offset: u64,
}

/// Reads the header and leaves `reader` before the first element.
pub(super) fn read_header(reader: &mut dyn Read) -> std::result::Result<Header, String> {
    let cut = |e: std::io::Error| format!("the .npy header is cut off ({e})");
    let mut start = [0; 8];
    reader.read_exact(&mut start).map_err(cut)?;
    if &start[..6] != b"\x93NUMPY" {
        return Err("not an .npy file: write it with numpy.save".into());
    }
    let mut size = vec![0; if start[6] == 1 { 2 } else { 4 }];
    reader.read_exact(&mut size).map_err(cut)?;
    let length = size.iter().rev().fold(0usize, |n, &b| n << 8 | b as usize);
    if !(1..=3).contains(&start[6]) || length > MAX_HEADER {
        return Err(format!(
            "version {} with a header of {length} bytes is not read: use numpy.save",
            start[6]
        ));
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).map_err(cut)?;
    let text = String::from_utf8(text).map_err(|_| "the .npy header is not text")?;
    let (dtype, shape) = parse(&text)?;
    let elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64));
    let bytes = elements.and_then(|n| n.checked_mul(dtype.bytes() as u64));
    let bytes = bytes.ok_or_else(|| format!("the shape {shape:?} is too large"))?;
    Ok(Header { dtype, shape, bytes, offset: (start.len() + size.len() + length) as u64 })
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }`
fn parse(text: &str) -> std::result::Result<(Dtype, Vec<usize>), String> {
    let after = |key: &str| {
        let value = text.split_once(key).map(|(_, rest)| rest.trim_start_matches([' ', ':']));
        value.ok_or_else(|| format!("the .npy header has no {key}"))
    };
    let descr = after("'descr'")?;
    let quoted = descr.strip_prefix('\'').and_then(|d| d.split_once('\'')).map(|(d, _)| d);
    let dtype = match quoted {
        Some("|u1" | "<u1" | ">u1" | "u1") => Dtype::U8,
        Some("<f4") => Dtype::F32 { big_endian: false },
        Some(">f4") => Dtype::F32 { big_endian: true },
        Some("<f8") => Dtype::F64 { big_endian: false },
        Some(">f8") => Dtype::F64 { big_endian: true },
        _ => {
            let what = quoted.unwrap_or("a structure");
            return Err(format!("elements of type {what} are not read: use .astype(numpy.float32)"));
        }
    };
    if !after("'fortran_order'")?.starts_with("False") {
        return Err("column-major order is not read: save numpy.ascontiguousarray of it".into());
    }
    let shape = after("'shape'")?;
    let inside = shape.strip_prefix('(').and_then(|s| s.split_once(')')).map(|(s, _)| s);
    let inside = inside.ok_or("the .npy header has no shape")?;
    let extents = inside.split(',').map(str::trim).filter(|s| !s.is_empty()).map(|s| s.parse().ok());
    let shape =
        extents.collect::<Option<Vec<usize>>>().ok_or_else(|| format!("the shape ({inside}) is not read"))?;
    Ok((dtype, shape))
}

/// Writes f32 elements of a shape as `.npy`, as numpy.save does.
///
/// # Errors
/// The file cannot be written. Panics if the elements do not fill the shape.
pub fn write_npy(path: &Path, shape: &[usize], data: &[f32]) -> Result<()> {
    assert_eq!(shape.iter().product::<usize>(), data.len(), "data does not fill {shape:?}");
    let extents: Vec<String> = shape.iter().map(|d| format!("{d},")).collect();
    let mut text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", extents.join(" "));
    // The elements start at a multiple of 64 bytes; magic, version and length take 10, the newline 1.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 11;
    text.extend(std::iter::repeat_n(' ', padded - text.len()));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    let Ok(length) = u16::try_from(text.len()) else {
        return Err(failure(path, format!("{} axes are too many for .npy", shape.len())));
    };
    bytes.extend(length.to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
    let write = std::fs::File::create(path).and_then(|mut f| f.write_all(&bytes));
    write.map_err(|e| failure(path, format!("cannot be written ({e})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_numpy_writes() {
        let of = |text| parse(text).unwrap();
        let le = Dtype::F32 { big_endian: false };
        assert_eq!(
            of("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 2), }   \n"),
            (le, vec![1, 3, 2])
        );
        assert_eq!(of("{'descr': '|u1', 'fortran_order': False, 'shape': (5,), }"), (Dtype::U8, vec![5]));
        let be = Dtype::F64 { big_endian: true };
        assert_eq!(of("{'descr': '>f8', 'fortran_order': False, 'shape': (), }"), (be, vec![]));
    }

    #[test]
    fn refuses_the_rest_with_a_cure() {
        let of = |text| parse(text).unwrap_err();
        assert!(of("{'descr': '<i8', 'fortran_order': False, 'shape': (5,), }").contains("astype"));
        assert!(
            of("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (5,), }").contains("a structure")
        );
        assert!(of("{'descr': '<f4', 'fortran_order': True, 'shape': (5,), }").contains("ascontiguousarray"));
        assert!(of("{'descr': '<f4', 'fortran_order': False, 'shape': (-5,), }").contains("shape"));
        assert!(of("{'descr': '<f4', 'fortran_order': False}").contains("'shape'"));
        assert!(of("").contains("'descr'"));
        let header = |text: &str| {
            let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
            bytes.extend((text.len() as u16).to_le_bytes());
            bytes.extend(text.as_bytes());
            read_header(&mut bytes.as_slice())
        };
        let huge = "{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }";
        assert!(header(huge).unwrap_err().contains("too large"));
        assert!(
            read_header(&mut b"\x93NUMPY\x02\x00\xff\xff\xff\xff".as_slice())
                .unwrap_err()
                .contains("not read")
        );
        assert!(read_header(&mut b"\x93NUM".as_slice()).unwrap_err().contains("cut off"));
        assert!(read_header(&mut b"PK\x03\x04....".as_slice()).unwrap_err().contains("not an .npy"));
    }
}
