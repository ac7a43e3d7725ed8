//! x86-64 machine code from a plan, for AVX2, AVX-VNNI or AVX-512 VNNI: the whole network as one function, and one for each of several
//! threads.
//!
//! In: a [`Plan`] that its verifier accepts; that proof is what unchecked accesses here rest on. Out: [`Jit`], a
//! [`Model`] that allocates nothing when it runs.
//!
//! - `kernel` (with `partial`, `scratch`): a kernel becomes a subroutine;
//! - `codes`: instructions in the encodings of the targets;
//! - `pointers`: how pointer registers move with loops and grids;
//! - `steps` (with `frame`, `context`): the entry functions that walk the plan;
//! - `asm`: bytes; `memory`: pages; `disasm`: listings; `text`: what an assembler takes; `jitdump`: names and code for `perf`.
//!
//! All encoding is iced's, in one pass; memmap2 provides executable memory. Generated code refers to
//! nothing by absolute address.
//!
//! Not here: operators, layouts, choices of tiles. An instruction of the IR means what the kernel interpreter says.

mod asm;
mod code;
mod codes;
mod context;
mod disasm;
mod frame;
mod jitdump;
mod kernel;
mod memory;
mod partial;
mod pointers;
mod scratch;
mod steps;
mod text;

pub use code::{Code, Symbol};

use crate::error::{Error, Result, Stage};
use crate::plan::Plan;
use memory::Memory;
use qgraph_runtime::machine::Context;
use qgraph_runtime::model::{check_pool, check_run};
use qgraph_runtime::{Model, Pool, RunError, TensorDesc, TensorMut, TensorRef, cpu};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How to compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Use AVX-512 VBMI (byte permutes for look-ups) where the target is AVX-512. [`Options::default`] asks the CPU.
    pub vbmi: bool,
    /// Threads that a run may use where a pool is given, at least 1. One thread can always run it too.
    pub threads: usize,
    /// Count the cycles of each step; see [`Jit::take_cycles`].
    pub profile: bool,
    /// Write the names of the code for `perf`, as [`Jit::write_perf_map`] does.
    pub perf_map: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { vbmi: cpu::avx512_vbmi(), threads: 1, profile: false, perf_map: false }
    }
}

/// A compiled plan.
pub struct Jit {
    plan: Arc<Plan>,
    code: Code,
    memory: Memory,
    threads: usize,
    /// One per step if compiled with [`Options::profile`], else empty.
    cycles: Box<[AtomicU64]>,
}

impl Jit {
    /// Compiles a plan for this CPU. Fails where [`Code::assemble`] fails, on another CPU, and if the system gives no
    /// executable memory.
    pub fn compile(plan: Arc<Plan>, options: &Options) -> Result<Jit> {
        let refuse = |message: &str| Err(Error::new(Stage::Jit, &plan.name, message));
        if !cfg!(target_arch = "x86_64") {
            return refuse("machine code needs x86-64; use --engine interp");
        }
        if let (false, Some(needs)) = (plan.target.native(), plan.target.needs()) {
            return refuse(&format!(
                "this CPU (or its operating system) has no {needs}; use another target, or --engine interp"
            ));
        }
        if options.vbmi && !cpu::avx512_vbmi() {
            return refuse("this CPU has no AVX-512 VBMI; switch Options::vbmi off");
        }
        let code = Code::assemble(&plan, options)?;
        let memory = Memory::new(&code).map_err(|e| {
            Error::new(Stage::Jit, &plan.name, format!("no executable memory: {e}; use --engine interp"))
        })?;
        let steps = if options.profile { plan.steps.len() } else { 0 };
        let cycles = (0..steps).map(|_| AtomicU64::new(0)).collect();
        let jit = Jit { plan, code, memory, threads: options.threads.max(1), cycles };
        if options.perf_map {
            jit.write_perf_map().map_err(|e| {
                Error::new(Stage::Jit, &jit.plan.name, format!("cannot write the perf map: {e}"))
            })?;
        }
        Ok(jit)
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// The code: bytes, symbols, listings.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Address of the first byte of the code.
    pub fn address(&self) -> *const u8 {
        self.memory.start()
    }

    /// Appends the names of the code to `/tmp/perf-PID.map`, for `perf report`; gives the path.
    pub fn write_perf_map(&self) -> io::Result<PathBuf> {
        self.memory.write_perf_map(&self.code)
    }

    /// Appends names and code to `jit-PID.dump` in a folder, for `perf inject --jit`; gives the path. `time`: nanoseconds of the monotonic clock,
    /// as `perf record -k 1` takes them.
    pub fn write_jitdump(&self, folder: &Path, time: u64) -> io::Result<PathBuf> {
        jitdump::write(&self.code, self.address() as u64, folder, time)
    }

    /// Enters the code, at the entry for one thread (0) or for thread `entry - 1` of several.
    ///
    /// # Safety
    /// The context is one of this plan's, for tensors and an arena as large as the plan says; all threads of a run enter at the same time.
    unsafe fn enter(&self, entry: usize, context: &mut Context) {
        #[cfg(target_arch = "x86_64")]
        {
            let code = self.memory.start().wrapping_add(self.code.entries[entry]);
            // SAFETY: an entry function of this ABI and argument.
            let code: unsafe extern "sysv64" fn(*mut Context) = unsafe { std::mem::transmute(code) };
            // SAFETY: `plan::verify` has proven every access of every step inside its space, and `compile` that the CPU has the
            // instructions; the rest is the caller's. The plan, with weights and constants, is held by `self`, and never changes.
            unsafe { code(context) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (entry, context);
    }

    /// Time stamp cycles spent in each step by all runs since the last call, waiting before it included and all threads added up, if
    /// compiled with [`Options::profile`].
    pub fn take_cycles(&self) -> Option<Vec<u64>> {
        let take = |c: &AtomicU64| c.swap(0, Ordering::Relaxed);
        (!self.cycles.is_empty()).then(|| self.cycles.iter().map(take).collect())
    }
}

/// The time stamp counter now, in the cycles of [`Jit::take_cycles`]; 0 where there is none.
pub fn time_stamp() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction, and it touches no memory.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

impl Model for Jit {
    fn input_count(&self) -> usize {
        self.plan.inputs.len()
    }

    fn input(&self, index: usize) -> TensorDesc<'_> {
        self.plan.inputs[index].desc()
    }

    fn output_count(&self) -> usize {
        self.plan.outputs.len()
    }

    fn output(&self, index: usize) -> TensorDesc<'_> {
        self.plan.outputs[index].desc()
    }

    fn arena_bytes(&self) -> usize {
        self.plan.arena_bytes
    }

    fn run(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> std::result::Result<(), RunError> {
        check_run(self, inputs, outputs, arena)?;
        let mut context = context::context(&self.plan, &self.cycles, inputs, outputs, arena);
        // SAFETY: `check_run` has matched tensors and arena with the plan.
        unsafe { self.enter(0, &mut context) }
        Ok(())
    }

    fn threads(&self) -> usize {
        self.threads
    }

    fn run_on(
        &self,
        pool: &mut Pool,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> std::result::Result<(), RunError> {
        if self.threads == 1 {
            return self.run(inputs, outputs, arena);
        }
        check_run(self, inputs, outputs, arena)?;
        check_pool(self, pool)?;
        let context = context::context(&self.plan, &self.cycles, inputs, outputs, arena);
        pool.run(self.threads, &|worker| {
            // SAFETY: as in `run`; the split keeps threads apart between barriers.
            unsafe { self.enter(1 + worker.index(), &mut context.of(&worker)) }
        });
        Ok(())
    }
}
