//! `qgraph compare`: the float network and its int8 form on the same labelled images.

use crate::load::{self, EngineArg, PreprocessArgs, ShapeArgs};
use crate::score::{Layers, Noise, Score, top};
use crate::{Done, progress};
use qgraph_compiler::data::Pick;
use qgraph_compiler::lower::Options;
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::runner::Runner;
use qgraph_compiler::{Error, Stage, pipeline};
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
    preprocess: PreprocessArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
}

pub(crate) fn main(args: &Args) -> Done {
    let imported = pipeline::import(&args.model, &args.shapes.options())?;
    let float = pipeline::float(&pipeline::fuse(&imported)?.0)?;
    let quantized = file::load(&args.quantized)?;
    same_interface(&float, &quantized)?;
    let (engine, target) = load::engine(args.engine)?;
    let preprocess = args.preprocess.over(quantized.preprocess.as_ref());
    let pick = args.limit.map_or(Pick::All, Pick::First);
    let samples = load::samples(&args.images, &float, &preprocess, args.labels.as_ref(), pick)?;

    let keep = Options { keep_values: true, ..Options::default() };
    let mut inner =
        (Runner::new(&float, engine, &target, &keep)?, Runner::new(&quantized, engine, &target, &keep)?);
    let mut fast = (
        Runner::new(&float, engine, &target, &Options::default())?,
        Runner::new(&quantized, engine, &target, &Options::default())?,
    );
    let bar = progress::bar("comparing", samples.len());
    let (mut float_score, mut int8_score) = (Score::default(), Score::default());
    let (mut outputs, mut layers) = (Noise::default(), Layers::new());
    let (mut images, mut agree) = (0usize, 0usize);
    for sample in samples {
        let sample = sample?;
        let (a, b) = if images < LAYER_IMAGES {
            let exact = inner.0.run(&sample.inputs)?.to_vec();
            let found = inner.1.run(&sample.inputs)?.to_vec();
            compare_values(&inner.0, &inner.1, &mut layers);
            (exact, found)
        } else {
            (fast.0.run(&sample.inputs)?.to_vec(), fast.1.run(&sample.inputs)?.to_vec())
        };
        images += 1;
        a.iter().zip(&b).for_each(|(a, b)| outputs.add(a, b));
        agree += usize::from(top(&a[0], 1) == top(&b[0], 1));
        if let Some(label) = sample.label {
            float_score.add(&a[0], label);
            int8_score.add(&b[0], label);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    report(args, images, agree, [float_score, int8_score], &outputs, &layers, &quantized);
    Ok(())
}

fn same_interface(float: &QGraph, quantized: &QGraph) -> Result<(), Error> {
    let shapes = |g: &QGraph| -> Vec<Vec<usize>> {
        g.inputs.iter().chain(&g.outputs).map(|&i| g.value(i).shape.clone()).collect()
    };
    if shapes(float) == shapes(quantized) {
        return Ok(());
    }
    let message =
        "the two networks have different inputs or outputs; quantize this very model, with the same --shape";
    Err(Error::new(Stage::Run, "compare", message))
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
) {
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
        println!("{report}");
        return;
    }
    println!("{:<24} {:<48} SQNR dB", "node", "value");
    for (n, value, db) in rows {
        println!("{:<24} {:<48} {db:7.1}", n.name, value);
    }
    println!();
    if float.images > 0 {
        println!("{images} images      top-1    top-5");
        println!("float       {:8.2}% {:7.2}%", 100.0 * f1, 100.0 * f5);
        println!("int8        {:8.2}% {:7.2}%", 100.0 * q1, 100.0 * q5);
    } else {
        println!("{images} images without labels (give --labels for accuracy)");
    }
    println!("agreement   {:8.2}%   SQNR of the outputs {:.1} dB", 100.0 * agreement, outputs.db());
}
