//! A network for batches on several threads.
//!
//! Every thread runs as many whole images as all can have, on a piece of the arena of its own, without meeting the others. All threads
//! together then run the images that are left, sharing each (`plan::split`).

use super::{DynModel, Engine, compile};
use crate::error::{Error, Result, Stage};
use crate::few::with_list;
use crate::lower::{self, Options};
use crate::plan::{Io, Plan};
use crate::qgraph::QGraph;
use crate::target::Target;
use qgraph_runtime::model::{check_pool, check_run};
use qgraph_runtime::{Dtype, Model, Pool, RunError, TensorDesc, TensorMut, TensorRef};
use std::ops::Range;
use std::ptr::null_mut;
use std::slice::{from_raw_parts, from_raw_parts_mut};
use std::sync::Arc;

/// Some images of a batch and what runs them.
struct Part {
    images: usize,
    plan: Arc<Plan>,
    model: Box<DynModel>,
}

/// A network and how its batch is shared. See the module.
pub struct Parallel {
    threads: usize,
    /// What each thread runs on its own.
    own: Option<Part>,
    /// What all threads run together.
    common: Option<Part>,
    inputs: Vec<Io>,
    outputs: Vec<Io>,
}

impl Parallel {
    /// Schedules and compiles a network for `options.batch` images a run on `threads` threads.
    pub fn new(
        graph: &QGraph,
        engine: Engine,
        target: &Target,
        options: &Options,
        threads: usize,
    ) -> Result<Parallel> {
        if options.batch == 0 || threads == 0 {
            return Err(Error::new(Stage::Schedule, "", "a run must have at least one image and one thread"));
        }
        let part = |images: usize, threads: usize| -> Result<Part> {
            let options = Options { batch: images, ..options.clone() };
            let plan = Arc::new(lower::schedule(graph, target, &options)?);
            Ok(Part { images, model: compile(Arc::clone(&plan), engine, threads)?, plan })
        };
        let (own, common) = (options.batch / threads, options.batch % threads);
        let own = (own > 0).then(|| part(own, 1)).transpose()?;
        let common = (common > 0).then(|| part(common, threads)).transpose()?;
        let mut parallel = Parallel { threads, own, common, inputs: Vec::new(), outputs: Vec::new() };
        let plan = Arc::clone(parallel.plan());
        let whole = |io: &Io| {
            let mut io = io.clone();
            io.shape.iter_mut().take(1).for_each(|n| *n = *n / plan.batch * options.batch);
            io
        };
        parallel.inputs = plan.inputs.iter().map(whole).collect();
        parallel.outputs = plan.outputs.iter().map(whole).collect();
        Ok(parallel)
    }

    /// The plan that a thread runs on its own or, if it runs none, that all run together.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.own.as_ref().or(self.common.as_ref()).expect("a batch is not empty").plan
    }

    /// Gives `f` the memory of a run that has been checked.
    fn share<R>(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
        f: impl FnOnce(&Memory<'_>) -> R,
    ) -> R {
        let len = inputs.len() + outputs.len();
        let tensor = |k: usize| match inputs.get(k) {
            Some(x) => Tensor::new(&self.inputs[k], x.as_ptr().cast_mut()),
            None => {
                let k = k - inputs.len();
                Tensor::new(&self.outputs[k], outputs[k].as_mut_ptr())
            }
        };
        let none = || Tensor { dtype: Dtype::U8, start: null_mut(), len: 0 };
        let arena = arena.as_mut_ptr();
        with_list(len, none, tensor, |tensors| f(&Memory { tensors, inputs: inputs.len(), arena }))
    }

    /// Runs the share that one thread has on its own, if there is one.
    ///
    /// # Safety
    /// The memory is that of a checked run, and no other thread runs this share of it.
    unsafe fn run_own(&self, share: usize, memory: &Memory<'_>) {
        let Some(Part { images, model, .. }) = &self.own else { return };
        let bytes = model.arena_bytes();
        // SAFETY: the arena of a checked run has a piece of this size for every share.
        let arena = unsafe { from_raw_parts_mut(memory.arena.add(share * bytes), bytes) };
        let run = |inputs: &[TensorRef<'_>], outputs: &mut [TensorMut<'_>]| model.run(inputs, outputs, arena);
        // SAFETY: the caller's.
        let done = unsafe { memory.with(share * images..(share + 1) * images, run) };
        done.expect("a share of a checked run is as its model wants it");
    }

    /// Runs what all threads have together, if there is something.
    ///
    /// # Safety
    /// The memory is that of a checked run, and nobody else uses it.
    unsafe fn run_common(
        &self,
        memory: &Memory<'_>,
        run: impl FnOnce(
            &DynModel,
            &[TensorRef<'_>],
            &mut [TensorMut<'_>],
            &mut [u8],
        ) -> std::result::Result<(), RunError>,
    ) -> std::result::Result<(), RunError> {
        let Some(Part { images, model, .. }) = &self.common else { return Ok(()) };
        let first = self.own.as_ref().map_or(0, |own| own.images * self.threads);
        // SAFETY: the arena of a checked run is large enough.
        let arena = unsafe { from_raw_parts_mut(memory.arena, model.arena_bytes()) };
        // SAFETY: the caller's.
        unsafe { memory.with(first..first + images, |x, y| run(&**model, x, y, arena)) }
    }
}

impl Model for Parallel {
    fn input_count(&self) -> usize {
        self.inputs.len()
    }

    fn input(&self, index: usize) -> TensorDesc<'_> {
        self.inputs[index].desc()
    }

    fn output_count(&self) -> usize {
        self.outputs.len()
    }

    fn output(&self, index: usize) -> TensorDesc<'_> {
        self.outputs[index].desc()
    }

    fn arena_bytes(&self) -> usize {
        let bytes = |part: &Option<Part>| part.as_ref().map_or(0, |p| p.model.arena_bytes());
        bytes(&self.common).max(self.threads * bytes(&self.own))
    }

    fn run(
        &self,
        inputs: &[TensorRef<'_>],
        outputs: &mut [TensorMut<'_>],
        arena: &mut [u8],
    ) -> std::result::Result<(), RunError> {
        check_run(self, inputs, outputs, arena)?;
        self.share(inputs, outputs, arena, |memory| {
            for share in 0..self.threads {
                // SAFETY: checked; one share after the other.
                unsafe { self.run_own(share, memory) }
            }
            // SAFETY: checked; all other work is done.
            unsafe { self.run_common(memory, |model, x, y, arena| model.run(x, y, arena)) }
        })
    }

    fn threads(&self) -> usize {
        self.threads
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
        self.share(inputs, outputs, arena, |memory| {
            if self.own.is_some() {
                // SAFETY: checked; every thread has a share of its own.
                pool.run(self.threads, &|worker| unsafe { self.run_own(worker.index(), memory) });
            }
            // SAFETY: checked; all other work is done.
            unsafe { self.run_common(memory, |model, x, y, arena| model.run_on(pool, x, y, arena)) }
        })
    }
}

/// A tensor of a batch.
#[derive(Clone, Copy)]
struct Tensor {
    dtype: Dtype,
    start: *mut u8,
    /// Elements of an image.
    len: usize,
}

impl Tensor {
    fn new(io: &Io, start: *mut u8) -> Tensor {
        Tensor { dtype: io.dtype, start, len: io.image_bytes / io.dtype.size() }
    }

    /// Address and number of elements of some images.
    fn images(&self, images: &Range<usize>) -> (*mut u8, usize) {
        let first = images.start * self.len * self.dtype.size();
        (self.start.wrapping_add(first), images.len() * self.len)
    }
}

/// The memory of a run, to be shared among threads by images.
struct Memory<'a> {
    /// Inputs, then outputs.
    tensors: &'a [Tensor],
    inputs: usize,
    arena: *mut u8,
}

// SAFETY: addresses only; who uses them keeps threads apart.
unsafe impl Sync for Memory<'_> {}

impl Memory<'_> {
    /// Gives `f` the tensors of some images.
    ///
    /// # Safety
    /// The run whose memory this is has been checked, has these images and is not over; nobody else uses their outputs meanwhile.
    unsafe fn with<R>(
        &self,
        images: Range<usize>,
        f: impl FnOnce(&[TensorRef<'_>], &mut [TensorMut<'_>]) -> R,
    ) -> R {
        let (inputs, outputs) = self.tensors.split_at(self.inputs);
        let input = |k: usize| {
            let (start, len) = inputs[k].images(&images);
            // SAFETY: the caller's.
            unsafe {
                match inputs[k].dtype {
                    Dtype::F32 => TensorRef::F32(from_raw_parts(start.cast(), len)),
                    Dtype::U8 => TensorRef::U8(from_raw_parts(start, len)),
                }
            }
        };
        let output = |k: usize| {
            let (start, len) = outputs[k].images(&images);
            // SAFETY: the caller's.
            unsafe {
                match outputs[k].dtype {
                    Dtype::F32 => TensorMut::F32(from_raw_parts_mut(start.cast(), len)),
                    Dtype::U8 => TensorMut::U8(from_raw_parts_mut(start, len)),
                }
            }
        };
        let no_input = || TensorRef::U8(&[]);
        let no_output = || TensorMut::U8(&mut []);
        with_list(inputs.len(), no_input, input, |inputs| {
            with_list(outputs.len(), no_output, output, |outputs| f(inputs, outputs))
        })
    }
}
