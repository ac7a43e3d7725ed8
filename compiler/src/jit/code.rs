//! A plan as machine code in ordinary memory: position independent bytes and the names of their parts.
//!
//! Made on any host, for listings; [`super::Jit`] makes it executable where it can run.

use super::asm::Asm;
use super::{Options, context, kernel, pointers, steps};
use crate::error::{Error, Problem, Result, Stage};
use crate::kernel::expand;
use crate::plan::split::Split;
use crate::plan::{Plan, Work, verify};
use crate::target::Target;
use qgraph_runtime::machine::MAX_IO;

/// A named range of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The kernel's name, `entry` (`entry of thread T`), or `step N: layer: what` (`step N of thread T: …`).
    pub name: String,
    /// First byte.
    pub offset: usize,
    /// Bytes. Steps lie inside their entry.
    pub len: usize,
    /// What a reader should know: which register holds which parameter.
    pub note: String,
}

impl Symbol {
    /// Whether it is a step, and so a part of its entry.
    pub(super) fn is_step(&self) -> bool {
        self.name.starts_with("step ")
    }
}

/// Machine code of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Name of the plan's target.
    pub(super) target: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) symbols: Vec<Symbol>,
    /// The entry for one thread, then that of each of several.
    pub(super) entries: Vec<usize>,
}

impl Code {
    /// Verifies and assembles a plan. Fails on a plan that the verifier refuses, that is for another target, or
    /// that exceeds what the JIT holds in registers or on its stack; the message says which and what to do.
    pub fn assemble(plan: &Plan, options: &Options) -> Result<Code> {
        check(plan)?;
        let mut asm = Asm::new();
        let (mut kernels, mut symbols) = (Vec::new(), Vec::new());
        for k in &plan.kernels {
            let emitted = kernel::emit(&mut asm, &expand::expand(k), plan.target.isa, options.vbmi)
                .map_err(|e| Error::new(Stage::Jit, &k.name, e))?;
            let note = k.params.iter().zip(pointers::PARAMS);
            let note: Vec<_> = note.map(|(p, r)| format!("{} in {r:?}", p.name).to_lowercase()).collect();
            let (offset, len) = (emitted.offset, asm.here() - emitted.offset);
            symbols.push(Symbol { name: k.name.clone(), offset, len, note: note.join(", ") });
            kernels.push(emitted);
        }
        let mut entries = Vec::new();
        let several = (options.threads > 1).then(|| Split::new(plan, options.threads));
        for split in [Some(Split::whole(plan)), several].iter().flatten() {
            for (t, tasks) in split.threads.iter().enumerate() {
                let of = if split.threads.len() > 1 { format!(" of thread {t}") } else { String::new() };
                let entry = steps::emit(&mut asm, plan, tasks, &kernels, options.profile)
                    .map_err(|e| Error::new(Stage::Jit, &plan.name, e))?;
                let (name, len) = (format!("entry{of}"), asm.here() - entry.offset);
                symbols.push(Symbol { name, offset: entry.offset, len, note: "context in rdi".into() });
                for (i, range) in entry.steps {
                    let name = format!("step {i}{of}: {}: {}", plan.steps[i].layer, plan.steps[i].what);
                    symbols.push(Symbol { name, offset: range.start, len: range.len(), note: String::new() });
                }
                entries.push(entry.offset);
            }
        }
        let bytes =
            asm.finish().map_err(|e| Error::new(Stage::Jit, &plan.name, format!("cannot encode {e}")))?;
        Ok(Code { target: plan.target.name, bytes, symbols, entries })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The kernels in the plan's order, then each entry with its steps.
    pub fn symbols(&self) -> &[Symbol] {
        &self.symbols
    }
}

/// All reasons not to compile a plan.
fn check(plan: &Plan) -> Result<()> {
    // Cache sizes are the scheduler's; what code generation relies on must be the family's.
    let possible = |t: &&Target| t.needs().is_some();
    let is = |t: &Target| {
        t.isa == plan.target.isa && t.lanes == plan.target.lanes && t.registers >= plan.target.registers
    };
    if !Target::ALL.iter().filter(possible).any(is) {
        let names: Vec<_> = Target::ALL.iter().filter(possible).map(|t| t.name).collect();
        let message = format!(
            "the plan is for {}; machine code is made for {}: schedule for one of them, or run this plan with --engine interp",
            plan.target,
            names.join(", ")
        );
        return Err(Error::new(Stage::Jit, &plan.name, message));
    }
    let mut problems = verify::verify(plan);
    let mut refuse = |subject: &str, message: String| {
        problems.push(Problem { subject: subject.into(), message });
    };
    for (what, n) in [("inputs", plan.inputs.len()), ("outputs", plan.outputs.len())] {
        if n > MAX_IO {
            refuse(&plan.name, format!("{n} {what}; at most {} fit a run's context", MAX_IO));
        }
    }
    for step in &plan.steps {
        if let Work::Function(f) = &step.work
            && f.args.len() > context::MAX_ARGS
        {
            refuse(&step.layer, format!("{} pointers; at most {}", f.args.len(), context::MAX_ARGS));
        }
    }
    Error::all(Stage::Jit, problems)
}
