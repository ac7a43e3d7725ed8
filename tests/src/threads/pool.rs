//! The pool on its own: thousands of tiny jobs, more threads than cores, jobs that panic.

use qgraph_runtime::Pool;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn pool(threads: usize) -> Pool {
    Pool::new(threads).expect("the system gives threads")
}

#[test]
fn every_thread_of_a_job_works_once() {
    let mut pool = pool(8);
    assert_eq!(pool.threads(), 8);
    for round in 0..4000 {
        let count = 1 + round % 8;
        let seen: [AtomicUsize; 8] = Default::default();
        pool.run(count, &|worker| {
            assert_eq!(worker.count(), count);
            seen[worker.index()].fetch_add(1, Ordering::Relaxed);
        });
        let seen = seen.map(AtomicUsize::into_inner);
        assert!(seen[..count].iter().all(|&n| n == 1) && seen[count..].iter().all(|&n| n == 0), "{seen:?}");
    }
}

/// Before each barrier every thread writes its cell; after it, every thread reads all.
fn rounds(pool: &mut Pool, count: usize, rounds: usize) {
    let cells: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
    pool.run(count, &|worker| {
        for round in 1..=rounds {
            cells[worker.index()].store(round, Ordering::Relaxed);
            worker.wait();
            assert!(cells.iter().all(|c| c.load(Ordering::Relaxed) == round));
            worker.wait();
        }
    });
}

#[test]
fn barriers_hold_all_threads() {
    let mut two = pool(2);
    (0..200).for_each(|_| rounds(&mut two, 2, 50));
    // More threads than any test machine has cores: they must sleep for each other.
    let mut many = pool(64);
    for count in [1, 3, 64] {
        rounds(&mut many, count, 20);
    }
}

#[test]
fn a_thread_that_comes_late_is_waited_for() {
    let mut pool = pool(3);
    for late in 0..3 {
        let done = AtomicUsize::new(0);
        pool.run(3, &|worker| {
            if worker.index() == late {
                std::thread::sleep(Duration::from_millis(20));
            }
            worker.wait();
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 3);
    }
    // All sleep by now, and wake.
    std::thread::sleep(Duration::from_millis(20));
    rounds(&mut pool, 3, 10);
}

#[test]
fn a_panic_comes_back_and_the_pool_lives_on() {
    let mut pool = pool(4);
    for round in 0..100 {
        let (guilty, barriers) = (round % 4, round % 3);
        let job = || {
            pool.run(4, &|worker| {
                for _ in 0..barriers {
                    worker.wait();
                }
                if worker.index() == guilty {
                    panic!("thread {guilty} in round {round}");
                }
                // Would wait for ever, were the others not told.
                worker.wait();
                unreachable!("a barrier that one thread never reached");
            });
        };
        let said = catch_unwind(AssertUnwindSafe(job)).expect_err("the panic comes back");
        let said = said.downcast_ref::<String>().expect("a message");
        assert_eq!(*said, format!("thread {guilty} in round {round}"));
        rounds(&mut pool, 4, 3);
    }
}

#[test]
fn more_threads_than_the_pool_has_are_refused() {
    let mut pool = pool(2);
    for count in [0, 3] {
        assert!(catch_unwind(AssertUnwindSafe(|| pool.run(count, &|_| ()))).is_err());
    }
    rounds(&mut pool, 2, 1);
    assert_eq!(self::pool(0).threads(), 1);
}
