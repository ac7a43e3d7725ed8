//! The road through a build script, for projects that prefer a source file they can look at to the macro.
//!
//! ```no_run
//! // build.rs, with `qgraph-compiler = { default-features = false, features = ["rust"] }` among the build dependencies:
//! qgraph_compiler::build::qgraph("digits.qgraph").name("Digits").input(qgraph_compiler::lower::InputFormat::U8Nhwc).emit();
//! ```
//!
//! The program has `mod digits { include!(concat!(env!("OUT_DIR"), "/digits.rs")); }`, depends on `qgraph-runtime`, and uses
//! `digits::Digits` as it would use what `quantized_model!` defines: it is the same code.
//!
//! A float model is quantized on the way, with ranges that were calibrated before (`qgraph quantize … --save-profile ranges.json`) and are
//! kept beside it: text, which can be read, edited and reviewed.
//!
//! ```no_run
//! qgraph_compiler::build::onnx("digits.onnx", "ranges.json").name("Digits").emit();
//! ```

use crate::calib::Profile;
use crate::error::{Error, Result, Stage};
use crate::lower::{self, InputFormat};
use crate::qgraph::{QGraph, file};
use crate::rust::{self, Code, Weights};
use crate::target::Target;
use crate::{onnx, pipeline, quant};
use std::path::{Path, PathBuf};

/// A network to compile, and how. Made by [`qgraph`] or [`onnx`](fn@onnx).
#[derive(Clone, Debug)]
pub struct Network {
    model: PathBuf,
    /// Of a float model.
    profile: Option<PathBuf>,
    name: String,
    code: Code,
    copied: bool,
    targets: Vec<Target>,
    threads: usize,
    import: onnx::Options,
    quantize: quant::Options,
    schedule: lower::Options,
}

/// A quantized model. The path starts at the package's folder.
pub fn qgraph(model: impl AsRef<Path>) -> Network {
    Network::new(model.as_ref(), None)
}

/// A float model and the profile of its values' ranges. Both paths start at the package's folder.
pub fn onnx(model: impl AsRef<Path>, profile: impl AsRef<Path>) -> Network {
    Network::new(model.as_ref(), Some(profile.as_ref()))
}

impl Network {
    fn new(model: &Path, profile: Option<&Path>) -> Network {
        Network {
            model: model.into(),
            profile: profile.map(Path::to_path_buf),
            name: rust::type_name(&model.file_stem().unwrap_or_default().to_string_lossy()),
            code: Code::default(),
            copied: false,
            targets: rust::TARGETS.to_vec(),
            threads: 1,
            import: onnx::Options::default(),
            quantize: quant::Options::default(),
            schedule: lower::Options::default(),
        }
    }

    /// Name of the type; without it that of the file, `mobilenet-v2` as `MobilenetV2`.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Network {
        Network { name: name.into(), ..self }
    }

    /// What kernels for x86-64 are written in; [`Code::Assembly`] needs this crate's feature `jit`. Rust if nothing is said.
    #[must_use]
    pub fn code(self, code: Code) -> Network {
        Network { code, ..self }
    }

    /// Whether the first model of a program copies the weights into large pages: networks with large weights are 6 to 10 % faster. Needs the
    /// runtime's feature `std`. Not if nothing is said.
    #[must_use]
    pub fn copied_weights(self, copied: bool) -> Network {
        Network { copied, ..self }
    }

    /// Instruction sets with code of their own, besides plain Rust for any CPU; [`rust::TARGETS`] if nothing is said.
    #[must_use]
    pub fn targets(self, targets: impl Into<Vec<Target>>) -> Network {
        Network { targets: targets.into(), ..self }
    }

    /// Images per run, at least 1, which it is if nothing is said.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Network {
        self.schedule.batch = batch;
        self
    }

    /// Threads that may share a run where the program gives a pool; more than 1 needs the runtime's feature `std`.
    #[must_use]
    pub fn threads(self, threads: usize) -> Network {
        Network { threads, ..self }
    }

    /// How images are given.
    #[must_use]
    pub fn input(mut self, input: InputFormat) -> Network {
        self.schedule.input = input;
        self
    }

    /// Shapes of a float model's inputs, as `import` takes them.
    #[must_use]
    pub fn import(self, options: onnx::Options) -> Network {
        Network { import: options, ..self }
    }

    /// How a float model is quantized.
    #[must_use]
    pub fn quantize(self, options: quant::Options) -> Network {
        Network { quantize: options, ..self }
    }

    /// Writes the model and its source to a folder, named after the model's file: `digits.qgraph` and `digits.rs`, which includes the former.
    /// Returns the path of the source. The same files give the same bytes, wherever they are.
    ///
    /// # Errors
    /// Those of all stages from reading to writing, and a profile that belongs to another model.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let told = |e: Error| e.in_file(&self.model);
        let bytes = match &self.profile {
            None => std::fs::read(&self.model)
                .map_err(|e| Error::new(Stage::File, "", format!("cannot be read ({e})")))
                .map_err(told)?,
            Some(profile) => file::to_bytes(&self.quantized(profile)?),
        };
        // A float model is read back too: what is in the file is what the source is made from.
        let graph = file::from_bytes(&bytes).map_err(told)?;
        let stem = self.model.file_stem().unwrap_or_default().to_string_lossy();
        let model = format!("{stem}.qgraph");
        let source = rust::Options {
            name: self.name.clone(),
            file: model.clone(),
            code: self.code,
            weights: Weights::Included(model.clone()),
            copied: self.copied,
            standalone: false,
            threads: self.threads,
        };
        let text = pipeline::rust(&graph, &bytes, &self.targets, &self.schedule, &source).map_err(told)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = folder.join(name);
            let written = std::fs::write(&path, bytes);
            let fail =
                |e| Error::new(Stage::Emit, path.display().to_string(), format!("cannot be written ({e})"));
            written.map_err(fail).map(|()| path)
        };
        write(&model, &bytes)?;
        write(&format!("{stem}.rs"), text.as_bytes())
    }

    fn quantized(&self, path: &Path) -> Result<QGraph> {
        let told = |e: Error| e.in_file(&self.model);
        let graph = pipeline::import(&self.model, &self.import)?;
        let (fused, _) = pipeline::fuse_for(&graph, self.quantize.rounding).map_err(told)?;
        let profile = Profile::load(path)?;
        profile.check_graph(&fused).map_err(|e| e.in_file(path))?;
        pipeline::quantize(&fused, &profile, &self.quantize).map_err(told)
    }

    /// From a build script: [`Network::write`] to cargo's `OUT_DIR`, again whenever a file it reads has changed. What goes wrong becomes an
    /// error of the build, word for word.
    pub fn emit(&self) {
        for read in std::iter::once(&self.model).chain(&self.profile) {
            println!("cargo::rerun-if-changed={}", read.display());
        }
        let written = match std::env::var_os("OUT_DIR") {
            Some(folder) => self.write(folder.as_ref()),
            None => Err(Error::new(Stage::Emit, "OUT_DIR", "is set by cargo for build scripts: use `write`")),
        };
        if let Err(e) = written {
            e.to_string().lines().for_each(|line| println!("cargo::error={line}"));
        }
    }
}
