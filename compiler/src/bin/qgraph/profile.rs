//! `qgraph bench --profile`: where the time of an image goes, step by step, beside what the core could do at most.

use crate::bench::Buffers;
use qgraph_compiler::jit::{Jit, Options};
use qgraph_compiler::plan::{Plan, Work};
use qgraph_compiler::{Error, Result, Stage};
use qgraph_runtime::Model;
use std::sync::Arc;
use std::time::Instant;

/// What one step of the plan costs.
pub(crate) struct Row {
    /// Node of the graph, and what the step does there.
    pub(crate) layer: String,
    pub(crate) what: &'static str,
    /// Its kernels, or its runtime function.
    pub(crate) kernels: Vec<String>,
    /// Microseconds per image: the median over the runs.
    pub(crate) us: f64,
    /// Multiply-accumulates of an image.
    pub(crate) macs: u64,
}

impl Row {
    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let Row { layer, what, kernels, us, macs } = self;
        serde_json::json!({ "layer": layer, "what": what, "kernels": kernels, "us": us, "macs": macs })
    }
}

/// Runs before those that count.
const WARM: usize = 3;

/// Measures every step of a plan on one thread, over `runs` runs. With `perf_map`, `perf` finds the names of the kernels meanwhile.
pub(crate) fn measure(plan: Plan, runs: usize, perf_map: bool) -> Result<Vec<Row>> {
    let plan = Arc::new(plan);
    let options = Options { profile: true, perf_map, ..Options::default() };
    let jit = Jit::compile(Arc::clone(&plan), &options)?;
    let mut buffers = Buffers::new(&jit);
    let mut run = || buffers.run(|inputs, outputs, arena| jit.run(inputs, outputs, arena));
    for _ in 0..WARM {
        run()?;
    }
    jit.take_cycles();
    let mut cycles: Vec<Vec<u64>> = vec![Vec::with_capacity(runs); plan.steps.len()];
    let start = (Instant::now(), clock());
    for _ in 0..runs {
        run()?;
        let taken = jit.take_cycles().unwrap_or_default();
        cycles.iter_mut().zip(taken).for_each(|(all, c)| all.push(c));
    }
    let ticks_per_us = (clock() - start.1) as f64 / start.0.elapsed().as_micros().max(1) as f64;
    if ticks_per_us <= 0.0 {
        return Err(Error::new(Stage::Run, "--profile", "this CPU's time stamp counter stands still"));
    }
    let rows = plan.steps.iter().enumerate().zip(cycles).map(|((i, step), mut cycles)| {
        cycles.sort_unstable();
        let mut kernels: Vec<String> = match &step.work {
            Work::Kernels(calls) => calls.iter().map(|c| plan.kernels[c.kernel].name.clone()).collect(),
            Work::Function(call) => vec![call.function.name().to_string()],
        };
        kernels.dedup();
        let us = cycles[cycles.len() / 2] as f64 / ticks_per_us / plan.batch as f64;
        let macs = step.macs / plan.images(i) as u64;
        Row { layer: step.layer.clone(), what: step.what, kernels, us, macs }
    });
    Ok(rows.collect())
}

/// Time stamp counter.
fn clock() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has the instruction, and it touches no memory.
    unsafe {
        std::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

/// The rows as a table; `peak` in multiply-accumulates per second.
pub(crate) fn table(rows: &[Row], peak: Option<f64>) -> String {
    let total: f64 = rows.iter().map(|r| r.us).sum();
    let mut text = String::from("      us  % of run   GMAC/s  % of peak  layer: what  [kernels]\n");
    for r in rows {
        let rate = r.macs as f64 / r.us.max(1e-3) / 1e3;
        let (rate, percent) = match r.macs {
            0 => ("-".into(), "-".into()),
            _ => (format!("{rate:.1}"), peak.map_or("-".into(), |p| format!("{:.1}", 1e11 * rate / p))),
        };
        let (share, kernels) = (100.0 * r.us / total, r.kernels.join(" "));
        text += &format!("{:>8.1} {share:>9.1} {rate:>8} {percent:>10}  ", r.us);
        text += &format!("{}: {}  [{kernels}]\n", r.layer, r.what);
    }
    text + &format!("{total:>8.1}     100.0  sum of the steps\n")
}
