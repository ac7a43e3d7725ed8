//! Transposed convolution as an ordinary one.
//!
//! Along one axis, with stride s, dilation d and kernel K, the full output is `y[o] = Σ x[i]·w[k]` over `i·s + k·d = o`. Write `o = t·s + r` with phase
//! `0 ≤ r < s`: then `k·d = e·s + r` with `e ≥ 0`, and `i = t − e`. So phase r at position t is an ordinary convolution of x with the taps
//! `w[(e·s + r)/d]`, for e = 0..=E with `E = (K − 1)·d / s` (rounded down); taps where the division is not exact or beyond the kernel are zero.
//! Its kernel has E + 1 taps in the order e = E..0. All phases are channels of one convolution, phase-major; DepthToSpace interleaves them.
//!
//! Padding p and the output extent only say which `o` are wanted: `p ≤ o < p + out`. Positions start at `t0 = min(p / s, E)`, so the convolution
//! has `E − t0` rows of padding before; it ends at `t1 = (p + out − 1) / s`, so it has `max(t1 + 1 − in, 0)` after. DepthToSpace drops
//! `p − t0·s` rows at the top and what is left over at the bottom.
//!
//! Groups: phase-major channels of different groups cannot stay apart, so grouped weights become one group with zeros between.

use crate::graph::ConvTranspose;

/// Geometry of the ordinary convolution, per axis.
#[derive(Debug, PartialEq)]
pub(super) struct Phases {
    /// E + 1.
    pub(super) kernel: [usize; 2],
    /// Top, left, bottom, right.
    pub(super) pads: [usize; 4],
    /// Extents of its output.
    pub(super) positions: [usize; 2],
    /// Rows, columns to drop before.
    pub(super) crop: [usize; 2],
}

impl Phases {
    /// For an input and output of these extents (rows, columns).
    pub(super) fn of(conv: &ConvTranspose, input: [usize; 2], output: [usize; 2]) -> Self {
        let mut p = Phases { kernel: [0; 2], pads: [0; 4], positions: [0; 2], crop: [0; 2] };
        for a in 0..2 {
            let (stride, pad) = (conv.strides[a], conv.pads[a]);
            let last = (conv.kernel[a] - 1) * conv.dilations[a] / stride;
            let first_position = (pad / stride).min(last);
            let last_position = (pad + output[a] - 1) / stride;
            p.kernel[a] = last + 1;
            p.pads[a] = last - first_position;
            p.pads[a + 2] = (last_position + 1).saturating_sub(input[a]);
            p.positions[a] = input[a] + p.pads[a] + p.pads[a + 2] - last;
            p.crop[a] = pad - first_position * stride;
        }
        p
    }
}

/// Weights `[phases·M, C, E+1, E+1]` from `weight [C, M/groups, kh, kw]`.
pub(super) fn weights(
    conv: &ConvTranspose,
    phases: &Phases,
    weight: &[f32],
    channels: usize,
    outputs: usize,
) -> Vec<f32> {
    let ([kh, kw], [eh, ew]) = (conv.kernel, phases.kernel);
    let (ci, co) = (channels / conv.groups, outputs / conv.groups);
    let tap = |axis: usize, phase: usize, a: usize| {
        let k = (phases.kernel[axis] - 1 - a) * conv.strides[axis] + phase;
        let exact = k.is_multiple_of(conv.dilations[axis]) && k / conv.dilations[axis] < conv.kernel[axis];
        exact.then_some(k / conv.dilations[axis])
    };
    let mut result = vec![0.0; conv.strides[0] * conv.strides[1] * outputs * channels * eh * ew];
    for (at, w) in result.iter_mut().enumerate() {
        let (x, rest) = (at % ew, at / ew);
        let (y, rest) = (rest % eh, rest / eh);
        let (c, rest) = (rest % channels, rest / channels);
        let (m, phase) = (rest % outputs, rest / outputs);
        if c / ci != m / co {
            continue;
        }
        let rows = tap(0, phase / conv.strides[1], y);
        let cols = tap(1, phase % conv.strides[1], x);
        if let (Some(i), Some(j)) = (rows, cols) {
            *w = weight[((c * co + m % co) * kh + i) * kw + j];
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Epilogue;

    #[test]
    fn phases_of_a_doubling() {
        let conv = ConvTranspose {
            kernel: [4, 3],
            strides: [2, 2],
            dilations: [1, 1],
            pads: [1, 0, 1, 1],
            output_padding: [0, 0],
            groups: 1,
            epilogue: Epilogue::default(),
        };
        // Rows: o = 1..=8 of 10, so positions 0..=4 with one row dropped. Columns: o = 0..=7 of 9.
        let p = Phases::of(&conv, [4, 4], [8, 8]);
        assert_eq!(p, Phases { kernel: [2, 2], pads: [1, 1, 1, 0], positions: [5, 4], crop: [1, 0] });
    }
}
