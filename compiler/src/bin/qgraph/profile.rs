//! `qgraph bench --profile`: where the time of an image goes, step by step, beside what the core could do at most and what the cost model
//! predicts.

use crate::bench::Buffers;
use qgraph_compiler::jit::{Jit, Options, time_stamp};
use qgraph_compiler::plan::{Plan, Work, cost};
use qgraph_compiler::runner::pool;
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
    /// The same as the cost model predicts.
    pub(crate) predicted: f64,
    /// Multiply-accumulates of an image.
    pub(crate) macs: u64,
    /// Bytes of weights and tables, and of activations read and written, for an image.
    pub(crate) constants: usize,
    pub(crate) activations: usize,
}

impl Row {
    /// For programs.
    pub(crate) fn json(&self) -> serde_json::Value {
        let Row { layer, what, kernels, us, predicted, macs, constants, activations } = self;
        serde_json::json!({
            "layer": layer,
            "what": what,
            "kernels": kernels,
            "us": us,
            "predicted_us": predicted,
            "macs": macs,
            "constant_bytes": constants,
            "activation_bytes": activations,
        })
    }

    /// How many times as long as predicted.
    fn ratio(&self) -> f64 {
        self.us / self.predicted.max(1e-3)
    }
}

/// What `perf` is told meanwhile.
#[derive(Clone, Copy)]
pub(crate) struct Dumps {
    /// The names of the kernels.
    pub(crate) perf_map: bool,
    /// Their names and code.
    pub(crate) jitdump: bool,
}

/// Runs before those that count.
const WARM: usize = 3;

/// Steps of a smaller part of the time are left out where the cost model is judged.
const OF_NOTE: f64 = 0.005;

/// Measures every step of a plan that `threads` threads share, over `runs` runs, on cores of `clock` cycles per second. Waiting for the other
/// threads belongs to the step that has to.
pub(crate) fn measure(plan: Plan, threads: usize, runs: usize, clock: f64, dumps: Dumps) -> Result<Vec<Row>> {
    let costs = cost::steps(&plan);
    let plan = Arc::new(plan);
    let options = Options { profile: true, threads, perf_map: dumps.perf_map, ..Options::default() };
    let jit = Jit::compile(Arc::clone(&plan), &options)?;
    if dumps.jitdump {
        let folder = std::env::temp_dir();
        jit.write_jitdump(&folder, monotonic()).map_err(|e| {
            let message = format!("cannot write the jitdump: {e}; name another folder in TMPDIR");
            Error::new(Stage::Jit, folder.display().to_string(), message)
        })?;
    }
    let mut buffers = Buffers::new(&jit);
    let mut pool = pool(threads)?;
    let mut run = || buffers.run(|inputs, outputs, arena| jit.run_on(&mut pool, inputs, outputs, arena));
    for _ in 0..WARM {
        run()?;
    }
    jit.take_cycles();
    let mut cycles: Vec<Vec<u64>> = vec![Vec::with_capacity(runs); plan.steps.len()];
    let start = (Instant::now(), time_stamp());
    for _ in 0..runs {
        run()?;
        let taken = jit.take_cycles().unwrap_or_default();
        cycles.iter_mut().zip(taken).for_each(|(all, c)| all.push(c));
    }
    let ticks_per_us = (time_stamp() - start.1) as f64 / start.0.elapsed().as_micros().max(1) as f64;
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
        let us = cycles[cycles.len() / 2] as f64 / ticks_per_us / (plan.batch * threads) as f64;
        let (cost, images) = (costs[i], plan.images(i));
        Row {
            layer: step.layer.clone(),
            what: step.what,
            kernels,
            us,
            predicted: 1e6 * cost.cycles / clock / (images * threads) as f64,
            macs: step.macs / images as u64,
            constants: cost.constants / images,
            activations: (cost.read + cost.written) / images,
        }
    });
    Ok(rows.collect())
}

/// Nanoseconds of the clock that `perf record -k 1` takes.
#[cfg(target_os = "linux")]
fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the time into `now`.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// There is no `perf`, and no jitdump.
#[cfg(not(target_os = "linux"))]
fn monotonic() -> u64 {
    0
}

/// The rows as a table; `peak` in multiply-accumulates per second.
pub(crate) fn table(rows: &[Row], peak: Option<f64>) -> String {
    let total: f64 = rows.iter().map(|r| r.us).sum();
    let mut text = String::from(
        "      us  predicted  % of run   GMAC/s  % of peak  constants  activations  layer: what  [kernels]\n",
    );
    for r in rows {
        let rate = r.macs as f64 / r.us.max(1e-3) / 1e3;
        let (rate, percent) = match r.macs {
            0 => ("-".into(), "-".into()),
            _ => (format!("{rate:.1}"), peak.map_or("-".into(), |p| format!("{:.1}", 1e11 * rate / p))),
        };
        let (share, kernels) = (100.0 * r.us / total, r.kernels.join(" "));
        text += &format!("{:>8.1} {:>10.1} {share:>9.1} {rate:>8} {percent:>10} ", r.us, r.predicted);
        text += &format!("{:>10} {:>12}  ", r.constants, r.activations);
        text += &format!("{}: {}  [{kernels}]\n", r.layer, r.what);
    }
    let predicted: f64 = rows.iter().map(|r| r.predicted).sum();
    text += &format!("{total:>8.1} {predicted:>10.1}     100.0  sum of the steps\n");
    text + &judgement(rows, total)
}

/// How well the cost model does, in a line.
fn judgement(rows: &[Row], total: f64) -> String {
    let mut rows: Vec<&Row> = rows.iter().filter(|r| r.us >= OF_NOTE * total).collect();
    let error = |r: &Row| r.ratio().max(1.0 / r.ratio());
    rows.sort_by(|a, b| error(a).total_cmp(&error(b)));
    let (Some(middle), Some(worst)) = (rows.get(rows.len() / 2), rows.last()) else { return String::new() };
    let (middle, rank) = (100.0 * (error(middle) - 1.0), rank_correlation(&rows));
    format!(
        "cost model: median error {middle:.1} %, worst {:.2} x predicted ({}: {}), rank correlation {rank:.3}, over {} steps of at least {} % of the time\n",
        worst.ratio(),
        worst.layer,
        worst.what,
        rows.len(),
        100.0 * OF_NOTE,
    )
}

/// Spearman's, of measured and predicted times.
fn rank_correlation(rows: &[&Row]) -> f64 {
    let ranks = |time: &dyn Fn(&Row) -> f64| -> Vec<f64> {
        let rank = |r: &&Row| rows.iter().filter(|o| time(o) < time(r)).count() as f64;
        let ties = |r: &&Row| rows.iter().filter(|o| time(o) == time(r)).count() as f64;
        rows.iter().map(|r| rank(r) + (ties(r) - 1.0) / 2.0).collect()
    };
    let (a, b) = (ranks(&|r| r.us), ranks(&|r| r.predicted));
    let mean = (rows.len() as f64 - 1.0) / 2.0;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let scale = (dot(&a, &a) * dot(&b, &b)).sqrt();
    if scale > 0.0 { dot(&a, &b) / scale } else { 1.0 }
}
