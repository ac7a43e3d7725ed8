//! One kernel becomes one function: parameters are pointers, register arrays arrays of vectors, unrolls and loops `for`.
//!
//! A loop moves pointers of its own, so that behind it they are where they were. Instructions are calls of the words of
//! `qgraph_runtime::vector`, by the names that the IR prints.
//!
//! Not here: who calls it with what (`steps`).

use super::text::{Names, line, moved, number, sum};
use crate::kernel::parts::Part;
use crate::kernel::verify::Footprint;
use crate::kernel::{Access, Addr, Affine, Instr, Kernel, ParamId, Reg, Stmt, VarId};
use proc_macro2::{Ident, Literal, TokenStream};
use quote::quote;
use std::collections::BTreeSet;

/// Kernels of more vectors than this may find too few registers: the compiler orders instructions by itself.
const MANY: usize = 8;

/// The function of a verified kernel, called `name`, with the features of its instruction set, if it has any.
pub(super) fn function(
    kernel: &Kernel,
    name: &Ident,
    features: Option<&str>,
    footprint: &Footprint,
) -> TokenStream {
    let mut names = Names::without(words(std::slice::from_ref(kernel)));
    let params: Vec<Ident> = kernel.params.iter().map(|p| names.name(p.name, "_")).collect();
    // `x` in memory is often loaded into registers `x`: those are `xv`.
    let arrays: Vec<Ident> = kernel.arrays.iter().map(|a| names.name(a.name, "v")).collect();
    let types = kernel.params.iter().map(|p| match p.access {
        Access::Read => quote!(*const u8),
        Access::Write | Access::ReadWrite => quote!(*mut u8),
    });
    let registers = kernel.arrays.iter().zip(&arrays).map(|(a, name)| {
        let len = number(a.len);
        quote!(let mut #name: [Vector; #len] = [splat(0); #len];)
    });
    let body = Body { kernel, params: &params, arrays: &arrays }
        .statements(&kernel.body, &Scope { names, open: Vec::new() });
    // Vectors that the compiler puts aside then lie within cache lines; else the speed depends on where the stack happens to begin.
    let aligned =
        (features.is_some() && kernel.arrays.iter().map(|a| a.len).sum::<usize>() > MANY).then(|| {
            quote! {
                #[comment = " Aligns the stack to whole vectors, for those that do not find a register."]
                core::hint::black_box(core::mem::MaybeUninit::<Vector>::uninit().as_ptr());
            }
        });
    let features = features.map(|f| quote!(#[target_feature(enable = #f)]));
    let (doc, safety) = (line(&format!("{}.", kernel.name)), line(&safety(kernel, footprint)));
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #[doc = " # Safety"]
        #[doc = #safety]
        #features
        unsafe fn #name(#(#params: #types),*) {
            #aligned
            #(#registers)*
            #body
        }
    }
}

/// What must be valid, as the verifier has found it.
fn safety(kernel: &Kernel, footprint: &Footprint) -> String {
    let mut touched = Vec::new();
    for (what, ranges) in [("reads", &footprint.reads), ("writes", &footprint.writes)] {
        let ranges = kernel.params.iter().zip(ranges).filter_map(|(p, r)| Some((p.name, r.as_ref()?)));
        let ranges: Vec<_> = ranges.map(|(name, r)| format!("{}..{} of `{name}`", r.start, r.end)).collect();
        if !ranges.is_empty() {
            touched.push(format!("{what} bytes {}", ranges.join(", ")));
        }
    }
    match touched.is_empty() {
        true => "Touches no memory.".into(),
        false => format!("It {}, and touches no others (proven by the kernel verifier).", touched.join(", ")),
    }
}

/// The words that kernels use: names that nothing else must have.
pub(super) fn words(kernels: &[Kernel]) -> BTreeSet<&'static str> {
    let mut words = BTreeSet::from(["load", "splat"]);
    kernels.iter().for_each(|k| collect_words(&k.body, k.lanes, &mut words));
    words
}

fn collect_words(body: &[Stmt], lanes: usize, words: &mut BTreeSet<&'static str>) {
    for stmt in body {
        match stmt {
            Stmt::Loop { body, .. } | Stmt::Unroll { body, .. } => collect_words(body, lanes, words),
            Stmt::Op(instr) => drop(words.insert(instr.parts(lanes).0)),
        }
    }
}

/// What a statement sees: names in use, and the unrolls around it with the names of their variables.
#[derive(Clone)]
struct Scope {
    names: Names,
    open: Vec<(VarId, usize, Ident)>,
}

struct Body<'a> {
    kernel: &'a Kernel,
    params: &'a [Ident],
    arrays: &'a [Ident],
}

impl Body<'_> {
    fn statements(&self, body: &[Stmt], scope: &Scope) -> TokenStream {
        body.iter().map(|stmt| self.statement(stmt, scope)).collect()
    }

    fn statement(&self, stmt: &Stmt, scope: &Scope) -> TokenStream {
        match stmt {
            Stmt::Loop { extent: 1, body, .. } => self.statements(body, scope),
            Stmt::Loop { extent, advance, body } => {
                let extent = number(*extent);
                let moving: Vec<&Ident> = advance.iter().map(|a| &self.params[a.0]).collect();
                let moves = advance.iter().map(|&(p, by)| {
                    let name = &self.params[p];
                    let to = moved(quote!(#name), by);
                    quote!(#name = #to;)
                });
                let body = self.statements(body, scope);
                let own = (!moving.is_empty()).then(|| quote!(#(let mut #moving = #moving;)*));
                let repeat = quote! {
                    for _ in 0..#extent {
                        #body
                        #(#moves)*
                    }
                };
                if own.is_some() { quote!({ #own #repeat }) } else { repeat }
            }
            Stmt::Unroll { var, extent, body } => {
                let mut scope = scope.clone();
                let name = scope.names.name(&var_name(*var), "_");
                scope.open.push((*var, *extent, name.clone()));
                let body = self.statements(body, &scope);
                if *extent == 1 {
                    return body;
                }
                let extent = number(*extent);
                quote!(for #name in 0..#extent { #body })
            }
            Stmt::Op(instr) => self.instr(instr, scope),
        }
    }

    fn instr(&self, instr: &Instr<Reg, Addr>, scope: &Scope) -> TokenStream {
        if let Instr::Move { dst, src } = instr {
            let (dst, src) = (self.reg(dst, scope), self.reg(src, scope));
            return quote!(#dst = #src;);
        }
        // Words about memory get addresses; any other gets the vector there.
        let about_memory = matches!(
            instr,
            Instr::Load { .. }
                | Instr::Store { .. }
                | Instr::Broadcast32 { .. }
                | Instr::LoadU8 { .. }
                | Instr::Copy { .. }
                | Instr::Prefetch { .. }
                | Instr::Lookup8 { .. }
        );
        let (word, parts) = instr.parts(self.kernel.lanes);
        let word = Ident::new(word, proc_macro2::Span::call_site());
        let (mut result, mut operands) = (None, Vec::new());
        for part in parts {
            match part {
                Part::Def(r) => result = Some(self.reg(r, scope)),
                Part::Use(r) => operands.push(self.reg(r, scope)),
                Part::Load(a, bytes) if !about_memory => {
                    let (address, bytes) = (self.address(a, scope), number(bytes));
                    operands.push(quote!(load(#address, #bytes)));
                }
                Part::Load(a, _) | Part::Store(a, _) | Part::Hint(a) => operands.push(self.address(a, scope)),
                Part::Imm(c) if matches!(instr, Instr::Splat { .. }) => {
                    let c: Literal = format!("{c:#x}").parse().expect("a number");
                    operands.push(quote!(#c));
                }
                Part::Imm(c) => {
                    let c = Literal::u64_unsuffixed(c);
                    operands.push(quote!(#c));
                }
            }
        }
        let result = result.map(|r| quote!(#r =));
        quote!(#result #word(#(#operands),*);)
    }

    fn reg(&self, r: &Reg, scope: &Scope) -> TokenStream {
        let (base, terms, _) = affine(&r.index, scope);
        let (name, index) = (&self.arrays[r.array], sum(base, &terms));
        quote!(#name[#index])
    }

    /// A pointer, and bytes from there that are never below 0.
    fn address(&self, a: &Addr, scope: &Scope) -> TokenStream {
        let (base, terms, least) = affine(&a.offset, scope);
        let below = least.min(0);
        let param: ParamId = a.param;
        let name = &self.params[param];
        let (pointer, offset) = (moved(quote!(#name), below), sum(base - below, &terms));
        quote!(#pointer, #offset)
    }
}

/// Constant, terms and least value; variables that have one value only are in the constant.
fn affine(x: &Affine, scope: &Scope) -> (i64, Vec<(Ident, i64)>, i64) {
    let (mut terms, mut least) = (Vec::new(), x.base);
    for &(var, c) in &x.terms {
        let (_, extent, name) = scope
            .open
            .iter()
            .find(|o| o.0 == var)
            .expect("verified: variables are bound by an enclosing unroll");
        least += (c * (*extent as i64 - 1)).min(0);
        if *extent > 1 {
            terms.push((name.clone(), c));
        }
    }
    (x.base, terms, least)
}

/// As the printer calls it.
pub(super) fn var_name(var: VarId) -> String {
    Affine { base: 0, terms: vec![(var, 1)] }.to_string()
}
