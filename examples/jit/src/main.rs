//! Classifies an image with a `.qgraph`, which becomes machine code when the program starts. The file says how images are
//! prepared, so that the program needs nothing but the two files.

use qgraph_compiler::data::{self, Input, Samples};
use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::runner::{Engine, Runner};
use qgraph_compiler::target::Target;
use qgraph_compiler::{Error, Result, Stage};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: classify MODEL.qgraph IMAGE [CLASSES.txt]";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match &args[..] {
        [model, image] => classify(model, image, None),
        [model, image, classes] => classify(model, image, Some(classes)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("classify: {e}");
            ExitCode::from(2)
        }
    }
}

fn classify(model: &str, image: &str, classes: Option<&str>) -> Result<()> {
    let graph = file::load(Path::new(model))?;
    let names = classes.map(|path| data::class_names(Path::new(path))).transpose()?;
    let input = prepare(image, &graph)?;

    let target = Target::detect();
    let engine = Engine::best(&target);
    let start = Instant::now();
    let mut runner = Runner::new(&graph, engine, &target, &Options::default())?;
    match engine {
        Engine::Jit => println!("machine code for {target}, compiled in {:.0?}", start.elapsed()),
        Engine::Interp | Engine::Eval => {
            println!(
                "kernel interpreter: machine code needs x86-64 with AVX2 and FMA, which this CPU has not"
            );
        }
    }

    let start = Instant::now();
    let outputs = runner.run(&input)?;
    println!("ran in {:.0?}", start.elapsed());
    let values = outputs.first().ok_or_else(|| Error::new(Stage::Run, model, "the network has no output"))?;
    let mut best: Vec<usize> = (0..values.len()).collect();
    best.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    for &class in best.iter().take(5) {
        let name = names.as_ref().and_then(|names| names.get(class)).map_or("", String::as_str);
        println!("{class:>5} {:>12.4}  {name}", values[class]);
    }
    Ok(())
}

/// The image as the network's input, by the preprocessing that is stored with the network.
fn prepare(image: &str, graph: &QGraph) -> Result<Vec<Vec<f32>>> {
    let inputs = graph.inputs.iter().map(|&id| graph.value(id));
    let options = data::Options {
        inputs: inputs.map(|v| Input { name: v.name.clone(), shape: v.shape.clone() }).collect(),
        preprocess: graph.preprocess.clone().unwrap_or_default(),
        ..data::Options::default()
    };
    let sample = Samples::open(image, &options)?.next();
    sample.unwrap_or_else(|| Err(Error::new(Stage::Data, image, "holds no image"))).map(|s| s.inputs)
}
