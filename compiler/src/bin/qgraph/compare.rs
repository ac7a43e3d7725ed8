//! `qgraph compare`: the float network and its int8 form on the same images, as a table or as JSON.

use crate::Done;
use crate::comparison::{COLUMNS, Comparison, ComparisonArgs, GIVEN, WORST, percent};

/// Compare a float ONNX network with its int8 form: accuracy, agreement, and for every layer range, noise and time
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph compare model.onnx model.qgraph --images val/ --labels val.csv --limit 500
  qgraph compare resnet20.onnx resnet20.qgraph --images test_batch.bin --json

Noise is measured on the first 16 images, against the float network. The error of a value that is only rounded is 0.289 of its step (rmse/step). Added noise is
what a layer's value has more than what it reads, as a part of the signal's energy. Times are of one thread. Of a network that is quantized already, float is what it
computes in f32 between its own roundings.")]
pub(crate) struct Args {
    #[command(flatten)]
    what: ComparisonArgs,
    /// Machine-readable result
    #[arg(long)]
    json: bool,
}

pub(crate) fn main(args: &Args) -> Done {
    let comparison = Comparison::new(&args.what)?;
    Ok(if args.json { json(&comparison) } else { text(&comparison) })
}

fn json(c: &Comparison) -> String {
    let score = |score: crate::score::Score| match score.images {
        0 => serde_json::Value::Null,
        _ => {
            let (top1, top5) = score.fractions();
            serde_json::json!({ "top1": top1, "top5": top5 })
        }
    };
    let layers = 0..c.assessment.layers().len();
    let worst = c.assessment.worst(WORST);
    let times = c.total_times();
    let report = serde_json::json!({
        "given": c.fused.is_quantized(),
        "images": c.images,
        "labelled": c.float.images,
        "float": score(c.float),
        "int8": score(c.int8),
        "agreement": c.agreement(),
        "sqnr_db": c.outputs.db(),
        "macs": c.plan.macs(),
        "us": times.map(|t| t[0]),
        "float_us": times.map(|t| t[1]),
        "worst": worst.iter().map(|&k| &c.assessment.layers()[k].node).collect::<Vec<_>>(),
        "exclude": c.assessment.exclude(&worst),
        "layers": layers.map(|k| c.json(k)).collect::<Vec<_>>(),
    });
    format!("{report}\n")
}

fn text(c: &Comparison) -> String {
    let layers = c.assessment.layers();
    let mut text =
        table(std::iter::once(COLUMNS.map(String::from)).chain((0..layers.len()).map(|k| c.cells(k))));
    let float: Vec<String> = layers
        .iter()
        .filter_map(|l| l.float_reason.as_ref().map(|reason| format!("  {}: {reason}\n", l.node)))
        .collect();
    if !float.is_empty() {
        text += &format!("\nin float:\n{}", float.concat());
    }
    if c.fused.is_quantized() {
        text += &format!("\n{GIVEN}\n");
    }
    let images = c.images;
    if c.float.images > 0 {
        text += &format!("\n{:<12}{:>9} {:>8}\n", format!("{images} images"), "top-1", "top-5");
        for (name, score) in [("float", c.float), ("int8", c.int8)] {
            let (top1, top5) = score.fractions();
            text += &format!("{name:<12}{:8.2}% {:7.2}%\n", 100.0 * top1, 100.0 * top5);
        }
    } else {
        text += &format!("\n{images} images without labels (give --labels for accuracy)\n");
    }
    let (agreement, db) = (100.0 * c.agreement(), c.outputs.db());
    text += &format!("agreement   {agreement:8.2}%   SQNR of the outputs {db:.1} dB\n");
    text += &speed(c);
    let worst = c.assessment.worst(WORST);
    if worst.is_empty() {
        return text;
    }
    text += "\nadd most noise:\n";
    for &k in &worst {
        let (layer, added) = (&layers[k], percent(c.assessment.added_noise(k)));
        text += &format!(
            "  {}: {added} of the signal's energy, SQNR {:.1} dB\n",
            layer.node,
            layer.meter.sqnr_db()
        );
    }
    text + &format!("in float by `qgraph quantize` with {}\n", c.assessment.exclude(&worst))
}

/// The work, and what it takes.
pub(crate) fn speed(c: &Comparison) -> String {
    let mut text = format!("work        {:.3} GMAC", c.plan.macs() as f64 / 1e9);
    if let Some([int8, float]) = c.total_times() {
        text += &format!(", float {float:.0} µs, int8 {int8:.0} µs: {:.2} times as fast", float / int8);
    }
    text + "\n"
}

/// Columns as wide as they must be; words to the left, numbers to the right.
fn table(rows: impl Iterator<Item = [String; COLUMNS.len()]>) -> String {
    let rows: Vec<[String; COLUMNS.len()]> = rows.collect();
    let width = |k: usize| rows.iter().map(|r| r[k].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells =
            cells.map(|(k, (cell, &w))| if k < 4 { format!("{cell:<w$}") } else { format!("{cell:>w$}") });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}
