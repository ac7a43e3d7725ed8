//! The trait through which every engine runs a network, and what describes its inputs and outputs.

/// Element type of a tensor that crosses the border of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// Unsigned byte.
    U8,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::U8 => 1,
        }
    }
}

impl core::fmt::Display for Dtype {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Dtype::F32 => "f32",
            Dtype::U8 => "u8",
        })
    }
}

/// Element type and number of elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Element type.
    pub dtype: Dtype,
    /// Number of elements.
    pub len: usize,
}

impl core::fmt::Display for Extent {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} x {}", self.len, self.dtype)
    }
}

/// Name, element type and shape of an input or output. Elements are dense, row-major in `shape`: the ONNX model's shape, or
/// N, H, W, C where the model was made to take inputs so. Bytes of an input are pixels: red, green, blue, or grey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDesc<'a> {
    /// The name in the ONNX model.
    pub name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Extents, outermost first.
    pub shape: &'a [usize],
}

impl TensorDesc<'_> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True if the tensor has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What a tensor must have to be this one.
    pub fn extent(&self) -> Extent {
        Extent { dtype: self.dtype, len: self.len() }
    }
}

/// A borrowed input.
#[derive(Clone, Copy, Debug)]
pub enum TensorRef<'a> {
    /// Single precision elements.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
}

/// A borrowed output.
#[derive(Debug)]
pub enum TensorMut<'a> {
    /// Single precision elements.
    F32(&'a mut [f32]),
    /// Bytes.
    U8(&'a mut [u8]),
}

impl TensorRef<'_> {
    /// Element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            TensorRef::F32(_) => Dtype::F32,
            TensorRef::U8(_) => Dtype::U8,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            TensorRef::F32(x) => x.len(),
            TensorRef::U8(x) => x.len(),
        }
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *const u8 {
        match self {
            TensorRef::F32(x) => x.as_ptr().cast(),
            TensorRef::U8(x) => x.as_ptr(),
        }
    }

    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type and number of elements.
    pub fn extent(&self) -> Extent {
        Extent { dtype: self.dtype(), len: self.len() }
    }
}

impl TensorMut<'_> {
    /// Element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            TensorMut::F32(_) => Dtype::F32,
            TensorMut::U8(_) => Dtype::U8,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            TensorMut::F32(x) => x.len(),
            TensorMut::U8(x) => x.len(),
        }
    }

    /// The first byte.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        match self {
            TensorMut::F32(x) => x.as_mut_ptr().cast(),
            TensorMut::U8(x) => x.as_mut_ptr(),
        }
    }

    /// True if there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type and number of elements.
    pub fn extent(&self) -> Extent {
        Extent { dtype: self.dtype(), len: self.len() }
    }
}

/// Why a run was refused. Nothing was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunError {
    /// The number of inputs differs from the model's.
    InputCount {
        /// What the model has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// The number of outputs differs from the model's.
    OutputCount {
        /// What the model has.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// An input has another element type or number of elements.
    Input {
        /// Which one.
        index: usize,
        /// What the model wants.
        expected: Extent,
        /// What was given.
        found: Extent,
    },
    /// An output has another element type or number of elements.
    Output {
        /// Which one.
        index: usize,
        /// What the model gives.
        expected: Extent,
        /// What the buffer holds.
        found: Extent,
    },
    /// The arena is smaller than [`Model::arena_bytes`].
    Arena {
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// The arena does not start at a multiple of 64 bytes.
    ArenaAlignment,
    /// The pool has fewer threads than [`Model::threads`].
    Pool {
        /// Threads needed.
        expected: usize,
        /// Threads of the pool.
        found: usize,
    },
}

impl core::fmt::Display for RunError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            RunError::InputCount { expected, found } => {
                write!(f, "run: the model has {expected} inputs, {found} were given")
            }
            RunError::OutputCount { expected, found } => {
                write!(f, "run: the model has {expected} outputs, {found} were given")
            }
            RunError::Input { index, expected, found } => {
                write!(f, "run: input {index} takes {expected}, {found} was given (see input())")
            }
            RunError::Output { index, expected, found } => {
                write!(f, "run: output {index} gives {expected}, {found} was given (see output())")
            }
            RunError::Arena { expected, found } => {
                write!(f, "run: the arena needs {expected} bytes, {found} were given (see arena_bytes())")
            }
            RunError::ArenaAlignment => write!(f, "run: the arena must start at a multiple of 64 bytes"),
            RunError::Pool { expected, found } => {
                write!(f, "run: the model runs on {expected} threads, the pool has {found} (see threads())")
            }
        }
    }
}

impl core::error::Error for RunError {}

/// `N` bytes from a multiple of 64: what a model with `ARENA_BYTES = N` runs in. In a `static` it takes neither heap nor stack.
///
/// ```
/// use std::sync::Mutex;
/// static ARENA: Mutex<qgraph_runtime::Arena<4096>> = Mutex::new(qgraph_runtime::Arena::new());
/// assert_eq!(ARENA.lock().unwrap().bytes().len(), 4096);
/// ```
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Arena<const N: usize>([u8; N]);

impl<const N: usize> Arena<N> {
    /// Zeros.
    #[must_use]
    pub const fn new() -> Self {
        Arena([0; N])
    }

    /// The memory.
    pub const fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Arena::new()
    }
}

/// A network ready to run. Engines differ in speed, never in the bits of an integer result.
pub trait Model {
    /// Number of inputs.
    fn input_count(&self) -> usize;
    /// Describes input `index` (< `input_count()`).
    fn input(&self, index: usize) -> TensorDesc<'_>;
    /// Number of outputs.
    fn output_count(&self) -> usize;
    /// Describes output `index` (< `output_count()`).
    fn output(&self, index: usize) -> TensorDesc<'_>;
    /// Bytes of scratch memory that a run needs, 64-byte aligned.
    fn arena_bytes(&self) -> usize;
    /// Runs once. Allocates nothing; the arena's content before and after is of no meaning.
    fn run(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> Result<(), RunError>;
    /// Threads that [`Model::run_on`] uses.
    fn threads(&self) -> usize {
        1
    }
    /// Runs once on the first [`Model::threads`] threads of a pool, with the same bits as [`Model::run`]. Allocates nothing.
    #[cfg(feature = "std")]
    fn run_on(
        &self,
        pool: &mut crate::Pool,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> Result<(), RunError> {
        let _ = pool;
        self.run(inputs, outputs, arena)
    }
}

/// The checks every engine makes before it runs; after them all sizes and types are as described.
pub fn check_run<M: Model + ?Sized>(
    model: &M,
    inputs: &[TensorRef<'_>],
    outputs: &[TensorMut<'_>],
    arena: &[u8],
) -> Result<(), RunError> {
    check_inputs(model.input_count(), |k| model.input(k), inputs)?;
    if outputs.len() != model.output_count() {
        return Err(RunError::OutputCount { expected: model.output_count(), found: outputs.len() });
    }
    for (index, x) in outputs.iter().enumerate() {
        let d = model.output(index);
        if x.extent() != d.extent() {
            return Err(RunError::Output { index, expected: d.extent(), found: x.extent() });
        }
    }
    if arena.len() < model.arena_bytes() {
        return Err(RunError::Arena { expected: model.arena_bytes(), found: arena.len() });
    }
    if !(arena.as_ptr() as usize).is_multiple_of(64) {
        return Err(RunError::ArenaAlignment);
    }
    Ok(())
}

/// The part of [`check_run`] that is about inputs, for a model that takes `count` of them.
pub fn check_inputs<'a>(
    count: usize,
    describe: impl Fn(usize) -> TensorDesc<'a>,
    inputs: &[TensorRef<'_>],
) -> Result<(), RunError> {
    if inputs.len() != count {
        return Err(RunError::InputCount { expected: count, found: inputs.len() });
    }
    for (index, x) in inputs.iter().enumerate() {
        let (expected, found) = (describe(index).extent(), x.extent());
        if found != expected {
            return Err(RunError::Input { index, expected, found });
        }
    }
    Ok(())
}

/// The check every engine makes before it runs on a pool, besides [`check_run`].
#[cfg(feature = "std")]
pub fn check_pool<M: Model + ?Sized>(model: &M, pool: &crate::Pool) -> Result<(), RunError> {
    let (expected, found) = (model.threads(), pool.threads());
    if found < expected { Err(RunError::Pool { expected, found }) } else { Ok(()) }
}
