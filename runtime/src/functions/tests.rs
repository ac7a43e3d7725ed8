//! The functions against their definitions in f64, on strided data with guards between and behind the elements; footprints to the byte.

use super::*;
use crate::math;
use crate::requant::fma;
use crate::sweep::{Random, digest, floats, patterns, ulps};
use std::vec;
use std::vec::Vec;

/// What nobody may read or change.
const GUARD: f32 = f32::from_bits(0x7fc0_dead);

/// Runs on buffers that end where the footprint does; checks that no guard was changed, and that one element less is refused.
/// `place(i)` is where element `i` of src lies, in f32s; the rest of src and all of dst are guards before.
fn run(f: &Function, src: &[f32], place: impl Fn(usize) -> usize, taps: [&[Tap]; 2]) -> Vec<f32> {
    let mut x = vec![GUARD; f.footprint(0).0 / 4];
    src.iter().enumerate().for_each(|(i, &v)| x[place(i)] = v);
    let mut y = vec![GUARD; f.footprint(1).1 / 4];
    f.run_on(&x, &mut y, taps);
    let short = |x: &[f32], mut y: Vec<f32>| {
        std::panic::catch_unwind(move || f.run_on(x, &mut y, taps)).expect_err("a short slice is refused");
    };
    short(&x[1..], y.clone());
    short(&x, y[1..].to_vec());
    y
}

/// All elements of a strided block that starts at 0: indices in order of the extents.
fn places(extents: &[usize], strides: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    for (&n, &s) in extents.iter().zip(strides) {
        places = places.iter().flat_map(|&p| (0..n).map(move |i| p + i * s / 4)).collect();
    }
    places
}

/// The elements at the places; everything else is still a guard.
fn elements(y: &[f32], places: &[usize]) -> Vec<f32> {
    for (i, v) in y.iter().enumerate().filter(|(i, _)| !places.contains(i)) {
        assert_eq!(v.to_bits(), GUARD.to_bits(), "element {i} is not the function's to write");
    }
    places.iter().map(|&p| y[p]).collect()
}

fn numbers(n: usize, scale: f32) -> Vec<f32> {
    let mut random = Random(n as u64);
    (0..n).map(|_| random.within(-1 << 20, 1 << 20) as f32 / (1 << 20) as f32 * scale).collect()
}

fn close(got: &[f32], want: &[f64], error: f64) {
    assert_eq!(got.len(), want.len());
    for (i, (&g, &w)) in got.iter().zip(want).enumerate() {
        assert!((g as f64 - w).abs() <= error * w.abs(), "element {i}: {g}, not {w}");
    }
}

#[test]
fn softmax_along_any_axis() {
    // [2, 3, 2] outer points, 5 elements each, the axis between the outer ones; src with gaps.
    let (outer, len) = ([2, 3, 2], 5);
    let f = Function::Softmax {
        outer,
        src_outer: [400, 8, 100],
        dst_outer: [240, 4, 60],
        len,
        src_stride: 20,
        dst_stride: 12,
    };
    let x = numbers(60, 6.0);
    let order = [2, 3, 2, 5];
    let (from, to) = (places(&order, &[400, 8, 100, 20]), places(&order, &[240, 4, 60, 12]));
    let y = elements(&run(&f, &x, |i| from[i], [&[], &[]]), &to);
    for (x, y) in x.chunks(len).zip(y.chunks(len)) {
        let max = x.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v as f64));
        let e: Vec<f64> = x.iter().map(|&v| (v as f64 - max).exp()).collect();
        let sum: f64 = e.iter().sum();
        close(y, &e.iter().map(|e| e / sum).collect::<Vec<_>>(), 5e-7);
        // To the bit: one exponential and one division each, the sum in the order of the elements.
        let max = x.iter().copied().fold(f32::MIN, f32::max);
        let e: Vec<f32> = x.iter().map(|&v| math::exp(v - max)).collect();
        let sum = e.iter().fold(0.0, |sum, e| sum + e);
        assert_eq!(y, e.iter().map(|e| e / sum).collect::<Vec<_>>());
    }
}

#[test]
fn softmax_of_extremes() {
    let of = |x: &[f32]| {
        let f = Function::Softmax {
            outer: [1; 3],
            src_outer: [0; 3],
            dst_outer: [0; 3],
            len: x.len(),
            src_stride: 4,
            dst_stride: 4,
        };
        run(&f, x, |i| i, [&[], &[]])
    };
    assert_eq!(of(&[3e38, 3e38, -3e38]), [0.5, 0.5, 0.0]);
    assert_eq!(of(&[f32::NEG_INFINITY, 7.0, -200.0]), [0.0, 1.0, 0.0]);
    assert_eq!(of(&[-3e38]), [1.0]);
    assert!(of(&[1.0, f32::NAN, 2.0]).iter().all(|y| y.is_nan()));
}

#[test]
fn peaks_are_over_all_elements() {
    // Pixels with gaps and without, more and fewer numbers than lanes.
    for (outer, steps, channels) in
        [([2, 3], [400, 100], 21), ([3, 5], [204, 36], 9), ([2, 4], [40, 8], 2), ([1, 1], [0, 0], 1)]
    {
        let f = Function::Peak { outer, src_outer: steps, channels };
        let count = outer[0] * outer[1] * channels;
        let from = places(&[outer[0], outer[1], channels], &[steps[0], steps[1], 4]);
        let x = numbers(count, 3.0);
        for at in [0, count / 2, count - 1] {
            let mut x = x.clone();
            x[at] = -8.5;
            assert_eq!(run(&f, &x, |i| from[i], [&[], &[]]), [8.5]);
        }
        assert_eq!(run(&f, &vec![-0.0; count], |i| from[i], [&[], &[]]), [2f32.powi(-100)]);
    }
}

#[test]
fn lrn_is_the_onnx_definition() {
    let (outer, channels) = ([2, 3], 7);
    for size in [1, 2, 3, 4, 5, 8, 20] {
        let (alpha, beta, bias) = (0.6, 0.75, 1.5);
        let f = Function::Lrn {
            outer,
            src_outer: [120, 40],
            dst_outer: [192, 64],
            channels,
            steps: [4, 8],
            size,
            alpha,
            beta,
            bias,
        };
        let x = numbers(42, 3.0);
        let from = places(&[2, 3, 7], &[120, 40, 4]);
        let to = places(&[2, 3, 7], &[192, 64, 8]);
        let y = elements(&run(&f, &x, |i| from[i], [&[], &[]]), &to);
        let want: Vec<f64> = (0..42)
            .map(|i| {
                let (pixel, c) = (i / 7 * 7, (i % 7) as f64);
                // floor((size − 1)/2) channels before, ceil((size − 1)/2) behind.
                let (before, behind) = (((size - 1) as f64 / 2.0).floor(), ((size - 1) as f64 / 2.0).ceil());
                let window = (0..7).filter(|&k| k as f64 >= c - before && k as f64 <= c + behind);
                let sum: f64 = window.map(|k| (x[pixel + k] as f64).powi(2)).sum();
                x[i] as f64 / (bias as f64 + alpha as f64 / size as f64 * sum).powf(beta as f64)
            })
            .collect();
        close(&y, &want, 1e-6);
    }
}

#[test]
fn resize_mixes_along_columns_then_rows() {
    let tap = |lo, hi, frac| Tap { lo, hi, frac };
    let rows = [tap(0, 0, 0.0), tap(0, 1, 0.3), tap(1, 2, 0.75), tap(2, 9, 0.5)];
    let cols = [tap(1, 0, 0.25), tap(1, 1, 0.9), tap(7, 8, 0.1)];
    let f = Function::ResizeLinear {
        output: [4, 3],
        channels: 2,
        src_strides: [48, 16, 8],
        dst_strides: [40, 12, 4],
        input: [3, 2],
    };
    assert_eq!((f.footprint(2), f.footprint(3)), ((4 * 12, 0), (3 * 12, 0)));
    let x = numbers(12, 10.0);
    let from = places(&[3, 2, 2], &[48, 16, 8]);
    let to = places(&[4, 3, 2], &[40, 12, 4]);
    let y = elements(&run(&f, &x, |i| from[i], [&rows, &cols]), &to);
    for (i, &got) in y.iter().enumerate() {
        let (r, c, channel) = (rows[i / 6], cols[i / 2 % 3], i % 2);
        // Indices beyond the input are its last.
        let at = |row: u32, col: u32| x[(row.min(2) * 4 + col.min(1) * 2) as usize + channel];
        let line = |row| fma(at(row, c.hi) - at(row, c.lo), c.frac, at(row, c.lo));
        let (top, bottom) = (line(r.lo), line(r.hi));
        assert_eq!(got, fma(bottom - top, r.frac, top), "element {i}");
        let real = |row, col| at(row, col) as f64;
        let line = |row| real(row, c.lo) * (1.0 - c.frac as f64) + real(row, c.hi) * c.frac as f64;
        let want = line(r.lo) * (1.0 - r.frac as f64) + line(r.hi) * r.frac as f64;
        assert!((got as f64 - want).abs() < 1e-5, "element {i}: {got}, not {want}");
    }
}

#[test]
fn too_few_taps_are_refused() {
    let taps = [Tap { lo: 0, hi: 0, frac: 0.0 }; 3];
    let f = Function::ResizeLinear {
        output: [3, 3],
        channels: 1,
        src_strides: [4, 4, 4],
        dst_strides: [12, 4, 4],
        input: [1, 1],
    };
    for short in [[&taps[1..], &taps], [&taps, &taps[1..]]] {
        let refused = std::panic::catch_unwind(|| f.run_on(&[1.0], &mut [0.0; 9], short));
        assert!(refused.is_err());
    }
    let mut y = [0.0; 9];
    f.run_on(&[1.0], &mut y, [&taps, &taps]);
    assert_eq!(y, [1.0; 9]);
}

#[test]
fn unary_over_rows_and_in_place() {
    let f = Function::Unary { unary: Unary::Silu, rows: 3, len: 4, src_stride: 24, dst_stride: 20 };
    let x = numbers(12, 4.0);
    let (from, to) = (places(&[3, 4], &[24, 4]), places(&[3, 4], &[20, 4]));
    let want: Vec<f32> = x.iter().map(|&v| Unary::Silu.eval(v)).collect();
    assert_eq!(elements(&run(&f, &x, |i| from[i], [&[], &[]]), &to), want);
    let f = Function::Unary { unary: Unary::Silu, rows: 3, len: 4, src_stride: 16, dst_stride: 16 };
    let mut y = x.clone();
    let p = y.as_mut_ptr().cast();
    // SAFETY: both pointers are the whole buffer, of 3 rows of 4; the function allows src and dst to be equal.
    unsafe { f.run(&[p, p]) };
    assert_eq!(y, want);
}

#[test]
fn nothing_is_touched_where_there_is_nothing() {
    let f = Function::Unary { unary: Unary::Exp, rows: 0, len: 4, src_stride: 16, dst_stride: 16 };
    let mut y = [GUARD; 4];
    f.run_on(&[1.0; 4], &mut y, [&[], &[]]);
    assert!(y.iter().all(|v| v.to_bits() == GUARD.to_bits()));
    // Extents that would overflow are a footprint that nothing can hold.
    let all = usize::MAX;
    let f = Function::Unary { unary: Unary::Exp, rows: all, len: all, src_stride: all, dst_stride: all };
    assert_eq!((f.footprint(0).0, f.footprint(1).1), (all, all));
}

/// A function, its definition in f64, and what its values lie between (fusion builds on that).
type Case = (Unary, fn(f64) -> f64, [f32; 2]);

const INFINITY: f32 = f32::INFINITY;

const CASES: [Case; 18] = [
    (Unary::Relu, |x| x.max(0.0), [0.0, INFINITY]),
    (Unary::Clip { lo: -1.5, hi: 6.0 }, |x| x.clamp(-1.5, 6.0), [-1.5, 6.0]),
    (Unary::LeakyRelu { alpha: 0.25 }, |x| if x < 0.0 { x * 0.25 } else { x }, [-INFINITY, INFINITY]),
    (Unary::Elu { alpha: 1.5 }, |x| if x < 0.0 { 1.5 * x.exp_m1() } else { x }, [-1.5, INFINITY]),
    (Unary::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), [0.0, 1.0]),
    (Unary::HardSigmoid { alpha: 0.25, beta: 0.5 }, |x| (0.25 * x + 0.5).clamp(0.0, 1.0), [0.0, 1.0]),
    (Unary::HardSwish, |x| x * ((x + 3.0) / 6.0).clamp(0.0, 1.0), [-0.375, INFINITY]),
    (Unary::Tanh, f64::tanh, [-1.0, 1.0]),
    (Unary::Softplus, softplus, [0.0, INFINITY]),
    (Unary::Mish, |x| x * softplus(x).tanh(), [-0.309, INFINITY]),
    (Unary::Gelu, gelu, [-0.170, INFINITY]),
    (Unary::GeluTanh, gelu_tanh, [-0.171, INFINITY]),
    (Unary::Silu, |x| x / (1.0 + (-x).exp()), [-0.279, INFINITY]),
    (Unary::Square, |x| x * x, [0.0, INFINITY]),
    (Unary::Sqrt, f64::sqrt, [0.0, INFINITY]),
    (Unary::Abs, f64::abs, [0.0, INFINITY]),
    (Unary::Exp, f64::exp, [0.0, INFINITY]),
    (Unary::Erf, |x| math::tests::erf_reference(x.abs()).copysign(x), [-1.0, 1.0]),
];

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// x·Φ(x), where Φ(x) = erfc(−x/√2)/2.
fn gelu(x: f64) -> f64 {
    let a = x.abs() * core::f64::consts::FRAC_1_SQRT_2;
    let tail = 0.5 * math::tests::erfc_reference(a);
    if x < 0.0 { x * tail } else { x * (1.0 - tail) }
}

fn gelu_tanh(x: f64) -> f64 {
    let y = (2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
    x / (1.0 + (-2.0 * y).exp())
}

#[test]
fn unary_functions_are_exact_to_the_rounding() {
    for (f, exact, [low, high]) in CASES {
        // Two roundings; and a sum that cancels near −3, in f64.
        let bound = match f {
            Unary::HardSigmoid { .. } => 1.0,
            Unary::HardSwish => 0.51,
            _ => 0.5001,
        };
        let dense = floats(1e-6..=128.0, 401);
        for x in dense.chain(patterns(20_011)).filter(|x| x.is_finite()) {
            let got = f.eval(x);
            let error = ulps(got, exact(x as f64));
            assert!(error <= bound, "{f}: {error} units in the last place at {x:e}");
            assert!(got >= low && got <= high || got.is_nan(), "{f}({x:e}) = {got}");
        }
    }
}

#[test]
fn unary_functions_at_the_ends() {
    // At −∞ and ∞.
    let limits = [
        [0.0, INFINITY],
        [-1.5, 6.0],
        [-INFINITY, INFINITY],
        [-1.5, INFINITY],
        [0.0, 1.0],
        [0.0, 1.0],
        [0.0, INFINITY],
        [-1.0, 1.0],
        [0.0, INFINITY],
        [0.0, INFINITY],
        [0.0, INFINITY],
        [0.0, INFINITY],
        [0.0, INFINITY],
        [INFINITY, INFINITY],
        [f32::NAN, INFINITY],
        [INFINITY, INFINITY],
        [0.0, INFINITY],
        [-1.0, 1.0],
    ];
    for ((f, ..), limits) in CASES.into_iter().zip(limits) {
        assert!(f.eval(f32::NAN).is_nan(), "{f}(NaN)");
        for (x, want) in [-INFINITY, INFINITY].into_iter().zip(limits) {
            let got = f.eval(x);
            assert!(got == want || got.is_nan() && want.is_nan(), "{f}({x}) = {got}, not {want}");
        }
        // Zeros and subnormals: nothing is lost or invented.
        for x in [0.0, -0.0, f32::from_bits(1), -f32::from_bits(1)] {
            let (got, exact) = (f.eval(x), CASES.iter().find(|c| c.0 == f).unwrap().1(x as f64));
            assert!(
                got == exact as f32 || got.is_nan() && exact.is_nan(),
                "{f}({x:e}) = {got:e}, not {exact:e}"
            );
        }
    }
    // Bounds and slopes of every kind.
    let clip = Unary::Clip { lo: f32::NEG_INFINITY, hi: 1.0 };
    assert_eq!(
        (clip.eval(-INFINITY), clip.eval(2.0), clip.as_clamp()),
        (-INFINITY, 1.0, Some((-INFINITY, 1.0)))
    );
    assert_eq!(Unary::Relu.as_clamp(), Some((0.0, INFINITY)));
    assert_eq!(Unary::LeakyRelu { alpha: -2.0 }.eval(-3.0), 6.0);
    assert!(CASES[2..].iter().all(|(f, ..)| f.as_clamp().is_none()));
}

/// As in the tests of `math`: tables in model files were made from these bits.
#[test]
fn unary_bits_are_these() {
    let bits = digest(CASES.iter().flat_map(|(f, ..)| patterns(200_003).map(|x| f.eval(x))));
    assert_eq!(bits, 0x50f3_f254_7201_8284, "{bits:x}");
}
