//! The `qgraph` command line: one subcommand a file, each a function from its arguments to the text it prints. Only this file writes
//! stdout; progress and warnings go to stderr.
//!
//! Exit codes: 0 done; 1 the result could not be printed; 2 the user's input was refused (the message names stage, file or node, and cure);
//! 3 a limit that was asked for is not met.

mod bench;
mod compare;
mod comparison;
mod demo;
mod disasm;
mod emit;
mod explain;
mod export;
mod inspect;
mod load;
mod peak;
mod plot;
mod profile;
mod progress;
mod quantize;
mod report;
mod run;
mod score;
mod tuning;
mod within;

use clap::{Parser, Subcommand};
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Compiles float ONNX networks to calibrated int8 machine code, and runs them.
#[derive(Parser)]
#[command(
    name = "qgraph",
    bin_name = "qgraph",
    version,
    arg_required_else_help = true,
    after_help = "\
First steps:
  qgraph demo
  qgraph quantize model.onnx --calib images/ --mean 123.7,116.3,103.5 --std 58.4,57.1,57.4 --resize 256 --crop 224 -o model.qgraph
  qgraph run model.qgraph --input cat.jpg --labels classes.txt

Exit codes: 0 done, 1 the result could not be printed, 2 refused, 3 `quantize --max-drop` does not meet its limit"
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
    Report(report::Args),
    Bench(bench::Args),
    Inspect(inspect::Args),
    Explain(explain::Args),
    Plot(plot::Args),
    Emit(emit::Args),
    Disasm(disasm::Args),
    ExportOnnx(export::Args),
    Demo(demo::Args),
}

/// What a command prints, or why it refused.
type Done = qgraph_compiler::Result<String>;

/// Exit code of a limit that is not met.
const NOT_MET: u8 = 3;

impl Command {
    /// What is printed, and the exit code.
    fn run(&self) -> qgraph_compiler::Result<(String, u8)> {
        let done = match self {
            Command::Quantize(args) => return quantize::main(args),
            Command::Run(args) => run::main(args),
            Command::Compare(args) => compare::main(args),
            Command::Report(args) => report::main(args),
            Command::Bench(args) => bench::main(args),
            Command::Inspect(args) => inspect::main(args),
            Command::Explain(args) => explain::main(args),
            Command::Plot(args) => plot::main(args),
            Command::Emit(args) => emit::main(args),
            Command::Disasm(args) => disasm::main(args),
            Command::ExportOnnx(args) => export::main(args),
            Command::Demo(args) => demo::main(args),
        };
        done.map(|text| (text, 0))
    }
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => match cli.command.run() {
            Ok((text, code)) => print(&text, code),
            Err(e) => refuse(e),
        },
        // The help that was asked for is a result; the help for want of a command is not.
        Err(e) if !e.use_stderr() => print(&e.to_string(), 0),
        Err(e) => refuse(e.to_string().trim_start_matches("error: ").trim_end()),
    }
}

fn print(text: &str, code: u8) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever closed the pipe has read enough.
        Err(e) if e.kind() != ErrorKind::BrokenPipe => {
            warn(format!("the result cannot be printed: {e}"));
            ExitCode::from(1)
        }
        _ => ExitCode::from(code),
    }
}

fn refuse(why: impl Display) -> ExitCode {
    warn(why);
    ExitCode::from(2)
}

/// Says something on stderr. (`eprintln` panics if nobody listens.)
fn warn(what: impl Display) {
    let _ = writeln!(std::io::stderr(), "qgraph: {what}");
}
