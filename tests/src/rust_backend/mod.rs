//! Generated Rust against the kernel interpreter: the same plans, compiled by `rustc` and run on every instruction set of this CPU, give the
//! same bytes. All models of a test are modules of one program, so that few programs are compiled.

mod elsewhere;
mod linked;
mod text;
mod whole;
mod words;

pub(crate) use whole::assert_programs;

use crate::support::engines::{self, plan, small_cache};
use crate::support::random_graph::{random_graph, random_inputs};
use crate::support::{TempDir, compile, compiler, temp_dir, workspace_root};
use qgraph_compiler::lower::Options as Schedule;
use qgraph_compiler::pipeline;
use qgraph_compiler::plan::Plan;
use qgraph_compiler::plan::interp::Interpreter;
use qgraph_compiler::qgraph::{QGraph, file};
use qgraph_compiler::rust::{self, Code, Options, Weights};
use qgraph_compiler::target::{Isa, Target};
use qgraph_runtime::{Dtype, Model, TensorMut, TensorRef};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A model in the program.
struct Case {
    name: String,
    /// One a target, the portable one first.
    plans: Vec<Arc<Plan>>,
    /// Its `.qgraph`.
    file: Vec<u8>,
    stamp: std::ops::Range<usize>,
    options: Options,
    /// Of all inputs, one after the other.
    input: Vec<u8>,
    /// Whether NaN may be another NaN.
    any_nan: bool,
    /// Its outputs, if not what the interpreter says.
    expected: Option<Vec<u8>>,
    /// How many of the targets, from the first, are not run.
    skipped: usize,
}

fn options(name: &str) -> Options {
    Options {
        name: "Net".into(),
        file: format!("{name}.qgraph"),
        code: Code::Rust,
        weights: Weights::Included(format!("{name}.qgraph")),
        copied: false,
        standalone: false,
        threads: 1,
    }
}

impl Case {
    fn of_graph(name: &str, graph: &QGraph, batch: usize, seed: u64) -> Case {
        let images: Vec<_> = (0..batch as u64).map(|i| random_inputs(graph, seed ^ i)).collect();
        Case::of_images(name, graph, &images)
    }

    /// A batch of images, each the values of all inputs.
    fn of_images(name: &str, graph: &QGraph, images: &[Vec<Vec<f32>>]) -> Case {
        Case::on(&Target::ALL, name, graph, images)
    }

    fn on(targets: &[Target], name: &str, graph: &QGraph, images: &[Vec<Vec<f32>>]) -> Case {
        let schedule = Schedule { batch: images.len(), ..Schedule::default() };
        let plans = targets.iter().map(|t| plan(graph, t, &schedule)).collect();
        let input = (0..graph.inputs.len()).flat_map(|k| images.iter().flat_map(move |x| x[k].clone()));
        let input = input.flat_map(f32::to_le_bytes).collect();
        let file = file::to_bytes(graph);
        let stamp = file::stamp(&file).unwrap();
        let (name, options) = (name.into(), options(name));
        Case { name, plans, file, stamp, options, input, any_nan: false, expected: None, skipped: 0 }
    }

    fn source(&self) -> String {
        let plans: Vec<Plan> = self.plans.iter().map(|p| (**p).clone()).collect();
        let assemblies: Vec<_> = match self.options.code {
            Code::Rust => vec![],
            Code::Assembly => {
                let assembly = |p| pipeline::assembly(p, self.options.threads).unwrap();
                plans[1..].iter().map(assembly).collect()
            }
        };
        rust::emit(&plans, &assemblies, &self.file, self.stamp.clone(), &self.options).unwrap()
    }

    /// What the interpreter makes of the input, for a target.
    fn expected(&self, plan: &Arc<Plan>) -> Vec<u8> {
        if let Some(expected) = &self.expected {
            return expected.clone();
        }
        let model = Interpreter::new(Arc::clone(plan)).unwrap();
        let floats: Vec<f32> =
            self.input.chunks(4).map(|c| f32::from_le_bytes(c.try_into().unwrap())).collect();
        let (mut at, mut inputs) = (0, Vec::new());
        for k in 0..model.input_count() {
            let (n, u8s) = (model.input(k).len(), model.input(k).dtype == Dtype::U8);
            inputs.push(if u8s {
                TensorRef::U8(&self.input[at..at + n])
            } else {
                TensorRef::F32(&floats[at / 4..at / 4 + n])
            });
            at += n * model.input(k).dtype.size();
        }
        if model.output_count() == 1 && model.output(0).dtype == Dtype::U8 {
            let mut y = vec![7; model.output(0).len()];
            let mut arena = qgraph_compiler::blob::Bytes::zeroed(model.arena_bytes());
            model.run(&inputs, &mut [TensorMut::U8(&mut y)], &mut arena).unwrap();
            return y;
        }
        let inputs: Vec<Vec<f32>> = inputs
            .iter()
            .map(|x| match x {
                TensorRef::F32(x) => x.to_vec(),
                TensorRef::U8(_) => panic!("outputs are f32 where inputs are"),
            })
            .collect();
        engines::run(&model, &inputs).into_iter().flatten().flat_map(u32::to_le_bytes).collect()
    }
}

/// How programs are compiled and run.
struct Machine {
    /// Called as `rustc` is.
    compiler: PathBuf,
    /// Its first arguments.
    arguments: &'static [&'static str],
    /// What a program is given to, if it does not run by itself.
    emulator: Option<&'static str>,
}

impl Machine {
    /// This one.
    fn here() -> Machine {
        Machine { compiler: compiler(), arguments: &[], emulator: None }
    }

    /// Calls the compiler in a folder.
    fn compile(&self, folder: &Path, arguments: &[&str]) {
        compile(&self.compiler, folder, &[self.arguments, arguments].concat());
    }

    /// Whether a program of it can use what a target needs.
    fn has(&self, target: &Target) -> bool {
        target.isa == Isa::Portable || (self.emulator.is_none() && target.native())
    }

    /// A folder with the runtime compiled in it, as a library.
    fn with_runtime(&self, name: &str, features: &[&str]) -> TempDir {
        let dir = temp_dir(name);
        let source = workspace_root().join("runtime/src/lib.rs");
        let mut arguments =
            vec!["--crate-type", "rlib", "--crate-name", "qgraph_runtime", "-O", "--edition", "2024"];
        arguments.extend(features.iter().flat_map(|f| ["--cfg", f]));
        arguments.push(source.to_str().expect("paths are UTF-8 here"));
        self.compile(dir.path(), &arguments);
        dir
    }

    /// Runs a program of a folder on the folder.
    fn run(&self, folder: &Path) {
        let program = folder.join("program");
        let mut command = match self.emulator {
            Some(emulator) => {
                let mut command = Command::new(emulator);
                command.arg(program);
                command
            }
            None => Command::new(program),
        };
        let out = command.arg(folder).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

const LINK: [&str; 2] = ["--extern", "qgraph_runtime=libqgraph_runtime.rlib"];
const PROGRAM: [&str; 6] = ["--edition", "2024", "-Adead_code", "main.rs", "-o", "program"];

/// Compiles the cases into one program, little optimized, runs it, and compares.
fn check(name: &str, machine: &Machine, cases: &[Case]) {
    check_optimized(name, machine, cases, "opt-level=1");
}

fn check_optimized(name: &str, machine: &Machine, cases: &[Case], level: &str) {
    let dir = machine.with_runtime(name, &["feature=\"std\""]);
    let (mut modules, mut calls) = (String::new(), String::new());
    for case in cases {
        let name = &case.name;
        std::fs::write(dir.join(format!("{name}.rs")), case.source()).unwrap();
        std::fs::write(dir.join(format!("{name}.qgraph")), &case.file).unwrap();
        std::fs::write(dir.join(format!("{name}.in")), &case.input).unwrap();
        modules.push_str(&format!("mod {name};\n"));
        let make = match case.options.weights {
            Weights::Included(_) | Weights::OfPackage(_) => "Net::on(target).unwrap()".to_string(),
            Weights::External => format!(
                "{{ let file = Box::leak(std::fs::read(folder.join(\"{name}.qgraph\")).unwrap().into_boxed_slice());\n\
                 file[0] ^= 1; assert!(Net::new(file).is_err()); assert!(Net::new(&file[1..]).is_err());\n\
                 file[0] ^= 1; Net::new(file).unwrap().on(target).unwrap() }}"
            ),
        };
        let (threads, skipped) = (case.options.threads, case.skipped);
        calls.push_str(&format!("    run!({name}, folder, {threads}, {skipped}, |target| {make});\n"));
    }
    let driver = include_str!("driver.rs");
    let text = format!("{driver}\n{modules}\nfn run_cases(folder: &Path) {{\n{calls}}}\n");
    std::fs::write(dir.join("main.rs"), text).unwrap();
    machine.compile(dir.path(), &[&LINK[..], &["-C", level], &PROGRAM].concat());
    machine.run(dir.path());
    let program = std::fs::read(dir.join("program")).unwrap();
    for case in cases {
        for (k, plan) in case.plans.iter().enumerate() {
            if case.options.code == Code::Assembly && plan.target.isa != Isa::Portable {
                linked::assert_within(&program, plan, case.options.threads);
            }
            if !machine.has(&plan.target) {
                if machine.emulator.is_none() {
                    let needs = plan.target.needs().unwrap_or_default();
                    println!("skipped: {}: this CPU has no {needs}", case.name);
                }
                continue;
            }
            if k < case.skipped {
                continue;
            }
            let expected = case.expected(plan);
            for how in ["one", "threads"].into_iter().take(case.options.threads) {
                let found = std::fs::read(dir.join(format!("{}.{}.{how}", case.name, plan.target))).unwrap();
                let nan = |b: &[u8]| f32::from_le_bytes(b.try_into().unwrap()).is_nan();
                let mut lanes = found.chunks(4).zip(expected.chunks(4));
                let differs = lanes.position(|(f, e)| f != e && !(case.any_nan && nan(f) && nan(e)));
                assert!(
                    found.len() == expected.len() && differs.is_none(),
                    "{} on {}, {how}: lane {differs:?} of {} differs\n{plan}",
                    case.name,
                    plan.target,
                    expected.len() / 4
                );
            }
        }
    }
}

/// Random graphs, with every way of giving weights and of sharing a run.
fn graphs() -> Vec<Case> {
    let mut cases: Vec<Case> = (0..6u64)
        .map(|seed| {
            let batch = [1, 3, 1, 2, 1, 1][seed as usize];
            Case::of_graph(&format!("graph_{seed}"), &random_graph(100 + seed, 8), batch, seed)
        })
        .collect();
    // In bands, for one thread, and for each image of a batch.
    for (k, images) in [(0, 1), (3, 2)] {
        let graph = random_graph(100 + k, 8);
        let images: Vec<_> = (0..images).map(|i| random_inputs(&graph, k ^ i)).collect();
        cases[k as usize] = Case::on(&Target::ALL.map(small_cache), &format!("graph_{k}"), &graph, &images);
    }
    cases[1].options.threads = 2;
    cases[2].options.threads = 3;
    cases[2].options.standalone = true;
    cases[0].options.copied = true;
    cases[5].options.copied = true;
    cases[5].options.standalone = true;
    cases[3].options.weights = Weights::External;
    cases[4].options.standalone = true;
    cases[4].options.weights = Weights::External;
    cases
}

#[test]
fn random_graphs_give_the_interpreters_bytes() {
    check("rust-graphs", &Machine::here(), &graphs());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn random_graphs_as_assembly_give_the_interpreters_bytes() {
    let mut cases = graphs();
    cases.iter_mut().for_each(|c| (c.options.code, c.skipped) = (Code::Assembly, 1));
    check("asm-graphs", &Machine::here(), &cases);
}
