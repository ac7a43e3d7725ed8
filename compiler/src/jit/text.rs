//! Machine code as text that an assembler takes: Intel syntax, a label for every kernel and entry function, a comment for every step.
//!
//! LLVM's assembler (`global_asm!` with `options(raw)`, clang) makes the same bytes of it, which the tests check: an instruction that it would
//! encode otherwise says how (`{vex3}`, `{evex}`), and what fills up to a boundary stands as bytes. The text is position independent and
//! its labels carry a name of the caller's choice, so that the code of several models goes into one program.
//!
//! Not here: listings for people, which show one symbol at a time (`disasm`).

use super::code::Code;
use super::context;
use super::disasm::formatter;
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, MemorySizeOptions, Mnemonic, OpKind, Register,
    SymbolResolver, SymbolResult,
};
use std::collections::HashMap;
use std::fmt::Write as _;

impl Code {
    /// The whole code as text for an assembler. Labels are `{name}_KERNEL`, `{name}_entry`, `{name}_entry_of_thread_T`, and in front and behind
    /// `{name}_begin` and `{name}_end`; characters of `name` that labels cannot hold become `_`.
    pub fn assembly(&self, name: &str) -> String {
        let code: Vec<Instruction> =
            Decoder::with_ip(64, &self.bytes, 0, DecoderOptions::NONE).into_iter().collect();
        let label = |symbol: &str| word(&format!("{name}_{symbol}"));
        let mut labels: HashMap<u64, String> =
            self.whole().map(|s| (s.offset as u64, label(&s.name))).collect();
        for target in code.iter().filter(|i| i.is_jcc_short_or_near()).map(Instruction::near_branch_target) {
            let next = format!(".L{}_{target:x}", word(name));
            labels.entry(target).or_insert(next);
        }
        let mut formatter = formatter(Box::new(Labels(labels.clone())));
        formatter.options_mut().set_memory_size_options(MemorySizeOptions::Always);

        let mut out = format!(
            "# Machine code of {name:?}, for LLVM's assembler (Intel syntax).\n.p2align 6\n{}:\n",
            label("begin")
        );
        let mut steps = self.symbols.iter().filter(|s| s.name.starts_with("step ")).peekable();
        let mut kernels = self.whole().peekable();
        let mut text = String::new();
        for i in &code {
            let at = i.ip() as usize;
            while let Some(s) = kernels.next_if(|s| s.offset == at) {
                let _ = writeln!(out, "\n# {}: {}", s.name, s.note);
            }
            while let Some(s) = steps.next_if(|s| s.offset == at) {
                let _ = writeln!(out, "    # {}", s.name.replace(char::is_control, " "));
            }
            if let Some(label) = labels.get(&i.ip()) {
                let _ = writeln!(out, "{label}:");
            }
            let bytes = &self.bytes[at..at + i.len()];
            if i.mnemonic() == Mnemonic::Nop {
                let bytes: Vec<_> = bytes.iter().map(|b| format!("{b:#04x}")).collect();
                let _ = writeln!(out, "    .byte {}", bytes.join(", "));
                continue;
            }
            text.clear();
            formatter.format(i, &mut text);
            let _ = write!(out, "    {}{text}", encoding(i, bytes));
            let field = (i.memory_base() == Register::RBP).then(|| context::field(i.memory_displacement64()));
            if let Some(field) = field.flatten() {
                let _ = write!(out, "  # {field}");
            }
            out.push('\n');
        }
        let _ = writeln!(out, "{}:", label("end"));
        out
    }

    /// Kernels and entry functions, in the order of the bytes.
    fn whole(&self) -> impl Iterator<Item = &super::Symbol> {
        self.symbols.iter().filter(|s| !s.name.starts_with("step "))
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
