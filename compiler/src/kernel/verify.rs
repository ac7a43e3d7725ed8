//! Proofs about one kernel: structure, registers, the exact byte range each parameter touches.
//!
//! In comes a kernel, out goes its [`Footprint`], or the first broken rule. The rules:
//!
//! - 4, 8 or 16 lanes; every extent in 1..2^32; no empty register array; the arrays' total within the target's registers.
//! - Every parameter and array that is named exists; an unroll variable is bound by one `unroll` of the kernel
//!   and used only inside it; a loop moves each parameter at most once.
//! - A register index lies within its array for every value of the unroll variables.
//! - A register is written before it is read, in the order of execution of the first iteration of every
//!   loop (later iterations find at least as much written, and loops run at least once).
//! - A `Read` parameter is never stored to, a `Write` parameter never loaded from.
//! - `load`, `store`: 1..=4·lanes bytes; `load_u8`: 1..=lanes bytes; `copy`: at least 1, not onto itself within one
//!   parameter; shifts below the width of what they shift.
//! - Every offset stays below 2^47 in magnitude, so that no later address arithmetic can overflow.
//! - At most [`MAX_PARAMS`] parameters, loops nested at most [`MAX_DEPTH`] deep, a flat form of at most [`MAX_FLAT`] statements.
//!
//! The footprint is the hull of the bytes touched: both its ends are touched by some iteration, since the extremes of
//! a sum of independent loop counters are reached at corners. A prefetch is not an access.
//!
//! Not here: where parameters point (`plan::verify`); overlap between different parameters.

use super::parts::Part;
use super::{
    Access, Affine, FlatInstr, FlatKernel, FlatStmt, Instr, Kernel, ParamId, Stmt, VarId, expand::expand,
};
use std::ops::Range;

/// Largest number of statements a kernel may expand to.
pub const MAX_FLAT: usize = 1 << 20;

/// Most parameters a kernel may have: pointers live in general registers.
pub const MAX_PARAMS: usize = 16;

/// Deepest nesting of loops.
pub const MAX_DEPTH: usize = 16;

/// Offsets and loop travels stay below this.
const MAX_OFFSET: i128 = 1 << 47;

/// What a kernel does to memory: for each parameter the bytes read and written, relative to where it points on entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes read, per parameter; `None` if never.
    pub reads: Vec<Option<Range<i64>>>,
    /// Bytes written, per parameter; `None` if never.
    pub writes: Vec<Option<Range<i64>>>,
}

impl Footprint {
    /// Bytes read or written through a parameter; `None` if never.
    pub fn touched(&self, param: ParamId) -> Option<Range<i64>> {
        match (self.reads[param].clone(), self.writes[param].clone()) {
            (Some(r), Some(w)) => Some(r.start.min(w.start)..r.end.max(w.end)),
            (r, w) => r.or(w),
        }
    }
}

/// Checks the kernel's rules for a target with `registers` registers; gives the exact footprint, or what is wrong.
pub fn verify(kernel: &Kernel, registers: usize) -> Result<Footprint, String> {
    structure(kernel, registers).and_then(|()| effects(&expand(kernel)))
}

/// Everything [`expand`] relies on.
fn structure(kernel: &Kernel, registers: usize) -> Result<(), String> {
    if ![4, 8, 16].contains(&kernel.lanes) {
        return Err(format!("{} lanes; 4, 8 or 16 are possible", kernel.lanes));
    }
    if kernel.params.len() > MAX_PARAMS {
        return Err(format!("{} parameters; {MAX_PARAMS} are possible", kernel.params.len()));
    }
    let mut total = 0usize;
    for a in &kernel.arrays {
        if a.len == 0 {
            return Err(format!("register array {} is empty", a.name));
        }
        total = total.saturating_add(a.len);
    }
    // Register numbers are bytes.
    if total > registers.min(256) {
        return Err(format!("{total} registers needed, the target has {registers}"));
    }
    let mut s = Structure { kernel, open: Vec::new(), bound: Vec::new(), depth: 0, flat: 0 };
    s.body(&kernel.body, 1)
}

struct Structure<'a> {
    kernel: &'a Kernel,
    /// Unrolls around the current statement.
    open: Vec<(VarId, usize)>,
    /// Variables bound anywhere so far.
    bound: Vec<VarId>,
    /// Loops around the current statement.
    depth: usize,
    /// Statements of the flat form so far.
    flat: usize,
}

impl Structure<'_> {
    fn body(&mut self, body: &[Stmt], copies: usize) -> Result<(), String> {
        for stmt in body {
            match stmt {
                Stmt::Loop { extent, advance, body } => {
                    sane_extent(*extent)?;
                    for (i, &(p, _)) in advance.iter().enumerate() {
                        self.param(p)?;
                        if advance[..i].iter().any(|a| a.0 == p) {
                            return Err(format!("a loop moves {} twice", self.kernel.params[p].name));
                        }
                    }
                    self.count(copies.saturating_mul(2))?;
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(format!("loops nested deeper than {MAX_DEPTH}"));
                    }
                    self.body(body, copies)?;
                    self.depth -= 1;
                }
                Stmt::Unroll { var, extent, body } => {
                    sane_extent(*extent)?;
                    if self.bound.contains(var) {
                        return Err(format!("unroll variable {var} is bound twice"));
                    }
                    self.bound.push(*var);
                    self.open.push((*var, *extent));
                    let copies = copies.saturating_mul(*extent);
                    // Also bounds the work of expanding unrolls around nothing.
                    self.count(copies)?;
                    self.body(body, copies)?;
                    self.open.pop();
                }
                Stmt::Op(instr) => {
                    self.count(copies)?;
                    self.op(instr)?;
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, statements: usize) -> Result<(), String> {
        self.flat = self.flat.saturating_add(statements);
        if self.flat > MAX_FLAT {
            return Err(format!("expands to more than {MAX_FLAT} statements"));
        }
        Ok(())
    }

    fn param(&self, p: ParamId) -> Result<(), String> {
        match self.kernel.params.get(p) {
            Some(_) => Ok(()),
            None => Err(format!("parameter {p} does not exist")),
        }
    }

    fn op(&self, instr: &Instr<super::Reg, super::Addr>) -> Result<(), String> {
        for part in instr.parts(self.kernel.lanes).1 {
            match part {
                Part::Def(r) | Part::Use(r) => {
                    let Some(array) = self.kernel.arrays.get(r.array) else {
                        return Err(format!("register array {} does not exist", r.array));
                    };
                    let (lo, hi) = self.interval(&r.index)?;
                    if lo < 0 || hi >= array.len as i128 {
                        return Err(format!(
                            "register {}[{}] reaches {lo}..={hi} of {}",
                            array.name, r.index, array.len
                        ));
                    }
                }
                Part::Load(a, _) | Part::Store(a, _) | Part::Hint(a) => {
                    self.param(a.param)?;
                    self.interval(&a.offset)?;
                }
                Part::Imm(_) => {}
            }
        }
        Ok(())
    }

    /// Smallest and largest value over the open unrolls; every partial sum is below [`MAX_OFFSET`].
    fn interval(&self, x: &Affine) -> Result<(i128, i128), String> {
        let mut lo = i128::from(x.base);
        let mut hi = lo;
        let mut size = lo.abs();
        for &(v, c) in &x.terms {
            let Some(&(_, extent)) = self.open.iter().find(|o| o.0 == v) else {
                return Err(format!("unroll variable {v} is used outside its unroll"));
            };
            let reach = (extent as i128 - 1) * i128::from(c);
            lo += reach.min(0);
            hi += reach.max(0);
            size += reach.abs();
        }
        if size >= MAX_OFFSET {
            return Err(format!("offset {x} is too large"));
        }
        Ok((lo, hi))
    }
}

fn sane_extent(extent: usize) -> Result<(), String> {
    match extent {
        1..=0xffff_ffff => Ok(()),
        _ => Err(format!("an extent of {extent}")),
    }
}

/// Registers and memory, over the flat form.
fn effects(flat: &FlatKernel) -> Result<Footprint, String> {
    let n = flat.params.len();
    let mut print = Footprint { reads: vec![None; n], writes: vec![None; n] };
    let mut written = vec![false; flat.registers];
    // Lowest and highest travel of each parameter in the open loops, innermost last.
    let mut travel = vec![vec![(0i128, 0i128); n]];
    for stmt in &flat.body {
        match stmt {
            FlatStmt::Begin { extent, advance } => {
                let mut now = travel[travel.len() - 1].clone();
                for &(p, by) in advance {
                    let reach = i128::from(by) * (*extent as i128 - 1);
                    now[p].0 += reach.min(0);
                    now[p].1 += reach.max(0);
                    // The last step of the loop, before it is undone, must be a sane address too.
                    if (i128::from(by) * *extent as i128).abs() + now[p].1 - now[p].0 >= MAX_OFFSET {
                        return Err(format!("a loop moves {} too far", flat.params[p].name));
                    }
                }
                travel.push(now);
            }
            FlatStmt::End => {
                travel.pop();
            }
            FlatStmt::Op(instr) => {
                immediates(instr, flat.lanes).map_err(|e| format!("{e} in `{}`", flat.text(instr)))?;
                let (_, parts) = instr.parts(flat.lanes);
                for part in &parts {
                    let (access, a, bytes, range) = match part {
                        Part::Use(r) if !written[**r as usize] => {
                            return Err(format!("register r{r} is read unwritten in `{}`", flat.text(instr)));
                        }
                        Part::Load(a, bytes) => (Access::Write, *a, *bytes, &mut print.reads[a.0]),
                        Part::Store(a, bytes) => (Access::Read, *a, *bytes, &mut print.writes[a.0]),
                        Part::Use(_) | Part::Def(_) | Part::Hint(_) | Part::Imm(_) => continue,
                    };
                    let param = &flat.params[a.0];
                    if param.access == access {
                        return Err(format!(
                            "{} is declared `{access}`, violated by `{}`",
                            param.name,
                            flat.text(instr)
                        ));
                    }
                    let (lo, hi) = travel[travel.len() - 1][a.0];
                    let (start, end) = (lo + i128::from(a.1), hi + i128::from(a.1) + bytes as i128);
                    if start <= -MAX_OFFSET || end >= MAX_OFFSET {
                        return Err(format!("`{}` reaches too far", flat.text(instr)));
                    }
                    let (start, end) = (start as i64, end as i64);
                    *range = Some(match range {
                        Some(r) => r.start.min(start)..r.end.max(end),
                        None => start..end,
                    });
                }
                for part in parts {
                    if let Part::Def(r) = part {
                        written[*r as usize] = true;
                    }
                }
            }
        }
    }
    Ok(print)
}

/// The constants of an instruction.
fn immediates(instr: &FlatInstr, lanes: usize) -> Result<(), String> {
    let range = |n: usize, most: usize| match n {
        n if (1..=most).contains(&n) => Ok(()),
        n => Err(format!("{n} bytes, where 1 to {most} are possible,")),
    };
    if let Instr::Load { bytes, .. } | Instr::Store { bytes, .. } = *instr {
        range(bytes, 4 * lanes)?;
    }
    if let Instr::LoadU8 { count, .. } = *instr {
        range(count, lanes)?;
    }
    if let Instr::Copy { dst, src, bytes } = *instr {
        range(bytes, 1 << 40)?;
        if dst.0 == src.0 && dst.1.abs_diff(src.1) < bytes as u64 {
            return Err("overlapping ranges".into());
        }
    }
    if let Instr::ShlI32 { by, .. } = *instr
        && by >= 32
    {
        return Err(format!("a shift by {by}"));
    }
    if let Instr::ShlI16 { by, .. } | Instr::ShrI16 { by, .. } | Instr::ShrU16 { by, .. } = *instr
        && by >= 16
    {
        return Err(format!("a shift by {by} of words"));
    }
    Ok(())
}
