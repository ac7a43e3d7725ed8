//! Listings of generated code: Intel syntax, labels for jump targets, names for kernels and the context's fields.
//!
//! Code holds no addresses, so a listing depends on the plan and the options only.

use super::code::{Code, Symbol};
use super::context;
use iced_x86::{
    Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter, MemorySizeOptions, OpKind, Register,
    SymbolResolver, SymbolResult,
};
use std::fmt::Write as _;

impl Code {
    /// The listing of a symbol, that of a step band by band; `None` if there is none of that name.
    pub fn disassemble(&self, name: &str) -> Option<String> {
        let named = self.symbols.iter().filter(|s| s.name == name).map(|s| self.listing(s));
        named.reduce(|all, next| all + "\n" + &next)
    }

    /// The listing of every kernel and of the entry function.
    pub fn disassemble_all(&self) -> String {
        let whole = self.symbols.iter().filter(|s| !s.is_step());
        whole.map(|s| self.listing(s)).collect::<Vec<_>>().join("\n")
    }

    fn listing(&self, symbol: &Symbol) -> String {
        let end = symbol.offset + symbol.len;
        let bytes = &self.bytes[symbol.offset..end];
        let code: Vec<Instruction> =
            Decoder::with_ip(64, bytes, symbol.offset as u64, DecoderOptions::NONE).into_iter().collect();
        let inside = symbol.offset as u64..end as u64;
        let jumps = code.iter().filter(|i| i.is_jcc_short_or_near());
        let mut targets: Vec<u64> =
            jumps.map(Instruction::near_branch_target).filter(|t| inside.contains(t)).collect();
        targets.sort_unstable();
        targets.dedup();

        let mut out = symbol.name.clone() + ":";
        if !symbol.note.is_empty() {
            let _ = write!(out, "  ; {}", symbol.note);
        }
        out.push('\n');
        let mut formatter = formatter(Box::new(Names { code: self.names(), targets: targets.clone() }));
        let mut text = String::new();
        for instruction in &code {
            if let Ok(label) = targets.binary_search(&instruction.ip()) {
                let _ = writeln!(out, ".L{label}:");
            }
            text.clear();
            formatter.format(instruction, &mut text);
            let _ = writeln!(out, "    {text}");
        }
        out
    }

    fn names(&self) -> Vec<(u64, String)> {
        self.symbols.iter().map(|s| (s.offset as u64, s.name.clone())).collect()
    }
}

/// Intel syntax with the least punctuation, in the spelling that assemblers take, too.
pub(super) fn formatter(names: Box<dyn SymbolResolver>) -> IntelFormatter {
    let mut formatter = IntelFormatter::with_options(Some(names), None);
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(true);
    options.set_space_after_operand_separator(true);
    options.set_memory_size_options(MemorySizeOptions::Minimal);
    options.set_show_branch_size(false);
    options.set_signed_immediate_operands(true);
    options.set_rip_relative_addresses(false);
    formatter
}

/// Names what instructions refer to.
struct Names {
    /// Offset and name of each symbol.
    code: Vec<(u64, String)>,
    /// Targets of jumps within the listing, sorted.
    targets: Vec<u64>,
}

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _address_size: u32,
    ) -> Option<SymbolResult<'_>> {
        match instruction.op_kind(instruction_operand?) {
            OpKind::NearBranch64 => match self.targets.binary_search(&address) {
                Ok(label) => Some(SymbolResult::with_string(address, format!(".L{label}"))),
                Err(_) => {
                    let (_, name) = self.code.iter().find(|c| c.0 == address)?;
                    Some(SymbolResult::with_str(address, name))
                }
            },
            OpKind::Memory if instruction.memory_base() == Register::RBP => {
                Some(SymbolResult::with_string(address, context::field(address)?))
            }
            _ => None,
        }
    }
}
