//! `qgraph compare`: the float network and its int8 form on the same labelled images.

use crate::load::{self, EngineArg, PreprocessArgs, ShapeArgs, TargetArgs, about};
use crate::score::{Layers, Noise, Score, top};
use crate::{Done, progress};
use qgraph_compiler::data::Pick;
use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::runner::Runner;
use qgraph_compiler::{Error, Result, Stage, pipeline};
use std::collections::HashMap;
use std::path::PathBuf;

/// Images whose inner values are compared too: enough for stable figures, few enough to stay quick.
const LAYER_IMAGES: usize = 16;

/// Compare a float ONNX network with its int8 form: accuracy, agreement, noise per layer
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph compare model.onnx model.qgraph --images val/ --labels val.csv --limit 500
  qgraph compare resnet20.onnx resnet20.qgraph --images test_batch.bin --json")]
pub(crate) struct Args {
    /// The float network
    model: PathBuf,
    /// Its quantized form
    quantized: PathBuf,
    /// Samples: anything `quantize --calib` takes
    #[arg(long, value_name = "DIR|FILE")]
    images: String,
    /// CSV with a header `file,label` (CIFAR-10 .bin files carry their labels)
    #[arg(long, value_name = "FILE.csv")]
    labels: Option<PathBuf>,
    /// At most so many images, from the start
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Who runs both networks [default: jit where this CPU can]
    #[arg(long, value_enum)]
    engine: Option<EngineArg>,
    /// Machine-readable result
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

pub(crate) fn main(args: &Args) -> Done {
    let imported = pipeline::import(&args.model, &args.shapes.options())?;
    let (of_float, of_int8) = (about(&args.model), about(&args.quantized));
    let float = pipeline::fuse(&imported).and_then(|(g, _)| pipeline::float(&g)).map_err(of_float)?;
    let quantized = file::load(&args.quantized)?;
    same_interface(&float, &quantized).map_err(of_int8)?;
    let (engine, target) = load::engine(args.engine, &TargetArgs::default())?;
    let preprocess = args.preprocess.over(quantized.preprocess.as_ref());
    let pick = args.limit.map_or(Pick::All, Pick::First);
    let samples = load::samples(&args.images, &float, &preprocess, args.labels.as_ref(), pick)?;

    let runners = |keep_values| -> Result<[Runner; 2]> {
        let options = Options { keep_values, ..Options::default() };
        let float = Runner::new(&float, engine, &target, &options).map_err(of_float)?;
        Ok([float, Runner::new(&quantized, engine, &target, &options).map_err(of_int8)?])
    };
    let (mut inner, mut fast) = (runners(true)?, runners(false)?);
    let bar = progress::bar("comparing", samples.len());
    let (mut float_score, mut int8_score) = (Score::default(), Score::default());
    let (mut outputs, mut layers) = (Noise::default(), Layers::new());
    let (mut images, mut agree) = (0usize, 0usize);
    for sample in samples {
        let sample = sample?;
        let [float, int8] = if images < LAYER_IMAGES { &mut inner } else { &mut fast };
        let a = float.run(&sample.inputs).map_err(of_float)?;
        let b = int8.run(&sample.inputs).map_err(of_int8)?;
        a.iter().zip(b).for_each(|(a, b)| outputs.add(a, b));
        agree += usize::from(top(&a[0], 1) == top(&b[0], 1));
        if let Some(label) = sample.label {
            if label >= a[0].len() {
                let message = format!(
                    "its label is {label}, but the output has {} values: give labels from 0",
                    a[0].len()
                );
                return Err(Error::new(Stage::Data, sample.name, message));
            }
            float_score.add(&a[0], label);
            int8_score.add(&b[0], label);
        }
        if images < LAYER_IMAGES {
            compare_values(float, int8, &mut layers);
        }
        images += 1;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report(args, images, agree, [float_score, int8_score], &outputs, &layers, &quantized))
}

fn same_interface(float: &QGraph, quantized: &QGraph) -> Result<()> {
    let shapes = |g: &QGraph| -> Vec<Vec<usize>> {
        g.inputs.iter().chain(&g.outputs).map(|&i| g.value(i).shape.clone()).collect()
    };
    if shapes(float) == shapes(quantized) {
        return Ok(());
    }
    let message =
        "has other inputs or outputs than the float network: quantize that very model, with the same --shape";
    Err(Error::new(Stage::Run, "", message))
}

/// Adds the noise on every value that both networks have, in the order of the int8 network.
fn compare_values(float: &Runner, int8: &Runner, layers: &mut Layers) {
    let mut exact: HashMap<String, Vec<f32>> = HashMap::new();
    float.values(|name, v| {
        exact.insert(name.to_string(), v.to_vec());
    });
    int8.values(|name, found| {
        if let Some(exact) = exact.get(name).filter(|e| e.len() == found.len()) {
            layers.entry(name.to_string()).or_default().add(exact, found);
        }
    });
}

fn report(
    args: &Args,
    images: usize,
    agree: usize,
    [float, int8]: [Score; 2],
    outputs: &Noise,
    layers: &Layers,
    quantized: &QGraph,
) -> String {
    let agreement = agree as f64 / images.max(1) as f64;
    // In the order of computation.
    let rows = quantized.nodes.iter().filter_map(|n| {
        let value = &quantized.value(n.output).name;
        layers.get(value).map(|noise| (n, value, noise.db()))
    });
    let ((f1, f5), (q1, q5)) = (float.fractions(), int8.fractions());
    if args.json {
        let layers: Vec<_> = rows
            .map(|(n, value, db)| serde_json::json!({ "node": n.name, "value": value, "sqnr_db": db }))
            .collect();
        let score = |labelled: usize, top1: f64, top5: f64| {
            if labelled == 0 {
                serde_json::Value::Null
            } else {
                serde_json::json!({ "top1": top1, "top5": top5 })
            }
        };
        let report = serde_json::json!({
            "images": images,
            "labelled": float.images,
            "float": score(float.images, f1, f5),
            "int8": score(int8.images, q1, q5),
            "agreement": agreement,
            "sqnr_db": outputs.db(),
            "layers": layers,
        });
        return format!("{report}\n");
    }
    let mut text = format!("{:<24} {:<48} SQNR dB\n", "node", "value");
    for (n, value, db) in rows {
        text += &format!("{:<24} {:<48} {db:7.1}\n", n.name, value);
    }
    if float.images > 0 {
        text += &format!("\n{:<12}{:>9} {:>8}\n", format!("{images} images"), "top-1", "top-5");
        text += &format!("float       {:8.2}% {:7.2}%\n", 100.0 * f1, 100.0 * f5);
        text += &format!("int8        {:8.2}% {:7.2}%\n", 100.0 * q1, 100.0 * q5);
    } else {
        text += &format!("\n{images} images without labels (give --labels for accuracy)\n");
    }
    let (agreement, db) = (100.0 * agreement, outputs.db());
    text + &format!("agreement   {agreement:8.2}%   SQNR of the outputs {db:.1} dB\n")
}
