//! The `qgraph` command line: one subcommand a file. Results go to stdout, progress and warnings to stderr.
//!
//! Exit codes: 0 done; 1 a bug or a failed write; 2 the user's input was refused (the message names stage, node and cure).

mod bench;
mod compare;
mod demo;
mod emit;
mod explain;
mod inspect;
mod load;
mod peak;
mod profile;
mod progress;
mod quantize;
mod run;
mod score;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Compiles float ONNX networks to calibrated int8 machine code, and runs them.
#[derive(Parser)]
#[command(
    name = "qgraph",
    version,
    about,
    arg_required_else_help = true,
    after_help = "\
First steps:
  qgraph demo
  qgraph quantize model.onnx --calib images/ --mean 123.7,116.3,103.5 --std 58.4,57.1,57.4 --resize 256 --crop 224 -o model.qgraph
  qgraph run model.qgraph --input cat.jpg --labels classes.txt"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Quantize(quantize::Args),
    Run(run::Args),
    Compare(compare::Args),
    Bench(bench::Args),
    Inspect(inspect::Args),
    Explain(explain::Args),
    Emit(emit::Args),
    Demo(demo::Args),
}

/// What a command can end with, other than success.
enum Failure {
    /// The compiler refused the input.
    Refused(qgraph_compiler::Error),
    /// Nobody reads the output any more.
    Closed,
    /// Writing failed.
    Io(String),
}

impl From<qgraph_compiler::Error> for Failure {
    fn from(e: qgraph_compiler::Error) -> Self {
        Failure::Refused(e)
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        if e.kind() == std::io::ErrorKind::BrokenPipe { Failure::Closed } else { Failure::Io(e.to_string()) }
    }
}

/// Result of a command.
type Done = Result<(), Failure>;

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Quantize(args) => quantize::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Compare(args) => compare::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Inspect(args) => inspect::main(&args),
        Command::Explain(args) => explain::main(&args),
        Command::Emit(args) => emit::main(&args),
        Command::Demo(args) => demo::main(&args),
    };
    match done {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Refused(e)) => {
            eprintln!("qgraph: {e}");
            ExitCode::from(2)
        }
        Err(Failure::Io(e)) => {
            eprintln!("qgraph: {e}");
            ExitCode::from(1)
        }
    }
}
