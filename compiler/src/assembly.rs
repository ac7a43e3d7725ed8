//! Machine code of a plan as text, function by function: what `jit` writes, and `rust` puts into functions of a program.
//!
//! Intel syntax for LLVM's assembler, with a comment for every layer. Labels are numbers, as any number of functions in a program may have
//! the same.

/// The functions of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembly {
    /// Name of the target that the plan was made for.
    pub target: &'static str,
    /// In the order of the code, whose addresses are multiples of 64 bytes: kernels, then entries.
    pub functions: Vec<Function>,
    /// The function that runs everything on one thread, then that of each of several threads: indices into `functions`.
    pub entries: Vec<usize>,
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// A name that a variable could have, and no other function of the plan has.
    pub name: String,
    /// What a reader should know: which register holds what.
    pub note: String,
    /// Its instructions, a line each. If it calls others, a template as `asm!` takes it: `{name}` is the function of that name, and braces
    /// are doubled.
    pub text: String,
    /// The functions it calls, each once: indices into `functions`.
    pub calls: Vec<usize>,
}
