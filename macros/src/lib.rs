//! `quantized_model!("model.qgraph")`: a quantized network as a part of the program.
//!
//! The macro reads a `.qgraph` when the program is compiled and expands to Rust code for exactly this network, with its weights by one
//! `include_bytes!`. What depends on it needs `qgraph-runtime` beside this crate, and nothing at run time. The code is `no_std`,
//! allocates nothing, and gives the bits that every engine of qgraph gives.
//!
//! ```
//! use qgraph_macros::quantized_model;
//! use qgraph_runtime::{Arena, Model, TensorMut, TensorRef};
//! use std::sync::Mutex;
//!
//! // In item position: a type. The path starts at the folder of the package's Cargo.toml.
//! quantized_model!(pub Digits, "../examples/embedded/digits.qgraph", targets = [avx2, avx512vnni], batch = 1, input = u8);
//!
//! // In a static, memory for a run takes neither heap nor stack.
//! static ARENA: Mutex<Arena<{ Digits::ARENA_BYTES }>> = Mutex::new(Arena::new());
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (pixels, mut scores) = ([0; 16 * 16], [0.0; 10]);
//! let mut arena = ARENA.lock()?;
//! Digits::new().run(&[TensorRef::U8(&pixels)], &mut [TensorMut::F32(&mut scores)], arena.bytes())?;
//!
//! // In expression position: a model, ready to run.
//! let model = quantized_model!("../examples/embedded/digits.qgraph");
//! assert_eq!(model.output(0).shape, [1, 10]);
//!
//! // The best instruction set of the CPU is used, or another one on request, if the CPU has it.
//! let plain = Digits::TARGETS.into_iter().find(|t| t.name() == "portable").and_then(Digits::on);
//! # assert!(plain.is_some());
//! # Ok(())
//! # }
//! ```
//!
//! | option | what | default |
//! |---|---|---|
//! | `code = ".."` | what kernels for x86-64 are written in: `"rust"`, or `"asm"`, the JIT's machine code, which is fast in debug builds too and compiled sooner; other CPUs run plain Rust | `"rust"` |
//! | `targets = [..]` | instruction sets with code of their own, besides plain Rust for any CPU: `avx2`, `avxvnni`, `avx512vnni` | `[avx2, avx512vnni]` |
//! | `batch = N` | images per run | 1 |
//! | `threads = N` | threads that may share a run where the program gives a pool; more than 1 needs the runtime's feature `std` | 1 |
//! | `input = ..` | how images are given: `f32`, `f32_nhwc`, or pixels as `u8` | `f32` |
//! | `weights = ..` | where they are read: `included` in the program's file, or `copied` from there into pages of 2 MiB by the first model, which networks with large weights are 6 to 10 % faster for; needs the runtime's feature `std` | `included` |
//!
//! With `code = "asm"` kernels are as fast in a debug build as in a release build. Functions of the runtime (softmax, bilinear resize, sigmoid and the
//! like in float, byte tables per channel: `qgraph bench --profile` shows which) stay Rust, which is slow in a debug build, unless the program's
//! `Cargo.toml` says:
//!
//! ```toml
//! [profile.dev.package.qgraph-runtime]
//! opt-level = 3
//! ```
//!
//! A run fits a stack of 128 KB, also where nothing is optimized. Only depthwise windows of 5×5, as Rust that is not optimized, take more (266 KB in one
//! network).
//!
//! A model that changes on disk is compiled again. Every error stands at the file's name, or at the option that is wrong, all at once.

mod call;

use call::Call;
use proc_macro::TokenStream;
use qgraph_compiler::qgraph::file;
use qgraph_compiler::rust::{self, Weights};
use qgraph_compiler::{Error, lower, pipeline};
use quote::{format_ident, quote};
use std::path::Path;

/// A `.qgraph` as a type or as a model: see the [crate](self).
#[proc_macro]
pub fn quantized_model(input: TokenStream) -> TokenStream {
    let expanded = syn::parse::<Call>(input).and_then(|call| expand(&call));
    expanded.unwrap_or_else(syn::Error::into_compile_error).into()
}

fn expand(call: &Call) -> syn::Result<proc_macro2::TokenStream> {
    let fail = |message: String| syn::Error::new(call.path.span(), message);
    let folder = std::env::var("CARGO_MANIFEST_DIR").map_err(|_| fail("is read by cargo only".into()))?;
    let relative = call.path.value();
    let bytes = std::fs::read(Path::new(&folder).join(&relative)).map_err(|e| {
        fail(format!(
            "cannot read {relative}: {e} (the path starts at the folder of the package's Cargo.toml)"
        ))
    })?;
    let told = |e: Error| fail(e.in_file(Path::new(&relative)).to_string());
    let graph = file::from_bytes(&bytes).map_err(told)?;
    let name = call.name.as_ref().map_or_else(|| format_ident!("Network"), |(_, name)| name.clone());
    let source = rust::Options {
        name: name.to_string(),
        file: relative.clone(),
        code: call.code,
        weights: Weights::OfPackage(relative.clone()),
        copied: call.copied,
        standalone: false,
        threads: call.threads,
    };
    let options = lower::Options { batch: call.batch, input: call.input, ..Default::default() };
    let text =
        pipeline::rust(&graph, &bytes, &call.targets, &options, &source).map_err(|e| fail(e.to_string()))?;
    let code: proc_macro2::TokenStream =
        text.parse().map_err(|e| fail(format!("the generated code is no Rust ({e}): this is a bug")))?;
    let module = format_ident!("__qgraph_{}", name);
    let definition = quote! {
        #[doc(hidden)]
        #[allow(non_snake_case, dead_code, missing_docs, unreachable_pub, clippy::all)]
        mod #module {
            #code
        }
    };
    Ok(match &call.name {
        Some((vis, _)) => quote! {
            #definition
            #vis use #module::#name;
        },
        None => quote!({ #definition #module::#name::new() }),
    })
}
