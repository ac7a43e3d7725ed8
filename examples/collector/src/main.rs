//! Quantizes a network with a calibration of one's own. The collector is MXNet's example of one, `ExampleNaiveCollector`: the smallest and the
//! largest element that any sample gave are the range.

use qgraph_compiler::calib::{self, Collector, Mode, Range};
use qgraph_compiler::data::{self, Input, Samples};
use qgraph_compiler::graph::Tensor;
use qgraph_compiler::preprocess::Preprocess;
use qgraph_compiler::qgraph::file;
use qgraph_compiler::{Result, onnx, pipeline};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// Ranges by value.
#[derive(Default)]
struct ExampleNaiveCollector(BTreeMap<String, Range>);

impl Collector for ExampleNaiveCollector {
    fn name(&self) -> &str {
        "example naive"
    }

    fn collect(&mut self, value: &str, _op: &str, tensor: &Tensor) {
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        for &x in tensor.data.iter() {
            (min, max) = (min.min(x), max.max(x));
        }
        let seen = self.0.entry(value.into()).or_insert(Range { min, max });
        *seen = Range { min: seen.min.min(min), max: seen.max.max(max) };
    }

    fn finish(&mut self) -> BTreeMap<String, Range> {
        std::mem::take(&mut self.0)
    }
}

const USAGE: &str = "usage: calibrate MODEL.onnx IMAGES|FILE SCALE OUT.qgraph";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match &args[..] {
        [model, samples, scale, out] => scale.parse().ok().map(|scale| quantize(model, samples, scale, out)),
        _ => None,
    };
    let Some(result) = result else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("calibrate: {e}");
            ExitCode::from(2)
        }
    }
}

fn quantize(model: &str, samples: &str, scale: f32, out: &str) -> Result<()> {
    let graph = pipeline::import(Path::new(model), &onnx::Options::default())?;
    let (fused, _) = pipeline::fuse(&graph)?;
    let preprocess = Preprocess { scale, ..Preprocess::default() };
    let inputs = fused.inputs.iter().map(|&id| fused.value(id));
    let options = data::Options {
        inputs: inputs.map(|v| Input { name: v.name.clone(), shape: v.shape.clone() }).collect(),
        preprocess: preprocess.clone(),
        ..data::Options::default()
    };
    let shapes: Vec<Vec<usize>> = options.inputs.iter().map(|i| i.shape.clone()).collect();
    let tensors = |inputs: Vec<Vec<f32>>| -> Vec<Tensor> {
        shapes.iter().zip(inputs).map(|(shape, x)| Tensor::new(shape.clone(), x)).collect()
    };
    let mut samples = Samples::open(samples, &options)?.map(|sample| Ok(tensors(sample?.inputs)));
    let mut collector = ExampleNaiveCollector::default();
    let how = calib::Options::new(Mode::Custom(&mut collector)).preprocess(preprocess);
    let profile = pipeline::calibrate(&fused, &mut samples, how)?;
    for (value, Range { min, max }) in &profile.ranges {
        println!("{value} {min} {max}");
    }
    file::save(&pipeline::quantize(&fused, &profile, &Default::default())?, Path::new(out))?;
    println!("wrote {out}");
    Ok(())
}
