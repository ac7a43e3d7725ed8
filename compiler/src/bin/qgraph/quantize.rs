//! `qgraph quantize`: ONNX and samples in, `.qgraph` out.

use crate::load::{PreprocessArgs, ShapeArgs, about, placement, samples, tensors};
use crate::within::{self, WithinArgs};
use crate::{NOT_MET, bench, progress};
use qgraph_compiler::calib::{self, Profile};
use qgraph_compiler::data::Pick;
use qgraph_compiler::graph::Graph;
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::{Error, Result, Stage, pipeline, quant};
use std::path::{Path, PathBuf};

/// Calibrate a float ONNX network on samples and write it as int8
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph quantize mobilenet.onnx --calib images/ --samples 200 --mean 127.5 --std 127.5 --resize 256 --crop 224 -o mobilenet.qgraph
  qgraph quantize resnet20.onnx --calib data_batch_1.bin --mean 125.3,123,113.9 --std 51.6,50.8,51.3 -o resnet20.qgraph
  qgraph quantize resnet20.onnx --calib data_batch_1.bin --calib-mode percentile --percentile 99.999 --save-profile ranges.json -o resnet20.qgraph
  qgraph quantize resnet20.onnx --profile ranges.json --exclude Conv_c1 --exclude /c2$/ --exclude-op global_average_pool --float first,last -o resnet20.qgraph
  qgraph quantize resnet20.onnx --profile ranges.json --max-drop 0.5 --images test_batch.bin -o resnet20.qgraph
  qgraph quantize resnet20.onnx --calib none -o resnet20.qgraph
  qgraph quantize resnet20.onnx --calib data_batch_1.bin --rounding onnx -o resnet20.qgraph
  qgraph quantize resnet20.int8.onnx -o resnet20.int8.qgraph
  qgraph quantize resnet50.onnx --calib random --shape data=1x3x224x224 -o resnet50.qgraph

Ranges found on `random` noise are right for timing, meaningless for accuracy.
Exit code 3: --max-drop is not met; the best network that was found is saved.")]
pub(crate) struct Args {
    /// The float network, or one that is quantized already (QDQ or QLinear operators), which needs no samples
    model: PathBuf,
    /// Samples: a folder of images, an image, .npy, .npz, CIFAR-10 .bin, MNIST idx, or `random`; with `none`, layers find their ranges at run
    /// time, image by image: the command says how much slower that is here
    #[arg(long, value_name = "DIR|FILE|random|none")]
    calib: Option<String>,
    /// How ranges are chosen [default: mse]
    #[arg(long, value_enum)]
    calib_mode: Option<Mode>,
    /// With --calib-mode percentile: the percentage of a layer's values that lies in its range; half of the rest may lie beyond either end
    /// [default: 99.99]
    #[arg(long, value_name = "P")]
    percentile: Option<f64>,
    /// Threads that calibrate and, with --max-drop, measure; the result does not depend on it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
    /// At most so many samples, spread evenly over the set
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Use the ranges (and preprocessing) of a saved profile instead of calibrating
    #[arg(long, value_name = "FILE", conflicts_with_all = ["calib", "samples", "save_profile", "PreprocessArgs"])]
    profile: Option<PathBuf>,
    /// Save the ranges found, as readable JSON
    #[arg(long, value_name = "FILE")]
    save_profile: Option<PathBuf>,
    /// Where the int8 network goes
    #[arg(short, long, value_name = "OUT.qgraph")]
    output: PathBuf,
    #[command(flatten)]
    how: QuantArgs,
    #[command(flatten)]
    within: WithinArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
}

/// In place of samples: ranges are found at run time.
const NONE: &str = "none";

/// What runs in integers, and how it is rounded.
#[derive(clap::Args)]
#[command(next_help_heading = "Quantization")]
struct QuantArgs {
    /// Layers that stay in float: by name, by name with * and ?, or by a regular expression between slashes; may be given again
    #[arg(long, value_name = "NAME|GLOB|/REGEX/")]
    exclude: Vec<String>,
    /// Operators that stay in float, as `qgraph emit fused` names them; may be given again
    #[arg(long, value_name = "OP")]
    exclude_op: Vec<String>,
    /// Ends of the network that stay in float
    #[arg(long, value_delimiter = ',', value_name = "first,last", hide_possible_values = true)]
    float: Vec<End>,
    /// What runs in integers, of all that can
    #[arg(long, value_enum, default_value_t = ModeArg::Full)]
    mode: ModeArg,
    /// What of a layer's weights shares a scale
    #[arg(long, value_enum, default_value_t = WeightsArg::Channel)]
    weights: WeightsArg,
    /// Where zero lies among the 256 levels of a layer's values
    #[arg(long, value_enum, default_value_t = ActivationsArg::Affine)]
    activations: ActivationsArg,
    /// Make channels of unequal range equal before they are rounded
    #[arg(long, value_enum, default_value_t = EqualizeArg::Auto)]
    equalize: EqualizeArg,
    /// Let biases make up for what the rounding of weights adds on the mean
    #[arg(long, value_enum, default_value_t = Switch::On)]
    bias_correction: Switch,
    /// Cut weights off where that makes their squared error least, instead of at the largest
    #[arg(long, value_enum, default_value_t = Switch::Off)]
    weight_clipping: Switch,
    /// How results are rounded: as is most exact, or so that ONNX Runtime computes the same integers from what `export-onnx` writes
    #[arg(long, value_enum, default_value_t = RoundingArg::Fused)]
    rounding: RoundingArg,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    First,
    Last,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum ModeArg {
    /// All of it
    Full,
    /// Layers with weights and what is joined to them
    Smart,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum WeightsArg {
    Channel,
    Tensor,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum ActivationsArg {
    /// Where the range has it
    Affine,
    /// At 0 if nothing is negative, else at 128
    Auto,
    /// At 128
    Int8,
    /// At 0: what is negative is cut off
    Uint8,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum EqualizeArg {
    /// Where it makes the error less
    Auto,
    On,
    Off,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum RoundingArg {
    /// Once, after what a layer multiplies and adds
    Fused,
    /// As ONNX Runtime does, every operation by itself
    Onnx,
}

impl From<RoundingArg> for quant::Rounding {
    fn from(rounding: RoundingArg) -> Self {
        match rounding {
            RoundingArg::Fused => quant::Rounding::Fused,
            RoundingArg::Onnx => quant::Rounding::ZeroLast,
        }
    }
}

impl QuantArgs {
    fn options(&self) -> quant::Options {
        let mut options = quant::Options::default()
            .mode(match self.mode {
                ModeArg::Full => quant::Mode::Full,
                ModeArg::Smart => quant::Mode::Smart,
            })
            .weights(match self.weights {
                WeightsArg::Channel => quant::Weights::Channel,
                WeightsArg::Tensor => quant::Weights::Tensor,
            })
            .activations(match self.activations {
                ActivationsArg::Affine => quant::Activations::Affine,
                ActivationsArg::Auto => quant::Activations::Auto,
                ActivationsArg::Int8 => quant::Activations::Int8,
                ActivationsArg::Uint8 => quant::Activations::Uint8,
            })
            .equalize(match self.equalize {
                EqualizeArg::Auto => quant::Equalize::Auto,
                EqualizeArg::On => quant::Equalize::On,
                EqualizeArg::Off => quant::Equalize::Off,
            })
            .correct_biases(self.bias_correction == Switch::On)
            .clip_weights(self.weight_clipping == Switch::On)
            .rounding(self.rounding.into());
        for pattern in &self.exclude {
            options = options.exclude(pattern);
        }
        for op in &self.exclude_op {
            options = options.exclude_op(op);
        }
        for end in &self.float {
            options = match end {
                End::First => options.float_first(),
                End::Last => options.float_last(),
            };
        }
        options
    }
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Smallest and largest value seen
    Naive,
    /// Least divergence of the distribution (Kullback and Leibler), as MXNet does it
    Entropy,
    /// So many percent of the values, see --percentile
    Percentile,
    /// Least mean square error of rounding and clipping
    Mse,
}

pub(crate) fn main(args: &Args) -> Result<(String, u8)> {
    check_output(&args.output)?;
    let about = about(&args.model);
    let graph = pipeline::import(&args.model, &args.shapes.options())?;
    let (fused, _) = pipeline::fuse_for(&graph, args.how.rounding.into()).map_err(about)?;
    if fused.is_quantized() {
        return given(args, &fused).map(|text| (text, 0));
    }
    if args.calib.as_deref() == Some(NONE) {
        return dynamic(args, &fused).map(|text| (text, 0));
    }
    let profile = match (&args.profile, &args.calib) {
        (Some(path), _) => {
            let profile = Profile::load(path)?;
            profile.check_graph(&fused).map_err(|e| e.in_file(path))?;
            profile
        }
        (None, Some(calib)) => calibrate(args, &fused, calib).map_err(about)?,
        (None, None) => {
            let message = "is a float network: give samples with --calib, or ranges with --profile";
            return Err(Error::new(Stage::Calibrate, args.model.display().to_string(), message));
        }
    };
    let options = args.how.options();
    let mut wrote = String::new();
    if let Some(path) = &args.save_profile {
        profile.save(path)?;
        wrote += &format!("wrote {}\n", path.display());
    }
    let (text, code) = match args.within.max_drop {
        Some(max_drop) => {
            let job = within::Job {
                model: &args.model,
                fused: &fused,
                profile: &profile,
                calib: args.calib.as_deref(),
                options,
                threads: args.threads.into(),
                output: &args.output,
            };
            let found = within::search(job, max_drop, &args.within)?;
            (placement(&found.graph) + &within::text(&found, max_drop)?, if found.met { 0 } else { NOT_MET })
        }
        None => {
            let quantized = pipeline::quantize(&fused, &profile, &options).map_err(about)?;
            file::save(&quantized, &args.output)?;
            (placement(&quantized), 0)
        }
    };
    Ok((format!("{text}{wrote}wrote {}\n", args.output.display()), code))
}

/// Ranges are found at run time.
fn dynamic(args: &Args, fused: &Graph) -> Result<String> {
    without_ranges(args, "--calib none needs no ranges")?;
    let options = args.how.options();
    let quantized = pipeline::quantize_dynamic(fused, &options).map_err(about(&args.model))?;
    // For timing, any ranges do.
    let cost = match bench::quantize_on_noise(fused, &options) {
        Ok(fixed) => {
            bench::cost([("with fixed ranges", &fixed), ("with ranges found at run time", &quantized)])?
        }
        Err(e) => format!("speed      not compared with fixed ranges, for noise gives none: {e}\n"),
    };
    write_without_ranges(args, quantized, &cost)
}

/// A network that is quantized already is taken as it is.
fn given(args: &Args, fused: &Graph) -> Result<String> {
    without_ranges(args, "is quantized already, its numbers are fixed")?;
    let quantized = pipeline::quantize_given(fused, &args.how.options()).map_err(about(&args.model))?;
    write_without_ranges(args, quantized, "")
}

/// Writes a network that no samples were looked at for; `cost` is what there is to say of its speed.
fn write_without_ranges(args: &Args, mut quantized: QGraph, cost: &str) -> Result<String> {
    quantized.preprocess = args.preprocess.given();
    file::save(&quantized, &args.output)?;
    Ok(format!("{}{cost}wrote {}\n", placement(&quantized), args.output.display()))
}

/// Refuses options about ranges and samples.
fn without_ranges(args: &Args, why: &str) -> Result<()> {
    let calibration = [
        ("--calib", args.calib.as_deref().is_some_and(|c| c != NONE)),
        ("--calib-mode", args.calib_mode.is_some()),
        ("--percentile", args.percentile.is_some()),
        ("--samples", args.samples.is_some()),
        ("--profile", args.profile.is_some()),
        ("--save-profile", args.save_profile.is_some()),
        ("--max-drop", args.within.max_drop.is_some()),
    ];
    let given: Vec<&str> = calibration.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    if !given.is_empty() {
        let message = format!("{why}: leave {} out", given.join(", "));
        return Err(Error::new(Stage::Quantize, args.model.display().to_string(), message));
    }
    Ok(())
}

/// Refuses at once what would fail, or mislead, after a long calibration.
fn check_output(path: &Path) -> Result<()> {
    let fail = |message: &str| Err(Error::new(Stage::File, path.display().to_string(), message));
    if path.extension().is_some_and(|e| e == "onnx") {
        return fail("the int8 network is no ONNX model: name it OUT.qgraph");
    }
    if path.is_dir() {
        return fail("is a folder: name the file in it");
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            fail("cannot write: its folder does not exist")
        }
        _ => Ok(()),
    }
}

fn calibrate(args: &Args, fused: &Graph, calib: &str) -> Result<Profile> {
    let preprocess = args.preprocess.over(None);
    let pick = args.samples.map_or(Pick::All, Pick::Spread);
    let float = pipeline::float(fused)?;
    let samples = samples(calib, &float, &preprocess, None, pick)?;
    let bar = progress::bar("calibrating", samples.len());
    let mode = match args.calib_mode.unwrap_or(Mode::Mse) {
        Mode::Naive => calib::Mode::Naive,
        Mode::Entropy => calib::Mode::Entropy,
        Mode::Percentile => calib::Mode::Percentile(args.percentile.unwrap_or(99.99)),
        Mode::Mse => calib::Mode::Mse,
    };
    let mut progress = |n| bar.set_position(n as u64);
    let options =
        calib::Options::new(mode).preprocess(preprocess).threads(args.threads.into()).progress(&mut progress);
    let profile = pipeline::calibrate(fused, &mut tensors(fused, samples), options)?;
    bar.finish_and_clear();
    Ok(profile)
}
