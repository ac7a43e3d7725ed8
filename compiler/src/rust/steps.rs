//! One target's module: its kernels, a function for each step of the plan, and the functions that walk them, for one thread and for each of
//! several.
//!
//! A grid is a nest of `for` around a call. Steps of the head are done for each image, with the memory that exists once per image moved on.
//!
//! Not here: what kernels do (`kernel`), who chooses the target (`model`).

use super::kernel;
use super::text::{Names, bytes, line, moved, number, sum};
use crate::kernel::verify::verify;
use crate::plan::split::{Split, Task, Tasks};
use crate::plan::{Call, Plan, Ptr, Space, Step, Work};
use crate::target::Isa;
use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{format_ident, quote};
use std::collections::HashSet;

/// What functions of a target must be compiled with, besides what they call: the runtime's words for it name the same features.
pub(super) fn features(isa: Isa) -> Option<&'static str> {
    match isa {
        Isa::Portable => None,
        Isa::Avx2 => Some("avx2,fma"),
        Isa::AvxVnni => Some("avx2,fma,avxvnni"),
        Isa::Avx512Vnni => Some("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"),
    }
}

/// Whether a plan calls functions of the runtime.
pub(super) fn has_functions(plan: &Plan) -> bool {
    plan.steps.iter().any(|s| matches!(s.work, Work::Function(_)))
}

/// The module of a plan that its verifier accepts.
pub(super) fn module(plan: &Plan, threads: usize) -> TokenStream {
    let m = Module::new(plan, features(plan.target.isa));
    let kernels = plan.kernels.iter().zip(&m.kernels).map(|(k, name)| {
        let footprint =
            verify(k, plan.target.registers).expect("the plan's verifier has accepted its kernels");
        kernel::function(k, name, m.features, &footprint)
    });
    let mut steps = Steps::default();
    let whole = m.walk(&Split::whole(plan).threads[0], None, &mut steps);
    let threads: Vec<_> = match threads {
        1 => Vec::new(),
        n => {
            let split = Split::new(plan, n);
            split.threads.iter().enumerate().map(|(t, tasks)| m.walk(tasks, Some(t), &mut steps)).collect()
        }
    };
    let steps = steps.functions;
    let (words, constants) = (words(plan), constants(plan));
    let vector = match plan.target.isa {
        Isa::Portable => {
            let lanes = number(plan.target.lanes);
            quote!(type Vector = super::runtime::vector::portable::Vector<#lanes>;)
        }
        Isa::Avx2 | Isa::AvxVnni | Isa::Avx512Vnni => TokenStream::new(),
    };
    let cfg = m.features.map(|_| quote!(#[cfg(target_arch = "x86_64")]));
    let doc = line(&format!("The kernels and steps for {}.", plan.target.name));
    let run = m.entry(quote!(run), &format_ident!("all"), None);
    let run_threads = (!threads.is_empty()).then(|| m.entry_of_threads(threads.len()));
    quote! {
        #[doc = #doc]
        #cfg
        #[allow(unused, unsafe_op_in_unsafe_fn, clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
        mod #words {
            use super::runtime::vector::#words::*;
            use super::{Aligned, Memory};
            #vector

            #run
            #run_threads
            #whole
            #(#threads)*
            #steps
            #(#kernels)*
            #constants
        }
    }
}

/// The name of a plan's module, and of the module of words that its kernels are made of.
pub(super) fn words(plan: &Plan) -> Ident {
    format_ident!("{}", plan.target.name)
}

/// What a module has besides code.
pub(super) fn constants(plan: &Plan) -> TokenStream {
    let consts = bytes(&plan.consts);
    let (size, carried) = (number(plan.consts.len()), number(plan.carried_offset()));
    quote! {
        /// Tables that scheduling has made: biases and scales in the order of the kernels, orders of bytes.
        static CONSTS: Aligned<[u8; #size]> = Aligned(*#consts);
        /// Byte of a run's memory from which each image keeps what the steps for the whole batch read.
        const CARRIED: usize = #carried;
    }
}

/// The functions of steps and of parts of them.
#[derive(Default)]
struct Steps {
    functions: TokenStream,
    /// Those that are there: threads share the steps that they do whole.
    named: HashSet<String>,
}

/// What the functions of a module have in common.
pub(super) struct Module<'a> {
    plan: &'a Plan,
    features: Option<&'static str>,
    /// Function of each kernel.
    kernels: Vec<Ident>,
    /// Names that variables must not have.
    names: Names,
}

impl<'a> Module<'a> {
    /// For functions that are compiled with these features.
    pub(super) fn new(plan: &'a Plan, features: Option<&'static str>) -> Module<'a> {
        let mut names = Names::without(kernel::words(&plan.kernels));
        for taken in ["Vector", "Memory", "Aligned", "run", "run_thread", "all", "thread"] {
            names.name(taken, "_");
        }
        let kernels = plan.kernels.iter().map(|k| names.name(&k.name, "_")).collect();
        names.name("memory", "_");
        Module { plan, features, kernels, names }
    }

    fn target_feature(&self) -> Option<TokenStream> {
        self.features.map(|f| quote!(#[target_feature(enable = #f)]))
    }

    /// What `model` calls.
    fn entry(&self, name: TokenStream, walk: &Ident, worker: Option<TokenStream>) -> TokenStream {
        let argument = worker.as_ref().map(|w| quote!(, worker: #w));
        let pass = worker.map(|_| quote!(, worker));
        let features = self.target_feature();
        quote! {
            /// Runs once.
            ///
            /// # Safety
            /// The memory is as large as the model says, and nobody else uses it.
            #features
            pub(super) unsafe fn #name(mut memory: Memory #argument) {
                memory.consts = CONSTS.0.as_ptr();
                memory.carried = memory.arena.wrapping_add(CARRIED);
                #walk(&memory #pass)
            }
        }
    }

    fn entry_of_threads(&self, threads: usize) -> TokenStream {
        let worker = quote!(&super::runtime::pool::Worker<'_>);
        let arms = (0..threads).map(|t| {
            let (k, walk) = (number(t), format_ident!("all_of_thread_{t}"));
            quote!(#k => #walk(memory, worker))
        });
        let features = self.target_feature();
        let entry = self.entry(quote!(run_thread), &format_ident!("thread"), Some(worker.clone()));
        quote! {
            #entry
            #features
            unsafe fn thread(memory: &Memory, worker: #worker) {
                match worker.index() {
                    #(#arms,)*
                    _ => {}
                }
            }
        }
    }

    /// The function that does a thread's tasks; `steps` gets those of its steps.
    fn walk(&self, tasks: &Tasks, thread: Option<usize>, steps: &mut Steps) -> TokenStream {
        let (head, tail) = tasks.parts();
        let mut bands = vec![0; self.plan.steps.len()];
        let mut calls = |tasks: &[Task], memory: &TokenStream| -> TokenStream {
            let task = |task: &Task| match task {
                Task::Barrier => quote!(worker.wait();),
                Task::Work { step, work } => {
                    let part = match thread {
                        _ if *work == self.plan.steps[*step].work => None,
                        Some(t) => Some((
                            format_ident!("step_{step}_of_thread_{t}"),
                            format!("the part of thread {t}"),
                        )),
                        None => {
                            bands[*step] += 1;
                            let band = bands[*step];
                            Some((format_ident!("step_{step}_band_{band}"), format!("band {band}")))
                        }
                    };
                    let (name, part) =
                        part.map_or((format_ident!("step_{step}"), None), |(n, p)| (n, Some(p)));
                    if steps.named.insert(name.to_string()) {
                        let step_of = &self.plan.steps[*step];
                        steps.functions.extend(self.step(&name, *step, step_of, work, part.as_deref()));
                    }
                    quote!(#name(#memory);)
                }
            };
            tasks.iter().map(task).collect()
        };
        let body = if self.plan.batch == 1 {
            let calls_of_head = calls(head, &quote!(memory));
            let calls_of_tail = calls(tail, &quote!(memory));
            quote!(#calls_of_head #calls_of_tail)
        } else {
            let calls_of_head = calls(head, &quote!(&image));
            let calls_of_tail = calls(tail, &quote!(memory));
            let (batch, next) = (number(self.plan.batch), self.next_image());
            quote! {
                let mut image = *memory;
                for _ in 0..#batch {
                    #calls_of_head
                    #next
                }
                #calls_of_tail
            }
        };
        let (name, doc, argument) = match thread {
            None => (format_ident!("all"), line("All steps."), None),
            Some(t) => (
                format_ident!("all_of_thread_{t}"),
                line(&format!("What thread {t} does.")),
                Some(quote!(, worker: &super::runtime::pool::Worker<'_>)),
            ),
        };
        let features = self.target_feature();
        quote! {
            #[doc = #doc]
            #features
            unsafe fn #name(memory: &Memory #argument) {
                #body
            }
        }
    }

    /// Moves what exists once per image to the next.
    fn next_image(&self) -> TokenStream {
        let plan = self.plan;
        let inputs = plan.inputs.iter().enumerate().map(|(k, io)| (Space::Input(k), io.image_bytes));
        let outputs = plan.outputs.iter().enumerate().map(|(k, io)| (Space::Output(k), io.image_bytes));
        let carried = std::iter::once((Space::Carried, plan.carried_bytes));
        let next = |(space, bytes): (Space, usize)| {
            let place = base(quote!(image), space);
            let to = moved(place.clone(), bytes as i64);
            quote!(#place = #to;)
        };
        inputs.chain(outputs).chain(carried).filter(|s| s.1 > 0).map(next).collect()
    }

    /// The function of a step, or of a part of it.
    pub(super) fn step(
        &self,
        name: &Ident,
        number: usize,
        step: &Step,
        work: &Work,
        part: Option<&str>,
    ) -> TokenStream {
        let mut doc = format!("Step {number}, {}: {}", step.layer, step.what);
        if step.macs > 0 {
            doc.push_str(&format!(", {} multiply-accumulates", step.macs));
        }
        if let Some(part) = part {
            doc.push_str(&format!("; {part}"));
        }
        let doc = line(&format!("{doc}."));
        let body = match work {
            Work::Kernels(calls) if calls.len() == 1 => self.call(&calls[0]),
            Work::Kernels(calls) => {
                // Each in a block of its own: their pointers have the same names.
                let calls = calls.iter().map(|call| {
                    let body = self.call(call);
                    if call.grid.iter().any(|d| d.extent > 1) { quote!({ #body }) } else { body }
                });
                calls.collect()
            }
            Work::Function(call) => {
                let function = function_tokens(&call.function);
                let args = call.args.iter().map(|&ptr| {
                    let pointer = self.pointer(ptr);
                    match ptr.space {
                        Space::Arena | Space::Carried | Space::Output(_) => pointer,
                        Space::Weights | Space::Consts | Space::Input(_) => quote!(#pointer.cast_mut()),
                    }
                });
                quote! {
                    use super::runtime::functions::{Function, Unary::*};
                    Function::#function.run(&[#(#args),*]);
                }
            }
        };
        let features = self.target_feature();
        quote! {
            #[doc = #doc]
            #features
            unsafe fn #name(memory: &Memory) {
                #body
            }
        }
    }

    /// A kernel at every point of its grid.
    fn call(&self, call: &Call) -> TokenStream {
        let (kernel, name) = (&self.plan.kernels[call.kernel], &self.kernels[call.kernel]);
        let dims: Vec<_> = call.grid.iter().filter(|d| d.extent > 1).collect();
        if dims.is_empty() {
            let args = call.args.iter().map(|&ptr| self.pointer(ptr));
            return quote!(#name(#(#args),*););
        }
        let mut names = self.names.clone();
        let params: Vec<Ident> = kernel.params.iter().map(|p| names.name(p.name, "_")).collect();
        let vars: Vec<Ident> = (0..dims.len()).map(|v| names.name(&kernel::var_name(v), "_")).collect();
        let (mut first, mut args) = (Vec::new(), Vec::new());
        for (p, (param, &ptr)) in params.iter().zip(&call.args).enumerate() {
            let terms: Vec<(Ident, i64)> =
                vars.iter().zip(&dims).map(|(v, d)| (v.clone(), d.advance[p])).filter(|t| t.1 != 0).collect();
            let reach = dims.iter().map(|d| d.advance[p].min(0) * (d.extent as i64 - 1));
            let below: i64 = reach.sum();
            // Points that move back start at the last.
            let start = self.pointer(Ptr { offset: ptr.offset.wrapping_add_signed(below as isize), ..ptr });
            first.push(quote!(let #param = #start;));
            args.push(if terms.is_empty() {
                quote!(#param)
            } else {
                let offset = sum(-below, &terms);
                quote!(#param.wrapping_add(#offset))
            });
        }
        let mut nest = quote!(#name(#(#args),*););
        for (var, dim) in vars.iter().zip(&dims).rev() {
            let extent = number(dim.extent);
            nest = quote!(for #var in 0..#extent { #nest });
        }
        quote!(#(#first)* #nest)
    }

    fn pointer(&self, ptr: Ptr) -> TokenStream {
        // A part of a grid may start at an argument before its space, of which nothing is touched.
        moved(base(quote!(memory), ptr.space), ptr.offset as i64)
    }
}

/// Where a space starts.
fn base(memory: TokenStream, space: Space) -> TokenStream {
    match space {
        Space::Arena => quote!(#memory.arena),
        Space::Carried => quote!(#memory.carried),
        Space::Weights => quote!(#memory.weights),
        Space::Consts => quote!(#memory.consts),
        Space::Input(k) => {
            let k = number(k);
            quote!(#memory.inputs[#k])
        }
        Space::Output(k) => {
            let k = number(k);
            quote!(#memory.outputs[#k])
        }
    }
}

/// A function of the runtime with its extents. Its `Debug` text is Rust, but for numbers that have no literal.
fn function_tokens(function: &qgraph_runtime::functions::Function) -> TokenStream {
    fn named(tokens: TokenStream) -> TokenStream {
        tokens
            .into_iter()
            .map(|token| match token {
                TokenTree::Ident(name) if name == "inf" => quote!(f32::INFINITY),
                TokenTree::Ident(name) if name == "NaN" => quote!(f32::NAN),
                TokenTree::Group(group) => {
                    let inside = named(group.stream());
                    TokenTree::Group(proc_macro2::Group::new(group.delimiter(), inside)).into()
                }
                token => token.into(),
            })
            .collect()
    }
    let text = format!("{function:?}");
    named(text.parse().unwrap_or_else(|_| panic!("{text} is made of tokens")))
}

#[cfg(test)]
mod tests {
    use super::features;
    use crate::target::Target;
    use qgraph_runtime::source::FILES;

    /// Words with other features than their callers' would be called, not inlined: right, and slow.
    #[test]
    fn features_are_those_of_the_words() {
        for target in Target::ALL {
            let Some(features) = features(target.isa) else { continue };
            let path = format!("vector/{}", target.name);
            let words = FILES.iter().find(|f| f.0 == path).unwrap().1;
            assert!(words.contains(&format!("\nwords! {{ \"{features}\":")), "{path}");
        }
    }
}
