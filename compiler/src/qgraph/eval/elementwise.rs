//! Functions of one element, or of two elements of operands that broadcast.

use super::super::{BlobId, FloatBinary};
use super::moves::{offsets, row_major};
use super::{Data, Site, clamp};
use qgraph_runtime::functions::Unary;
use qgraph_runtime::requant::{self, fma, quantize_value};
use std::borrow::Cow;

pub(super) fn quantize(site: &Site) -> Data {
    let (scale, zero) = site.result_scale();
    let rounding = site.graph.rounding;
    Data::U8(site.data(0).f32().iter().map(|&x| rounding.quantize(x, scale, zero)).collect())
}

pub(super) fn dequantize(site: &Site) -> Data {
    let (scale, zero) = site.scale(0);
    Data::F32(site.data(0).u8().iter().map(|&q| requant::dequantize(q, scale, zero)).collect())
}

pub(super) fn affine(site: &Site, scale: BlobId, offset: BlobId, lo: f32, hi: f32) -> Data {
    let (scale, offset) = (site.graph.blob_f32(scale), site.graph.blob_f32(offset));
    match site.data(0) {
        Data::F32(x) => {
            Data::F32(by_channel(x, site.shape(0), |x, c| clamp(fma(x, scale[c], offset[c]), lo, hi)))
        }
        Data::U8(x) => Data::U8(by_channel(x, site.shape(0), |q, c| {
            quantize_value(fma(q as f32, scale[c], offset[c]), lo as u8, hi as u8)
        })),
    }
}

pub(super) fn prelu(site: &Site, slope: BlobId) -> Data {
    let slope = site.graph.blob_f32(slope);
    let f = |x: f32, c: usize| {
        let low = if x < 0.0 { x } else { 0.0 };
        let high = if x > 0.0 { x } else { 0.0 };
        fma(low, slope[c], high)
    };
    Data::F32(by_channel(site.data(0).f32(), site.shape(0), f))
}

/// `f(element, channel)` with channels along axis 1.
fn by_channel<T: Copy>(x: &[T], shape: &[usize], f: impl Fn(T, usize) -> T) -> Vec<T> {
    let inner: usize = shape[2..].iter().product();
    let rows = x.chunks_exact(inner).zip((0..shape[1]).cycle());
    rows.flat_map(|(row, c)| row.iter().map(move |&x| (x, c))).map(|(x, c)| f(x, c)).collect()
}

pub(super) fn add(site: &Site, [a, b, k]: [f32; 3], lo: u8, hi: u8) -> Data {
    let (x, y) = (expand(site, 0, Data::u8), expand(site, 1, Data::u8));
    let f = |(&x, &y): (&u8, &u8)| quantize_value(fma(y as f32, b, fma(x as f32, a, k)), lo, hi);
    Data::U8(x.iter().zip(&*y).map(f).collect())
}

pub(super) fn mul(site: &Site, scale: f32, lo: u8, hi: u8) -> Data {
    let (x, y) = (expand(site, 0, Data::u8), expand(site, 1, Data::u8));
    let (za, zb) = (i32::from(site.scale(0).1), i32::from(site.scale(1).1));
    let z = f32::from(site.result_scale().1);
    let f = |(&x, &y): (&u8, &u8)| {
        requant::requantize((i32::from(x) - za) * (i32::from(y) - zb), scale, z, lo, hi)
    };
    Data::U8(x.iter().zip(&*y).map(f).collect())
}

pub(super) fn binary(site: &Site, op: FloatBinary, lo: f32, hi: f32) -> Data {
    let (x, y) = (expand(site, 0, Data::f32), expand(site, 1, Data::f32));
    let f: fn(f32, f32) -> f32 = match op {
        FloatBinary::Add => |a, b| a + b,
        FloatBinary::Sub => |a, b| a - b,
        FloatBinary::Mul => |a, b| a * b,
        FloatBinary::Div => |a, b| a / b,
    };
    Data::F32(x.iter().zip(&*y).map(|(&a, &b)| clamp(f(a, b), lo, hi)).collect())
}

pub(super) fn table(site: &Site, table: BlobId) -> Data {
    let tables = site.graph.blob_bytes(table);
    let count = tables.len() / 256;
    // Elements that share a table follow each other.
    let run = if count > 1 { site.shape(0)[2..].iter().product() } else { usize::MAX };
    let tables = tables.chunks(256).cycle();
    let runs = site.data(0).u8().chunks(run).zip(tables);
    Data::U8(runs.flat_map(|(run, table)| run.iter().map(|&q| table[usize::from(q)])).collect())
}

pub(super) fn unary(site: &Site, f: Unary) -> Data {
    Data::F32(site.data(0).f32().iter().map(|&x| f.eval(x)).collect())
}

/// Operand `i` repeated to the shape of the result.
fn expand<'a, T: Copy>(site: &Site<'a>, i: usize, get: fn(&Data) -> &[T]) -> Cow<'a, [T]> {
    let (x, shape, result) = (get(site.data(i)), site.shape(i), site.result());
    if shape == result {
        return Cow::Borrowed(x);
    }
    let mut strides = vec![0; result.len()];
    let aligned = strides[result.len() - shape.len()..].iter_mut();
    for (out, (stride, &extent)) in aligned.zip(row_major(shape).into_iter().zip(shape)) {
        *out = if extent == 1 { 0 } else { stride };
    }
    Cow::Owned(offsets(result, &strides, 0).map(|o| x[o]).collect())
}
