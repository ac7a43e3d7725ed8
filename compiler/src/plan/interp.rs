//! Runs a plan with the kernel interpreter, on any machine, for any target.
//!
//! [`Interpreter::new`] verifies the plan; nothing is checked afterwards but the caller's tensors and arena.

use super::split::{Split, Task, Tasks};
use super::verify::verify;
use super::{Call, GridDim, Plan, Ptr, Space, Work};
use crate::error::{Error, Result, Stage};
use crate::few::with_list;
use crate::kernel::interp::{Program, Registers};
use crate::kernel::verify::MAX_PARAMS;
use qgraph_runtime::model::{check_pool, check_run};
use qgraph_runtime::{Model, Pool, RunError, TensorDesc, TensorMut, TensorRef};
use std::ptr::null_mut;
use std::sync::Arc;

/// A verified plan as a [`Model`].
#[derive(Clone, Debug)]
pub struct Interpreter {
    plan: Arc<Plan>,
    programs: Vec<Program>,
    whole: Split,
    split: Split,
}

impl Interpreter {
    /// Verifies and prepares a plan. Errors: everything [`verify`] finds.
    pub fn new(plan: Arc<Plan>) -> Result<Interpreter> {
        Interpreter::threaded(plan, 1)
    }

    /// The same, to run on `threads` threads where a pool is given.
    pub fn threaded(plan: Arc<Plan>, threads: usize) -> Result<Interpreter> {
        Error::all(Stage::Schedule, verify(&plan))?;
        let program = |k| Program::new(k).map_err(|e| Error::new(Stage::Schedule, &k.name, e));
        let programs = plan.kernels.iter().map(program).collect::<Result<_>>()?;
        let (whole, split) = (Split::whole(&plan), Split::new(&plan, threads));
        Ok(Interpreter { plan, programs, whole, split })
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Does a thread's tasks on every image, then those on all; `wait` is the barrier.
    ///
    /// # Safety
    /// `bases` are those of the verified plan's spaces, each with as many bytes as the plan says. All threads of the split do their tasks
    /// at the same time, and nobody else uses the memory.
    unsafe fn thread(&self, tasks: &Tasks, bases: &Bases<'_>, wait: impl Fn()) {
        let (head, tail) = tasks.parts();
        let mut registers = Registers::default();
        let mut run = |tasks: &[Task], bases: &Bases<'_>| {
            for task in tasks {
                match task {
                    Task::Barrier => wait(),
                    // SAFETY: the caller's.
                    Task::Work { work, .. } => unsafe { self.work(work, bases, &mut registers) },
                }
            }
        };
        for image in 0..self.plan.batch {
            run(head, &bases.of(image));
        }
        // From the first image on, all lie behind each other.
        run(tail, &bases.of(0));
    }

    /// # Safety
    /// `bases` are those of the verified plan's spaces, each with as many bytes as the plan says.
    unsafe fn work(&self, work: &Work, bases: &Bases<'_>, registers: &mut Registers) {
        match work {
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

    /// # Safety
    /// As [`Interpreter::work`].
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
#[derive(Clone, Copy)]
struct Bases<'a> {
    arena: *mut u8,
    plan: &'a Plan,
    /// Inputs, then outputs: the first image's.
    tensors: &'a [*mut u8],
    image: usize,
}

// SAFETY: addresses of memory that the threads of a run share; who touches what when is the split's business.
unsafe impl Sync for Bases<'_> {}

impl<'a> Bases<'a> {
    fn of(&self, image: usize) -> Bases<'a> {
        Bases { image, ..*self }
    }

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
        self.plan.inputs[index].desc()
    }

    fn output_count(&self) -> usize {
        self.plan.outputs.len()
    }

    fn output(&self, index: usize) -> TensorDesc<'_> {
        self.plan.outputs[index].desc()
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
        with_tensors(inputs, outputs, |tensors| {
            let bases = Bases { arena: arena.as_mut_ptr(), plan: &self.plan, tensors, image: 0 };
            // SAFETY: `check_run` has matched tensors and arena with the plan, whose verifier has matched image bytes and
            // batch with the tensors' sizes.
            unsafe { self.thread(&self.whole.threads[0], &bases, || ()) }
        });
        Ok(())
    }

    fn threads(&self) -> usize {
        self.split.threads.len()
    }

    fn run_on(
        &self,
        pool: &mut Pool,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> std::result::Result<(), RunError> {
        check_run(self, inputs, outputs, arena)?;
        check_pool(self, pool)?;
        with_tensors(inputs, outputs, |tensors| {
            let bases = Bases { arena: arena.as_mut_ptr(), plan: &self.plan, tensors, image: 0 };
            pool.run(self.threads(), &|worker| {
                // SAFETY: as in `run`; the split keeps threads apart between barriers.
                unsafe { self.thread(&self.split.threads[worker.index()], &bases, || worker.wait()) }
            });
        });
        Ok(())
    }
}

/// Gives `f` the addresses of all tensors, inputs first.
fn with_tensors<R>(
    inputs: &[TensorRef<'_>],
    outputs: &mut [TensorMut<'_>],
    f: impl FnOnce(&[*mut u8]) -> R,
) -> R {
    let len = inputs.len() + outputs.len();
    let address = |k: usize| match inputs.get(k) {
        Some(x) => x.as_ptr().cast_mut(),
        None => outputs[k - inputs.len()].as_mut_ptr(),
    };
    with_list(len, null_mut, address, |tensors| f(tensors))
}
