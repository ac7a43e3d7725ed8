//! The context of a run ([`Context`] of the runtime) as code addresses it, and as the JIT fills it in.
//!
//! Not here: the code that reads it (`steps`).

use crate::plan::{Plan, Ptr, Space, Work};
use qgraph_runtime::machine::{Context, MAX_IO};
use qgraph_runtime::{TensorMut, TensorRef};
use std::mem::offset_of;
use std::sync::atomic::AtomicU64;

/// Most pointers of a runtime function.
pub(super) const MAX_ARGS: usize = 8;

/// Offset of the caller's MXCSR.
pub(super) const CALLER_MXCSR: i64 = offset_of!(Context, mxcsr) as i64;
/// Offset of the contract's MXCSR.
pub(super) const OWN_MXCSR: i64 = offset_of!(Context, own_mxcsr) as i64;
/// Offset of the address of a function to be called with the context and a step.
pub(super) const CALL: i64 = offset_of!(Context, call) as i64;
/// Offset of the address of a function to be called with the context where threads wait.
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

/// For one run of `plan` on tensors that [`qgraph_runtime::model::check_run`] accepted for it. `cycles` has
/// as many elements as the plan has steps, or the code does not count.
pub(super) fn context(
    plan: &Plan,
    cycles: &[AtomicU64],
    inputs: &[TensorRef<'_>],
    outputs: &mut [TensorMut<'_>],
    arena: &mut [u8],
) -> Context {
    let arena = arena.as_mut_ptr();
    let context = Context::new(
        [arena, arena.wrapping_add(plan.carried_offset())],
        [plan.weights.as_ptr(), plan.consts.as_ptr()],
        inputs.iter().map(TensorRef::as_ptr),
        outputs.iter_mut().map(TensorMut::as_mut_ptr),
        call_function,
    );
    Context { owner: std::ptr::from_ref(plan).cast(), cycles: cycles.as_ptr().cast(), ..context }
}

fn address(context: &Context, ptr: Ptr) -> *mut u8 {
    let base = match ptr.space {
        Space::Arena => context.arena,
        Space::Carried => context.carried,
        Space::Weights => context.weights.cast_mut(),
        Space::Consts => context.consts.cast_mut(),
        // Only read: the plan's verifier refuses writes to inputs.
        Space::Input(k) => context.inputs[k].cast_mut(),
        Space::Output(k) => context.outputs[k],
    };
    base.wrapping_add(ptr.offset)
}

/// Generated code calls this for a step that is a runtime function.
///
/// # Safety
/// `context` is the running one, made by [`context`], its plan verified, and `step` one of its steps.
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
    // SAFETY: the running context, whose owner is the plan that the Jit holds.
    let (context, plan) = unsafe { (&*context, &*(*context).owner.cast::<Plan>()) };
    if let Work::Function(f) = &plan.steps[step].work {
        let mut args = [std::ptr::null_mut(); MAX_ARGS];
        for (slot, &ptr) in args.iter_mut().zip(&f.args) {
            *slot = address(context, ptr);
        }
        // SAFETY: the plan's verifier has proven each pointer's footprint inside its space.
        unsafe { f.function.run(&args[..f.args.len()]) }
    }
}
