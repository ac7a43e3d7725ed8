//! Threads that wait for work: started once by the caller, used for many short runs.
//!
//! [`Pool::run`] gives one job to several threads at once, the caller among them, and returns when all have done it. Threads spin for a
//! moment when they have nothing to do, then sleep. Running a job allocates nothing.
//!
//! Not here: who does what (a job asks [`Worker::index`]); there is no queue and no stealing.

use std::any::Any;
use std::cell::UnsafeCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

/// How long a thread spins before it sleeps: several times what waking up takes, so that a short wait never costs it.
const SPIN: Duration = Duration::from_micros(50);
/// The same where there are fewer cores than threads: whom it waits for may wait for its core.
const SPIN_ON_SHARED_CORES: Duration = Duration::from_micros(2);
/// Looks at a word between two looks at the clock.
const LOOKS: u32 = 16;

/// A value with cache lines of its own (two: processors fetch them in pairs).
#[repr(align(128))]
struct Padded<T>(T);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it holds a lock, and all that is locked is one whole value.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A word that one thread sets and others wait for.
struct Signal {
    word: Padded<AtomicU64>,
    /// Threads that have stopped spinning.
    sleepers: AtomicUsize,
    mutex: Mutex<()>,
    woken: Condvar,
}

impl Signal {
    fn new() -> Signal {
        Signal {
            word: Padded(AtomicU64::new(0)),
            sleepers: AtomicUsize::new(0),
            mutex: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    fn get(&self) -> u64 {
        self.word.0.load(Ordering::Acquire)
    }

    /// Sets the word. What this thread wrote before is seen by those who see it.
    fn set(&self, value: u64) {
        // Here the word, then the sleepers; in `wait_while` the sleepers, then the word: one of the two sees the other.
        self.word.0.store(value, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            // Whoever counted himself in under the lock waits by the time it is free.
            drop(lock(&self.mutex));
            self.woken.notify_all();
        }
    }

    /// Waits until the word is no longer `old`, for so long awake; gives the new one.
    fn wait_while(&self, old: u64, spin: Duration) -> u64 {
        let look = |order| Some(self.word.0.load(order)).filter(|&now| now != old);
        let mut started = None;
        loop {
            for _ in 0..LOOKS {
                if let Some(now) = look(Ordering::Acquire) {
                    return now;
                }
                std::hint::spin_loop();
            }
            if started.get_or_insert_with(Instant::now).elapsed() >= spin {
                break;
            }
        }
        let mut guard = lock(&self.mutex);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let now = loop {
            match look(Ordering::SeqCst) {
                Some(now) => break now,
                None => guard = self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner),
            }
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        now
    }
}

/// Where threads wait for each other.
struct Barrier {
    arrived: Padded<AtomicUsize>,
    /// Times it was passed.
    passed: Signal,
}

/// [`Barrier::passed`] when a thread of the job has panicked and will never arrive.
const BROKEN: u64 = u64::MAX;

impl Barrier {
    fn new() -> Barrier {
        Barrier { arrived: Padded(AtomicUsize::new(0)), passed: Signal::new() }
    }

    /// Waits until `count` threads have come. False if one of them never will.
    fn wait(&self, count: usize, spin: Duration) -> bool {
        let passed = self.passed.get();
        if passed == BROKEN {
            return false;
        }
        if self.arrived.0.fetch_add(1, Ordering::AcqRel) + 1 < count {
            return self.passed.wait_while(passed, spin) != BROKEN;
        }
        // Nobody comes again before it is passed.
        self.arrived.0.store(0, Ordering::Relaxed);
        self.passed.set(passed + 1);
        true
    }
}

/// A job, its lifetime forgotten: [`Pool::run`] returns after its last use.
type Job = *const (dyn Fn(Worker<'_>) + Sync);

/// What the threads of a pool share.
struct Shared {
    /// Per thread, the number of the last job that it takes part in; [`STOP`] at the end. The caller's own is not used.
    start: Box<[Signal]>,
    /// The job and how many threads do it. Written by the caller while no job runs, read by those who were told to start.
    job: UnsafeCell<Option<(Job, usize)>>,
    /// For the job.
    inside: Barrier,
    /// All have done the job.
    end: Barrier,
    /// Threads that this process can run at once.
    cores: usize,
    /// What the first thread that panicked said.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: the job is a shared reference to something `Sync`; `Shared::job` says who writes and reads it when, and `Signal` orders both.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The number of a job that ends the thread.
const STOP: u64 = u64::MAX;

impl Shared {
    fn spin(&self, count: usize) -> Duration {
        if count <= self.cores { SPIN } else { SPIN_ON_SHARED_CORES }
    }

    /// Does this thread's part of a job, and waits for the others.
    fn work(&self, index: usize, job: &(dyn Fn(Worker<'_>) + Sync), count: usize) {
        let worker = Worker { index, count, shared: self };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| job(worker))) {
            lock(&self.panic).get_or_insert(panic);
            self.inside.passed.set(BROKEN);
        }
        self.end.wait(count, self.spin(count));
    }

    /// The life of a thread other than the caller.
    fn serve(&self, index: usize) {
        let mut last = 0;
        loop {
            last = self.start[index].wait_while(last, self.spin(index + 1));
            if last == STOP {
                return;
            }
            // SAFETY: the caller has written the job before it told this thread to start, and writes the next one after this
            // thread has passed the end.
            if let Some((job, count)) = unsafe { *self.job.get() } {
                // SAFETY: `Pool::run` borrows the job until all threads have passed the end.
                self.work(index, unsafe { &*job }, count);
            }
        }
    }
}

/// A thread's view of the job it takes part in.
#[derive(Clone, Copy)]
pub struct Worker<'a> {
    index: usize,
    count: usize,
    shared: &'a Shared,
}

impl Worker<'_> {
    /// Which thread this is, below [`Worker::count`]; 0 is the one that called [`Pool::run`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many threads do this job.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A barrier: returns when every thread of the job has called it equally often. What the others wrote before is visible then.
    ///
    /// # Panics
    /// If another thread of the job has panicked: it will never come.
    pub fn wait(&self) {
        if self.count > 1 && !self.shared.inside.wait(self.count, self.shared.spin(self.count)) {
            panic!("another thread of this job has panicked");
        }
    }
}

/// Threads that wait for work. See the module.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// let mut pool = qgraph_runtime::Pool::new(3)?;
/// let sum = AtomicUsize::new(0);
/// pool.run(3, &|worker| drop(sum.fetch_add(worker.index(), Ordering::Relaxed)));
/// assert_eq!(sum.into_inner(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Pool {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
    /// Jobs so far.
    jobs: u64,
}

impl Pool {
    /// A pool of `threads` (at least 1), of which the caller of [`Pool::run`] is one. An error if the system gives no more threads.
    pub fn new(threads: usize) -> io::Result<Pool> {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            start: (0..threads).map(|_| Signal::new()).collect(),
            job: UnsafeCell::new(None),
            inside: Barrier::new(),
            end: Barrier::new(),
            cores: available_parallelism().map_or(1, usize::from),
            panic: Mutex::new(None),
        });
        // Dropped on an error: the threads that exist are told to stop.
        let mut pool = Pool { shared, handles: Vec::with_capacity(threads - 1), jobs: 0 };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let thread = Builder::new().name(format!("qgraph-{index}"));
            pool.handles.push(thread.spawn(move || shared.serve(index))?);
        }
        Ok(pool)
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.handles.len() + 1
    }

    /// Runs `job` on the first `count` threads at once and returns when all have done it. The calling thread is worker 0.
    ///
    /// # Panics
    /// If `count` is 0 or above [`Pool::threads`]. If a thread panics while it does the job, with what the first one said; the pool stays usable.
    pub fn run(&mut self, count: usize, job: &(dyn Fn(Worker<'_>) + Sync)) {
        assert!((1..=self.threads()).contains(&count), "{count} of {} threads", self.threads());
        let shared = &*self.shared;
        if count == 1 {
            return job(Worker { index: 0, count, shared });
        }
        self.jobs += 1;
        // SAFETY: only the lifetime changes; the reference lives until this function returns, and no thread uses it longer.
        let erased = unsafe { std::mem::transmute::<&(dyn Fn(Worker<'_>) + Sync), Job>(job) };
        // SAFETY: no job runs: all threads of the last one have passed its end.
        unsafe { *shared.job.get() = Some((erased, count)) };
        shared.start[1..count].iter().for_each(|s| s.set(self.jobs));
        shared.work(0, job, count);
        if let Some(panic) = lock(&shared.panic).take() {
            shared.inside.arrived.0.store(0, Ordering::Relaxed);
            shared.inside.passed.set(0);
            resume_unwind(panic);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.start.iter().for_each(|s| s.set(STOP));
        for handle in self.handles.drain(..) {
            // It cannot have panicked: jobs are caught.
            let _ = handle.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.threads())
    }
}
