//! Whether two parameters of a call can meet in memory.
//!
//! Hulls decide nearly always. Where they overlap, the two may still interleave: a layer that reads some channels of a
//! concatenated buffer and writes others. Then all accesses are taken modulo the stride of a loop: loops that move by a
//! multiple of it vanish, all others widen the access to the range they sweep. Disjoint residues are disjoint bytes;
//! one such stride is a proof. Not found is not a proof of the opposite, so "possible" may be too careful.

use super::hull;
use crate::kernel::expand::expand;
use crate::kernel::parts::Part;
use crate::kernel::verify::Footprint;
use crate::kernel::{FlatStmt, Kernel, ParamId};
use crate::plan::Call;

/// One access through a parameter, from the start of its space, with the loops that move it (bytes, extent).
struct Access {
    start: i128,
    bytes: i128,
    loops: Vec<(i128, i128)>,
}

/// Whether something written through parameter `w` may be touched through parameter `other` at a point of the grid.
/// Both arguments have been proven inside their spaces.
pub(super) fn possible(
    kernel: &Kernel,
    footprint: &Footprint,
    call: &Call,
    w: ParamId,
    other: ParamId,
) -> bool {
    let (a, b) = (call.args[w], call.args[other]);
    if a.space != b.space || (a == b && call.grid.iter().all(|d| d.advance[w] == d.advance[other])) {
        return false;
    }
    let (Some(written), Some(touched)) = (&footprint.writes[w], footprint.touched(other)) else {
        return false;
    };
    let (x, y) = (hull(written, w, &call.grid), hull(&touched, other, &call.grid));
    let (at, bt) = (a.offset as i128, b.offset as i128);
    if at + x.1 <= bt + y.0 || bt + y.1 <= at + x.0 {
        return false;
    }
    let writes = accesses(kernel, call, w, true);
    let touches = accesses(kernel, call, other, false);
    let strides = || writes.iter().chain(&touches).flat_map(|a| &a.loops).map(|l| l.0.abs());
    let mut moduli: Vec<i128> = strides().collect();
    moduli.push(call.grid.iter().flat_map(|d| [d.advance[w], d.advance[other]]).fold(0, gcd));
    moduli.sort_unstable();
    moduli.dedup();
    !moduli.into_iter().any(|m| m > 0 && apart(&writes, &touches, m))
}

fn gcd(a: i128, b: i64) -> i128 {
    let (mut a, mut b) = (a, i128::from(b).abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// All writes, or all accesses, through a parameter.
fn accesses(kernel: &Kernel, call: &Call, param: ParamId, only_writes: bool) -> Vec<Access> {
    let mut open: Vec<(i128, i128)> =
        call.grid.iter().map(|d| (i128::from(d.advance[param]), d.extent as i128)).collect();
    let mut out = Vec::new();
    for stmt in expand(kernel).body {
        match stmt {
            FlatStmt::Begin { extent, advance } => {
                let by = advance.iter().find(|a| a.0 == param).map_or(0, |a| a.1);
                open.push((i128::from(by), extent as i128));
            }
            FlatStmt::End => drop(open.pop()),
            FlatStmt::Op(instr) => {
                for part in instr.parts(kernel.lanes).1 {
                    let (a, bytes) = match part {
                        Part::Store(a, bytes) => (a, bytes),
                        Part::Load(a, bytes) if !only_writes => (a, bytes),
                        Part::Load(..) | Part::Def(_) | Part::Use(_) | Part::Hint(_) | Part::Imm(_) => {
                            continue;
                        }
                    };
                    if a.0 == param {
                        let start = call.args[param].offset as i128 + i128::from(a.1);
                        let loops = open.iter().copied().filter(|l| l.0 != 0 && l.1 > 1).collect();
                        out.push(Access { start, bytes: bytes as i128, loops });
                    }
                }
            }
        }
    }
    out
}

/// No residue modulo `m` is common to both.
fn apart(a: &[Access], b: &[Access], m: i128) -> bool {
    let (Some(a), Some(b)) = (residues(a, m), residues(b, m)) else {
        return false;
    };
    a.iter().all(|x| b.iter().all(|y| x.1 <= y.0 || y.1 <= x.0))
}

/// Residues of accesses modulo `m`, as intervals within `0..m`; `None` if one covers everything.
fn residues(accesses: &[Access], m: i128) -> Option<Vec<(i128, i128)>> {
    let mut out = Vec::new();
    for a in accesses {
        let (mut start, mut length) = (a.start, a.bytes);
        for &(by, extent) in a.loops.iter().filter(|l| l.0 % m != 0) {
            let reach = by * (extent - 1);
            start += reach.min(0);
            length += reach.abs();
        }
        if length >= m {
            return None;
        }
        let start = start.rem_euclid(m);
        out.push((start, m.min(start + length)));
        if start + length > m {
            out.push((0, start + length - m));
        }
    }
    out.sort_unstable();
    out.dedup();
    Some(out)
}
