//! The loop over the samples.

use super::observe::Observer;
use super::{Collector, Mode, Options, PROFILE_VERSION, Profile, failure, graph_hash};
use crate::error::Result;
use crate::graph::{Graph, Tensor};

/// Runs a graph once on its inputs and shows every computed value by name, and `{value}/pre` before an activation that is no clamp:
/// [`crate::graph::eval::eval`], or a compiled float plan.
pub type RunFn<'a> = dyn FnMut(&[Tensor], &mut dyn FnMut(&str, &[f32])) -> Result<()> + 'a;

/// Runs every sample once (one tensor per graph input, in order) and finds the range of every graph input and of every value `run` shows.
/// (How many threads run it is up to `run`.)
///
/// # Errors
/// No samples; a sample that cannot be read or does not fit the inputs; NaN or an infinity in any value, named with its sample (counted from 1);
/// a percentile that is none; ranges of a collector that are none; an error of `run`.
pub fn calibrate(
    graph: &Graph,
    samples: &mut dyn Iterator<Item = Result<Vec<Tensor>>>,
    run: &mut RunFn<'_>,
    mut options: Options<'_, '_>,
) -> Result<Profile> {
    let (observer, count) = observe(graph, samples, run, &mut options)?;
    let Options { mode, preprocess, .. } = options;
    let text = mode.text();
    let ranges = observer.ranges(mode)?;
    let profile = Profile {
        version: PROFILE_VERSION,
        model: graph.name.clone(),
        graph: graph_hash(graph),
        mode: text,
        samples: count,
        preprocess,
        channels: observer.channels(),
        ranges,
    };
    profile.validate()?;
    Ok(profile)
}

/// Runs every sample; gives what was seen, and how many samples there were.
pub(super) fn observe(
    graph: &Graph,
    samples: &mut dyn Iterator<Item = Result<Vec<Tensor>>>,
    run: &mut RunFn<'_>,
    options: &mut Options<'_, '_>,
) -> Result<(Observer, usize)> {
    let Options { mode, progress, .. } = options;
    if let Mode::Percentile(p) = *mode
        && !(p > 0.0 && p <= 100.0)
    {
        return Err(failure("percentile", format!("{p} is not above 0 and at most 100: give 99.99, say")));
    }
    let mut observer = Observer::new(graph, mode);
    let mut count = 0;
    for sample in samples {
        let inputs = sample?;
        count += 1;
        check_inputs(graph, &inputs, count)?;
        let mut collector: Option<&mut dyn Collector> = match mode {
            Mode::Custom(c) => Some(&mut **c),
            Mode::Naive | Mode::Entropy | Mode::Percentile(_) | Mode::Mse => None,
        };
        let mut bad = None;
        let mut see = |name: &str, data: &[f32]| match data.iter().find(|x| !x.is_finite()) {
            _ if data.is_empty() || bad.is_some() => {}
            Some(x) => bad = Some((name.to_string(), *x)),
            None => {
                observer.see(name, data);
                if let Some(collector) = &mut collector {
                    observer.show(&mut **collector, name, data);
                }
            }
        };
        for (id, tensor) in graph.inputs.iter().zip(&inputs) {
            see(&graph.value(*id).name, &tensor.data);
        }
        run(&inputs, &mut see)?;
        if let Some((name, x)) = bad {
            let message =
                format!("sample {count} gives {x}: leave this sample out, or check the model's weights");
            return Err(failure(&name, message));
        }
        if let Some(progress) = progress {
            progress(count);
        }
    }
    if count == 0 {
        return Err(failure(&graph.name, "no samples to calibrate on: give at least one"));
    }
    Ok((observer, count))
}

fn check_inputs(graph: &Graph, inputs: &[Tensor], count: usize) -> Result<()> {
    if inputs.len() != graph.inputs.len() {
        let message =
            format!("sample {count} has {} tensors for {} inputs", inputs.len(), graph.inputs.len());
        return Err(failure(&graph.name, message));
    }
    for (id, tensor) in graph.inputs.iter().zip(inputs) {
        let value = graph.value(*id);
        if tensor.shape != value.shape {
            let message = format!("sample {count} has the shape {:?} for {:?}", tensor.shape, value.shape);
            return Err(failure(&value.name, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Range;
    use super::*;
    use std::collections::BTreeMap;

    /// x [2], shown as it is and squared.
    fn run_in(mode: Mode<'_>, samples: &[[f32; 2]]) -> Result<Profile> {
        let mut graph = Graph::new("g");
        graph.add_input("x", [2]);
        let mut samples =
            samples.iter().map(|s| Ok(Tensor::new([2], s.as_slice()))).map(|t| t.map(|t| vec![t]));
        let mut run = |inputs: &[Tensor], see: &mut dyn FnMut(&str, &[f32])| {
            let square: Vec<f32> = inputs[0].data.iter().map(|x| x * x).collect();
            see("y", &square);
            see("y/pre", &inputs[0].data);
            see("empty", &[]);
            Ok(())
        };
        let mut seen = Vec::new();
        let mut progress = |k| seen.push(k);
        let options = Options::new(mode).progress(&mut progress);
        let profile = calibrate(&graph, &mut samples, &mut run, options)?;
        assert_eq!(seen, (1..=profile.samples).collect::<Vec<_>>());
        Ok(profile)
    }

    fn run_on(samples: &[[f32; 2]]) -> Result<Profile> {
        run_in(Mode::Naive, samples)
    }

    #[test]
    fn finds_ranges_in_any_order() {
        let p = run_on(&[[1.0, -2.0], [0.5, 3.0], [-0.0, 0.0]]).unwrap();
        let names: Vec<&str> = p.ranges.keys().map(String::as_str).collect();
        assert_eq!(names, ["x", "y", "y/pre"]);
        assert_eq!(p.ranges["x"], Range { min: -2.0, max: 3.0 });
        assert_eq!(p.ranges["y"], Range { min: 0.0, max: 9.0 });
        assert_eq!((p.samples, p.mode.as_str()), (3, "naive"));
        let q = run_on(&[[0.0, -0.0], [3.0, 0.5], [-2.0, 1.0]]).unwrap();
        assert_eq!(p.to_text(), q.to_text());
        let zero = |s: &[[f32; 2]]| run_on(s).unwrap().to_text();
        assert_eq!(zero(&[[-0.0, 0.0]]), zero(&[[0.0, -0.0]]));
        assert_eq!(Profile::from_text(&p.to_text()).unwrap(), p);
    }

    #[test]
    fn refuses_nan_and_nothing() {
        assert!(run_on(&[]).unwrap_err().to_string().contains("no samples"));
        let e = run_on(&[[1.0, 2.0], [f32::NAN, 1.0]]).unwrap_err().to_string();
        assert!(e.starts_with("calibrate: x: sample 2 gives NaN"), "{e}");
        let e = run_on(&[[1e30, 2.0]]).unwrap_err().to_string();
        assert!(e.starts_with("calibrate: y: sample 1 gives inf"), "{e}");
    }

    #[test]
    fn refuses_samples_that_do_not_fit() {
        let mut graph = Graph::new("g");
        graph.add_input("x", [2]);
        let with = |tensors: Vec<Tensor>| {
            let mut run = |_: &[Tensor], _: &mut dyn FnMut(&str, &[f32])| Ok(());
            calibrate(&graph, &mut std::iter::once(Ok(tensors)), &mut run, Options::default())
        };
        assert!(with(vec![]).unwrap_err().to_string().contains("0 tensors for 1 inputs"));
        assert!(
            with(vec![Tensor::new([1, 2], [0.0; 2])]).unwrap_err().to_string().contains("[1, 2] for [2]")
        );
    }

    /// Says that y is twice what it is, and notes what it was shown.
    struct Double {
        shown: Vec<(String, String, Vec<usize>)>,
        says: &'static str,
    }

    impl Collector for Double {
        fn name(&self) -> &str {
            "double"
        }

        fn include(&self, value: &str) -> bool {
            value != "x"
        }

        fn collect(&mut self, value: &str, op: &str, tensor: &Tensor) {
            self.shown.push((value.into(), op.into(), tensor.shape.clone()));
        }

        fn finish(&mut self) -> BTreeMap<String, Range> {
            BTreeMap::from([(
                self.says.to_string(),
                Range { min: 0.0, max: if self.says == "x" { -1.0 } else { 18.0 } },
            )])
        }
    }

    #[test]
    fn a_collector_has_its_way() {
        let samples = [[1.0, -2.0], [0.5, 3.0]];
        let mut double = Double { shown: vec![], says: "y" };
        let p = run_in(Mode::Custom(&mut double), &samples).unwrap();
        assert_eq!(p.mode, "double");
        assert_eq!(p.ranges["y"], Range { min: 0.0, max: 18.0 });
        assert_eq!(p.ranges["x"], Range { min: -2.0, max: 3.0 });
        let shown: Vec<&str> = double.shown.iter().map(|(name, ..)| &name[..]).collect();
        assert_eq!(shown, ["y", "y/pre", "y", "y/pre"]);
        let of = |says| {
            run_in(Mode::Custom(&mut Double { shown: vec![], says }), &samples).unwrap_err().to_string()
        };
        assert!(
            of("nobody")
                .contains("nobody: the collector gives a range for it, but calibration saw no such value")
        );
        assert!(of("x").contains("x: the range 0 to -1 is not finite and in order"));
    }

    #[test]
    fn modes_do_not_depend_on_order() {
        // A bell, and one far from it.
        let mut samples: Vec<[f32; 2]> =
            (0..3000).map(|k| [(k % 7 + k % 11 + k % 13) as f32 - 14.0, (k % 5) as f32]).collect();
        samples.push([400.0, -0.0]);
        let modes: [fn() -> Mode<'static>; 3] = [|| Mode::Entropy, || Mode::Percentile(99.9), || Mode::Mse];
        for mode in modes {
            let p = run_in(mode(), &samples).unwrap();
            let backwards: Vec<[f32; 2]> = samples.iter().rev().copied().collect();
            assert_eq!(p.to_text(), run_in(mode(), &backwards).unwrap().to_text());
            assert!(p.ranges["x"].max < 400.0, "{} cuts: {:?}", p.mode, p.ranges["x"]);
            assert_eq!(p.ranges["y/pre"].max, 400.0, "{}", p.mode);
        }
        for wrong in [0.0, -1.0, 100.1, f64::NAN] {
            let e = run_in(Mode::Percentile(wrong), &samples).unwrap_err().to_string();
            assert!(e.contains("is not above 0 and at most 100"), "{e}");
        }
    }
}
