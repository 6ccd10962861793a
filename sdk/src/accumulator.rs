//! [`Accumulator`]: something that tasks add to and `main` reads.
//!
//! ```text
//!   task: add, add, ... ──► one part for each accumulator ──► update_write, at the task's end
//!   main: value ──► updates_read: the parts of the first accepted attempt of each partition
//! ```
//!
//! A part is the accumulator's number, the length of its encoding, and the encoding.

use crate::context::Context;
use crate::error::Error;
use crate::host;
use crate::record::{Malformed, Record};
use crate::task;
use core::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Something that tasks add to and `main` reads. Spark: `Accumulator`.
///
/// Of each partition that is computed, one attempt counts, exactly once, in map stages too; what is
/// computed again because it was lost does not count again. A stage that is skipped because its
/// shuffle is there adds nothing.
///
/// ```no_run
/// # use offshoot::prelude::*;
/// # let context = Context::new();
/// let odd = context.counter();
/// let in_tasks = odd.clone();
/// let halves = context.range(0..1000, 8).map(move |n| {
///     in_tasks.add(n % 2);
///     n / 2
/// });
/// println!("{} halves of {} odd numbers", halves.count()?, odd.value()?);
/// # Ok::<(), Error>(())
/// ```
pub struct Accumulator<T> {
    inner: Rc<Inner<T>>,
}

struct Inner<T> {
    number: u32,
    /// In `main` the total, in a task what it has added.
    total: RefCell<Option<T>>,
    /// Whether this task is going to report it.
    reported: Cell<bool>,
    /// In such a task, the total that `main` had: a host in the same process needs it again.
    before: RefCell<Option<T>>,
    merge: Box<dyn Fn(T, T) -> T>,
}

/// An accumulator with its type forgotten.
trait Part {
    fn number(&self) -> u32;
    /// Appends what the task has added, which is then as if it were not.
    fn take_encoded(&self, out: &mut Vec<u8>);
    /// Adds what a task has added.
    fn add_encoded(&self, input: &mut &[u8]) -> Result<(), Malformed>;
}

thread_local! {
    /// In `main`: all accumulators that are alive.
    static ALL: RefCell<Vec<Weak<dyn Part>>> = const { RefCell::new(Vec::new()) };
    static NEXT: Cell<u32> = const { Cell::new(0) };
    /// In a task: those that it has added to.
    static TOUCHED: RefCell<Vec<Rc<dyn Part>>> = const { RefCell::new(Vec::new()) };
}

/// Sends what this task has added.
fn report() {
    let mut parts = Vec::new();
    for part in TOUCHED.take() {
        let mut encoded = Vec::new();
        part.take_encoded(&mut encoded);
        part.number().encode(&mut parts);
        encoded.encode(&mut parts);
    }
    host::write_update(&parts);
}

/// Adds what tasks have reported since the last time.
fn receive() -> Result<(), Error> {
    host::read_updates(&mut |mut parts| {
        while !parts.is_empty() {
            let (number, encoded) = <(u32, Vec<u8>)>::decode(&mut parts)?;
            let alive = ALL.with_borrow(|all| {
                let mut alive = all.iter().filter_map(Weak::upgrade);
                alive.find(|part| part.number() == number)
            });
            // Nobody reads what was dropped.
            if let Some(part) = alive {
                part.add_encoded(&mut &encoded[..])?;
            }
        }
        Ok(())
    })
}

impl Context {
    /// An accumulator whose value begins with `zero`. `merge` brings two values together; it must
    /// be associative and commutative, because tasks report in any order. What one task adds to
    /// all accumulators may take 64 KiB. Spark: `accumulator`.
    pub fn accumulator<T: Record>(
        &self,
        zero: T,
        merge: impl Fn(T, T) -> T + 'static,
    ) -> Accumulator<T> {
        let inner = Rc::new(Inner {
            number: NEXT.replace(NEXT.get() + 1),
            total: RefCell::new(Some(zero)),
            reported: Cell::new(false),
            before: RefCell::new(None),
            merge: Box::new(merge),
        });
        let part: Rc<dyn Part> = inner.clone();
        ALL.with_borrow_mut(|all| {
            all.retain(|part| part.strong_count() > 0);
            all.push(Rc::downgrade(&part));
        });
        Accumulator { inner }
    }

    /// An accumulator of numbers, from 0. Spark: `longAccumulator`.
    pub fn counter(&self) -> Accumulator<u64> {
        self.accumulator(0, |left, right| left + right)
    }
}

// === impl Accumulator ===

impl<T: Record> Accumulator<T> {
    /// Adds to it, in a task or in `main`.
    pub fn add(&self, value: T) {
        if task::current().is_some() && !self.inner.reported.replace(true) {
            // The total of the snapshot is main's; the task begins with nothing.
            self.inner.before.replace(self.inner.total.take());
            TOUCHED.with_borrow_mut(|touched| touched.push(self.inner.clone()));
            task::at_end(report);
        }
        self.inner.merge_in(value);
    }

    /// The total of what has been reported until now: all of the jobs that have ended.
    ///
    /// # Panics
    /// In a task.
    #[track_caller]
    pub fn value(&self) -> Result<T, Error>
    where
        T: Clone,
    {
        task::require_main();
        receive()?;
        Ok(self.inner.total.borrow().clone().expect("nothing only within a call"))
    }
}

impl<T> Clone for Accumulator<T> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

// === impl Inner ===

impl<T> Inner<T> {
    fn merge_in(&self, value: T) {
        // Not borrowed while the job's own code runs.
        let before = self.total.take();
        let total = match before {
            Some(before) => (self.merge)(before, value),
            None => value,
        };
        self.total.replace(Some(total));
    }
}

impl<T: Record> Part for Inner<T> {
    fn number(&self) -> u32 {
        self.number
    }

    fn take_encoded(&self, out: &mut Vec<u8>) {
        if let Some(total) = self.total.replace(self.before.take()) {
            total.encode(out);
        }
        self.reported.set(false);
    }

    fn add_encoded(&self, input: &mut &[u8]) -> Result<(), Malformed> {
        self.merge_in(T::decode(input)?);
        Ok(())
    }
}
