//! Text of a kernel.
//!
//! `acc[4*i + j]` is a register, `[x + 16*i]` memory, `dst = op(operands, constants)` an instruction. The flat form
//! prints registers as `r7`.

use super::parts::Part;
use super::{Access, Affine, FlatInstr, FlatKernel, FlatStmt, Instr, Kernel, Param, ParamId, Stmt, VarId};
use std::fmt::{self, Display, Formatter, Write};

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        head(f, &self.name, &self.params, self.lanes)?;
        f.write_str("  registers")?;
        for a in &self.arrays {
            write!(f, " {}[{}]", a.name, a.len)?;
        }
        if self.arrays.is_empty() {
            f.write_str(" none")?;
        }
        f.write_char('\n')?;
        self.print_body(f, &self.body, 1)
    }
}

impl Kernel {
    fn print_body(&self, f: &mut Formatter<'_>, body: &[Stmt], depth: usize) -> fmt::Result {
        for stmt in body {
            indent(f, depth)?;
            match stmt {
                Stmt::Loop { extent, advance, body } => {
                    loop_head(f, &self.params, *extent, advance)?;
                    self.print_body(f, body, depth + 1)?;
                    indent(f, depth)?;
                    f.write_str("}\n")?;
                }
                Stmt::Unroll { var, extent, body } => {
                    writeln!(f, "unroll {} in 0..{extent} {{", Var(*var))?;
                    self.print_body(f, body, depth + 1)?;
                    indent(f, depth)?;
                    f.write_str("}\n")?;
                }
                Stmt::Op(instr) => {
                    let text = instr_text(
                        instr,
                        self.lanes,
                        |r| {
                            let name = self.arrays.get(r.array).map_or("?", |a| a.name);
                            format!("{name}[{}]", r.index)
                        },
                        |a| address(&self.params, a.param, &a.offset),
                    );
                    writeln!(f, "{text}")?;
                }
            }
        }
        Ok(())
    }
}

impl Display for FlatKernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        head(f, &self.name, &self.params, self.lanes)?;
        writeln!(f, "  registers {}", self.registers)?;
        let mut depth = 1;
        for stmt in &self.body {
            if *stmt == FlatStmt::End {
                depth -= 1;
            }
            indent(f, depth)?;
            match stmt {
                FlatStmt::Begin { extent, advance } => {
                    loop_head(f, &self.params, *extent, advance)?;
                    depth += 1;
                }
                FlatStmt::End => f.write_str("}\n")?,
                FlatStmt::Op(instr) => writeln!(f, "{}", self.text(instr))?,
            }
        }
        Ok(())
    }
}

impl FlatKernel {
    /// Text of one of its instructions.
    pub fn text(&self, instr: &FlatInstr) -> String {
        let addr = |a: &(ParamId, i64)| address(&self.params, a.0, &Affine::constant(a.1));
        instr_text(instr, self.lanes, |r| format!("r{r}"), addr)
    }
}

impl Display for Affine {
    /// Terms, then the constant: `4*i + j + 2`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for &(v, c) in &self.terms {
            let sign = match (first, c < 0) {
                (true, false) => "",
                (true, true) => "-",
                (false, false) => " + ",
                (false, true) => " - ",
            };
            match c.unsigned_abs() {
                1 => write!(f, "{sign}{}", Var(v))?,
                m => write!(f, "{sign}{m}*{}", Var(v))?,
            }
            first = false;
        }
        match (first, self.base) {
            (true, b) => write!(f, "{b}"),
            (false, 0) => Ok(()),
            (false, b) if b < 0 => write!(f, " - {}", b.unsigned_abs()),
            (false, b) => write!(f, " + {b}"),
        }
    }
}

impl Display for Access {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Access::Read => "read",
            Access::Write => "write",
            Access::ReadWrite => "read write",
        })
    }
}

/// i j k l m n, then v6 v7 …
struct Var(VarId);

impl Display for Var {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match ["i", "j", "k", "l", "m", "n"].get(self.0) {
            Some(letter) => f.write_str(letter),
            None => write!(f, "v{}", self.0),
        }
    }
}

fn head(f: &mut Formatter<'_>, name: &str, params: &[Param], lanes: usize) -> fmt::Result {
    let params: Vec<_> = params.iter().map(|p| format!("{}: {}", p.name, p.access)).collect();
    write!(f, "kernel {name}({})  lanes {lanes}", params.join(", "))
}

fn indent(f: &mut Formatter<'_>, depth: usize) -> fmt::Result {
    write!(f, "{:1$}", "", 2 * depth)
}

fn loop_head(
    f: &mut Formatter<'_>,
    params: &[Param],
    extent: usize,
    advance: &[(ParamId, i64)],
) -> fmt::Result {
    write!(f, "loop {extent} ")?;
    for (i, &(p, by)) in advance.iter().enumerate() {
        let open = if i == 0 { "(" } else { ", " };
        let sign = if by < 0 { '-' } else { '+' };
        write!(f, "{open}{} {sign}= {}", param_name(params, p), by.unsigned_abs())?;
    }
    f.write_str(if advance.is_empty() { "{\n" } else { ") {\n" })
}

fn param_name(params: &[Param], p: ParamId) -> &'static str {
    params.get(p).map_or("?", |p| p.name)
}

fn address(params: &[Param], p: ParamId, offset: &Affine) -> String {
    let name = param_name(params, p);
    let text = offset.to_string();
    match text.strip_prefix('-') {
        _ if text == "0" => format!("[{name}]"),
        Some(rest) => format!("[{name} - {rest}]"),
        None => format!("[{name} + {text}]"),
    }
}

fn instr_text<R, A>(
    instr: &Instr<R, A>,
    lanes: usize,
    reg: impl Fn(&R) -> String,
    addr: impl Fn(&A) -> String,
) -> String {
    let (mnemonic, parts) = instr.parts(lanes);
    let mut result = String::new();
    let mut operands = Vec::new();
    for part in parts {
        match part {
            Part::Def(r) => result = format!("{} = ", reg(r)),
            Part::Use(r) => operands.push(reg(r)),
            Part::Load(a, _) | Part::Store(a, _) | Part::Hint(a) => operands.push(addr(a)),
            Part::Imm(c) if matches!(instr, Instr::Splat { .. }) => operands.push(format!("{c:#010x}")),
            Part::Imm(c) => operands.push(c.to_string()),
        }
    }
    format!("{result}{mnemonic}({})", operands.join(", "))
}
