//! `qgraph bench --tune`: the file of choices around the measurement.

use crate::load::TuneArgs;
use crate::progress;
use qgraph_compiler::lower::{Choices, Options};
use qgraph_compiler::qgraph::QGraph;
use qgraph_compiler::target::Target;
use qgraph_compiler::tune::{self, Cache, Machine};
use qgraph_compiler::{Error, Result, Stage};
use std::path::PathBuf;

/// Runs of each candidate: the fastest counts.
const RUNS: usize = 12;

/// Where choices come from.
pub(crate) enum Tuning {
    /// A file, or nowhere.
    Given(Choices),
    /// Measurements, added to a file.
    Measured { path: PathBuf, cache: Cache, target: Target, note: String },
}

impl Tuning {
    pub(crate) fn new(measure: bool, args: &TuneArgs, target: &Target) -> Result<Tuning> {
        if !measure {
            return args.choices(target).map(Tuning::Given);
        }
        let path = args.tune_cache.clone().map_or_else(default_path, Ok)?;
        let cache = if path.exists() { Cache::load(&path)? } else { Cache::default() };
        Ok(Tuning::Measured { path, cache, target: target.clone(), note: String::new() })
    }

    /// The choices for a network that is scheduled with these options.
    pub(crate) fn choices(&mut self, graph: &QGraph, options: &Options) -> Result<Choices> {
        let (path, cache, target, note) = match self {
            Tuning::Given(choices) => return Ok(choices.clone()),
            Tuning::Measured { path, cache, target, note } => (path, cache, target, note),
        };
        let bar = progress::bar("tuning", 0);
        let tuned = tune::tune(graph, target, options, RUNS, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        cache.add(&Machine::here(target), &tuned.choices);
        *note += &format!(
            "tuned {} distinct layers, {} of them cut otherwise than by the cost model: {}\n",
            tuned.choices.layers.len(),
            tuned.changed,
            path.display()
        );
        Ok(tuned.choices)
    }

    /// Writes the file, if something was measured; says so.
    pub(crate) fn finish(self) -> Result<String> {
        match self {
            Tuning::Given(_) => Ok(String::new()),
            Tuning::Measured { path, cache, note, .. } => cache.save(&path).map(|()| note),
        }
    }
}

/// Where caches of the user lie.
fn default_path() -> Result<PathBuf> {
    let var = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let home = || var("HOME").map(|home| home.join(".cache"));
    let folder = var("XDG_CACHE_HOME").or_else(home).or_else(|| var("LOCALAPPDATA"));
    let unknown =
        || Error::new(Stage::File, "--tune", "this user has no cache folder: give --tune-cache FILE");
    Ok(folder.ok_or_else(unknown)?.join("qgraph").join("tune.json"))
}
