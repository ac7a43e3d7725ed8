//! Machine code as text that an assembler takes: Intel syntax, a label for every kernel and entry function, a comment for every step.
//!
//! LLVM's assembler (`global_asm!` with `options(raw)`, `naked_asm!`, clang) makes the same bytes of it, which the tests check: an instruction
//! that it would encode otherwise says how (`{vex3}`, `{evex}`), and what fills up to a boundary stands as bytes. The text is position
//! independent. As one text its labels carry a name of the caller's choice, so that the code of several models goes into one program.
//!
//! Not here: listings for people, which show one symbol at a time (`disasm`).

use super::code::{Code, Symbol};
use super::context;
use super::disasm::formatter;
use crate::assembly::{Assembly, Function};
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, MemorySizeOptions, Mnemonic, OpKind,
    Register, SymbolResolver, SymbolResult,
};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

impl Code {
    /// The whole code as text for an assembler. Labels are `{name}_KERNEL`, `{name}_entry`, `{name}_entry_of_thread_T`, and in front and behind
    /// `{name}_begin` and `{name}_end`; characters of `name` that labels cannot hold become `_`.
    pub fn assembly(&self, name: &str) -> String {
        let code = self.decode(0..self.bytes.len());
        let label = |symbol: &str| word(&format!("{name}_{symbol}"));
        let mut labels: HashMap<u64, String> =
            self.whole().map(|s| (s.offset as u64, label(&s.name))).collect();
        for target in jump_targets(&code) {
            labels.entry(target).or_insert_with(|| format!(".L{}_{target:x}", word(name)));
        }
        let mut out = format!(
            "# Machine code of {name:?}, for LLVM's assembler (Intel syntax).\n.p2align 6\n{}:\n",
            label("begin")
        );
        let mut kernels = self.whole().peekable();
        let mut writer = Writer::new(self, labels.clone());
        for i in &code {
            while let Some(s) = kernels.next_if(|s| s.offset == i.ip() as usize) {
                let _ = writeln!(out, "\n# {}: {}", s.name, s.note);
            }
            writer.step(i.ip(), &mut out);
            if let Some(label) = labels.get(&i.ip()) {
                let _ = writeln!(out, "{label}:");
            }
            writer.instruction(i, &mut out);
        }
        let _ = writeln!(out, "{}:", label("end"));
        out
    }

    /// The same as one text for each kernel and entry function.
    pub fn functions(&self) -> Assembly {
        let symbols: Vec<&Symbol> = self.whole().collect();
        let mut names: Vec<String> = Vec::new();
        for s in &symbols {
            let mut name = word(&s.name);
            while names.contains(&name) {
                name.push('_');
            }
            names.push(name);
        }
        let starts: HashMap<u64, usize> =
            symbols.iter().enumerate().map(|(k, s)| (s.offset as u64, k)).collect();
        let function = |(k, s): (usize, &&Symbol)| {
            let code = self.decode(s.offset..s.offset + s.len);
            let mut calls: Vec<usize> = Vec::new();
            for callee in code.iter().filter(|i| i.is_call_near()).map(Instruction::near_branch_target) {
                if let Some(&callee) = starts.get(&callee).filter(|c| !calls.contains(c)) {
                    calls.push(callee);
                }
            }
            // Numbers of zeros and ones only would be read as binary.
            let numbers =
                (2..).map(|n: usize| n.to_string()).filter(|n| n.contains(|c| !matches!(c, '0' | '1')));
            let heads: HashMap<u64, String> = jump_targets(&code).into_iter().zip(numbers).collect();
            // All jumps go backwards.
            let mut labels: HashMap<u64, String> =
                heads.iter().map(|(&at, n)| (at, format!("{n}b"))).collect();
            labels.extend(calls.iter().map(|&c| (symbols[c].offset as u64, format!("{{{}}}", names[c]))));
            let mut writer = Writer { template: !calls.is_empty(), ..Writer::new(self, labels) };
            let mut text = String::new();
            for i in &code {
                writer.step(i.ip(), &mut text);
                if let Some(head) = heads.get(&i.ip()) {
                    let _ = writeln!(text, "{head}:");
                }
                writer.instruction(i, &mut text);
            }
            Function { name: names[k].clone(), note: s.note.clone(), text, calls }
        };
        let functions = symbols.iter().enumerate().map(function).collect();
        let entries = self.entries.iter().map(|&e| starts[&(e as u64)]).collect();
        Assembly { target: self.target, functions, entries }
    }

    fn decode(&self, range: Range<usize>) -> Vec<Instruction> {
        let start = range.start as u64;
        Decoder::with_ip(64, &self.bytes[range], start, DecoderOptions::NONE).into_iter().collect()
    }

    /// Kernels and entry functions, in the order of the bytes.
    fn whole(&self) -> impl Iterator<Item = &Symbol> {
        self.symbols.iter().filter(|s| !s.is_step())
    }
}

/// Where jumps of this code go, in order.
fn jump_targets(code: &[Instruction]) -> Vec<u64> {
    let jumps = code.iter().filter(|i| i.is_jcc_short_or_near());
    let mut targets: Vec<u64> = jumps.map(Instruction::near_branch_target).collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// Writes instructions in the order of the code, a line each.
struct Writer<'a> {
    code: &'a Code,
    formatter: IntelFormatter,
    /// Steps that have not begun.
    steps: Vec<&'a Symbol>,
    /// Whether braces that mean themselves are doubled.
    template: bool,
}

impl Writer<'_> {
    fn new(code: &Code, labels: HashMap<u64, String>) -> Writer<'_> {
        let mut formatter = formatter(Box::new(Labels(labels)));
        formatter.options_mut().set_memory_size_options(MemorySizeOptions::Always);
        let steps = code.symbols.iter().filter(|s| s.is_step()).rev().collect();
        Writer { code, formatter, steps, template: false }
    }

    /// The comment of a step that begins here.
    fn step(&mut self, ip: u64, out: &mut String) {
        let at = ip as usize;
        while let Some(s) = self.steps.pop_if(|s| s.offset <= at) {
            if s.offset == at {
                let mut name = s.name.replace(char::is_control, " ");
                if self.template {
                    name = name.replace('{', "{{").replace('}', "}}");
                }
                let _ = writeln!(out, "    # {name}");
            }
        }
    }

    fn instruction(&mut self, i: &Instruction, out: &mut String) {
        let bytes = &self.code.bytes[i.ip() as usize..][..i.len()];
        if i.mnemonic() == Mnemonic::Nop {
            let bytes: Vec<_> = bytes.iter().map(|b| format!("{b:#04x}")).collect();
            let _ = writeln!(out, "    .byte {}", bytes.join(", "));
            return;
        }
        let mut text = String::new();
        self.formatter.format(i, &mut text);
        let mut line = format!("{}{text}", encoding(i, bytes));
        // What a call names stays as it is.
        if self.template && !i.is_call_near() {
            line = line.replace('{', "{{").replace('}', "}}");
        }
        let _ = write!(out, "    {line}");
        let field = (i.memory_base() == Register::RBP).then(|| context::field(i.memory_displacement64()));
        if let Some(field) = field.flatten() {
            let _ = write!(out, "  # {field}");
        }
        out.push('\n');
    }
}

/// A name that a label may have.
fn word(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// What the assembler must be told to choose the same encoding.
fn encoding(i: &Instruction, bytes: &[u8]) -> &'static str {
    let vector = |r: Register| r.is_xmm() || r.is_ymm();
    let registers = (0..i.op_count()).filter(|&k| i.op_kind(k) == OpKind::Register).map(|k| i.op_register(k));
    // 512-bit registers, the upper sixteen and masks exist in one encoding only.
    let evex_only = i.has_op_mask()
        || registers.clone().any(|r| r.is_zmm() || r.is_k() || (vector(r) && r.number() >= 16));
    match bytes[0] {
        0x62 if !evex_only => "{evex} ",
        // Or it would swap operands for a shorter form.
        0xc4 => "{vex3} ",
        _ => "",
    }
}

/// Targets of jumps and calls by name.
struct Labels(HashMap<u64, String>);

impl SymbolResolver for Labels {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        let branch = instruction.op_kind(instruction_operand?) == OpKind::NearBranch64;
        let label = self.0.get(&address).filter(|_| branch)?;
        Some(SymbolResult::with_str(address, label))
    }
}
