//! YOLOX's outputs to boxes, and their average precision as COCO defines it.

use super::samples::Object;

/// Numbers of one candidate: box, objectness, classes.
const NUMBERS: usize = 85;
/// Side of the input, and the strides of its three grids.
const SIDE: usize = 416;
const STRIDES: [usize; 3] = [8, 16, 32];
/// Candidates with less are dropped; so are those that overlap a better one of their class by more.
const LEAST_SCORE: f32 = 0.01;
const MOST_OVERLAP: f32 = 0.65;

/// A box that was found.
struct Found {
    picture: usize,
    score: f32,
    object: Object,
}

/// Everything that was found, and is there, in all pictures so far.
#[derive(Default)]
pub(super) struct Boxes {
    found: Vec<Found>,
    /// By picture.
    truth: Vec<Vec<Object>>,
}

impl Boxes {
    /// Decodes the output [3549, 85] for one picture.
    pub(super) fn add(&mut self, output: &[f32], truth: &[Object]) {
        let picture = self.truth.len();
        self.truth.push(truth.to_vec());
        let cells = STRIDES.iter().flat_map(|&s| {
            let n = SIDE / s;
            (0..n * n).map(move |k| (s as f32, (k % n) as f32, (k / n) as f32))
        });
        let mut candidates = Vec::new();
        for (numbers, (stride, x, y)) in output.chunks_exact(NUMBERS).zip(cells) {
            let class = super::scores::best(&numbers[5..]);
            let score = numbers[4] * numbers[5 + class];
            if score > LEAST_SCORE {
                let [cx, cy] = [(numbers[0] + x) * stride, (numbers[1] + y) * stride];
                let [w, h] = [numbers[2].exp() * stride / 2.0, numbers[3].exp() * stride / 2.0];
                let object = Object { class, corners: [cx - w, cy - h, cx + w, cy + h] };
                candidates.push(Found { picture, score, object });
            }
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept: Vec<Found> = Vec::new();
        for c in candidates {
            let covers =
                |k: &Found| k.object.class == c.object.class && overlap(&k.object, &c.object) > MOST_OVERLAP;
            if !kept.iter().any(covers) {
                kept.push(c);
            }
        }
        self.found.append(&mut kept);
    }

    /// AP at an overlap of one half: mean over the classes that occur of the mean precision at 101 recalls.
    pub(super) fn average_precision(&self) -> f64 {
        let mut classes: Vec<usize> = self.truth.iter().flatten().map(|o| o.class).collect();
        classes.sort_unstable();
        classes.dedup();
        classes.iter().map(|&c| self.precision(c)).sum::<f64>() / classes.len() as f64
    }

    fn precision(&self, class: usize) -> f64 {
        let mut found: Vec<&Found> = self.found.iter().filter(|f| f.object.class == class).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        let all = self.truth.iter().flatten().filter(|o| o.class == class).count();
        let mut free: Vec<Vec<&Object>> =
            self.truth.iter().map(|t| t.iter().filter(|o| o.class == class).collect()).collect();
        let mut right = 0;
        // Recall and precision after each box, best first.
        let mut curve: Vec<(f64, f64)> = Vec::with_capacity(found.len());
        for (k, f) in found.iter().enumerate() {
            let free = &mut free[f.picture];
            let overlaps = free.iter().map(|o| overlap(o, &f.object)).enumerate();
            if let Some((at, most)) = overlaps.max_by(|a, b| a.1.total_cmp(&b.1))
                && most >= 0.5
            {
                free.remove(at);
                right += 1;
            }
            curve.push((right as f64 / all as f64, right as f64 / (k + 1) as f64));
        }
        let at = |recall: f64| {
            let beyond = curve.iter().filter(|(r, _)| *r >= recall);
            beyond.fold(0.0, |most: f64, (_, p)| most.max(*p))
        };
        (0..=100).map(|k| at(f64::from(k) / 100.0)).sum::<f64>() / 101.0
    }
}

/// Intersection over union.
fn overlap(a: &Object, b: &Object) -> f32 {
    let ([l, t, r, d], [l2, t2, r2, d2]) = (a.corners, b.corners);
    let common = (r.min(r2) - l.max(l2)).max(0.0) * (d.min(d2) - t.max(t2)).max(0.0);
    common / ((r - l) * (d - t) + (r2 - l2) * (d2 - t2) - common)
}
