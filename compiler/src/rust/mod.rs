//! Plans as Rust source: one network for several targets, in one file that compiles without this compiler.
//!
//! In: plans of one network that their verifier accepts, one a target; that proof is what unchecked accesses in the source rest on. Out:
//! text, the same for the same input: a type that implements `qgraph_runtime::Model`, and for each target a module with a function for every
//! kernel and every step. The words of kernels are functions of `qgraph_runtime::vector`. No allocation, no `std` unless threads are wanted.
//!
//! - `kernel`: a kernel becomes a function; loops stay loops, register arrays arrays of vectors.
//! - `steps`: the plan's steps, and the functions that walk them.
//! - `machine`: the same where the code is assembly.
//! - `model`: the type and what it does the same on all targets.
//! - `text`: names, numbers, sums, bytes as tokens.
//! - `standalone`: the runtime's own source as modules of the file.
//!
//! Not here: operators, layouts, choices of tiles. An instruction of the IR means what the kernel interpreter says.

mod kernel;
mod machine;
mod model;
mod standalone;
mod steps;
mod text;

use crate::assembly::Assembly;
use crate::error::{Error, Problem, Result, Stage};
use crate::plan::{Plan, verify};
use crate::target::{Isa, Target};
use std::ops::Range;

/// Where the weights of the source are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Weights {
    /// In the program, by `include_bytes!` of this path (relative to the source).
    Included(String),
    /// The same for a path that starts at the folder of the package's `Cargo.toml`.
    OfPackage(String),
    /// The program hands over the bytes of the `.qgraph`.
    External,
}

/// What kernels for x86-64 are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Code {
    /// Rust, which the compiler makes fast if it optimizes.
    #[default]
    Rust,
    /// The JIT's machine code as assembly: fast in debug builds too, and compiled sooner. (Functions of the runtime stay Rust.)
    Assembly,
}

/// What the caller decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Name of the type.
    pub name: String,
    /// Name of the model's file, for readers.
    pub file: String,
    /// What kernels for x86-64 are written in; plain Rust is what other CPUs run.
    pub code: Code,
    /// Where weights come from.
    pub weights: Weights,
    /// Copy included weights into large pages when the first model is made: faster where weights are large. Needs `std`.
    pub copied: bool,
    /// Include the runtime, so that the source needs no crate.
    pub standalone: bool,
    /// Threads that a run may use where a pool is given, at least 1. More than one needs `std`.
    pub threads: usize,
}

/// Instruction sets that get code of their own where nothing is said: what most x86-64 CPUs have, and the fastest.
pub const TARGETS: [Target; 2] = [Target::avx2(), Target::avx512vnni()];

/// The name of a type after that of a file: `mobilenet-v2` → `MobilenetV2`.
pub fn type_name(stem: &str) -> String {
    let mut name = String::new();
    let mut start = true;
    for c in stem.chars() {
        if !c.is_ascii_alphanumeric() {
            start = true;
        } else if std::mem::take(&mut start) {
            name.push(c.to_ascii_uppercase());
        } else {
            name.push(c);
        }
    }
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("Model{name}") }
}

/// The source of a model. `plans` are of one network, for different targets, the first for [`Isa::Portable`]: what runs where nothing else
/// does. `assemblies` are the code of the others, made for as many threads as the options say, if it is to be assembly; else there are none.
/// `file` is the `.qgraph` that they were made from, `stamp` the bytes in it that differ from those of any other.
///
/// Fails on plans that their verifier refuses, and on those that do not belong together.
pub fn emit(
    plans: &[Plan],
    assemblies: &[Assembly],
    file: &[u8],
    stamp: Range<usize>,
    options: &Options,
) -> Result<String> {
    for plan in plans {
        Error::all(Stage::Emit, verify::verify(plan))?;
    }
    check(plans, assemblies, file, &stamp, options)?;
    let tokens = model::model(plans, assemblies, file, stamp, options);
    let parsed = syn::parse2(tokens).map_err(|e| {
        Error::new(Stage::Emit, &options.name, format!("the source is no Rust ({e}): this is a bug"))
    })?;
    let mut text = model::head(plans, file, options);
    text.push_str(&text::spaced(&prettyplease::unparse(&parsed)));
    if options.standalone {
        text.push_str(&standalone::runtime(&standalone::Uses {
            isas: match options.code {
                Code::Rust => plans.iter().map(|p| p.target.isa).collect(),
                Code::Assembly => vec![Isa::Portable],
            },
            machine: options.code == Code::Assembly,
            functions: plans.iter().any(steps::has_functions),
            threads: options.threads > 1,
            weights: options.weights == Weights::External,
            copied: options.copied,
        }));
    }
    Ok(text)
}

/// All reasons not to write a source.
fn check(
    plans: &[Plan],
    assemblies: &[Assembly],
    file: &[u8],
    stamp: &Range<usize>,
    options: &Options,
) -> Result<()> {
    let mut problems = Vec::new();
    let mut wrong = |subject: &str, message: String| {
        problems.push(Problem { subject: subject.into(), message });
    };
    if !text::is_type_name(&options.name) {
        wrong(
            &options.name,
            "is no name for a type: give letters, digits and _, first a letter, no keyword".into(),
        );
    }
    if options.threads == 0 {
        wrong("threads", "a run needs at least one thread".into());
    }
    if options.copied && options.weights == Weights::External {
        wrong("weights", "that the program hands over are copied by the program (`blob::Bytes`)".into());
    }
    let Some(first) = plans.first().filter(|p| p.target.isa == Isa::Portable) else {
        wrong("targets", "the first plan must be portable".into());
        return Error::all(Stage::Emit, problems);
    };
    for (k, plan) in plans.iter().enumerate() {
        let same = plan.inputs == first.inputs
            && plan.outputs == first.outputs
            && plan.batch == first.batch
            && plan.weights == first.weights;
        if !same || plans[..k].iter().any(|p| p.target.isa == plan.target.isa) {
            wrong(plan.target.name, "is not another target of the same network".into());
        }
    }
    let natives = match options.code {
        Code::Rust => &[][..],
        Code::Assembly => &plans[1..],
    };
    if !natives.iter().map(|p| p.target.name).eq(assemblies.iter().map(|a| a.target)) {
        wrong("assembly", "is not that of the plans but the first, in their order".into());
    }
    let entries = if options.threads > 1 { 1 + options.threads } else { 1 };
    if let Some(other) = assemblies.iter().find(|a| a.entries.len() != entries) {
        wrong(other.target, format!("is not assembly for {} threads", options.threads));
    }
    if !file.ends_with(&first.weights) || stamp.end > file.len() {
        wrong(&options.file, "does not end with the weights of the plans".into());
    }
    Error::all(Stage::Emit, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_after_files() {
        let names = ["resnet50", "mobilenet-v2", "a_b.c", "7", "", "Ünet"].map(type_name);
        assert_eq!(names, ["Resnet50", "MobilenetV2", "ABC", "Model7", "Model", "Net"]);
    }
}
