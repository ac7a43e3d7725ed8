//! Scoring: classes, segments and boxes against their truth, and the noise of int8 on float.

use super::detect::Boxes;
use super::samples::Truth;

/// Index of the largest value; the first of equal ones.
pub(super) fn best(values: &[f32]) -> usize {
    let better = |best: usize, k: usize| if values[k] > values[best] { k } else { best };
    (0..values.len()).fold(0, better)
}

/// What a network has scored so far.
#[derive(Default)]
pub(super) struct Score {
    classes: Option<(usize, usize)>,
    segments: Option<Segments>,
    boxes: Option<Boxes>,
}

impl Score {
    /// Judges the outputs on one sample.
    pub(super) fn add(&mut self, truth: &Truth, outputs: &[Vec<f32>]) {
        match truth {
            Truth::Unknown => {}
            Truth::Class(label) => {
                let (right, all) = self.classes.get_or_insert_default();
                *right += usize::from(best(&outputs[0]) == *label);
                *all += 1;
            }
            Truth::Mask { width, classes } => {
                self.segments.get_or_insert_default().add(&outputs[0], *width, classes);
            }
            Truth::Boxes(objects) => self.boxes.get_or_insert_default().add(&outputs[0], objects),
        }
    }

    /// Share of right classes; or share of right pixels and mean intersection over union; or AP50; or nothing.
    pub(super) fn figures(&self) -> Vec<f64> {
        let classes = self.classes.map(|(right, all)| vec![right as f64 / all as f64]);
        let segments = self.segments.as_ref().map(Segments::figures);
        let boxes = self.boxes.as_ref().map(|b| vec![b.average_precision()]);
        classes.or(segments).or(boxes).unwrap_or_default()
    }
}

/// VOC's classes.
const CLASSES: usize = 21;
/// Side of the map of logits, and of the input.
const MAP: usize = 33;
const SIDE: usize = 257;

/// How often a pixel of class i was taken for class j.
struct Segments([[u64; CLASSES]; CLASSES]);

impl Default for Segments {
    fn default() -> Self {
        Segments([[0; CLASSES]; CLASSES])
    }
}

impl Segments {
    /// Logits [21, 33, 33] are stretched to the input's size, corners on corners; the largest wins.
    fn add(&mut self, logits: &[f32], width: usize, truth: &[u8]) {
        let step = (MAP - 1) as f32 / (SIDE - 1) as f32;
        let at = |i: usize| {
            let x = i as f32 * step;
            let low = (x as usize).min(MAP - 2);
            (low, x - low as f32)
        };
        for (k, &class) in truth.iter().enumerate().filter(|(_, c)| usize::from(**c) < CLASSES) {
            let ((y, fy), (x, fx)) = (at(k / width), at(k % width));
            let logit = |c: usize| {
                let row = |y: usize| {
                    let row = &logits[(c * MAP + y) * MAP + x..][..2];
                    row[0] * (1.0 - fx) + row[1] * fx
                };
                row(y) * (1.0 - fy) + row(y + 1) * fy
            };
            let scores: [f32; CLASSES] = std::array::from_fn(logit);
            self.0[usize::from(class)][best(&scores)] += 1;
        }
    }

    /// Share of right pixels; intersection over union, mean over the classes that occur.
    fn figures(&self) -> Vec<f64> {
        let table = &self.0;
        let right = |c: usize| table[c][c] as f64;
        let is = |c: usize| table[c].iter().sum::<u64>() as f64;
        let taken = |c: usize| table.iter().map(|row| row[c]).sum::<u64>() as f64;
        let all: f64 = (0..CLASSES).map(is).sum();
        let present: Vec<usize> = (0..CLASSES).filter(|&c| is(c) > 0.0).collect();
        let unions = present.iter().map(|&c| right(c) / (is(c) + taken(c) - right(c)));
        vec![(0..CLASSES).map(right).sum::<f64>() / all, unions.sum::<f64>() / present.len() as f64]
    }
}

/// Energies of a signal and of the noise on it.
#[derive(Clone, Copy, Default)]
pub(super) struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    pub(super) fn add(&mut self, exact: &[f32], found: &[f32]) {
        for (&e, &f) in exact.iter().zip(found) {
            self.signal += f64::from(e).powi(2);
            self.noise += (f64::from(f) - f64::from(e)).powi(2);
        }
    }

    /// Their ratio in dB.
    pub(super) fn db(&self) -> f64 {
        10.0 * (self.signal / self.noise).log10()
    }
}
