//! What generated code gets at run time: one struct of addresses.
//!
//! Code holds no address of its own: everything comes from here, by constant offsets. So the same plan gives the
//! same bytes in every process, and a listing needs no symbols of ours.
//!
//! Not here: the code that reads it (`steps`), who fills it in (`Jit::run`).

use crate::plan::{Plan, Ptr, Space, Work};
use qgraph_runtime::pool::Worker;
use qgraph_runtime::{TensorMut, TensorRef};
use std::mem::offset_of;
use std::sync::atomic::AtomicU64;

/// Most inputs, and most outputs, of a model: their addresses stand in a fixed array, so that a run allocates nothing.
pub(super) const MAX_IO: usize = 16;
/// Most pointers of a runtime function.
pub(super) const MAX_ARGS: usize = 8;

/// Round to nearest even, all exceptions masked, denormals as they are.
const MXCSR: u32 = 0x1f80;

/// One thread's part of a run. Lives on that thread's stack; generated code writes `mxcsr`, and moves `carried`, `inputs` and `outputs` from
/// image to image.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Context {
    arena: *mut u8,
    carried: *mut u8,
    weights: *const u8,
    consts: *const u8,
    call: CallFunction,
    wait: Wait,
    /// This thread, if there are several.
    worker: *const (),
    plan: *const Plan,
    cycles: *const AtomicU64,
    own_mxcsr: u32,
    mxcsr: u32,
    inputs: [*mut u8; MAX_IO],
    outputs: [*mut u8; MAX_IO],
}

// SAFETY: addresses of memory that the threads of a run share; who touches what when is the split's business.
unsafe impl Sync for Context {}

#[cfg(target_arch = "x86_64")]
type CallFunction = unsafe extern "sysv64" fn(*const Context, usize);
#[cfg(not(target_arch = "x86_64"))]
type CallFunction = unsafe extern "C" fn(*const Context, usize);
#[cfg(target_arch = "x86_64")]
type Wait = unsafe extern "sysv64" fn(*const Context);
#[cfg(not(target_arch = "x86_64"))]
type Wait = unsafe extern "C" fn(*const Context);

/// Offset of the caller's MXCSR.
pub(super) const CALLER_MXCSR: i64 = offset_of!(Context, mxcsr) as i64;
/// Offset of [`MXCSR`].
pub(super) const OWN_MXCSR: i64 = offset_of!(Context, own_mxcsr) as i64;
/// Offset of the address of [`call_function`], to be called with the context and a step.
pub(super) const CALL: i64 = offset_of!(Context, call) as i64;
/// Offset of the address of [`wait`], to be called with the context.
pub(super) const WAIT: i64 = offset_of!(Context, wait) as i64;
/// Offset of the address of the steps' counts of cycles.
pub(super) const CYCLES: i64 = offset_of!(Context, cycles) as i64;

/// Offset of a space's address. Inputs and outputs are below [`MAX_IO`].
pub(super) fn base(space: Space) -> i64 {
    (match space {
        Space::Arena => offset_of!(Context, arena),
        Space::Carried => offset_of!(Context, carried),
        Space::Weights => offset_of!(Context, weights),
        Space::Consts => offset_of!(Context, consts),
        Space::Input(k) => offset_of!(Context, inputs) + 8 * k,
        Space::Output(k) => offset_of!(Context, outputs) + 8 * k,
    }) as i64
}

/// Names of the fields, for listings.
pub(super) fn field(offset: u64) -> Option<String> {
    let offset = i64::try_from(offset).ok()?;
    let fixed = [
        (base(Space::Arena), "arena"),
        (base(Space::Carried), "carried"),
        (base(Space::Weights), "weights"),
        (base(Space::Consts), "consts"),
        (CALL, "call"),
        (WAIT, "wait"),
        (CYCLES, "cycles"),
        (CALLER_MXCSR, "caller_mxcsr"),
        (OWN_MXCSR, "own_mxcsr"),
    ];
    if let Some((_, name)) = fixed.iter().find(|f| f.0 == offset) {
        return Some(name.to_string());
    }
    let k = |first: i64| ((offset - first) / 8, (first..first + 8 * MAX_IO as i64).contains(&offset));
    match (k(base(Space::Input(0))), k(base(Space::Output(0)))) {
        ((k, true), _) => Some(format!("input{k}")),
        (_, (k, true)) => Some(format!("output{k}")),
        _ => None,
    }
}

impl Context {
    /// For one run of `plan` on tensors that [`qgraph_runtime::model::check_run`] accepted for it. `cycles` has
    /// as many elements as the plan has steps, or the code does not count.
    pub(super) fn new(
        plan: &Plan,
        cycles: &[AtomicU64],
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> Self {
        let mut c = Context {
            arena: arena.as_mut_ptr(),
            carried: arena.as_mut_ptr().wrapping_add(plan.carried_offset()),
            weights: plan.weights.as_ptr(),
            consts: plan.consts.as_ptr(),
            call: call_function,
            wait,
            worker: std::ptr::null(),
            plan,
            cycles: cycles.as_ptr(),
            own_mxcsr: MXCSR,
            mxcsr: MXCSR,
            inputs: [std::ptr::null_mut(); MAX_IO],
            outputs: [std::ptr::null_mut(); MAX_IO],
        };
        for (slot, x) in c.inputs.iter_mut().zip(inputs) {
            // Only read: the plan's verifier refuses writes to inputs.
            *slot = x.as_ptr().cast_mut();
        }
        for (slot, x) in c.outputs.iter_mut().zip(outputs) {
            *slot = x.as_mut_ptr();
        }
        c
    }

    /// The same for one of several threads, which outlives it.
    pub(super) fn of(&self, worker: &Worker<'_>) -> Context {
        Context { worker: std::ptr::from_ref(worker).cast(), ..*self }
    }

    fn address(&self, ptr: Ptr) -> *mut u8 {
        let base = match ptr.space {
            Space::Arena => self.arena,
            Space::Carried => self.carried,
            Space::Weights => self.weights.cast_mut(),
            Space::Consts => self.consts.cast_mut(),
            Space::Input(k) => self.inputs[k],
            Space::Output(k) => self.outputs[k],
        };
        base.wrapping_add(ptr.offset)
    }
}

/// Generated code calls this for a step that is a runtime function.
///
/// # Safety
/// `context` is the running one, its plan verified, and `step` one of its steps.
#[cfg(target_arch = "x86_64")]
unsafe extern "sysv64" fn call_function(context: *const Context, step: usize) {
    // SAFETY: the caller's promise.
    unsafe { run_function(context, step) }
}

/// Never called: there is no generated code on this machine.
#[cfg(not(target_arch = "x86_64"))]
unsafe extern "C" fn call_function(context: *const Context, step: usize) {
    // SAFETY: the caller's promise.
    unsafe { run_function(context, step) }
}

unsafe fn run_function(context: *const Context, step: usize) {
    // SAFETY: the running context, whose plan the Jit holds.
    let (context, plan) = unsafe { (&*context, &*(*context).plan) };
    if let Work::Function(f) = &plan.steps[step].work {
        let mut args = [std::ptr::null_mut(); MAX_ARGS];
        for (slot, &ptr) in args.iter_mut().zip(&f.args) {
            *slot = context.address(ptr);
        }
        // SAFETY: the plan's verifier has proven each pointer's footprint inside its space.
        unsafe { f.function.run(&args[..f.args.len()]) }
    }
}

/// Generated code calls this where threads wait for each other. If another thread has panicked, the process ends: generated code cannot unwind.
///
/// # Safety
/// `context` is the running one, made by [`Context::of`].
#[cfg(target_arch = "x86_64")]
unsafe extern "sysv64" fn wait(context: *const Context) {
    // SAFETY: the caller's promise.
    unsafe { wait_for_others(context) }
}

/// Never called: there is no generated code on this machine.
#[cfg(not(target_arch = "x86_64"))]
unsafe extern "C" fn wait(context: *const Context) {
    // SAFETY: the caller's promise.
    unsafe { wait_for_others(context) }
}

unsafe fn wait_for_others(context: *const Context) {
    // SAFETY: the running context; its worker lives until the run ends.
    unsafe { (*(*context).worker.cast::<Worker<'_>>()).wait() }
}
