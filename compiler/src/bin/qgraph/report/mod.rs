//! `qgraph report`: one HTML file that shows what quantization did to a network.
//!
//! - `sections`: what the page says. This file: where it comes from, and the frame.

mod sections;

use crate::Done;
use crate::comparison::{Comparison, ComparisonArgs};
use crate::load::{about, tensors};
use qgraph_compiler::calib::Survey;
use qgraph_compiler::draw::escape;
use qgraph_compiler::{Error, Result, Stage, pipeline};
use std::path::{Path, PathBuf};

/// Samples that histograms are of: those that inner values are compared on.
const SURVEYED: usize = 16;

/// Write one HTML page about a network and its int8 form: graphs, ranges, noise, times, memory
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph report model.onnx model.qgraph --images val/ --labels val.csv --limit 500 -o report.html
  qgraph report resnet20.onnx resnet20.qgraph --images test_batch.bin -o resnet20.html

The page needs no network and no other file.")]
pub(crate) struct Args {
    #[command(flatten)]
    what: ComparisonArgs,
    /// Where the page goes
    #[arg(short, long, value_name = "OUT.html")]
    output: PathBuf,
}

pub(crate) fn main(args: &Args) -> Done {
    check(&args.output)?;
    let comparison = Comparison::new(&args.what)?;
    let surveys = surveys(&args.what, &comparison)?;
    let page = page(&title(&args.what), &comparison, &surveys);
    std::fs::write(&args.output, page).map_err(|e| refuse(&args.output, &format!("cannot write: {e}")))?;
    Ok(format!("wrote {}\n", args.output.display()))
}

/// Refuses at once what would fail after long work.
fn check(output: &Path) -> Result<()> {
    if !output.extension().is_some_and(|e| e == "html" || e == "htm") {
        return Err(refuse(output, "a report is an HTML page: name it OUT.html"));
    }
    match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(refuse(output, "cannot write: its folder does not exist"))
        }
        _ => Ok(()),
    }
}

fn refuse(file: &Path, message: &str) -> Error {
    Error::new(Stage::File, file.display().to_string(), message)
}

/// What calibration would make of the first images.
fn surveys(args: &ComparisonArgs, c: &Comparison) -> Result<Vec<Survey>> {
    let of_float = about(&args.model);
    let float = pipeline::float(&c.fused).map_err(of_float)?;
    let samples = args.samples(&float, &c.preprocess)?;
    pipeline::survey(&c.fused, &mut tensors(&c.fused, samples).take(SURVEYED)).map_err(of_float)
}

/// `model.qgraph and model.onnx`
fn title(args: &ComparisonArgs) -> String {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{} and {}", name(&args.quantized), name(&args.model))
}

/// The whole page. Browsers are told to load nothing for it.
fn page(title: &str, c: &Comparison, surveys: &[Survey]) -> String {
    let all: Vec<(&str, &str, String)> = vec![
        ("worst", "Where the noise comes from", sections::worst(c)),
        ("graphs", "The network, before and after each stage", sections::graphs(c)),
        ("layers", "All layers", sections::layers(c)),
        ("noise", "Signal-to-noise ratio", sections::noise(c)),
        ("time", "Time", sections::time(c)),
        ("arena", "Memory", sections::arena(c)),
        ("values", "Values and weights", sections::values(c, surveys)),
    ];
    let links: String = all.iter().map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a>")).collect();
    let sections: String = all
        .iter()
        .map(|(id, title, body)| format!("<section id=\"{id}\"><h2>{title}</h2>\n{body}</section>\n"))
        .collect();
    let name = escape(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{name}</title>\n<style>\n{}</style></head>\n<body>\n<h1>{name}</h1>\n{}\
         <nav>{links}</nav>\n{sections}<script>\n{}</script>\n</body></html>\n",
        include_str!("style.css"),
        sections::facts(c),
        include_str!("script.js"),
    )
}
