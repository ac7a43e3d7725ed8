//! What machine code of a model is given when it runs: one struct of addresses.
//!
//! Code holds no address of its own: everything comes from here, by constant offsets. So the same plan gives the same bytes in every
//! process, and what the JIT puts into memory and what stands as assembly in a program are one stream of instructions.
//!
//! Not here: the code (the compiler's `jit` module), and the proof that its accesses are in bounds (the compiler's `plan` module).

#[cfg(feature = "std")]
use crate::pool::Worker;

/// Most inputs, and most outputs, of a model: their addresses stand in a fixed array, so that a run allocates nothing.
pub const MAX_IO: usize = 16;

/// Round to nearest even, all exceptions masked, denormals as they are.
const MXCSR: u32 = 0x1f80;

/// Runs a step that is a function of the runtime, by its number.
#[cfg(target_arch = "x86_64")]
pub type Call = unsafe extern "sysv64" fn(*const Context, usize);
/// Never called: there is no machine code for this processor.
#[cfg(not(target_arch = "x86_64"))]
pub type Call = unsafe extern "C" fn(*const Context, usize);

/// Waits for the other threads of a run.
#[cfg(target_arch = "x86_64")]
pub type Wait = unsafe extern "sysv64" fn(*const Context);
/// Never called: there is no machine code for this processor.
#[cfg(not(target_arch = "x86_64"))]
pub type Wait = unsafe extern "C" fn(*const Context);

/// One thread's part of a run. Lives on that thread's stack; machine code writes `mxcsr`, and moves `carried`, `inputs` and `outputs` from
/// image to image.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Context {
    /// Scratch memory of the run.
    pub arena: *mut u8,
    /// What each image of a batch keeps for the steps of the whole batch.
    pub carried: *mut u8,
    /// The model's weights.
    pub weights: *const u8,
    /// Tables that scheduling has made.
    pub consts: *const u8,
    /// Called for steps that are functions of the runtime.
    pub call: Call,
    /// Called where threads wait for each other; `None` if there is one thread.
    pub wait: Option<Wait>,
    /// This thread, if there are several.
    pub worker: *const (),
    /// What `call` wants to know.
    pub owner: *const (),
    /// One `AtomicU64` for each step, of code that counts cycles. (Not every processor has the type.)
    pub cycles: *const (),
    /// Control and status of floating point that the numeric contract asks for.
    pub own_mxcsr: u32,
    /// The caller's.
    pub mxcsr: u32,
    /// The inputs.
    pub inputs: [*const u8; MAX_IO],
    /// The outputs.
    pub outputs: [*mut u8; MAX_IO],
}

// SAFETY: addresses of memory that the threads of a run share; who touches what when is fixed in their code.
unsafe impl Sync for Context {}

impl Context {
    /// For a run on one thread. There are at most [`MAX_IO`] inputs, and outputs.
    pub fn new(
        [arena, carried]: [*mut u8; 2],
        [weights, consts]: [*const u8; 2],
        inputs: impl IntoIterator<Item = *const u8>,
        outputs: impl IntoIterator<Item = *mut u8>,
        call: Call,
    ) -> Self {
        let mut context = Context {
            arena,
            carried,
            weights,
            consts,
            call,
            wait: None,
            worker: core::ptr::null(),
            owner: core::ptr::null(),
            cycles: core::ptr::null(),
            own_mxcsr: MXCSR,
            mxcsr: MXCSR,
            inputs: [core::ptr::null(); MAX_IO],
            outputs: [core::ptr::null_mut(); MAX_IO],
        };
        context.inputs.iter_mut().zip(inputs).for_each(|(to, x)| *to = x);
        context.outputs.iter_mut().zip(outputs).for_each(|(to, x)| *to = x);
        context
    }

    /// The same for one of several threads, which outlives it.
    #[cfg(feature = "std")]
    pub fn of(&self, worker: &Worker<'_>) -> Context {
        Context { worker: core::ptr::from_ref(worker).cast(), wait: Some(wait), ..*self }
    }
}

/// Machine code calls this where threads wait for each other. If another thread has panicked, the process ends: machine code cannot unwind.
///
/// # Safety
/// `context` is the running one, made by [`Context::of`].
#[cfg(all(feature = "std", target_arch = "x86_64"))]
unsafe extern "sysv64" fn wait(context: *const Context) {
    // SAFETY: the running context; its worker lives until the run ends.
    unsafe { (*(*context).worker.cast::<Worker<'_>>()).wait() }
}

/// Never called: there is no machine code for this processor.
#[cfg(all(feature = "std", not(target_arch = "x86_64")))]
unsafe extern "C" fn wait(_: *const Context) {}
