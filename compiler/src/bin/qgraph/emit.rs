//! `qgraph emit`: the text of any stage.

use crate::Done;
use crate::load::{InputArgs, Model, ShapeArgs, TargetArgs, about, target_names};
use qgraph_compiler::lower::Options;
use qgraph_compiler::pipeline::{self, Emit};
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::rust::{self, Code, Weights};
use qgraph_compiler::target::Target;
use qgraph_compiler::{Error, Stage};
use std::path::{Path, PathBuf};

/// Print a stage of the compiler as text
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  qgraph emit fused model.onnx
  qgraph emit plan model.qgraph --target portable
  qgraph emit asm model.qgraph -o model.s
  qgraph emit asm --rust model.qgraph -o model.rs
  qgraph emit rust model.qgraph -o model.rs
  qgraph emit rust model.qgraph -o model.rs --standalone --targets avx512vnni --input u8

A float .onnx is fused and scheduled in f32 for plan, kernels and asm.")]
pub(crate) struct Args {
    /// Which text
    #[arg(value_enum)]
    what: What,
    /// A .qgraph, or a float .onnx
    model: PathBuf,
    /// Images per run
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Write to a file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    shapes: ShapeArgs,
    #[command(flatten)]
    rust: RustArgs,
}

/// What Rust source takes.
#[derive(clap::Args)]
#[command(next_help_heading = "Rust source")]
struct RustArgs {
    /// Instruction sets with code of their own, besides plain Rust for any CPU [default: avx2,avx512vnni]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = target_names())]
    targets: Vec<Target>,
    /// `emit asm` as a Rust source whose functions are that text
    #[arg(long)]
    rust: bool,
    /// Needs no crate: the runtime's source is a part of it
    #[arg(long)]
    standalone: bool,
    /// In the program by include_bytes! of the .qgraph, the same and copied into large pages (faster where weights are large; needs std), or
    /// handed over by the program [default: include]
    #[arg(long, value_enum, value_name = "include|copy|external", hide_possible_values = true)]
    weights: Option<WeightsArg>,
    /// Threads that may share a run; more than one needs std [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Name of the type [default: the file's]
    #[arg(long = "type", value_name = "NAME")]
    name: Option<String>,
}

impl RustArgs {
    /// Options that were given besides `--rust`.
    fn given(&self) -> Option<&'static str> {
        let all = [
            ("--targets", !self.targets.is_empty()),
            ("--standalone", self.standalone),
            ("--weights", self.weights.is_some()),
            ("--threads", self.threads.is_some()),
            ("--type", self.name.is_some()),
        ];
        all.iter().find(|o| o.1).map(|o| o.0)
    }
}

/// Where weights are.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum WeightsArg {
    Include,
    Copy,
    External,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The imported float graph
    Graph,
    /// The fused float graph
    Fused,
    /// The integer graph
    Qgraph,
    /// Steps and addresses
    Plan,
    /// The kernels, in the kernel IR
    Kernels,
    /// Machine code, as an assembler takes it (global_asm! with options(raw)); with --rust a Rust source of it that runs the model
    Asm,
    /// Rust source that runs the model
    Rust,
}

impl Args {
    /// Whether a Rust source is wanted.
    fn source(&self) -> bool {
        self.what == What::Rust || self.rust.rust
    }

    fn options(&self) -> Options {
        Options { batch: self.batch.into(), input: self.input.format(), ..Options::default() }
    }
}

pub(crate) fn main(args: &Args) -> Done {
    // Before any work: options that would do nothing.
    if args.rust.rust && args.what != What::Asm {
        return Err(Error::new(Stage::Emit, "--rust", "is for `emit asm` only"));
    }
    match (args.source(), args.rust.given(), args.target.asked()) {
        (true, _, Some(target)) => {
            let message = format!("Rust source is for several targets: give --targets {target}");
            return Err(Error::new(Stage::Emit, "--target", message));
        }
        (true, _, None) | (false, None, _) => {}
        (false, Some(option), _) => {
            return Err(Error::new(Stage::Emit, option, "is for `emit rust` and `emit asm --rust` only"));
        }
    }
    let model = Model::open(&args.model, &args.shapes)?;
    let target = if args.what == What::Asm { args.target.target_of_code() } else { args.target.target() };
    if args.what == What::Asm && !args.source() && target.needs().is_none() {
        let names: Vec<_> = Target::ALL.iter().filter(|t| t.needs().is_some()).map(|t| t.name).collect();
        let message =
            format!("there is no machine code for {target}: name {}, or emit kernels", names.join(", "));
        return Err(Error::new(Stage::Jit, "--target", message).in_file(&args.model));
    }
    let from_plan = |what| -> Result<String, Error> {
        let options = args.options();
        pipeline::emit(pipeline::schedule(&model.runnable()?, &target, &options)?, what)
    };
    let about = about(&args.model);
    let text = match (args.what, &model) {
        (What::Graph, Model::Float(graph)) => graph.to_string(),
        (What::Fused, Model::Float(graph)) => pipeline::fuse(graph).map_err(about)?.0.to_string(),
        (What::Graph | What::Fused, Model::Quantized(_)) => {
            let message = "a .qgraph holds no float graph: give the .onnx, or emit qgraph";
            return Err(Error::new(Stage::File, args.model.display().to_string(), message));
        }
        (What::Qgraph, model) => model.runnable().map_err(about)?.to_string(),
        (What::Plan, _) => from_plan(Emit::Plan).map_err(about)?,
        (What::Kernels, _) => from_plan(Emit::Kernels).map_err(about)?,
        (What::Asm, _) if !args.source() => from_plan(Emit::Asm).map_err(about)?,
        (What::Asm | What::Rust, Model::Quantized(graph)) => rust(args, graph).map_err(about)?,
        (What::Asm | What::Rust, Model::Float(_)) => {
            let message = "Rust source takes its weights from a .qgraph: make one with `qgraph quantize`";
            return Err(Error::new(Stage::File, args.model.display().to_string(), message));
        }
    };
    let text = format!("{}\n", text.trim_end());
    let Some(path) = &args.output else { return Ok(text) };
    std::fs::write(path, text)
        .map_err(|e| Error::new(Stage::File, path.display().to_string(), format!("cannot write: {e}")))?;
    Ok(format!("wrote {}\n", path.display()))
}

fn rust(args: &Args, graph: &QGraph) -> Result<String, Error> {
    let no_file = |e| Error::new(Stage::File, args.model.display().to_string(), format!("cannot read: {e}"));
    let file = std::fs::read(&args.model).map_err(no_file)?;
    let place = args.rust.weights.unwrap_or(WeightsArg::Include);
    let weights = match place {
        WeightsArg::Include | WeightsArg::Copy => {
            let parent = args.output.as_deref().and_then(Path::parent).filter(|p| !p.as_os_str().is_empty());
            let folder = parent.unwrap_or(Path::new("."));
            let no_folder =
                |e| Error::new(Stage::File, folder.display().to_string(), format!("cannot write there: {e}"));
            let folder = folder.canonicalize().map_err(no_folder)?;
            Weights::Included(path_from(&folder, &args.model.canonicalize().map_err(no_file)?))
        }
        WeightsArg::External => Weights::External,
    };
    let stem = args.model.file_stem().unwrap_or_default().to_string_lossy();
    let source = rust::Options {
        name: args.rust.name.clone().unwrap_or_else(|| rust::type_name(&stem)),
        file: args.model.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        code: if args.what == What::Asm { Code::Assembly } else { Code::Rust },
        weights,
        copied: place == WeightsArg::Copy,
        standalone: args.rust.standalone,
        threads: args.rust.threads.unwrap_or(1).into(),
    };
    let options = args.options();
    let targets = match &args.rust.targets[..] {
        [] => &rust::TARGETS,
        given => given,
    };
    pipeline::rust(graph, &file, targets, &options, &source)
}

/// The path of a file as seen from a folder, both canonical, with `/`: what `include_bytes!` wants, and the same wherever both lie.
fn path_from(folder: &Path, file: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (folder.components().collect(), file.components().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| "..".into());
    let down = to[common..].iter().map(|c| c.as_os_str().to_string_lossy());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_from_the_source_to_the_model() {
        let from = |folder: &str| path_from(folder.as_ref(), "/a/models/b.qgraph".as_ref());
        assert_eq!(from("/a/src/deep"), "../../models/b.qgraph");
        assert_eq!(from("/a/models"), "b.qgraph");
        assert_eq!(from("/a"), "models/b.qgraph");
    }
}
