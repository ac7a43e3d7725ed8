//! The loop over the samples, and the collector `naive`: smallest and largest value.

use super::naive::Naive;
use super::{PROFILE_VERSION, Profile, Range, failure, graph_hash};
use crate::error::Result;
use crate::graph::{Graph, Tensor};
use crate::preprocess::Preprocess;
use std::collections::BTreeMap;

/// Runs a graph once on its inputs and shows every computed value by name, and `{value}/pre` before an activation that is no clamp:
/// [`crate::graph::eval::eval`], or a compiled float plan.
pub type RunFn<'a> = dyn FnMut(&[Tensor], &mut dyn FnMut(&str, &[f32])) -> Result<()> + 'a;

/// What becomes of the values that are seen. The result must not depend on their order.
pub trait Collector {
    /// Name of the mode, as stored in the profile.
    fn mode(&self) -> &'static str;
    /// All elements of the value `name`, row-major; finite, at least one.
    fn see(&mut self, name: &str, data: &[f32]);
    /// Ranges by value name.
    fn ranges(&self) -> BTreeMap<String, Range>;
    /// Headroom of channels by value name; see [`Profile::headroom`].
    fn headroom(&self) -> BTreeMap<String, String>;
}

/// Runs every sample (one tensor per graph input, in order) and collects the range of every graph input and of every value `run` shows.
/// `progress` is told the number of samples done.
///
/// # Errors
/// No samples; a sample that cannot be read or does not fit the inputs; NaN or an infinity in any value, named with its sample (counted from 1);
/// an error of `run`.
pub fn calibrate(
    graph: &Graph,
    samples: &mut dyn Iterator<Item = Result<Vec<Tensor>>>,
    run: &mut RunFn<'_>,
    preprocess: Option<Preprocess>,
    progress: &mut dyn FnMut(usize),
) -> Result<Profile> {
    let mut collector = Naive::new(graph);
    let samples = collect(graph, samples, run, &mut collector, progress)?;
    Ok(Profile {
        version: PROFILE_VERSION,
        model: graph.name.clone(),
        graph: graph_hash(graph),
        mode: collector.mode().to_string(),
        samples,
        preprocess,
        ranges: collector.ranges(),
        headroom: collector.headroom(),
    })
}

/// The loop of [`calibrate`] for any collector. Gives the number of samples.
fn collect(
    graph: &Graph,
    samples: &mut dyn Iterator<Item = Result<Vec<Tensor>>>,
    run: &mut RunFn<'_>,
    collector: &mut dyn Collector,
    progress: &mut dyn FnMut(usize),
) -> Result<usize> {
    let mut count = 0;
    for sample in samples {
        let inputs = sample?;
        count += 1;
        check_inputs(graph, &inputs, count)?;
        let mut bad = None;
        let mut see = |name: &str, data: &[f32]| match data.iter().find(|x| !x.is_finite()) {
            _ if data.is_empty() || bad.is_some() => {}
            Some(x) => bad = Some((name.to_string(), *x)),
            None => collector.see(name, data),
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
        progress(count);
    }
    if count == 0 {
        return Err(failure(&graph.name, "no samples to calibrate on: give at least one"));
    }
    Ok(count)
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
    use super::*;

    /// x [2], shown as it is and squared.
    fn run_on(samples: &[[f32; 2]]) -> Result<Profile> {
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
        let profile = calibrate(&graph, &mut samples, &mut run, None, &mut |k| seen.push(k))?;
        assert_eq!(seen, (1..=profile.samples).collect::<Vec<_>>());
        Ok(profile)
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
            calibrate(&graph, &mut std::iter::once(Ok(tensors)), &mut run, None, &mut |_| {})
        };
        assert!(with(vec![]).unwrap_err().to_string().contains("0 tensors for 1 inputs"));
        assert!(
            with(vec![Tensor::new([1, 2], [0.0; 2])]).unwrap_err().to_string().contains("[1, 2] for [2]")
        );
    }
}
