//! Content of a `TensorProto`.
//!
//! In: an untrusted message and where external data may come from. Out: a [`Literal`], or why not. Holds: the count that
//! the extents promise is compared with the bytes that are there before anything is allocated; the bytes decoded in one
//! import are capped. Not here: whether floats are finite (bounds of a Clip may be infinite; weights are checked when
//! they enter the graph).

use super::Outcome;
use super::external::Folder;
use super::literal::{Elements, Literal, count};
use super::proto::{TensorProto, data_type};

/// Most bytes of tensor content decoded in one import. External data can be named by many tensors, so the size of the
/// model file alone does not bound it.
const MAX_BYTES: u64 = 8 << 30;

/// Decodes tensors, counting bytes.
pub(super) struct Reader {
    folder: Option<Folder>,
    bytes: u64,
}

impl Reader {
    /// A reader that finds external data in `folder` only.
    pub(super) fn new(folder: Option<Folder>) -> Self {
        Reader { folder, bytes: 0 }
    }

    /// The content of `tensor`.
    pub(super) fn read(&mut self, tensor: &TensorProto) -> Outcome<Literal> {
        let shape = tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
        let shape = shape.map_err(|_| format!("negative extent in {:?}", tensor.dims))?;
        let elements = count(&shape)?;
        let width = width(tensor.data_type)?;
        let bytes = elements as u64 * width as u64;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > MAX_BYTES {
            return Err(format!("the tensors up to this one hold more than {} GiB", MAX_BYTES >> 30));
        }
        let data = if tensor.data_location == 1 {
            let folder = self.folder.as_ref().ok_or(
                "its content is in another file, which a model read from memory cannot have: import it by path",
            )?;
            from_raw(tensor.data_type, &folder.read(&tensor.external_data, bytes)?)?
        } else if !tensor.raw_data.is_empty() {
            if tensor.raw_data.len() as u64 != bytes {
                return Err(format!(
                    "{:?} elements of {} take {bytes} bytes, but there are {}",
                    shape,
                    data_type::name(tensor.data_type),
                    tensor.raw_data.len()
                ));
            }
            from_raw(tensor.data_type, &tensor.raw_data)?
        } else {
            from_fields(tensor, elements)?
        };
        Ok(Literal { ty: tensor.data_type, ..Literal::new(shape, data) })
    }
}

/// Bytes of an element.
fn width(ty: i32) -> Outcome<usize> {
    use data_type::*;
    match ty {
        UINT8 | INT8 | BOOL => Ok(1),
        UINT16 | INT16 | FLOAT16 | BFLOAT16 => Ok(2),
        FLOAT | INT32 | UINT32 => Ok(4),
        DOUBLE | INT64 | UINT64 => Ok(8),
        _ => Err(format!("tensors of {} (type {ty}) are not supported", name(ty))),
    }
}

fn from_raw(ty: i32, raw: &[u8]) -> Outcome<Elements> {
    use data_type::*;
    fn each<const N: usize, T>(raw: &[u8], f: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
        raw.as_chunks::<N>().0.iter().map(move |&bytes| f(bytes))
    }
    let ints = |data: Vec<i64>| Elements::Int(data.into());
    Ok(match ty {
        FLOAT => Elements::Float(each(raw, f32::from_le_bytes).collect()),
        DOUBLE => Elements::Float(each(raw, |b| f64::from_le_bytes(b) as f32).collect()),
        FLOAT16 => Elements::Float(each(raw, |b| half_to_f32(u16::from_le_bytes(b))).collect()),
        BFLOAT16 => Elements::Float(each(raw, |b| bfloat_to_f32(u16::from_le_bytes(b))).collect()),
        UINT8 | BOOL => ints(each(raw, |b| u8::from_le_bytes(b) as i64).collect()),
        INT8 => ints(each(raw, |b| i8::from_le_bytes(b) as i64).collect()),
        UINT16 => ints(each(raw, |b| u16::from_le_bytes(b) as i64).collect()),
        INT16 => ints(each(raw, |b| i16::from_le_bytes(b) as i64).collect()),
        UINT32 => ints(each(raw, |b| u32::from_le_bytes(b) as i64).collect()),
        INT32 => ints(each(raw, |b| i32::from_le_bytes(b) as i64).collect()),
        INT64 => ints(each(raw, i64::from_le_bytes).collect()),
        UINT64 => ints(each(raw, u64::from_le_bytes).map(signed).collect::<Outcome<_>>()?),
        _ => return width(ty).map(|_| ints(vec![])),
    })
}

fn from_fields(tensor: &TensorProto, elements: usize) -> Outcome<Elements> {
    use data_type::*;
    let counted = |found: usize| {
        if found == elements {
            Ok(())
        } else {
            Err(format!("{:?} promises {elements} elements, but there are {found}", tensor.dims))
        }
    };
    let bits = |convert: fn(u16) -> f32| {
        counted(tensor.int32_data.len())?;
        Ok(Elements::Float(tensor.int32_data.iter().map(|&x| convert(x as u16)).collect()))
    };
    match tensor.data_type {
        FLOAT => {
            counted(tensor.float_data.len())?;
            Ok(Elements::Float(tensor.float_data.as_slice().into()))
        }
        DOUBLE => {
            counted(tensor.double_data.len())?;
            Ok(Elements::Float(tensor.double_data.iter().map(|&x| x as f32).collect()))
        }
        FLOAT16 => bits(half_to_f32),
        BFLOAT16 => bits(bfloat_to_f32),
        INT64 => {
            counted(tensor.int64_data.len())?;
            Ok(Elements::Int(tensor.int64_data.as_slice().into()))
        }
        UINT32 | UINT64 => {
            counted(tensor.uint64_data.len())?;
            Ok(Elements::Int(tensor.uint64_data.iter().map(|&x| signed(x)).collect::<Outcome<_>>()?))
        }
        _ => {
            counted(tensor.int32_data.len())?;
            Ok(Elements::Int(tensor.int32_data.iter().map(|&x| x as i64).collect()))
        }
    }
}

fn signed(x: u64) -> Outcome<i64> {
    i64::try_from(x).map_err(|_| format!("{x} does not fit 64 bits with a sign"))
}

fn bfloat_to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

fn half_to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) = ((bits >> 15) as u32, (bits >> 10) as u32 & 31, bits as u32 & 1023);
    match exponent {
        // Subnormals are multiples of 2^-24, exact in f32.
        0 => {
            let magnitude = fraction as f32 * f32::from_bits((127 - 24) << 23);
            if sign == 1 { -magnitude } else { magnitude }
        }
        31 => f32::from_bits(sign << 31 | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign << 31 | (exponent + 127 - 15) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x83ff, -6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
        ] {
            assert_eq!(half_to_f32(bits), value, "{bits:#06x}");
        }
        assert!(half_to_f32(0x8000).is_sign_negative());
        assert!(half_to_f32(0x7e00).is_nan());
        assert_eq!(bfloat_to_f32(0x3fc0), 1.5);
    }

    #[test]
    fn every_type_raw_and_in_fields() {
        use data_type::*;
        let read = |t: TensorProto| Reader::new(None).read(&t).map(|l| l.data);
        let tensor = |data_type| TensorProto { dims: vec![2], data_type, ..Default::default() };
        let raw = |ty, bytes: &[u8]| read(TensorProto { raw_data: bytes.to_vec().into(), ..tensor(ty) });
        let ints = |x: [i64; 2]| Ok(Elements::Int(x.to_vec().into()));
        let floats = |x: [f32; 2]| Ok(Elements::Float(x.to_vec().into()));
        assert_eq!(raw(UINT8, &[200, 1]), ints([200, 1]));
        assert_eq!(raw(INT8, &[200, 1]), ints([-56, 1]));
        assert_eq!(raw(BOOL, &[1, 0]), ints([1, 0]));
        assert_eq!(raw(UINT16, &[0, 200, 1, 0]), ints([51200, 1]));
        assert_eq!(raw(INT16, &[0, 200, 1, 0]), ints([-14336, 1]));
        assert_eq!(raw(INT32, &[255, 255, 255, 255, 1, 0, 0, 0]), ints([-1, 1]));
        assert_eq!(raw(UINT32, &[255, 255, 255, 255, 1, 0, 0, 0]), ints([4294967295, 1]));
        assert_eq!(raw(FLOAT16, &[0, 0x3c, 0, 0xc0]), floats([1.0, -2.0]));
        assert_eq!(raw(BFLOAT16, &[0x80, 0x3f, 0, 0xc0]), floats([1.0, -2.0]));
        let doubles = [1.5f64.to_le_bytes(), (-2.0f64).to_le_bytes()].concat();
        assert_eq!(raw(DOUBLE, &doubles), floats([1.5, -2.0]));
        assert!(raw(UINT64, &[255; 16]).unwrap_err().contains("64 bits"));
        assert!(raw(FLOAT, &[0; 7]).unwrap_err().contains("8 bytes"));
        assert!(raw(STRING, &[0; 7]).unwrap_err().contains("string"));
        assert_eq!(read(TensorProto { int32_data: vec![0x3c00, 0], ..tensor(FLOAT16) }), floats([1.0, 0.0]));
        assert_eq!(read(TensorProto { int32_data: vec![-3, 0], ..tensor(INT8) }), ints([-3, 0]));
        assert_eq!(read(TensorProto { int64_data: vec![-3, 0], ..tensor(INT64) }), ints([-3, 0]));
        assert_eq!(read(TensorProto { uint64_data: vec![3, 0], ..tensor(UINT32) }), ints([3, 0]));
        assert_eq!(read(TensorProto { double_data: vec![3.0, 0.0], ..tensor(DOUBLE) }), floats([3.0, 0.0]));
        assert!(read(tensor(FLOAT)).unwrap_err().contains("promises 2"));
        let huge = TensorProto { dims: vec![i64::MAX, i64::MAX, 2], ..tensor(FLOAT) };
        assert!(read(huge).unwrap_err().contains("elements"));
        assert!(read(TensorProto { dims: vec![-1], ..tensor(FLOAT) }).unwrap_err().contains("negative"));
    }
}
