//! Tuning: which way of cutting each dense layer is the fastest on this machine, measured, and a file that remembers it.
//!
//! In: a network. Out: [`Choices`] for scheduling, which change its plan but no bit of its results. All candidates of all layers are timed
//! in place, in whole runs of the network taken in turn, so that caches are as they will be and disturbances meet all alike.
//!
//! The file is JSON: per CPU, target and version of this crate, choices by layer key. What is for others is kept and not used.

use crate::blob::Bytes;
use crate::error::{Error, Result, Stage};
use crate::jit::{self, Jit};
use crate::lower::{self, Choice, Choices, Options, Tunable};
use crate::qgraph::QGraph;
use crate::target::Target;
use qgraph_runtime::{Dtype, Model, TensorDesc, TensorMut, TensorRef, cpu};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

/// A choice other than the cost model's must be faster by at least this part.
const WORTH: f64 = 0.01;
/// No cache is larger, in bytes.
const LIMIT: u64 = 16 << 20;
/// Version of the file's format.
const FORMAT: u32 = 1;

/// For what choices hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The CPU's own name for itself, its family, model and stepping.
    pub cpu: String,
    /// The target's name.
    pub target: String,
    /// The version of this crate.
    pub version: String,
}

impl Machine {
    /// This machine.
    pub fn here(target: &Target) -> Machine {
        let (brand, signature) = cpu::identity();
        let brand = String::from_utf8_lossy(&brand);
        let brand = brand.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        let cpu = format!("{brand} ({signature:#x})");
        Machine { cpu, target: target.name.into(), version: env!("CARGO_PKG_VERSION").into() }
    }
}

/// Choices of several machines, the content of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cache {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    machine: Machine,
    layers: BTreeMap<String, Choice>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    qgraph_tune_cache: u32,
    entries: Vec<Entry>,
}

impl Cache {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Cache> {
        let mut text = Vec::new();
        let read = fs::File::open(path).and_then(|f| f.take(LIMIT + 1).read_to_end(&mut text));
        match read {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let message = "no such tune cache: make it with qgraph bench --tune";
                return Err(Error::new(Stage::File, path.display().to_string(), message));
            }
            Err(e) => return Err(refuse(path, &format!("cannot be read as a tune cache ({e})"))),
            Ok(n) if n as u64 > LIMIT => return Err(refuse(path, "is too large for a tune cache")),
            Ok(_) => {}
        }
        let content: Content =
            serde_json::from_slice(&text).map_err(|e| refuse(path, &format!("is not a tune cache ({e})")))?;
        if content.qgraph_tune_cache != FORMAT {
            let found = content.qgraph_tune_cache;
            return Err(refuse(path, &format!("is a tune cache of format {found}, not {FORMAT}")));
        }
        Ok(Cache { entries: content.entries })
    }

    /// Writes the file, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        let content = Content { qgraph_tune_cache: FORMAT, entries: self.entries.clone() };
        let text = serde_json::to_string_pretty(&content).expect("strings and numbers") + "\n";
        let part = path.with_extension(format!("{}.part", std::process::id()));
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let written = folder.map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&part, text));
        written.and_then(|()| fs::rename(&part, path)).map_err(|e| {
            // What is left of it is of no use to anyone.
            let _ = fs::remove_file(&part);
            Error::new(Stage::File, path.display().to_string(), format!("cannot write: {e}"))
        })
    }

    /// The choices for a machine; `source` is what messages call the file.
    pub fn choices(&self, machine: &Machine, source: &Path) -> Choices {
        let entry = self.entries.iter().find(|e| e.machine == *machine);
        let layers = entry.map(|e| e.layers.clone()).unwrap_or_default();
        Choices { source: source.display().to_string(), layers }
    }

    /// Adds choices for a machine, over those of the same layers.
    pub fn add(&mut self, machine: &Machine, choices: &Choices) {
        let layers = choices.layers.clone();
        match self.entries.iter_mut().find(|e| e.machine == *machine) {
            Some(entry) => entry.layers.extend(layers),
            None => self.entries.push(Entry { machine: machine.clone(), layers }),
        }
    }
}

fn refuse(path: &Path, what: &str) -> Error {
    let message = format!("{what}: delete it, or name another file with --tune-cache");
    Error::new(Stage::File, path.display().to_string(), message)
}

/// What tuning found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuned {
    /// A choice for each distinct dense layer.
    pub choices: Choices,
    /// How many of them are not the cost model's.
    pub changed: usize,
}

/// Times the candidates of every distinct dense layer in `runs` runs each, on this thread. `progress` gets the number of runs done and of all.
pub fn tune(
    graph: &QGraph,
    target: &Target,
    options: &Options,
    runs: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Tuned> {
    let plain = Options { choices: Choices::default(), ..options.clone() };
    let (_, tunables) = lower::tunable(graph, target, &plain)?;
    let mut ways: BTreeMap<&str, &[Choice]> = BTreeMap::new();
    for t in &tunables {
        ways.insert(&t.key, &t.candidates);
    }
    let rounds = ways.values().map(|w| w.len()).max().unwrap_or(0);
    // In round r every layer is cut in its way r, if it has so many.
    let compile = |r: usize| -> Result<(Jit, Vec<Tunable>)> {
        let choice =
            |(key, ways): (&&str, &&[Choice])| (key.to_string(), ways[if r < ways.len() { r } else { 0 }]);
        let layers = ways.iter().map(choice).collect();
        let choices = Choices { source: "tuning".into(), layers };
        let (plan, tunables) = lower::tunable(graph, target, &Options { choices, ..plain.clone() })?;
        Ok((Jit::compile(Arc::new(plan), &jit::Options { profile: true, ..Default::default() })?, tunables))
    };
    let models = (0..rounds).map(compile).collect::<Result<Vec<_>>>()?;
    let mut buffers = models.first().map(|m| Buffers::new(&m.0));
    // Least cycles of each step, by round.
    let mut least = vec![Vec::new(); rounds];
    for run in 0..=runs {
        for (r, (model, _)) in models.iter().enumerate() {
            buffers.iter_mut().try_for_each(|b| b.run(model))?;
            let cycles = model.take_cycles().unwrap_or_default();
            match run {
                // The first touches memory and code.
                0 => least[r] = vec![u64::MAX; cycles.len()],
                _ => least[r].iter_mut().zip(cycles).for_each(|(l, c)| *l = c.min(*l)),
            }
            progress(run * rounds + r + 1, (runs + 1) * rounds);
        }
    }
    let mut choices = Choices { source: "tuning".into(), ..Default::default() };
    let mut changed = 0;
    for (key, ways) in ways {
        let layers = |r: usize| models[r].1.iter().filter(|t| t.key == key);
        let time = |r: usize| layers(r).map(|t| least[r][t.step] as f64).sum::<f64>();
        let best = (0..ways.len()).min_by(|&a, &b| time(a).total_cmp(&time(b))).unwrap_or(0);
        let best = if time(best) < (1.0 - WORTH) * time(0) { best } else { 0 };
        changed += usize::from(best > 0);
        choices.layers.insert(key.into(), ways[best]);
    }
    Ok(Tuned { choices, changed })
}

/// Memory for runs of a network, the same however its layers are cut: zeros, as no kernel's time depends on data.
struct Buffers {
    inputs: Vec<Buffer>,
    outputs: Vec<Buffer>,
    arena: Bytes,
}

enum Buffer {
    F32(Vec<f32>),
    U8(Vec<u8>),
}

impl Buffer {
    fn new(tensor: TensorDesc) -> Buffer {
        match tensor.dtype {
            Dtype::F32 => Buffer::F32(vec![0.0; tensor.len()]),
            Dtype::U8 => Buffer::U8(vec![0; tensor.len()]),
        }
    }

    fn read(&self) -> TensorRef<'_> {
        match self {
            Buffer::F32(x) => TensorRef::F32(x),
            Buffer::U8(x) => TensorRef::U8(x),
        }
    }

    fn write(&mut self) -> TensorMut<'_> {
        match self {
            Buffer::F32(x) => TensorMut::F32(x),
            Buffer::U8(x) => TensorMut::U8(x),
        }
    }
}

impl Buffers {
    fn new(model: &Jit) -> Buffers {
        Buffers {
            inputs: (0..model.input_count()).map(|k| Buffer::new(model.input(k))).collect(),
            outputs: (0..model.output_count()).map(|k| Buffer::new(model.output(k))).collect(),
            arena: Bytes::zeroed(model.arena_bytes()),
        }
    }

    fn run(&mut self, model: &Jit) -> Result<()> {
        let inputs: Vec<TensorRef> = self.inputs.iter().map(Buffer::read).collect();
        let mut outputs: Vec<TensorMut> = self.outputs.iter_mut().map(Buffer::write).collect();
        let done = model.run(&inputs, &mut outputs, &mut self.arena);
        done.map_err(|e| Error::new(Stage::Run, "tuning", e.to_string()))
    }
}
