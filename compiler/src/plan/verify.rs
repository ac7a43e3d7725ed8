//! The proof that a plan touches only its own memory.
//!
//! In comes a plan, out go all violations. The rules:
//!
//! - Every kernel obeys the kernel rules for the plan's target: its lanes, its number of registers.
//! - The arena and what is carried per image are multiples of 64 bytes, and the arena holds `batch` of the latter; inputs and outputs hold
//!   `batch` images of `image_bytes`; there are at least `head` steps.
//! - A call names a kernel, gives an argument and, per grid dimension, an advance for each of its parameters; extents
//!   are at least 1.
//! - For every argument, the bytes touched over the whole grid (the hull, exact for the kernel and, as grid loops are
//!   independent, for the grid) lie in the argument's space, as large as the images that the step describes make it. The same for functions.
//! - Only the arena, what is carried and outputs are written.
//! - What a kernel writes through one parameter, no point of the grid touches through another, unless both are the
//!   same pointer with the same advances (in place: a point meets only its own bytes, if points write apart).
//! - Places lie in their spaces.
//!
//! Not here: that grid points write apart from each other, that calls of one step are independent (`split` asks for a proof before it
//! shares a step among threads), that values live long enough (a construction rule of `lower`, held by comparing engines).

use super::area::{Deed, Reach};
use super::{Call, FunctionCall, GridDim, Place, Plan, Ptr, Space, Work};
use crate::error::Problem;
use crate::kernel::verify::{Footprint, verify as verify_kernel};
use std::ops::Range;

/// All violations; empty for a valid plan. Every engine that uses unchecked accesses rests on this.
pub fn verify(plan: &Plan) -> Vec<Problem> {
    let mut v = Verify { plan, images: 1, problems: Vec::new() };
    let kernels: Vec<_> = (0..plan.kernels.len()).map(|k| v.kernel(k)).collect();
    if !v.memory() {
        return v.problems;
    }
    for (i, step) in plan.steps.iter().enumerate() {
        v.images = plan.images(i);
        let subject = format!("step {i} ({}: {})", step.layer, step.what);
        match &step.work {
            Work::Kernels(calls) => {
                for call in calls {
                    // A bad kernel has been reported already.
                    let wrong = match kernels.get(call.kernel) {
                        None => Err(format!("kernel {} does not exist", call.kernel)),
                        Some(None) => Ok(()),
                        Some(Some((footprint, reach))) => v.call(call, footprint, reach),
                    };
                    v.note(&subject, wrong);
                }
            }
            Work::Function(call) => {
                let wrong = v.function(call);
                v.note(&subject, wrong);
            }
        }
    }
    v.images = 1;
    for place in &plan.places {
        let wrong = v.place(place);
        v.note(&format!("place {}", place.name), wrong);
    }
    v.problems
}

struct Verify<'a> {
    plan: &'a Plan,
    /// Images that the current step describes.
    images: usize,
    problems: Vec<Problem>,
}

impl Verify<'_> {
    fn note(&mut self, subject: &str, wrong: Result<(), String>) {
        if let Err(message) = wrong {
            self.problems.push(Problem { subject: subject.into(), message });
        }
    }

    fn kernel(&mut self, k: usize) -> Option<(Footprint, Reach)> {
        let (kernel, target) = (&self.plan.kernels[k], &self.plan.target);
        let subject = format!("kernel {}", kernel.name);
        if kernel.lanes != target.lanes {
            self.note(&subject, Err(format!("{} lanes, the target has {}", kernel.lanes, target.lanes)));
            return None;
        }
        if self.plan.kernels[..k].iter().any(|other| other.name == kernel.name) {
            self.note(&subject, Err("a second kernel of this name".into()));
        }
        match verify_kernel(kernel, target.registers) {
            Ok(footprint) => Some((footprint, Reach::of(kernel))),
            Err(e) => {
                self.note(&subject, Err(e));
                None
            }
        }
    }

    /// Returns whether sizes of spaces can be computed.
    fn memory(&mut self) -> bool {
        let plan = self.plan;
        if !plan.arena_bytes.is_multiple_of(64) {
            self.note("arena", Err(format!("{} bytes are no multiple of 64", plan.arena_bytes)));
        }
        if plan.batch == 0 {
            self.note("batch", Err("no image in a batch".into()));
        }
        if plan.head > plan.steps.len() {
            let message = format!("{} steps per image of {}", plan.head, plan.steps.len());
            self.note("steps", Err(message));
        }
        let carried = plan.carried_bytes.checked_mul(plan.batch).filter(|&c| c <= plan.arena_bytes);
        if carried.is_none() || !plan.carried_bytes.is_multiple_of(64) {
            let message =
                format!("{} bytes per image are carried in {}", plan.carried_bytes, plan.arena_bytes);
            self.note("arena", Err(message));
        }
        for (what, io) in
            plan.inputs.iter().map(|x| ("input", x)).chain(plan.outputs.iter().map(|x| ("output", x)))
        {
            let elements = io.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
            let bytes = elements.and_then(|n| n.checked_mul(io.dtype.size()));
            if bytes.is_none() || bytes != io.image_bytes.checked_mul(plan.batch) {
                let message = format!(
                    "shape {:?} of {:?} is not {} × {} bytes",
                    io.shape, io.dtype, plan.batch, io.image_bytes
                );
                self.note(&format!("{what} {}", io.name), Err(message));
            }
        }
        carried.is_some()
    }

    fn call(&self, call: &Call, footprint: &Footprint, reach: &Reach) -> Result<(), String> {
        let kernel = &self.plan.kernels[call.kernel];
        let n = kernel.params.len();
        if call.args.len() != n {
            return Err(format!("{} takes {n} arguments, {} are given", kernel.name, call.args.len()));
        }
        for dim in &call.grid {
            if dim.extent == 0 || dim.extent > u32::MAX as usize {
                return Err(format!("{}: a grid extent of {}", kernel.name, dim.extent));
            }
            if dim.advance.len() != n {
                return Err(format!("{} takes {n} advances, {} are given", kernel.name, dim.advance.len()));
            }
        }
        for (i, &ptr) in call.args.iter().enumerate() {
            let in_arg = |e| format!("{}: argument {}: {e}", kernel.name, kernel.params[i].name);
            self.space(ptr.space).map_err(in_arg)?;
            if let Some(r) = &footprint.reads[i] {
                self.inside(ptr, hull(r, i, &call.grid)).map_err(in_arg)?;
            }
            if let Some(w) = &footprint.writes[i] {
                writable(ptr.space).map_err(in_arg)?;
                self.inside(ptr, hull(w, i, &call.grid)).map_err(in_arg)?;
            }
        }
        let moves = |i: usize| call.grid.iter().map(move |d| d.advance[i]);
        for i in 0..n {
            let Some(written) = reach.area(call, i, Deed::Written) else { continue };
            let others =
                (0..n).filter(|&j| j != i && !(call.args[i] == call.args[j] && moves(i).eq(moves(j))));
            for j in others {
                if reach.area(call, j, Deed::Touched).is_some_and(|touched| !written.apart(&touched)) {
                    let (a, b) = (kernel.params[i].name, kernel.params[j].name);
                    return Err(format!("{}: writes through {a} may overlap {b}", kernel.name));
                }
            }
        }
        Ok(())
    }

    fn function(&self, call: &FunctionCall) -> Result<(), String> {
        let n = call.function.args();
        if call.args.len() != n {
            return Err(format!("the function takes {n} arguments, {} are given", call.args.len()));
        }
        for (i, &ptr) in call.args.iter().enumerate() {
            let in_arg = |e| format!("argument {i}: {e}");
            self.space(ptr.space).map_err(in_arg)?;
            let (read, written) = call.function.footprint(i);
            if written > 0 {
                writable(ptr.space).map_err(in_arg)?;
            }
            let bytes = read.max(written);
            if bytes > 0 {
                self.inside(ptr, (0, bytes as i128)).map_err(in_arg)?;
            }
        }
        Ok(())
    }

    fn place(&self, place: &Place) -> Result<(), String> {
        self.space(place.ptr.space)?;
        if place.shape.len() != place.strides.len() {
            return Err(format!("{} extents, {} strides", place.shape.len(), place.strides.len()));
        }
        if place.shape.contains(&0) {
            return Ok(());
        }
        let reach = |(&n, &s): (&usize, &usize)| (n as i128 - 1).checked_mul(s as i128);
        let mut end = place.dtype.size() as i128;
        for r in place.shape.iter().zip(&place.strides).map(reach) {
            end = r.and_then(|r| end.checked_add(r)).ok_or("extents or strides overflow")?;
        }
        self.inside(place.ptr, (0, end))
    }

    /// The space exists.
    fn space(&self, space: Space) -> Result<(), String> {
        match space {
            Space::Input(k) if k >= self.plan.inputs.len() => Err(format!("{space} does not exist")),
            Space::Output(k) if k >= self.plan.outputs.len() => Err(format!("{space} does not exist")),
            Space::Arena | Space::Carried | Space::Weights | Space::Consts => Ok(()),
            Space::Input(_) | Space::Output(_) => Ok(()),
        }
    }

    /// The bytes `range` from `ptr` lie in its space, which exists.
    fn inside(&self, ptr: Ptr, range: (i128, i128)) -> Result<(), String> {
        let size = self.plan.space_bytes(ptr.space, self.images);
        let at = ptr.offset as i128;
        match (at.checked_add(range.0), at.checked_add(range.1)) {
            (Some(start), Some(end)) if start >= 0 && end <= size as i128 => Ok(()),
            _ => Err(format!("bytes {}..{} from {ptr} leave its {size} bytes", range.0, range.1)),
        }
    }
}

fn writable(space: Space) -> Result<(), String> {
    match space {
        Space::Arena | Space::Carried | Space::Output(_) => Ok(()),
        Space::Weights | Space::Consts | Space::Input(_) => Err(format!("{space} is written")),
    }
}

/// The hull of a parameter's range over a grid, relative to the argument. Advances of extents below 2^32 cannot
/// overflow i128.
fn hull(range: &Range<i64>, param: usize, grid: &[GridDim]) -> (i128, i128) {
    let mut hull = (i128::from(range.start), i128::from(range.end));
    for dim in grid {
        let reach = i128::from(dim.advance[param]) * (dim.extent as i128 - 1);
        hull.0 += reach.min(0);
        hull.1 += reach.max(0);
    }
    hull
}
