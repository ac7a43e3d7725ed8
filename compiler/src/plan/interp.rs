//! Runs a plan with the kernel interpreter, on any machine, for any target.
//!
//! [`Interpreter::new`] verifies the plan; nothing is checked afterwards but the caller's tensors and arena.

use super::verify::verify;
use super::{Call, GridDim, Plan, Ptr, Space, Step, Work};
use crate::error::{Error, Result, Stage};
use crate::kernel::interp::{Program, Registers};
use crate::kernel::verify::MAX_PARAMS;
use qgraph_runtime::model::check_run;
use qgraph_runtime::{Model, RunError, TensorDesc, TensorMut, TensorRef};
use std::ptr::null_mut;
use std::sync::Arc;

/// A verified plan as a [`Model`].
#[derive(Clone, Debug)]
pub struct Interpreter {
    plan: Arc<Plan>,
    programs: Vec<Program>,
}

/// Tensors (inputs and outputs) that a run handles without allocating.
const FEW: usize = 32;

impl Interpreter {
    /// Verifies and prepares a plan. Errors: everything [`verify`] finds.
    pub fn new(plan: Arc<Plan>) -> Result<Interpreter> {
        Error::all(Stage::Schedule, verify(&plan))?;
        let program = |k| Program::new(k).map_err(|e| Error::new(Stage::Schedule, &k.name, e));
        let programs = plan.kernels.iter().map(program).collect::<Result<_>>()?;
        Ok(Interpreter { plan, programs })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Runs steps.
    ///
    /// # Safety
    /// `bases` are those of the verified plan's spaces, each with as many bytes as the plan says for the images that the steps describe.
    unsafe fn steps(&self, steps: &[Step], bases: &Bases<'_>, registers: &mut Registers) {
        for step in steps {
            match &step.work {
                Work::Kernels(calls) => {
                    for call in calls {
                        // SAFETY: the caller's.
                        unsafe { self.call(call, bases, registers) }
                    }
                }
                Work::Function(call) => {
                    let mut args = [null_mut(); MAX_PARAMS];
                    for (arg, &ptr) in args.iter_mut().zip(&call.args) {
                        *arg = bases.at(ptr);
                    }
                    // SAFETY: plan::verify has proven the function's footprint inside the spaces.
                    unsafe { call.function.run(&args[..call.args.len()]) }
                }
            }
        }
    }

    /// # Safety
    /// As [`Interpreter::steps`].
    unsafe fn call(&self, call: &Call, bases: &Bases<'_>, registers: &mut Registers) {
        let mut args = [null_mut(); MAX_PARAMS];
        for (arg, &ptr) in args.iter_mut().zip(&call.args) {
            *arg = bases.at(ptr);
        }
        let args = &mut args[..call.args.len()];
        // SAFETY: plan::verify has proven the kernel's footprint at every grid point inside the spaces.
        unsafe { grid(&self.programs[call.kernel], args, &call.grid, registers) }
    }
}

/// Runs a kernel at every point of a grid and leaves `args` as they were.
///
/// # Safety
/// As [`Program::run`], at every point.
unsafe fn grid(program: &Program, args: &mut [*mut u8], dims: &[GridDim], registers: &mut Registers) {
    let Some((dim, inner)) = dims.split_first() else {
        // SAFETY: the caller's.
        return unsafe { program.run(registers, args) };
    };
    for _ in 0..dim.extent {
        // SAFETY: the caller's.
        unsafe { grid(program, args, inner, registers) }
        for (arg, &by) in args.iter_mut().zip(&dim.advance) {
            *arg = arg.wrapping_offset(by as isize);
        }
    }
    for (arg, &by) in args.iter_mut().zip(&dim.advance) {
        *arg = arg.wrapping_offset(-(by as isize).wrapping_mul(dim.extent as isize));
    }
}

/// Where the spaces start for one image.
struct Bases<'a> {
    arena: *mut u8,
    plan: &'a Plan,
    /// Inputs, then outputs: the first image's.
    tensors: &'a [*mut u8],
    image: usize,
}

impl Bases<'_> {
    /// The address of a pointer of the plan. What is not written (verified) may come from a shared borrow.
    fn at(&self, ptr: Ptr) -> *mut u8 {
        let base = match ptr.space {
            Space::Arena => self.arena,
            Space::Carried => {
                self.arena.wrapping_add(self.plan.carried_offset() + self.image * self.plan.carried_bytes)
            }
            Space::Weights => self.plan.weights.as_ptr().cast_mut(),
            Space::Consts => self.plan.consts.as_ptr().cast_mut(),
            Space::Input(k) => self.tensors[k].wrapping_add(self.image * self.plan.inputs[k].image_bytes),
            Space::Output(k) => {
                let first = self.tensors[self.plan.inputs.len() + k];
                first.wrapping_add(self.image * self.plan.outputs[k].image_bytes)
            }
        };
        base.wrapping_add(ptr.offset)
    }
}

impl Model for Interpreter {
    fn input_count(&self) -> usize {
        self.plan.inputs.len()
    }

    fn input(&self, index: usize) -> TensorDesc<'_> {
        let io = &self.plan.inputs[index];
        TensorDesc { name: &io.name, dtype: io.dtype, shape: &io.shape }
    }

    fn output_count(&self) -> usize {
        self.plan.outputs.len()
    }

    fn output(&self, index: usize) -> TensorDesc<'_> {
        let io = &self.plan.outputs[index];
        TensorDesc { name: &io.name, dtype: io.dtype, shape: &io.shape }
    }

    fn arena_bytes(&self) -> usize {
        self.plan.arena_bytes
    }

    fn run(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> std::result::Result<(), RunError> {
        check_run(self, inputs, outputs, arena)?;
        let count = inputs.len() + outputs.len();
        let mut few = [null_mut(); FEW];
        let mut many = Vec::new();
        let tensors: &mut [*mut u8] = match few.get_mut(..count) {
            Some(few) => few,
            None => {
                many.resize(count, null_mut());
                &mut many
            }
        };
        for (base, x) in tensors.iter_mut().zip(inputs) {
            *base = match x {
                TensorRef::F32(x) => x.as_ptr().cast_mut().cast(),
                TensorRef::U8(x) => x.as_ptr().cast_mut(),
            };
        }
        for (base, y) in tensors[inputs.len()..].iter_mut().zip(outputs) {
            *base = match y {
                TensorMut::F32(y) => y.as_mut_ptr().cast(),
                TensorMut::U8(y) => y.as_mut_ptr(),
            };
        }
        let mut registers = Registers::default();
        let (head, tail) = self.plan.steps.split_at(self.plan.head);
        let mut bases = |image| Bases { arena: arena.as_mut_ptr(), plan: &self.plan, tensors, image };
        for image in 0..self.plan.batch {
            // SAFETY: `check_run` has matched tensors and arena with the plan, whose verifier has matched image bytes and
            // batch with the tensors' sizes.
            unsafe { self.steps(head, &bases(image), &mut registers) }
        }
        // SAFETY: likewise; from the first image on, all lie behind each other.
        unsafe { self.steps(tail, &bases(0), &mut registers) }
        Ok(())
    }
}
