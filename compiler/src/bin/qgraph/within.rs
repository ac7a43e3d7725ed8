//! `qgraph quantize --max-drop`: the fewest layers in float that meet a limit of accuracy, and what they cost.

use crate::load::{self, about};
use crate::{bench, progress};
use qgraph_compiler::calib::Profile;
use qgraph_compiler::data::Pick;
use qgraph_compiler::fallback::{Found, Image, Options, Progress};
use qgraph_compiler::graph::Graph;
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::{Error, Result, Stage, pipeline, quant};
use std::path::{Path, PathBuf};

/// The limit, and what it is measured on.
#[derive(clap::Args)]
#[command(next_help_heading = "Accuracy")]
pub(crate) struct WithinArgs {
    /// Keep the fewest layers in float for which at most so many points of top-1 accuracy (in percent) are lost against float; without labels, of
    /// agreement with float. The best network so far is always saved
    #[arg(long, value_name = "POINTS")]
    pub(crate) max_drop: Option<f64>,
    /// What --max-drop is measured on: anything --calib takes [default: the samples of --calib]
    #[arg(long, value_name = "DIR|FILE", requires = "max_drop")]
    images: Option<String>,
    /// Their labels: CSV with a header `file,label` (CIFAR-10 .bin files carry their labels)
    #[arg(long, value_name = "FILE.csv", requires = "max_drop")]
    labels: Option<PathBuf>,
    /// At most so many of them, spread evenly over the set
    #[arg(long, value_name = "N", requires = "max_drop")]
    limit: Option<usize>,
    /// At most so many layers go to float for --max-drop
    #[arg(long, value_name = "N", requires = "max_drop")]
    max_float: Option<usize>,
}

/// What is to be quantized.
pub(crate) struct Job<'a> {
    pub(crate) model: &'a Path,
    pub(crate) fused: &'a Graph,
    pub(crate) profile: &'a Profile,
    /// The samples of --calib.
    pub(crate) calib: Option<&'a str>,
    pub(crate) options: quant::Options,
    pub(crate) threads: usize,
    pub(crate) output: &'a Path,
}

/// Searches, and saves the best network again and again.
pub(crate) fn search(job: Job<'_>, max_drop: f64, args: &WithinArgs) -> Result<Found> {
    let fail = |message: &str| Err(Error::new(Stage::Data, "--max-drop", message));
    let Some(spec) = args.images.as_deref().or(job.calib) else {
        return fail("has no images to measure accuracy on: give --images");
    };
    if spec == "random" && !Path::new(spec).exists() {
        return fail("says nothing on noise: give --images");
    }
    let float = pipeline::float(job.fused)?;
    let preprocess = job.profile.preprocess.clone().unwrap_or_default();
    let pick = args.limit.map_or(Pick::All, Pick::Spread);
    let samples = || load::samples(spec, &float, &preprocess, args.labels.as_ref(), pick);
    let bar = progress::bar("running float", samples()?.len());
    let mut open = || {
        let images = samples()?.map(|sample| sample.map(|s| Image { inputs: s.inputs, label: s.label }));
        Ok(Box::new(images) as Box<dyn Iterator<Item = Result<Image>>>)
    };
    let mut progress = |p: Progress| match p {
        Progress::Float(n) => bar.set_position(n as u64),
        Progress::Ranked { layers, of } => {
            bar.set_length(of as u64);
            bar.set_message("ranking layers");
            bar.set_position(layers as u64);
        }
        Progress::Tried { layers, lost } => {
            bar.set_message(format!("{layers} in float: {lost:.2} points lost"))
        }
    };
    let mut save = |graph: &QGraph| file::save(graph, job.output);
    let options = Options::new(max_drop)
        .quantize(job.options)
        .max_float(args.max_float.unwrap_or(usize::MAX))
        .threads(job.threads)
        .save(&mut save)
        .progress(&mut progress);
    let found = pipeline::quantize_within(job.fused, job.profile, &mut open, options);
    bar.finish_and_clear();
    found.map_err(about(job.model))
}

/// What was found, and what it costs.
pub(crate) fn text(found: &Found, max_drop: f64) -> Result<String> {
    let Found { metric, images, float, before, after, .. } = found;
    let lost = |reached: f64| format!("{reached:.2} %, {:.2} points lost", float - reached);
    let mut text = format!(
        "accuracy   {} on {images} images: float {float:.2} %, int8 {}\n",
        metric.name(),
        lost(*before)
    );
    if !found.layers.is_empty() {
        let kept = match found.layers.len() {
            1 => "1 layer".into(),
            n => format!("{n} layers"),
        };
        text += &format!("           with {kept} in float: {}\n", lost(*after));
        text += &bench::cost([("in int8", &found.int8), ("with them in float", &found.graph)])?;
    }
    let (met, tried) = (if found.met { "met" } else { "NOT met" }, found.tried);
    Ok(text + &format!("limit      {max_drop} points: {met}, after {tried} networks\n"))
}
