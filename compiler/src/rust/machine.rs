//! One target's module where its kernels are assembly: a naked function for each kernel and entry, whose text is the JIT's code.
//!
//! Rust fills in the context that machine code is given, and does the steps that are functions of the runtime. Everything else is in the
//! text: nothing here depends on how the compiler optimizes.
//!
//! Not here: the text (`jit`), modules of Rust code (`steps`).

use super::steps::{Module, constants, words};
use super::text::{Names, line, literal, number};
use crate::assembly::{Assembly, Function};
use crate::plan::{Plan, Work};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

/// Names of the module besides those of the functions.
const TAKEN: [&str; 9] =
    ["Aligned", "CARRIED", "CONSTS", "Context", "Memory", "call", "context", "run", "run_thread"];

/// The module of a plan that its verifier accepts, and of the code made from it.
pub(super) fn module(plan: &Plan, assembly: &Assembly) -> TokenStream {
    let mut names = Names::without(TAKEN);
    let names: Vec<Ident> = assembly.functions.iter().map(|f| names.name(&f.name, "_")).collect();
    let functions = assembly.functions.iter().enumerate().map(|(k, f)| {
        let argument = assembly.entries.contains(&k).then(|| quote!(context: *mut Context));
        let calls: Vec<(Ident, &Ident)> =
            f.calls.iter().map(|&c| (format_ident!("{}", assembly.functions[c].name), &names[c])).collect();
        function(f, &names[k], argument, &calls)
    });
    let (entry, of_threads) = (&names[assembly.entries[0]], &assembly.entries[1..]);
    let run_thread = (!of_threads.is_empty()).then(|| {
        let arms = of_threads.iter().enumerate().map(|(t, &e)| {
            let (t, entry) = (number(t), &names[e]);
            quote!(#t => #entry(&mut context))
        });
        quote! {
            /// What one of several threads does in a run.
            ///
            /// # Safety
            /// As for `run`; all threads of the run are here.
            pub(super) unsafe fn run_thread(memory: super::Memory, worker: &super::runtime::pool::Worker<'_>) {
                let mut context = context(&memory).of(worker);
                match worker.index() {
                    #(#arms,)*
                    _ => {}
                }
            }
        }
    });
    let (arms, steps) = functions_of_the_runtime(plan);
    let (doc, module) =
        (line(&format!("The kernels and steps for {}, as assembly.", plan.target.name)), words(plan));
    let constants = constants(plan);
    quote! {
        #[doc = #doc]
        #[cfg(target_arch = "x86_64")]
        #[allow(unused, unsafe_op_in_unsafe_fn, clippy::all, clippy::pedantic, clippy::undocumented_unsafe_blocks)]
        mod #module {
            use super::Aligned;
            use super::runtime::machine::Context;
            /// What steps that are functions of the runtime find their memory by.
            type Memory = Context;

            /// Runs once.
            ///
            /// # Safety
            /// The memory is as large as the model says, and nobody else uses it.
            pub(super) unsafe fn run(memory: super::Memory) {
                #entry(&mut context(&memory))
            }
            #run_thread

            /// What the code is given.
            fn context(memory: &super::Memory) -> Context {
                let carried = memory.arena.wrapping_add(CARRIED);
                let tables = CONSTS.0.as_ptr();
                Context::new([memory.arena, carried], [memory.weights, tables], memory.inputs, memory.outputs, call)
            }

            /// The code calls this for steps that are functions of the runtime.
            ///
            /// # Safety
            /// The context is the running one.
            unsafe extern "sysv64" fn call(context: *const Context, step: usize) {
                match step {
                    #(#arms,)*
                    _ => {}
                }
            }
            #steps
            #(#functions)*
            #constants
        }
    }
}

/// A naked function. Others are called by the names that the text has for them.
fn function(
    function: &Function,
    name: &Ident,
    argument: Option<TokenStream>,
    calls: &[(Ident, &Ident)],
) -> TokenStream {
    let doc = line(&match &function.note[..] {
        "" => format!("{}.", function.name),
        note => format!("{}: {note}.", function.name),
    });
    let text = literal(&format!("\n    .p2align 6\n{}    ", function.text));
    // Without operands braces mean themselves.
    let options = calls.is_empty().then(|| quote!(options(raw)));
    let calls = calls.iter().map(|(word, function)| quote!(#word = sym #function,));
    quote! {
        #[doc = #doc]
        #[unsafe(naked)]
        unsafe extern "sysv64" fn #name(#argument) {
            core::arch::naked_asm!(#text, #(#calls)* #options)
        }
    }
}

/// Steps that machine code calls back for: the arms of a match, and their functions.
fn functions_of_the_runtime(plan: &Plan) -> (Vec<TokenStream>, TokenStream) {
    let module = Module::new(plan, None);
    let steps = plan.steps.iter().enumerate().filter(|(_, s)| matches!(s.work, Work::Function(_)));
    steps
        .map(|(k, step)| {
            let (number, name) = (number(k), format_ident!("step_{k}"));
            (quote!(#number => #name(&*context)), module.step(&name, k, step, &step.work, None))
        })
        .unzip()
}
