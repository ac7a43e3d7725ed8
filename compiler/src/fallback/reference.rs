//! What the float network says of the images, and how others compare with it.

use super::{Image, Metric, Open, failure};
use crate::error::Result;
use crate::lower;
use crate::qgraph::QGraph;
use crate::runner::{Engine, Runner};
use crate::target::Target;

/// So many images at most, evenly spread, stay in memory to measure noise on.
const KEPT: usize = 32;

/// Who runs networks.
pub(super) struct Machine {
    pub(super) target: Target,
    pub(super) threads: usize,
}

impl Machine {
    fn runner(&self, graph: &QGraph) -> Result<Runner> {
        let engine = Engine::best(&self.target);
        Runner::threaded(graph, engine, &self.target, &lower::Options::default(), self.threads)
    }
}

/// How the first output holds classes.
#[derive(Clone, Copy)]
struct Classes {
    count: usize,
    /// Places that have classes of their own, in an image.
    places: usize,
}

impl Classes {
    fn of(graph: &QGraph) -> Result<Classes> {
        let value = graph.outputs.first().map(|&o| graph.value(o));
        let (name, shape) = value.map_or(("", &[][..]), |v| (&v.name, &v.shape));
        let classes = match *shape {
            [count] | [_, count] => Some(Classes { count, places: 1 }),
            [_, count, h, w] => Some(Classes { count, places: h * w }),
            _ => None,
        };
        classes.filter(|c| c.count > 1 && c.places > 0).ok_or_else(|| {
            let message = format!(
                "the output has the shape {shape:?}, which holds no classes to count ([N, classes] or [N, classes, H, W]): \
                 choose layers by what `qgraph compare` says of them"
            );
            failure(name, message)
        })
    }

    /// The best class of every place; the first of equal ones.
    fn best(self, output: &[f32]) -> Vec<usize> {
        let rows = output.chunks_exact(self.count * self.places);
        let places = rows.flat_map(|row| (0..self.places).map(move |p| (row, p)));
        let value = |row: &[f32], class: usize, place: usize| row[class * self.places + place];
        let best = |(row, place): (&[f32], usize)| {
            (1..self.count)
                .fold(0, |best, c| if value(row, c, place) > value(row, best, place) { c } else { best })
        };
        places.map(best).collect()
    }
}

/// The float network's answers. See the module.
pub(super) struct Reference {
    pub(super) metric: Metric,
    /// Right answers of float: all, where agreement is counted.
    pub(super) right: usize,
    classes: Classes,
    /// What is right, place by place; nothing for images that are not counted.
    answers: Vec<Vec<usize>>,
    /// Inputs and outputs.
    kept: Vec<[Vec<Vec<f32>>; 2]>,
}

impl Reference {
    /// Runs the float network. `progress` is told the number of images done.
    pub(super) fn new(
        float: &QGraph,
        machine: &Machine,
        open: &mut Open<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Reference> {
        let classes = Classes::of(float)?;
        let mut runner = machine.runner(float)?;
        let (mut best, mut labels, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        let mut every = 1;
        for (k, image) in open()?.enumerate() {
            let Image { inputs, label } = image?;
            if let Some(label) = label.filter(|&l| l >= classes.count) {
                let message = format!(
                    "its label is {label}, but there are {} classes: give labels from 0",
                    classes.count
                );
                return Err(failure(&format!("image {}", k + 1), message));
            }
            let outputs = runner.run(&inputs)?;
            best.push(classes.best(&outputs[0]));
            labels.push(label);
            if k % every == 0 {
                kept.push([inputs, outputs.to_vec()]);
                if kept.len() > KEPT {
                    // Every second one stays.
                    let mut stays = false;
                    kept.retain(|_| {
                        stays = !stays;
                        stays
                    });
                    every *= 2;
                }
            }
            progress(k + 1);
        }
        if best.is_empty() {
            return Err(failure("images", "there are none to measure accuracy on: give at least one"));
        }
        let labelled = best[0].len() == 1 && labels.iter().any(Option::is_some);
        let metric = if labelled { Metric::Top1 } else { Metric::Agreement };
        let (answers, right) = match metric {
            Metric::Agreement => {
                let right = best.iter().map(Vec::len).sum();
                (best, right)
            }
            Metric::Top1 => {
                let answers: Vec<Vec<usize>> = labels.iter().map(|l| l.iter().copied().collect()).collect();
                let right = answers.iter().zip(&best).filter(|(a, b)| a == b).count();
                (answers, right)
            }
        };
        Ok(Reference { metric, right, classes, answers, kept })
    }

    /// Runs a network on all images; gives its right answers.
    pub(super) fn run(&self, graph: &QGraph, machine: &Machine, open: &mut Open<'_>) -> Result<usize> {
        let mut runner = machine.runner(graph)?;
        let (mut right, mut seen) = (0, 0);
        for (image, answers) in open()?.zip(&self.answers) {
            let image = image?;
            seen += 1;
            if !answers.is_empty() {
                let best = self.classes.best(&runner.run(&image.inputs)?[0]);
                right += best.iter().zip(answers).filter(|(a, b)| a == b).count();
            }
        }
        match seen == self.answers.len() {
            true => Ok(right),
            false => Err(failure("images", format!("were {} before, and {seen} now", self.answers.len()))),
        }
    }

    /// The noise that a network puts on the outputs of the kept images, as a part of the signal's energy, summed over the outputs.
    pub(super) fn noise(&self, graph: &QGraph, machine: &Machine) -> Result<f64> {
        let mut runner = machine.runner(graph)?;
        let mut energies = vec![[0.0; 2]; graph.outputs.len()];
        for [inputs, outputs] in &self.kept {
            for ((energies, exact), found) in energies.iter_mut().zip(outputs).zip(runner.run(inputs)?) {
                for (&e, &f) in exact.iter().zip(found) {
                    let (e, f) = (f64::from(e), f64::from(f));
                    energies[0] += e * e;
                    energies[1] += (f - e) * (f - e);
                }
            }
        }
        let part = |[signal, noise]: &[f64; 2]| if *noise == 0.0 { 0.0 } else { noise / signal };
        Ok(energies.iter().map(part).sum())
    }

    /// Images that are counted.
    pub(super) fn images(&self) -> usize {
        self.answers.iter().filter(|a| !a.is_empty()).count()
    }

    /// So many right answers in percent.
    pub(super) fn percent(&self, right: usize) -> f64 {
        100.0 * right as f64 / self.all()
    }

    /// Answers that are counted.
    fn all(&self) -> f64 {
        self.answers.iter().map(Vec::len).sum::<usize>() as f64
    }

    /// What so many right answers lose against float, in points; negative if they are more.
    pub(super) fn lost(&self, right: usize) -> f64 {
        100.0 * (self.right as f64 - right as f64) / self.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_class_is_the_first_of_the_largest() {
        let whole = Classes { count: 3, places: 1 };
        assert_eq!(whole.best(&[0.5, 2.0, 2.0]), [1]);
        assert_eq!(whole.best(&[0.0, -1.0, -2.0, 1.0, 2.0, 3.0]), [0, 2]);
        let pixels = Classes { count: 2, places: 3 };
        assert_eq!(pixels.best(&[1.0, 0.0, 5.0, 0.0, 1.0, 5.0]), [0, 1, 0]);
    }
}
