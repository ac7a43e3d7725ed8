//! Constants while importing: float tensors (weights) and integer tensors (shapes, axes, indices).
//!
//! In: elements and extents. Out: the same elements moved about. Holds: as many elements as the product of the extents, at
//! most [`MAX_ELEMENTS`]; unlike in the graph an extent may be 0 and elements may be infinite. All integer types of ONNX and
//! BOOL are i64 here, all float types f32; their own type stands beside them. Floats may remember the integers that they stand for. Not here: reading them ([`super::tensor`]), arithmetic ([`super::fold`]).

use super::Outcome;
use super::proto::data_type;
use crate::graph::Integers;
use crate::graph::shape::MAX_ELEMENTS;
use std::sync::Arc;

/// A constant tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Literal {
    pub(super) shape: Vec<usize>,
    pub(super) data: Elements,
    /// ONNX type: as in the file, or the widest if it was computed.
    pub(super) ty: i32,
    /// Of dequantized floats.
    pub(super) integers: Option<Integers>,
}

/// What a literal holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Elements {
    Float(Arc<[f32]>),
    Int(Arc<[i64]>),
}

impl Elements {
    pub(super) fn len(&self) -> usize {
        match self {
            Elements::Float(x) => x.len(),
            Elements::Int(x) => x.len(),
        }
    }
}

impl Literal {
    /// Elements that fill `shape`; the caller has counted.
    pub(super) fn new(shape: impl Into<Vec<usize>>, data: Elements) -> Literal {
        let ty = match data {
            Elements::Float(_) => data_type::FLOAT,
            Elements::Int(_) => data_type::INT64,
        };
        Literal { shape: shape.into(), data, ty, integers: None }
    }

    /// Floats that fill `shape`; the caller has counted.
    pub(super) fn floats(shape: impl Into<Vec<usize>>, data: impl Into<Arc<[f32]>>) -> Literal {
        Literal::new(shape, Elements::Float(data.into()))
    }

    /// Integers that fill `shape`; the caller has counted.
    pub(super) fn ints(shape: impl Into<Vec<usize>>, data: impl Into<Arc<[i64]>>) -> Literal {
        Literal::new(shape, Elements::Int(data.into()))
    }

    /// A one-dimensional list of extents.
    pub(super) fn extents(extents: &[usize]) -> Literal {
        Literal::ints([extents.len()], extents.iter().map(|&n| n as i64).collect::<Vec<_>>())
    }

    /// The elements as integers, if they are.
    pub(super) fn as_ints(&self) -> Option<&[i64]> {
        match &self.data {
            Elements::Int(x) => Some(x),
            Elements::Float(_) => None,
        }
    }

    /// The elements as floats, if they are.
    pub(super) fn as_floats(&self) -> Option<&Arc<[f32]>> {
        match &self.data {
            Elements::Float(x) => Some(x),
            Elements::Int(_) => None,
        }
    }

    /// The element at each of `indices` (all below the count), in a new shape that they fill.
    pub(super) fn pick(&self, shape: Vec<usize>, indices: impl Iterator<Item = usize>) -> Literal {
        let Some(integers) = &self.integers else {
            let data = match &self.data {
                Elements::Float(x) => Elements::Float(indices.map(|i| x[i]).collect()),
                Elements::Int(x) => Elements::Int(indices.map(|i| x[i]).collect()),
            };
            return Literal { shape, data, ty: self.ty, integers: None };
        };
        let indices: Vec<usize> = indices.collect();
        let integers = Some(integers.pick(&shape, &indices));
        Literal { integers, ..Literal { integers: None, ..self.clone() }.pick(shape, indices.into_iter()) }
    }
}

/// Product of extents, refused above [`MAX_ELEMENTS`].
pub(super) fn count(shape: &[usize]) -> Outcome<usize> {
    // A zero anywhere makes the tensor empty, whatever the others multiply to.
    if shape.contains(&0) {
        return Ok(0);
    }
    let product = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    product
        .filter(|&n| n <= MAX_ELEMENTS)
        .ok_or_else(|| format!("a tensor of {shape:?} has more than {MAX_ELEMENTS} elements"))
}

/// Flat source index of every element of a strided view, in row-major order of `shape`: the sum of `offset` and
/// coordinate·stride. Every such sum must be a valid index of the source.
pub(super) fn walk(shape: &[usize], offset: usize, strides: &[isize]) -> impl Iterator<Item = usize> {
    let total: usize = if shape.contains(&0) { 0 } else { shape.iter().product() };
    let (shape, strides) = (shape.to_vec(), strides.to_vec());
    let mut coordinates = vec![0usize; shape.len()];
    let mut position = offset as isize;
    (0..total).map(move |_| {
        let here = position as usize;
        for axis in (0..shape.len()).rev() {
            coordinates[axis] += 1;
            position += strides[axis];
            if coordinates[axis] < shape[axis] {
                break;
            }
            position -= strides[axis] * shape[axis] as isize;
            coordinates[axis] = 0;
        }
        here
    })
}

/// Distance of neighbours along each axis of a dense tensor.
pub(super) fn dense_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1) as isize;
    }
    strides
}

/// Strides with which a tensor of `shape` is read as one of `output`, by numpy broadcasting (which must be possible).
pub(super) fn broadcast_strides(shape: &[usize], output: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; output.len() - shape.len()];
    strides.extend(dense_strides(shape).iter().zip(shape).map(|(&s, &n)| if n == 1 { 0 } else { s }));
    strides
}
