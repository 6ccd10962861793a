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
use core::fmt::{self, Debug, Formatter};
use core::ops::AddAssign;
use std::rc::{Rc, Weak};

/// Something that tasks add to and `main` reads. Spark: `AccumulatorV2`.
///
/// Of each partition that is computed, one attempt counts, exactly once, in map stages too; what is
/// computed again because it was lost does not count again. Spark promises that for result stages
/// only: there, tasks of a map stage that run again count again. A stage that is skipped because
/// its shuffle is there adds nothing.
///
/// ```no_run
/// # use offshoot::prelude::*;
/// # let context = Context::new();
/// let odd = context.accumulator("odd numbers", 0u64);
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
    name: String,
    /// In `main` the total, in a task what it has added.
    total: RefCell<Option<T>>,
    /// Whether this task is going to report it.
    reported: Cell<bool>,
    /// In such a task, the total that `main` had: a host in the same process needs it again.
    before: RefCell<Option<T>>,
    merge: Box<Merge<T>>,
}

/// Brings a value into a total.
type Merge<T> = dyn Fn(&mut T, T);

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
    /// An accumulator of sums that begins with `zero`: of numbers, or of anything that has `+=`.
    /// `name` is for people: for messages. What one task adds to all accumulators may take 64 KiB.
    /// Spark: `longAccumulator`, `doubleAccumulator`.
    pub fn accumulator<T: Record + AddAssign>(
        &self,
        name: impl Into<String>,
        zero: T,
    ) -> Accumulator<T> {
        self.accumulator_with(name, zero, |total, value| *total += value)
    }

    /// An accumulator whose value begins with `zero` and into which `merge` brings what is added.
    /// It must be associative and commutative, because tasks report in any order; a task begins
    /// with the first value that it adds, not with `zero`. Spark: `AccumulatorV2` with an own
    /// `merge`.
    ///
    /// ```no_run
    /// # use offshoot::prelude::*;
    /// # let context = Context::new();
    /// let longest = context.accumulator_with("longest", 0u64, |most, n| *most = n.max(*most));
    /// ```
    pub fn accumulator_with<T: Record>(
        &self,
        name: impl Into<String>,
        zero: T,
        merge: impl Fn(&mut T, T) + 'static,
    ) -> Accumulator<T> {
        let inner = Rc::new(Inner {
            number: NEXT.replace(NEXT.get() + 1),
            name: name.into(),
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

    /// The total of what has been accepted until now: all of the jobs that have ended, and, while
    /// a job that was started with `submit` runs, what its tasks have added that have ended.
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

impl<T> Accumulator<T> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }
}

impl<T> Debug for Accumulator<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Accumulator({})", self.inner.name)
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
        let total = match self.total.take() {
            Some(mut total) => {
                (self.merge)(&mut total, value);
                total
            }
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
